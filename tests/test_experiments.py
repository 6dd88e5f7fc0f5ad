"""Sweeps: their recipes can be carried out, share what comes before the arms, and their tables say what came of it."""

from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.sweep import CONTROL, RECIPES, ArmResult, Sweep
from experiments.table import going_on, markdown
from limbeck.pipeline import check, units
from limbeck.records import Estimate
from limbeck.records.verdict import Comparison
from limbeck.stages.verdict.pooling import Pooled

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def estimate(value: float) -> Estimate:
    return Estimate(estimate=value, low=value - 0.05, high=value + 0.05, n=100)


def pooled(gain: float, **changed: object) -> Pooled:
    comparison = Comparison(
        candidate="x", baseline="sft", judge="verifier", split="test", difference=estimate(gain),
        win_rate=estimate(gain), wins=1, ties=0, losses=0, unscored=0, p_value=1, p_value_holm=1,
        minimum_detectable_difference=None,
    )  # fmt: skip
    comparison = comparison.model_copy(update=changed)
    return Pooled(comparison, (comparison,), None)


def result(arm: str, gain: float, tokens: float = 1000) -> ArmResult:
    return ArmResult(arm, (0.4,), pooled(gain), None if arm == CONTROL else pooled(gain - 0.01), tokens, 90)


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_can_be_carried_out_and_has_a_control(name: str) -> None:
    recipe = Sweep(name).recipe(1)
    check(recipe)
    assert recipe.arms[CONTROL].starts_from == "sft"
    assert recipe.evaluate.on == ("validation" if recipe.corpus.tasks else "test")


def test_sweeps_of_one_run_share_everything_before_their_arms() -> None:
    shared = ("corpus", "retain", "sft", "mine")
    listed = {
        name: {unit.name: unit for unit in units(Sweep(name).recipe(1), Path("/base")) if unit.name in shared}
        for name in NAMES
        if Sweep(name).recipe(1).name == "short"
    }
    first, *others = listed.values()
    assert len(listed) > 1
    for other in others:
        assert {name: unit.part for name, unit in other.items()} == {name: unit.part for name, unit in first.items()}


def test_the_test_is_opened_only_when_that_is_asked() -> None:
    assert Sweep("kinds", opens_test=True).recipe(1).evaluate.on == "test"


def test_the_best_arms_and_the_control_go_on_and_of_equals_the_cheaper() -> None:
    found = [result(CONTROL, 0.05), result("dear", 0.04, 2000), result("cheap", 0.04), result("bad", -0.1)]
    assert going_on(found, 1) == ["cheap", CONTROL]
    assert going_on(found, 2) == ["cheap", "dear", CONTROL]


def test_the_table_has_a_row_an_arm_with_intervals_and_costs() -> None:
    row = markdown([result("own", 0.04)]).splitlines()[-1]
    assert row == "| own | 40.0 % | +4.0 [-1.0, +9.0] | +3.0 [-2.0, +8.0] | 1,000 | 1.5 |"
    assert "| - |" in markdown([result(CONTROL, 0.04)])


def test_the_table_of_a_learned_judge_holds_rates_of_comparisons_won() -> None:
    won = {"judge": "local", "win_rate": estimate(0.55), "length_controlled_win_rate": estimate(0.52)}
    table = markdown([ArmResult("human", (0.6, 0.5), pooled(3.5, **won), pooled(0.1, judge="local"), 2000, 60)])
    assert table.startswith("| arm | won of SFT |")
    assert table.endswith(
        "| human | 60.0 % / 50.0 % | 55.0 % [50.0, 60.0], 52.0 % [47.0, 57.0] | 10.0 % [5.0, 15.0], - | 2,000 | 1.0 |"
    )


def test_the_best_by_a_learned_judge_is_the_one_that_won_most() -> None:
    def judged(arm: str, reward: float, wins: int, losses: int) -> ArmResult:
        found = pooled(reward, judge="local", wins=wins, losses=losses)
        return ArmResult(arm, (0.5,), found, None, 10, 60)

    assert going_on([judged("higher", 4.0, 10, 30), judged("oftener", 0.5, 30, 10)], 1) == ["oftener"]


def test_an_unknown_sweep_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nothing"]) == 2
    assert "no experiment 'nothing'; there are" in " ".join(capsys.readouterr().err.split())
