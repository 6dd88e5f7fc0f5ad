"""Iterated runs: the recipe of a further round, and whether there is to be one."""

from pathlib import Path
from typing import Any, NamedTuple

from limbeck import seeds
from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.recipe.rounds import arm_going_on
from limbeck.records.rounds import RoundsRecord, Stopped
from limbeck.records.verdict import Verdict
from limbeck.round_folders import ROUNDS, round_folder
from limbeck.store import read_record

FILE = "rounds.json"
WITHOUT_VERDICT: frozenset[Stopped] = frozenset({"budget", "nothing_fails", "too_few"})
_MOST_SEED = 2**31


class Reached(NamedTuple):
    """How many rounds a run has, and why there are no more; None: the next one is to be made."""

    done: int
    stopped: Stopped | None

    @property
    def begun(self) -> int:
        """The last round of which there is anything to say: the one to be made, and one that could not be ended."""
        return self.done + (self.stopped in {None, *WITHOUT_VERDICT})


def round_recipe(recipe: Recipe, number: int) -> Recipe:
    """The recipe of a further round of a run: its one arm, no server, and random choices of its own. What somebody
    published, of other arms too, is for the run's report.

    Raises:
        RecipeError: where the arm cannot stand alone.
    """
    arm = arm_going_on(recipe.rounds, recipe.arms)
    kinds = recipe.arms[arm].counts().keys()
    data: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    data["seed"] = seeds.derive(recipe.seed, "round", number) % _MOST_SEED
    data["arms"] = {arm: data["arms"][arm]}
    data["servers"] = {}
    data.pop("published", None)
    data["rounds"] = {"number": number, "arm": arm, "first_seed": recipe.seed}
    for setting in ("accept", "max_candidates"):
        quotas = data["teach"].get(setting, {})
        data["teach"][setting] = {kind: count for kind, count in quotas.items() if kind in kinds}
    return parse_recipe(data, where=f"round {number}, which trains {arm} alone")


def check_rounds(recipe: Recipe) -> None:
    """See that further rounds are possible, before anything is spent.

    Raises:
        RecipeError: naming what is wrong.
    """
    if recipe.rounds.number > 1:
        raise RecipeError("rounds.number: this is the recipe of one round of a run, and limbeck writes it; carry out "
                          "the recipe of the run, with rounds.count")  # fmt: skip
    if recipe.rounds.count > 1:
        own, along = round_recipe(recipe, 2), recipe.rolling_stream_kind()
        if "rolling" in own.pair_kinds() and own.rolling_stream_kind() != along:
            raise RecipeError(f"rounds.arm: the rolling pairs of {own.rounds.arm} are written along the {along} pairs "
                              f"of other arms, which have no further rounds; give it {along} pairs too")  # fmt: skip


def reached(recipe: Recipe, run: Path) -> Reached:
    """How far a run's rounds have come, by their verdicts; what ended one without a verdict stands in the record."""
    for number in range(1, recipe.rounds.count + 1):
        if not (round_folder(run, number) / "verdict" / "verdict.json").is_file():
            return Reached(number - 1, _ended_without(run, number - 1))
        if (stopped := stopped_after(recipe, run, number)) is not None:
            return Reached(number, stopped)
    return Reached(recipe.rounds.count, "all")


def _ended_without(run: Path, done: int) -> Stopped | None:
    path = run / ROUNDS / FILE
    if not path.is_file():
        return None
    record = read_record(path, RoundsRecord)
    ended = record.stopped in WITHOUT_VERDICT and len(record.rounds) == done
    return record.stopped if ended else None


def stopped_after(recipe: Recipe, run: Path, number: int) -> Stopped | None:
    """Why a round is the last one, as its verdict says; None where another is to follow."""
    if number >= recipe.rounds.count:
        return "all"
    if not recipe.rounds.stop_when_unclear:
        return None
    arm, judge = arm_going_on(recipe.rounds, recipe.arms), recipe.judged_by()[0]
    verdict = read_record(round_folder(run, number) / "verdict" / "verdict.json", Verdict)
    found = verdict.of(arm, "sft", judge)
    if found is None:
        return "unscored"
    if found.difference.high < 0:
        return "worse"
    return "unclear" if found.difference.low <= 0 else None
