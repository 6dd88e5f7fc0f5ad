"""What screening needs besides pairs, made once: rules, evaluation, embedder, texts a teacher is instructed by."""

from collections.abc import Iterable, Sequence
from importlib import resources

from limbeck.likeness import EvaluationPrompts
from limbeck.lm.embedding import TextEncoder, encoder_folder
from limbeck.recipe.pairs import Screen
from limbeck.records import PromptRow
from limbeck.screening.accepted import HeldOut, Screening
from limbeck.screening.verifier import solves


class Screener:
    """Starts the screening of one kind of pair after another, by the same rules and against the same evaluation.

    `templates`: the texts of the user's own templates, which a teacher may repeat as it may limbeck's.

    Raises:
        RecipeError, ModelError: there is no such embedder as the rules name, or it cannot be loaded.
    """

    def __init__(self, rules: Screen, evaluation: Iterable[PromptRow], templates: Sequence[str] = ()) -> None:
        folder = encoder_folder(rules.embedder)
        self.rules = rules
        self._embedder = None if folder is None else TextEncoder(folder)
        self._held_out = HeldOut(EvaluationPrompts(evaluation), rules, self._embedder)
        self._templates = [*template_texts(), *templates]

    def start(self) -> Screening:
        """A screening that has accepted nothing yet."""
        return Screening(self.rules, self._held_out, solves, self._embedder, self._templates)


def template_texts() -> list[str]:
    """The texts that limbeck instructs a teacher by."""
    folder = resources.files("limbeck.teachers") / "templates"
    return [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".txt")]
