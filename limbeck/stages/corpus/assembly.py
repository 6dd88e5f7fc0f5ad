"""The stage's work: evaluation first, then everything that is trained on, without what occurs in the evaluation."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from limbeck import seeds
from limbeck.likeness import EvaluationPrompts, PromptIdentity, normalised, opening, prompt_identity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Corpus, Tasks
from limbeck.records import Demonstration, Pair, PromptRow, Record
from limbeck.round_folders import drawn_anew
from limbeck.stages.corpus.chat import ChatChoice, choose_chat, everyday_chat
from limbeck.stages.corpus.judging import SET_ASIDE, set_aside
from limbeck.stages.corpus.reading import Reader
from limbeck.store import write_records
from limbeck.tasks import SPLITS, TRAINED, Split, draw_rounds

VALIDATES = "same prompt as a validation demonstration"
AnyRow = TypeVar("AnyRow", bound=PromptRow)


class HeldOut(NamedTuple):
    """Demonstrations to train on and to pick a checkpoint by; no prompt is in both. `shared` ones were left out."""

    train: list[Demonstration]
    validation: list[Demonstration]
    shared: int


class _Shut(NamedTuple):
    """What no row that is trained on may be: an evaluation prompt, one of the judges', or a validation demonstration's.

    An SFT arm is validated on the latter, so pairs on their prompts would be lost to it, and to no other arm.
    """

    evaluation: EvaluationPrompts
    judges: frozenset[PromptIdentity] = frozenset()
    validation: frozenset[PromptIdentity] = frozenset()

    def reason(self, row: PromptRow) -> str | None:
        """Why a row is left out; None where it is not."""
        found = self.evaluation.overlap(row)
        if found is None and self.judges and opening(row) in self.judges:
            return SET_ASIDE
        return VALIDATES if found is None and prompt_identity(row) in self.validation else found


def run(recipe: Recipe, _inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Write every file of the stage, empty ones included.

    The inputs are the recipe's local sources, handed in for their digests; they are read from where the recipe says.

    Raises:
        InputError: a source is missing, malformed, or holds nothing of use; the message names file, row and field.
        RecipeError: more tasks or chat prompts are asked for than there are.
    """
    reader = Reader(recipe.seed)
    tables = _tables(recipe, reader)
    counts = {
        name: write_records(out / f"{name}.jsonl", shuffled(rows, recipe.seed, name)) for name, rows in tables.items()
    }
    return StageResult(
        counts_in=dict(reader.rows_read),
        counts_out=counts,
        drops=dict(sorted(reader.drops.items())),
        facts={"formats": reader.formats} if reader.formats else {},
    )


def _tables(recipe: Recipe, reader: Reader) -> dict[str, Sequence[Record]]:
    """Every file's records, not yet in their order: the evaluation's first, then the judges', then the rest."""
    corpus, seed = recipe.corpus, recipe.seed
    tasks, *anew = _draw_tasks(corpus.tasks, seed, recipe.rounds.count)
    own_test = list(_distinct("evaluation", reader.prompts("evaluation", corpus.evaluation), reader))
    evaluation = [*tasks["test"], *own_test, *tasks["transfer"], *tasks["validation"]]
    chat = _chat(corpus, seed, EvaluationPrompts(evaluation), reader)
    held_out = _Shut(EvaluationPrompts([*evaluation, *chat.heldout]))
    human = _trainable("preferences", reader.pairs("preferences", corpus.preferences), held_out, reader)
    judging = _trainable("judging", reader.pairs("judging", corpus.judging), held_out, reader)
    built_in = chain(
        chat.train, tasks["sft"], *(drawn[split] for drawn in (tasks, *anew) for split in ("pool", "fresh"))
    )
    judges = set_aside(recipe, judging, human, built_in)
    reader.drops.update({reason: count for reason, count in judges.drops.items() if count})
    held_out = held_out._replace(judges=judges.prompts)
    demonstrations = _demonstrations(corpus, seed, tasks, held_out, reader)
    prompts = reader.prompts("prompts", corpus.prompts) if corpus.prompts else map(_prompt_of_pair, judges.human)
    held_out = held_out._replace(validation=frozenset(map(prompt_identity, demonstrations.validation)))
    pool = _trainable("pool", chain(tasks["pool"], prompts), held_out, reader)
    return {
        "demonstrations": demonstrations.train,
        "demonstrations_validation": [*map(_worked, tasks["validation"]), *demonstrations.validation],
        "chat_train": chat.train,
        "chat_heldout": chat.heldout,
        "pool": pool,
        "fresh": _trainable("fresh", tasks["fresh"], held_out, reader),
        "validation": tasks["validation"],
        "test": [*tasks["test"], *own_test],
        "transfer": tasks["transfer"],
        "human": _not_validating("preferences", judges.human, held_out.validation, reader),
        **judges.files,
        **_further_rounds(tasks, pool, anew, held_out, reader),
    }


