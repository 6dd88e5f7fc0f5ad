"""Ask a model every turn of every conversation: each turn after the model's own reply to the one before."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.judges import Exchange
from limbeck.lm.generate import Sampling
from limbeck.lm.replies import Replies
from limbeck.recipe import Recipe
from limbeck.records import PromptRow
from limbeck.store import write_records
from limbeck.students.protocol import Student
from limbeck.turns import continued, turn_id


class Asked(NamedTuple):
    """Each reply with the prompt that it answers, rows in order, the turns and samples of each together."""

    exchanges: list[Exchange]
    drops: dict[str, int]
    tokens: int
    tokens_per_second: float  # of the first turns


class _Spoken(NamedTuple):
    """One sample of one row so far: its latest exchange, and the replies up to and including that."""

    row: PromptRow
    sample_index: int
    exchange: Exchange
    said: tuple[str, ...]


def ask_every_turn(
    student: Student, rows: Sequence[PromptRow], sampling: Sampling, recipe: Recipe, path: Path, label: str
) -> Asked:
    """Sample `evaluate.samples_per_prompt` conversations a row; the replies go into `path`, as `Reply` records.

    Sample i of a turn goes on from sample i of the turn before. Turns are asked one after the other, all rows at once;
    later turns lie in hidden files beside `path` until `finish` removes them, so that an interruption keeps them.
    A turn that cannot be asked (no reply before it, or a conversation over the limit) ends its conversation, counted.
    """
    samples, by_id = recipe.evaluate.samples_per_prompt, {row.id: row for row in rows}
    found = student.ask([continued(row, ()) for row in rows], sampling, recipe.model, path, label, samples)
    current = [
        _Spoken(row, reply.sample_index, (continued(row, ()), reply), (reply.text,))
        for reply in found.replies
        for row in (by_id[reply.prompt_id],)
    ]
    drops, tokens, everything = Counter(found.drops), found.tokens, list(current)
    for turn in range(2, max((len(row.follow_ups) for row in rows), default=0) + 2):
        due = sum(len(row.follow_ups) >= turn - 1 for row in rows) * samples
        waiting = [spoken for spoken in current if len(spoken.row.follow_ups) >= turn - 1]
        if len(waiting) < due:
            drops[f"turn {turn}: no reply to the turn before"] += due - len(waiting)
        place = _turn_file(path, turn)
        later = _ask_turn(student, waiting, sampling, recipe, place, f"{label}, turn {turn}")
        current = list(_went_on(waiting, later))
        everything += current
        tokens += later.tokens
        drops.update({f"turn {turn}: {reason}": number for reason, number in later.drops.items()})
    exchanges = _in_order(rows, everything)
    write_records(path, (reply for _, reply in exchanges))
    return Asked(exchanges, dict(drops), tokens, found.tokens_per_second)


def finish(path: Path) -> None:
    """Remove what later turns left beside `path`: it holds all of their replies."""
    for file in path.parent.glob(_turn_file(path, 0).name.replace("turn-0", "turn-*")):
        file.unlink()


def _turn_file(path: Path, turn: int) -> Path:
    return path.with_name(f".{path.stem}_turn-{turn}{path.suffix}")


def _sample_id(spoken: _Spoken) -> str:
    # Samples of one turn have prompts of their own, so the sampler must tell them apart by id.
    return f"{turn_id(spoken.row.id, len(spoken.said) + 1)}/sample-{spoken.sample_index}"


def _ask_turn(
    student: Student, waiting: Sequence[_Spoken], sampling: Sampling, recipe: Recipe, path: Path, label: str
) -> Replies:
    rows = [continued(one.row, one.said).model_copy(update={"id": _sample_id(one)}) for one in waiting]
    return student.ask(rows, sampling, recipe.model, path, label)


def _went_on(waiting: Sequence[_Spoken], found: Replies) -> Iterator[_Spoken]:
    by_sample = {_sample_id(one): one for one in waiting}
    for reply in found.replies:
        one = by_sample[reply.prompt_id]
        row = continued(one.row, one.said)
        mine = reply.model_copy(update={"prompt_id": row.id, "sample_index": one.sample_index})
        yield _Spoken(one.row, one.sample_index, (row, mine), (*one.said, mine.text))


def _in_order(rows: Sequence[PromptRow], spoken: Sequence[_Spoken]) -> list[Exchange]:
    places = {row.id: place for place, row in enumerate(rows)}
    ordered = sorted(spoken, key=lambda one: (places[one.row.id], len(one.said), one.sample_index))
    return [one.exchange for one in ordered]
