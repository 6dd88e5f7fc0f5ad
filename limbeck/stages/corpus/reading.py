"""Data sets to records, section by section of the recipe's corpus; what cannot be used is counted by its reason.

Knows nothing of evaluation, splits or files that are written.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.recipe.corpus import Dataset
from limbeck.records import Demonstration, Pair, PromptRow
from limbeck.stages.corpus.formats import OWN, Example, Gives, last_response, read_example
from limbeck.stages.corpus.own import own_pair
from limbeck.stages.corpus.sources import Row, Sources
from limbeck.stages.corpus.turns import UnusableRowError

_USABLE: dict[Gives, tuple[Gives, ...]] = {
    "prompts": ("prompts", "responses", "pairs"),
    "responses": ("responses", "pairs"),
    "pairs": ("pairs",),
}
_NEEDS: dict[Gives, str] = {"prompts": "prompts", "responses": "responses", "pairs": "chosen and rejected responses"}


class _Read(NamedTuple):
    row: Row
    example: Example


class Reader:
    """Reads the sections of a corpus. `rows_read` counts by section, `drops` by `section: reason`."""

    def __init__(self, seed: int) -> None:
        self.rows_read: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self._sources = Sources(seed)

    @property
    def formats(self) -> dict[str, str]:
        """The format that was found in each source."""
        return dict(self._sources.formats)

    def drop(self, section: str, reason: str) -> None:
        """Count one dropped row."""
        self.drops[f"{section}: {reason}"] += 1

    def demonstrations(self, section: str, datasets: Sequence[Dataset]) -> Iterator[Demonstration]:
        """Yield prompt and response; of a conversation the last assistant turn is the response."""
        for row, example in self._examples(section, datasets, "responses"):
            yield Demonstration(
                id=row.id,
                prompt=example.prompt,
                source=row.source,
                problem=example.problem,
                response=example.response or "",
            )

    def pairs(self, section: str, datasets: Sequence[Dataset]) -> Iterator[Pair]:
        """Yield preference pairs of kind `human`; those that limbeck wrote keep the source they have."""
        for row, example in self._examples(section, datasets, "pairs"):
            if row.format.name == OWN:
                yield _own(row, example)
                continue
            chosen, rejected = example.response or "", example.rejected or ""
            yield Pair(id=row.id, prompt=example.prompt, source="human", chosen=chosen, rejected=rejected)

    def prompts(self, section: str, datasets: Sequence[Dataset]) -> Iterator[PromptRow]:
        """Yield prompts, with the data set's own good answer, problem and the user's later turns, where it has them."""
        for row, example in self._examples(section, datasets, "prompts"):
            yield PromptRow(
                id=row.id,
                prompt=example.prompt,
                source=row.source,
                problem=example.problem,
                reference_response=example.response,
                follow_ups=example.follow_ups,
            )

    def _examples(self, section: str, datasets: Sequence[Dataset], needed: Gives) -> Iterator[_Read]:
        for dataset in datasets:
            before, used = Counter(self.drops), 0
            for row in self._sources.rows(dataset):
                self.rows_read[section] += 1
                example = self._example(section, row, needed)
                if example is not None:
                    used += 1
                    yield _Read(row, example)
            if not used:
                dropped = (self.drops - before).items()
                reasons = ", ".join(f"{count} x {reason.removeprefix(f'{section}: ')}" for reason, count in dropped)
                raise InputError(f"none of the rows of {dataset.path} can be used ({reasons})")

    def _example(self, section: str, row: Row, needed: Gives) -> Example | None:
        """The example in a row; None where the row was dropped, and counted."""
        form = row.format
        if form.gives not in _USABLE[needed]:
            raise InputError(
                f"{row.place}: corpus.{section} needs {_NEEDS[needed]}, but the fields "
                f"{', '.join(form.fields)} (format {form.name!r}) hold none"
            )
        try:
            example = read_example(form, row.values, needed)
            return last_response(example) if needed == "responses" else example
        except UnusableRowError as reason:
            self.drop(section, str(reason))
            return None
        except InputError as error:
            raise InputError(f"{row.place}: {error}") from error


def _own(row: Row, example: Example) -> Pair:
    try:
        return own_pair(row.id, row.values, example)
    except InputError as error:
        raise InputError(f"{row.place}: {error}") from error
