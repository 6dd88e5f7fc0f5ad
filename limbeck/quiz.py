"""Problems that a model in training answers at every validation: whether it reasons better is seen, not inferred.

Start reading at: `quizzed`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.console import say
from limbeck.diagnosis.problem_rules import ASKED, SOLVED
from limbeck.errors import RecipeError, TrainingError
from limbeck.lm.choosing import Sampling
from limbeck.lm.generate import PromptIds, generate, within_memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item
from limbeck.lm.replies import fitting_prompts
from limbeck.lm.train import Objective, StepLoss, Values
from limbeck.recipe import Recipe
from limbeck.recipe.training import Optimisation
from limbeck.records import Problem, PromptRow
from limbeck.store import read_records
from limbeck.tasks.scoring import score

PROBLEMS = "problems"  # the unit's input


@dataclass(frozen=True)
class Quiz:
    """Problems, and how the model in training is asked them."""

    model: LanguageModel
    label: str
    problems: Mapping[str, Problem]
    prompts: Sequence[PromptIds]
    sampling: Sampling

    def values(self) -> Values:
        """The share solved, and of how many. A prompt that is too long is a problem that is not solved."""
        asked = len(self.problems)
        samples = generate(self.model, self.prompts, self.sampling)
        solved = sum(score(self.problems[sample.prompt_id], sample.text).solved for sample in samples)
        say(f"  {self.label}: {solved} of {asked} validation problems solved")
        return {SOLVED: solved / asked, ASKED: float(asked)}


@dataclass(frozen=True)
class Quizzed:
    """An objective whose validations ask the problems too."""

    inner: Objective
    quiz: Quiz

    @property
    def train(self) -> Sequence[Item]:
        """All training rows."""
        return self.inner.train

    @property
    def heldout(self) -> Sequence[Item]:
        """All held-out rows."""
        return self.inner.heldout

    @property
    def num_rows(self) -> int:
        """Training rows in one epoch."""
        return self.inner.num_rows

    def rows(self, step: int) -> Sequence[Item]:
        """Rows of optimizer step `step`."""
        return self.inner.rows(step)

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """The step's micro-batches."""
        return self.inner.losses(model, rows)

    def validate(self, model: PackedModel) -> Values:
        """Held-out values, and the share of problems solved: of a model whose loss is a number."""
        values = self.inner.validate(model)
        return values | self.quiz.values() if math.isfinite(values["loss"]) else values


def quizzed(
    objective: Objective,
    model: LanguageModel,
    settings: Optimisation,
    recipe: Recipe,
    inputs: Mapping[str, Path],
    label: str,
) -> Objective:
    """The objective with as many problems as `settings` ask for.

    Raises:
        RecipeError: where there are no problems to ask. TrainingError: where no row is held out beside them.
    """
    if not settings.validate_problems:
        return objective
    if PROBLEMS not in inputs:
        raise RecipeError("validate_problems asks problems of corpus.tasks.validation, which only a run has")
    if not objective.heldout:
        raise TrainingError("validate_problems goes with held-out rows, of which the loss is told, and there are none")
    rows = read_records(inputs[PROBLEMS], PromptRow)[: settings.validate_problems]
    problems = {row.id: row.problem for row in rows if row.problem is not None}
    prompts = fitting_prompts(model.chat, rows, recipe.model).prompts
    # For the whole run, since another number of slots may round otherwise.
    sampling = within_memory(model, prompts, Sampling.of(recipe.evaluate, recipe.seed))
    return Quizzed(objective, Quiz(model, label, problems, prompts, sampling))
