"""A student on this machine: the built-in engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.lm.generate import Sampling
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.machine import place
from limbeck.lm.replies import Replies, ask
from limbeck.recipe import Model
from limbeck.records import PromptRow


class BuiltinStudent:
    """The model in `folder`, loaded when it is first needed."""

    def __init__(self, folder: Path, settings: Model) -> None:
        self._folder, self._settings = folder, settings
        self._model: LanguageModel | None = None

    def check(self) -> None:
        """Nothing to be out of reach."""

    def ask(
        self,
        rows: Sequence[PromptRow],
        sampling: Sampling,
        limits: Model,
        path: Path,
        label: str,
        samples: int = 1,
        begun: Mapping[str, str] | None = None,
    ) -> Replies:
        """Sample with `lm.replies.ask`."""
        return ask(self.weights(), rows, sampling, limits, path, label, samples, begun)

    def weights(self) -> LanguageModel:
        """The model, loaded once."""
        if self._model is None:
            self._model = load_model(str(self._folder), *place(self._settings))
        return self._model

    def facts(self) -> dict[str, Any]:
        """Nothing beyond what the recipe says."""
        return {}
