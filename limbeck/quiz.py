"""Problems that a model in training answers at every validation: whether it reasons better is seen, not inferred.

Start reading at: `quiz_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.console import say
from limbeck.diagnosis.problem_rules import ASKED, SOLVED
from limbeck.errors import RecipeError, TrainingError
from limbeck.lm.choosing import Sampling
from limbeck.lm.generate import PromptIds, generate, within_memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.replies import fitting_prompts
from limbeck.lm.train import Objective, Values
from limbeck.recipe import Recipe
from limbeck.recipe.training import Optimisation
from limbeck.records import Problem, PromptRow
from limbeck.store import read_records
from limbeck.tasks.scoring import score

_BYTES_A_TRAINED_WEIGHT = 16  # at most: its fp32 master, its gradient and two moments
PROBLEMS = "problems"  # the unit's input


@dataclass(frozen=True)
class Quiz:
    """Problems, and how the model in training is asked them."""

    model: LanguageModel
    label: str
    problems: Mapping[str, Problem]
    prompts: Sequence[PromptIds]
    sampling: Sampling

    def __call__(self) -> Values:
        """The share solved, and of how many. A prompt that is too long is a problem that is not solved."""
        asked = len(self.problems)
        samples = generate(self.model, self.prompts, self.sampling)
        solved = sum(score(self.problems[sample.prompt_id], sample.text).solved for sample in samples)
        say(f"  {self.label}: {solved} of {asked} validation problems solved")
        return {SOLVED: solved / asked, ASKED: float(asked)}


def quiz_of(
    objective: Objective,
    model: LanguageModel,
    settings: Optimisation,
    recipe: Recipe,
    inputs: Mapping[str, Path],
    label: str,
) -> Quiz | None:
    """As many problems as `settings` ask for; None: none.

    Raises:
        RecipeError: where there are no problems to ask. TrainingError: where no row is held out beside them.
    """
    if not settings.validate_problems:
        return None
    if PROBLEMS not in inputs:
        raise RecipeError("validate_problems asks problems of corpus.tasks.validation, which only a run has")
    if not objective.heldout:
        raise TrainingError("validate_problems goes with held-out rows, of which the loss is told, and there are none")
    rows = read_records(inputs[PROBLEMS], PromptRow)[: settings.validate_problems]
    problems = {row.id: row.problem for row in rows if row.problem is not None}
    prompts = fitting_prompts(model.chat, rows, recipe.model).prompts
    # For the whole run, since another number of slots may round otherwise: so with what training will hold.
    trained = sum(each.numel() for each in model.network.parameters() if each.requires_grad)
    asked = Sampling.of(recipe.evaluate, recipe.seed)
    sampling = within_memory(model, prompts, asked, trained * _BYTES_A_TRAINED_WEIGHT)
    return Quiz(model, label, problems, prompts, sampling)
