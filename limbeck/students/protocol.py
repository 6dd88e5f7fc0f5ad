"""What a student is: prompt rows in, replies in a file out, wherever they are sampled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from limbeck.lm.generate import Sampling
from limbeck.lm.load import LanguageModel
from limbeck.lm.replies import Replies
from limbeck.recipe import Model
from limbeck.records import PromptRow


class Student(Protocol):
    """A model that can be asked."""

    def check(self) -> None:
        """Raise `TeacherError` where this student cannot be asked at all."""

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
        """Sample `samples` replies a row into `path`, as they finish; what an interrupted call left there is kept.

        `begun`: by the id of every row, what its replies begin with; they are written from there on, and hold it.

        Rows without a reply are counted in the drops, by reason.

        Raises:
            InputError: where two rows have one id.
            TeacherError: where a server gives no service; what it answered before is kept in `path`.
        """

    def weights(self) -> LanguageModel:
        """The model itself, for what needs more than its replies; loaded when it is first asked for.

        Raises:
            ModelError: where there are no weights on this machine, or they cannot be loaded.
        """

    def facts(self) -> dict[str, Any]:
        """What the manifest should say of how this student was asked."""
