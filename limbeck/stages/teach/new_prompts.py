"""Prompts that the teacher writes: read, told from those that were said before, and given their problem where known."""

from collections.abc import Iterable, Sequence

from limbeck.likeness import normalised
from limbeck.recipe.pairs import MadeKind
from limbeck.records import PromptRow, user_prompt
from limbeck.screening.near_duplicates import NearDuplicates, fingerprint
from limbeck.stages.teach.desk import Desk, Question
from limbeck.store import digest_json
from limbeck.teachers import Request
from limbeck.teachers.parsing import parse_prompt

NEAR_DUPLICATE = 0.7  # one word exchanged in a prompt of twenty: 15 of 21 runs of three words stay, 0.71


class NewPrompts:
    """Has a teacher write prompts, and refuses those said before: by `shown` rows, or by itself earlier.

    A text that is a fresh row's question becomes that row. Problems are the same by their content, free texts when
    their words nearly are: fixed wording, which built-in problems share by design, tells nothing. `near_shown`: whether
    what is nearly one of the shown free texts is refused too.
    """

    def __init__(
        self, kind: MadeKind, desk: Desk, fresh: Sequence[PromptRow], shown: Iterable[PromptRow], *, near_shown: bool
    ) -> None:
        self._kind, self._desk = kind, desk
        self._questions = {normalised(row.problem.question): row for row in fresh if row.problem}
        self._contents: set[str] = set()
        self._texts: set[str] = set()
        self._near = NearDuplicates(NEAR_DUPLICATE, same_figures=False)  # other numbers make no other prompt
        for row in shown:
            self._remember(row, near=near_shown)

    def write(self, requests: Sequence[Request]) -> list[PromptRow | None]:
        """The new prompt of each request, or None where it brought none, which is tallied."""
        questions = [Question(request, parse_prompt) for request in requests]
        heard = self._desk.ask(self._kind, questions, "new prompts")
        return [None if reply is None else self._new(reply.value) for reply in heard]

    def _new(self, text: str) -> PromptRow | None:
        said = normalised(text)
        row = self._questions.get(said) or PromptRow(
            id=f"new-{digest_json(said)[:16]}", prompt=user_prompt(text), source=self._kind
        )
        if said in self._texts or (row.problem is not None and row.problem.content in self._contents):
            self._desk.tally.drop(self._kind, "new prompt: said before")
            return None
        if row.problem is None and self._near.found(fingerprint(row)):
            self._desk.tally.drop(self._kind, "new prompt: nearly said before")
            return None
        self._remember(row, near=True)
        return row

    def _remember(self, row: PromptRow, *, near: bool) -> None:
        said = normalised(row.prompt[-1].content)
        if row.problem is not None:
            self._contents.add(row.problem.content)
        elif near and said not in self._texts:
            self._near.add(fingerprint(row))
        self._texts.add(said)
