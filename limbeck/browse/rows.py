"""Files to what is shown: pairs in any format that the corpus stage reads, mined prompts, the screened pairs of a run.

Rows are shown as they are, also those that training would refuse (an empty answer, two equal ones): to find
them is what looking is for.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.commands.alone import is_record_file
from limbeck.console import say
from limbeck.errors import InputError, RunFolderError
from limbeck.recipe.corpus import Dataset
from limbeck.records import Message, Pair, WeakPrompt
from limbeck.run_folder import RECIPE_FILE, recipe_of
from limbeck.stages.corpus.sources import Row, Sources
from limbeck.stages.corpus.turns import UnusableRowError
from limbeck.store import each_record
from limbeck.untrusted import one_line

_NOTE_CHARACTERS = 160
_STAGES_ALONE = ("mine", "teach")
_NO_NOTES = {"id", "source", "messages", "scores", "problem", "prompt_id"}  # shown elsewhere, or said already


class Note(NamedTuple):
    """One line of provenance."""

    name: str
    value: str


class Side(NamedTuple):
    """One column of answers."""

    title: str
    answers: tuple[str, ...]


class Shown(NamedTuple):
    """One item to look at: a prompt and the answers to it, the better ones on the left."""

    id: str
    source: str
    prompt: tuple[Message, ...]
    left: Side
    right: Side
    notes: tuple[Note, ...]

    def contains(self, folded: str) -> bool:
        """Whether any of its texts holds `folded`, which is case-folded."""
        texts = (self.id, *(turn.content for turn in self.prompt), *self.left.answers, *self.right.answers)
        return any(folded in text.casefold() for text in texts)


def shown_rows(place: str, split: str) -> Iterator[Shown]:
    """Yield what lies at `place`: a file or folder of pairs, a hub id, a file of weak prompts, or a run folder.

    Raises:
        InputError: nothing can be read there, or it holds no pairs. RunFolderError: a run without screened pairs.
    """
    for path in _files(place):
        if is_record_file(Path(path), WeakPrompt):
            yield from map(_weak, each_record(Path(path), WeakPrompt))
        else:
            yield from _pairs(path, split)


def _files(place: str) -> list[str]:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return [place]
    if (folder / RECIPE_FILE).is_file():
        return _files_of_run(folder)
    return [str(path) for path in _own_files(folder)] or [place]


def _files_of_run(folder: Path) -> list[str]:
    """The screened pairs of a run; of a stage alone what that stage left."""
    if screened := _own_files(folder / "screen"):
        return [str(path) for path in screened]
    alone = recipe_of(folder).name  # `limbeck teach` calls its recipe `teach`
    if alone == "export" and (folder / alone / "data").is_dir():
        return [str(folder / alone)]
    if alone in _STAGES_ALONE and (left := _own_files(folder / alone)):
        return [str(path) for path in left]
    raise RunFolderError(f"{folder} holds no screened pairs yet; give a file of pairs, or run until `screen`")


def _own_files(folder: Path) -> list[Path]:
    """The files of pairs and of weak prompts that a stage left in its folder."""
    files = sorted(folder.glob("*.jsonl"))
    return [file for file in files if is_record_file(file, Pair) or is_record_file(file, WeakPrompt)]


def _pairs(path: str, split: str) -> Iterator[Shown]:
    passed_over: Counter[str] = Counter()
    for row in Sources(seed=0).rows(Dataset(path=path, split=split)):
        if row.format.gives != "pairs":
            raise InputError(f"{row.place}: its fields ({', '.join(sorted(row.values))}) hold no pair of answers")
        try:
            yield _pair(row)
        except UnusableRowError as why:
            passed_over[str(why)] += 1
        except KeyError as error:
            raise InputError(f"{row.place}: the field {error} is missing") from error
        except InputError as error:
            raise InputError(f"{row.place}: {error}") from error
    for reason, count in sorted(passed_over.items()):
        say(f"{path}: {count} rows cannot be shown: {reason}")


def _pair(row: Row) -> Shown:
    example, values = row.format.read(row.values), row.values
    known = [values.get(name) for name in ("id", "source")]
    return Shown(
        id=known[0] if isinstance(known[0], str) else row.id,
        source=known[1] if isinstance(known[1], str) else row.source,
        prompt=example.prompt,
        left=Side("chosen", (example.response or "",)),
        right=Side("rejected", (example.rejected or "",)),
        notes=tuple(_notes(values, row.format.fields)),
    )


def _notes(values: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[Note]:
    """Every short field that is no part of the conversation, then scores and the problem's answer."""
    conversation = {"prompt", "chosen", "rejected", *fields} - {"request_key", "mined_from"}
    for name, value in values.items():
        if (
            name not in conversation | _NO_NOTES
            and isinstance(value, str | int | float)
            and value != ""
            and (name, value) != ("swapped", False)
        ):
            yield _note(name, value)
    scores = values.get("scores")
    named = list(scores.items()) if isinstance(scores, dict) else _named_values(scores)
    for judge, score in named:
        if isinstance(score, int | float):
            yield _note(f"score: {judge}", f"{score:.4g}" if isinstance(score, float) else str(score))
    answer = _answer(values.get("problem"))
    if answer is not None:
        yield _note("answer", answer)


def _named_values(scores: object) -> list[tuple[object, object]]:
    found = scores if isinstance(scores, list) else []
    return [(score.get("name"), score.get("value")) for score in found if isinstance(score, dict)]


def _answer(problem: object) -> object:
    if isinstance(problem, str):
        try:
            return _answer(dict(json.loads(problem)))
        except (TypeError, ValueError, RecursionError):
            return None  # somebody else's column of that name
    return problem.get("answer") if isinstance(problem, dict) else None


def _note(name: object, value: object) -> Note:
    return Note(one_line(str(name).replace("_", " "), 40), one_line(str(value), _NOTE_CHARACTERS))


def _weak(row: WeakPrompt) -> Shown:
    reference = row.problem.solution if row.problem else row.reference_response
    known = [("answer", row.problem.answer), ("family", row.problem.family)] if row.problem else []
    return Shown(
        id=row.id,
        source=row.topic,
        prompt=row.prompt,
        left=Side("reference, right replies", (*([reference] if reference else []), *row.successes)),
        right=Side("failing replies", row.failures),
        notes=tuple(_note(name, value) for name, value in known),
    )
