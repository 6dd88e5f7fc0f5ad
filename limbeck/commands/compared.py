"""What `limbeck compare` is given: files or folders of judged replies, or whole runs of several seeds."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from limbeck import pipeline
from limbeck.commands.asked_prompts import UNKNOWN_PROMPTS, AskedPrompts, Place, asked_prompts
from limbeck.errors import InputError, RunFolderError
from limbeck.recipe import Recipe
from limbeck.records import Judgement, PromptRow, Reply
from limbeck.round_folders import whole_run
from limbeck.run_folder import RECIPE_FILE, recipe_of
from limbeck.stages.verdict.models import BASELINE, EXACT, Key, read_model
from limbeck.stages.verdict.paired import PairedRows
from limbeck.stages.verdict.pooling import FinishedRun
from limbeck.store import read_json_lines, read_records
from limbeck.turns import conversation_of, turn_number

REPLIES = "replies.jsonl"
_JUDGED = "judgements_"
Value = TypeVar("Value")
_SOLVED, _SCORE = EXACT, "score"  # what the judge of a plain file is called, by what its lines hold


@dataclass(frozen=True)
class Side:
    """Scores by judge and by (prompt, sample), None where unscored, and the lengths of replies whose text is known."""

    name: str
    scores: Mapping[str, Mapping[Key, float | None]]
    lengths: Mapping[Key, float]
    asked: AskedPrompts = UNKNOWN_PROMPTS


def read_side(path: Path) -> Side:
    """Read a folder that `limbeck evaluate` wrote, or a JSON Lines file of judged replies.

    Raises:
        InputError: where it is neither, or a line of it is not as it should be.
    """
    if path.is_file():
        return _side_of_file(path)
    for folder in (path, path / "evaluate" / "model"):
        if (folder / REPLIES).is_file():
            return _side_of_folder(folder, path.name)
    raise InputError(f"{path}: expected a folder that `limbeck evaluate` wrote, or a JSON Lines file with a prompt_id "
                     "and a score (or solved) a line")  # fmt: skip


def _side_of_folder(folder: Path, name: str) -> Side:
    asked = asked_prompts(folder)
    scores: dict[str, dict[Key, float | None]] = {}
    for file in sorted(folder.glob(f"{_JUDGED}*.jsonl")):
        judge = file.stem.removeprefix(_JUDGED)
        judgements = [j for j in read_records(file, Judgement) if asked.is_test(j.prompt_id)]
        scores[judge] = {(j.prompt_id, j.sample_index): _score(j, judge) for j in judgements}
    if not scores:
        raise InputError(f"{folder} holds replies that no judge has scored: {_JUDGED}*.jsonl is missing")
    replies = read_records(folder / REPLIES, Reply)
    return Side(name, scores, {(r.prompt_id, r.sample_index): float(len(r.text)) for r in replies}, asked)


def _score(judgement: Judgement, judge: str) -> float | None:
    if judge == EXACT:
        return None if judgement.solved is None else float(judgement.solved)
    return judgement.score


def _side_of_file(path: Path) -> Side:
    scores: dict[Key, float | None] = {}
    lengths: dict[Key, float] = {}
    lines = list(read_json_lines(path))
    exact = _says_solved([line for _, line in lines])
    for number, line in lines:
        where = f"{path}, line {number}"
        if "prompt_id" not in line:
            raise InputError(f"{where}: prompt_id should be a text, found None; of replies that nobody has judged, "
                             "`limbeck evaluate --replies FILE` makes a folder to compare")  # fmt: skip
        key = (_text(line, "prompt_id", where), _index(line, where))
        if key in scores:
            raise InputError(f"{where}: prompt {key[0]!r} has a sample {key[1]} already; number them by sample_index")
        scores[key] = _value(line, "solved" if exact else "score", where)
        if "text" in line:
            lengths[key] = float(len(_text(line, "text", where)))
    if not scores:
        raise InputError(f"{path} is empty: there is no score to compare")
    return Side(path.stem, {_SOLVED if exact else _SCORE: scores}, lengths)


def _says_solved(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an exact judge wrote the lines; a learned one says `solved: null` on each, beside its score."""
    if any(line.get("solved") is not None for line in lines):
        return True
    return any("solved" in line for line in lines) and not any("score" in line for line in lines)


def _text(line: Mapping[str, Any], field: str, where: str) -> str:
    value = line.get(field)
    if not isinstance(value, str):
        raise InputError(f"{where}: {field} should be a text, found {value!r}")
    return value