def _further_rounds(
    tasks: Mapping[Split, Sequence[PromptRow]],
    pool: Sequence[PromptRow],
    anew: Sequence[Mapping[Split, Sequence[PromptRow]]],
    held_out: _Shut,
    reader: Reader,
) -> dict[str, list[PromptRow]]:
    """What further rounds mine and have new prompts written after: built-in problems of their own, and in every pool
    the user's prompts, of which mining takes first what no earlier round asked.
    """
    built_in = {row.id for row in tasks["pool"]}
    own = [row for row in pool if row.id not in built_in]
    tables: dict[str, list[PromptRow]] = {}
    for number, drawn in enumerate(anew, start=2):
        for split in ("pool", "fresh"):
            name = drawn_anew(split, number)
            tables[name] = _trainable(name, drawn[split], held_out, reader) + (own if split == "pool" else [])
    return tables


def _draw_tasks(settings: Tasks | None, seed: int, rounds: int) -> list[dict[Split, tuple[PromptRow, ...]]]:
    """Every split of the first round, then what each further one draws anew."""
    if settings is None:
        return [dict.fromkeys(SPLITS, ()) for _ in range(rounds)]
    counts: dict[Split, int] = {split: getattr(settings, split) for split in SPLITS}
    return draw_rounds(counts, settings.families or TRAINED, seed, rounds)


def _chat(corpus: Corpus, seed: int, evaluation: EvaluationPrompts, reader: Reader) -> ChatChoice:
    if corpus.chat is None:
        return ChatChoice([], [])
    usable = []
    for prompt in everyday_chat():
        reason = evaluation.overlap(prompt.row())
        if reason is None:
            usable.append(prompt)
        else:
            reader.drop("chat", reason)
    return choose_chat(usable, corpus.chat, seed)


def _demonstrations(
    corpus: Corpus,
    seed: int,
    tasks: Mapping[Split, Sequence[PromptRow]],
    held_out: _Shut,
    reader: Reader,
) -> HeldOut:
    section = "demonstrations"
    own = _trainable(section, reader.demonstrations(section, corpus.demonstrations), held_out, reader)
    parts = hold_out(own, corpus.validation_share, seeds.rng(seed, "corpus", "validation"))
    if parts.shared:
        reader.drops[f"{section}: {VALIDATES}"] += parts.shared
    worked = _trainable(section, map(_worked, tasks["sft"]), held_out, reader)
    return parts._replace(train=[*worked, *parts.train])


def hold_out(rows: Sequence[Demonstration], share: float, rng: Random) -> HeldOut:
    """Hold out `share` of the rows, rounded up, but never the last one; then leave out rows that share a prompt."""
    order = list(rows)
    rng.shuffle(order)
    count = min(math.ceil(round(share * len(order), 6)), max(len(order) - 1, 0))
    validation, rest = order[:count], order[count:]
    prompts = {prompt_identity(row) for row in validation}
    train = [row for row in rest if prompt_identity(row) not in prompts]
    return HeldOut(train, validation, shared=len(rest) - len(train))


def _trainable(section: str, rows: Iterable[AnyRow], held_out: _Shut, reader: Reader) -> list[AnyRow]:
    """Rows that occur once and not in the evaluation; the others are counted."""
    kept = []
    for row in _distinct(section, rows, reader):
        reason = held_out.reason(row)
        if reason is None:
            kept.append(row)
        else:
            reader.drop(section, reason)
    return kept


def _not_validating(
    section: str, rows: Sequence[AnyRow], validation: frozenset[PromptIdentity], reader: Reader
) -> list[AnyRow]:
    """Rows, trainable otherwise, that are on no validation demonstration's prompt; the others are counted."""
    kept = [row for row in rows if prompt_identity(row) not in validation]
    reader.drops.update({f"{section}: {VALIDATES}": len(rows) - len(kept)} if len(kept) < len(rows) else {})
    return kept


def _distinct(section: str, rows: Iterable[AnyRow], reader: Reader) -> Iterator[AnyRow]:
    seen: set[bytes] = set()
    for row in rows:
        fingerprint = _fingerprint(row)
        if fingerprint in seen:
            reader.drop(section, "duplicate")
        else:
            seen.add(fingerprint)
            yield row


def _fingerprint(row: PromptRow) -> bytes:
    """Same prompt, with what the user says later, and, where the row is about them, same responses: 16 bytes, for data
    sets of millions of rows.
    """
    texts = [*prompt_identity(row), *map(normalised, row.follow_ups)]
    if isinstance(row, Demonstration):
        texts.append(row.response)
    if isinstance(row, Pair):
        texts += [row.chosen, row.rejected]
    return hashlib.blake2b("\x1f".join(texts).encode(), digest_size=16).digest()


def _worked(row: PromptRow) -> Demonstration:
    """A task with its worked solution as the response."""
    return Demonstration(
        id=row.id, prompt=row.prompt, source=row.source, problem=row.problem, response=row.reference_response or ""
    )


def _prompt_of_pair(pair: Pair) -> PromptRow:
    return PromptRow(
        id=pair.id, prompt=pair.prompt, source="preferences", problem=pair.problem, reference_response=pair.chosen
    )


def shuffled(rows: Iterable[Record], seed: int, name: str) -> list[Record]:
    """The rows of the file `name` in an order that the seed decides."""
    order = list(rows)
    seeds.rng(seed, "corpus", "order", name).shuffle(order)
    return order
