"""What the corpus will hold, read lightly: rows of local sources are counted and some of them kept, built-in problems
are drawn for a sample, hub data sets are taken to hold their `limit` and not looked at.

What the corpus stage drops later (duplicates, prompts that occur in the evaluation) is still among the rows counted.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.planning.ranges import ZERO, Range, exact
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Dataset
from limbeck.records import Demonstration, Pair, PromptRow
from limbeck.stages.corpus.chat import everyday_chat
from limbeck.stages.corpus.reading import Reader
from limbeck.stages.corpus.sources import Sources
from limbeck.store import read_records
from limbeck.tasks import SPLITS, TRAINED, Split, draw_splits

SAMPLE = 200  # rows of a table that are looked at
RECORDS: Mapping[str, type[PromptRow]] = {
    "demonstrations": Demonstration,
    "demonstrations_validation": Demonstration,
    "chat_train": PromptRow,
    "chat_heldout": PromptRow,
    "pool": PromptRow,
    "fresh": PromptRow,
    "validation": PromptRow,
    "test": PromptRow,
    "transfer": PromptRow,
    "human": Pair,
    "judging": Pair,
}


@dataclass(frozen=True)
class Table:
    """`rows` None: unknown until read. `samples`: some of them, all where they are as many."""

    rows: Range | None = ZERO
    samples: tuple[PromptRow, ...] = ()

    def __add__(self, other: "Table") -> "Table":
        both = None if self.rows is None or other.rows is None else self.rows + other.rows
        return Table(both, _mixed(self, other))


@dataclass(frozen=True)
class Tables:
    """Every table by its name in the corpus, and sentences about what could not be read.

    `chat_is_known`: the chat tables hold the base model's replies, those that are kept, not just prompts.
    """

    tables: Mapping[str, Table]
    unread: tuple[str, ...] = ()
    chat_is_known: bool = False

    def __getitem__(self, name: str) -> Table:
        return self.tables.get(name, Table())


def tables_in(folder: Path, records: Mapping[str, type[PromptRow]] = RECORDS) -> Tables:
    """The tables that are there in a stage's folder; one that is not there is empty."""
    found = {}
    for name, kind in records.items():
        path = folder / f"{name}.jsonl"
        rows: Sequence[PromptRow] = read_records(path, kind) if path.is_file() else ()
        found[name] = Table(exact(len(rows)), tuple(rows[:SAMPLE]))
    return Tables(found)


def tables_of(recipe: Recipe) -> Tables:
    """The tables that a recipe's sources will give."""
    corpus, unread = recipe.corpus, []
    sections: dict[str, Table] = {}
    for name, read in _readers(Reader(recipe.seed)).items():
        sections[name] = Table()
        for dataset in getattr(corpus, name):
            table, why = _read(dataset, partial(read, name))
            sections[name] += table
            unread += [why] if why else []
    own = _held_out(sections["demonstrations"], corpus.validation_share)
    tasks = _tasks(recipe)
    chat = [prompt.row() for prompt in everyday_chat()[:SAMPLE]] if corpus.chat else []
    asked = corpus.chat.model_dump() if corpus.chat else {"train": 0, "heldout": 0}
    prompts = sections["prompts"] if corpus.prompts else _prompts_of(sections["preferences"])
    return Tables(
        {
            "demonstrations": _worked(tasks["sft"]) + own[0],
            "demonstrations_validation": _worked(tasks["validation"]) + own[1],
            "chat_train": Table(exact(asked["train"]), tuple(chat)),
            "chat_heldout": Table(exact(asked["heldout"]), tuple(chat)),
            "pool": tasks["pool"] + prompts,
            "fresh": tasks["fresh"],
            "validation": tasks["validation"],
            "test": tasks["test"] + sections["evaluation"],
            "transfer": tasks["transfer"],
            "human": sections["preferences"],
            "judging": sections["judging"],
        },
        tuple(unread),
    )


def _readers(reader: Reader) -> dict[str, Callable[[str, Sequence[Dataset]], Iterator[Any]]]:
    return {
        "demonstrations": reader.demonstrations,
        "preferences": reader.pairs,
        "prompts": reader.prompts,
        "evaluation": reader.prompts,
        "judging": reader.pairs,
    }


def _read(dataset: Dataset, records: Callable[[Sequence[Dataset]], Iterable[PromptRow]]) -> tuple[Table, str | None]:
    """A source's table, and what to say where it could not be read."""
    limit = dataset.limit
    bound = None if limit is None else exact(limit)
    if not Path(dataset.path).expanduser().exists():
        rows = f"taken to hold {limit:,} rows, its limit" if limit else "rows unknown until read"
        return Table(bound), f"{dataset.path} ({dataset.split}): not read for a plan; {rows}"
    whole = dataset.model_copy(update={"limit": None})
    try:
        number = sum(1 for _ in Sources(0).rows(whole))
        samples = tuple(itertools.islice(records((whole,)), SAMPLE))
    except LimbeckError as error:
        return Table(bound), str(error)
    return Table(exact(number if limit is None else min(number, limit)), samples), None


def _tasks(recipe: Recipe) -> dict[Split, Table]:
    settings = recipe.corpus.tasks
    if settings is None:
        return dict.fromkeys(SPLITS, Table())
    counts: dict[Split, int] = {split: getattr(settings, split) for split in SPLITS}
    few: dict[Split, int] = {split: min(count, SAMPLE) for split, count in counts.items()}
    drawn = draw_splits(few, settings.families or TRAINED, recipe.seed)
    return {split: Table(exact(counts[split]), drawn[split]) for split in SPLITS}


def _held_out(table: Table, share: float) -> tuple[Table, Table]:
    """What of demonstrations is trained on, and what is held out; as the corpus stage does, but for shared prompts."""
    if table.rows is None:
        return table, table
    heldout = table.rows.each(lambda rows: min(-(-round(share * rows, 6) // 1), max(rows - 1, 0)))
    rest = Range(*(a - b for a, b in zip(vars(table.rows).values(), vars(heldout).values(), strict=True)))
    return Table(rest, table.samples), Table(heldout, table.samples)


def _worked(table: Table) -> Table:
    made = (
        Demonstration(id=row.id, prompt=row.prompt, source=row.source, response=row.reference_response or "")
        for row in table.samples
    )
    return Table(table.rows, tuple(made))


def _prompts_of(table: Table) -> Table:
    pairs = (row for row in table.samples if isinstance(row, Pair))
    made = (
        PromptRow(id=row.id, prompt=row.prompt, source="preferences", reference_response=row.chosen) for row in pairs
    )
    return Table(table.rows, tuple(made))


def _mixed(one: Table, other: Table) -> tuple[PromptRow, ...]:
    """Samples of both in the proportion of their rows, where that is known."""
    if not one.samples or not other.samples or one.rows is None or other.rows is None:
        return (*one.samples, *other.samples)
    share = one.rows.likely / max(one.rows.likely + other.rows.likely, 1)
    size = min(len(one.samples) / max(share, 1e-9), len(other.samples) / max(1 - share, 1e-9))
    return (*one.samples[: max(1, round(share * size))], *other.samples[: max(1, round((1 - share) * size))])