def _index(line: Mapping[str, Any], where: str) -> int:
    value = line.get("sample_index", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{where}: sample_index should be a number from 0 up, found {value!r}")
    return value


def _value(line: Mapping[str, Any], field: str, where: str) -> float | None:
    value = line.get(field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: {field} should be a finite number, or null where unscored, found {value}")
    right = value is None or isinstance(value, bool) or (field == "score" and isinstance(value, int | float))
    if not right or field not in line:
        kind = "a number, or null where unscored" if field == "score" else "true, false, or null where unscored"
        raise InputError(f"{where}: {field} should be {kind}, found {value!r}")
    try:
        return None if value is None else float(value)
    except OverflowError as error:
        raise InputError(f"{where}: {field} should be a finite number, found one that is too large") from error


class _Row(NamedTuple):
    """A row of either side: a turn of a conversation, or the prompt of an id; and which sample."""

    asked: tuple[Place, int] | str
    sample: int

    @property
    def prompt(self) -> Hashable:
        """By which rows are resampled: two copies of a prompt in one file are one piece of evidence."""
        return conversation_of(self.asked) if isinstance(self.asked, str) else self.asked[0].prompt


def paired_sides(baseline: Side, candidate: Side, judge: str) -> PairedRows:
    """The rows of two sides, every one that either has; what the other lacks is unscored there.

    Prompts are the same by content where both sides' are known, else by id.

    Raises:
        InputError: where they have no prompt in common, or whether they have cannot be known.
    """
    by_content = _known_by_content(baseline, candidate, judge)
    before, after = (_by_row(side, side.scores[judge], by_content) for side in (baseline, candidate))
    if not {row.asked for row in before} & {row.asked for row in after}:
        why = "the texts of their prompts differ" if by_content else "their prompt_id differ"
        raise InputError(f"{baseline.name} and {candidate.name} have no prompt in common: {why}")
    long_before, long_after = (_by_row(side, side.lengths, by_content) for side in (baseline, candidate))
    rows = list(dict.fromkeys([*before, *after]))
    return PairedRows(
        baseline=[before.get(row) for row in rows],
        candidate=[after.get(row) for row in rows],
        baseline_lengths=[long_before.get(row) for row in rows],
        candidate_lengths=[long_after.get(row) for row in rows],
        prompts=[row.prompt for row in rows],
        topics=[""] * len(rows),
        exact=judge == EXACT,
    )


def _known_by_content(baseline: Side, candidate: Side, judge: str) -> bool:
    """Whether the prompts of both sides are at hand; a plain file of judged replies says nothing but their ids."""
    one, other = baseline.asked, candidate.asked
    if one.places is not None and other.places is not None:
        return True
    if one.digest is not None and other.digest is not None and one.digest != other.digest:
        raise InputError(
            f"{baseline.name} and {candidate.name} were asked prompts of different files, which do not lie beside "
            "them, so that one prompt_id may be two prompts; evaluate both on one file, or give the files "
            f"{_JUDGED}{judge}.jsonl, which are paired by prompt_id"
        )
    return False


def _by_row(side: Side, values: Mapping[Key, Value], by_content: bool) -> dict[_Row, Value]:
    places: Mapping[str, Place] = (side.asked.places or {}) if by_content else {}
    found = {}
    for (id_, sample), value in values.items():
        place = places.get(conversation_of(id_))
        found[_Row(id_ if place is None else (place, turn_number(id_)), sample)] = value
    return found


def common_judges(sides: Sequence[Side]) -> list[str]:
    """The judges that scored every side, in the baseline's order.

    Raises:
        InputError: where there is none.
    """
    found = [judge for judge in sides[0].scores if all(judge in side.scores for side in sides)]
    if not found:
        told = "; ".join(f"{side.name} by {', '.join(side.scores)}" for side in sides)
        raise InputError(f"no judge scored all of them: {told}")
    return found


def is_run(path: Path) -> bool:
    """Whether a folder is that of a whole run, which has an SFT model's evaluation, or of a further round of one."""
    if not (path / RECIPE_FILE).is_file():
        return False
    folder = path.resolve()
    return whole_run(folder) != folder or any((path / step / BASELINE).is_dir() for step in ("evaluate", "validate"))


def read_run(folder: Path) -> tuple[Recipe, FinishedRun]:
    """Read what a run's models left.

    Raises:
        RunFolderError: where its evaluation is not finished.
    """
    recipe = recipe_of(folder)
    (unit,) = [unit for unit in pipeline.units(recipe, folder.resolve()) if unit.stage == "verdict"]
    names = (BASELINE, *recipe.arms)
    inputs = {name: folder / path for name, path in unit.inputs.items() if name == "test" or _is_needed(name, names)}
    missing = [path for path in inputs.values() if not path.exists()]
    if missing:
        raise RunFolderError(f"{folder} cannot be compared yet: {missing[0]} is missing; `limbeck run` makes it")
    models = {name: read_model(name, inputs, recipe) for name in names}
    rows = read_records(inputs["test"], PromptRow)
    return recipe, FinishedRun(str(folder), rows, models, recipe.evaluate.samples_per_prompt)


def _is_needed(name: str, models: Sequence[str]) -> bool:
    """Whether an input of the verdict is a reply or a judgement of one of these models."""
    model, _, kind = name.rpartition("/")
    return model in models and (kind in {"replies", "preferences"} or kind.startswith(_JUDGED))
