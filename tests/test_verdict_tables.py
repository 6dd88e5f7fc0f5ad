"""What a run says at its end: every figure of the verdict within 80 columns, and nothing of a model's name acted on."""

from pathlib import Path

import pytest

from limbeck.commands.summary import show_verdict
from limbeck.commands.verdict_tables import show_published
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm
from limbeck.recipe.published import Published, PublishedRow
from limbeck.recipe.verdict import Evaluate
from limbeck.records import Estimate
from limbeck.records.verdict import Agreement, Comparison, JudgeCard, ModelScore, PairAccuracy, Strength, Verdict
from limbeck.stages.report.published import rows_of
from limbeck.store import write_json

ARMS = ("sft", "human+zero_shot+interleaved", "b[red]old[/]")


def estimate(at: float, n: int = 2000) -> Estimate:
    return Estimate(estimate=at, low=at - 0.1234, high=at + 0.1234, n=n)


def comparison(candidate: str, judge: str, baseline: str = "sft") -> Comparison:
    return Comparison(
        candidate=candidate, baseline=baseline, judge=judge, split="test", difference=estimate(-10.5),
        win_rate=estimate(0.612), length_controlled_win_rate=estimate(0.515), wins=1200, ties=345, losses=455,
        unscored=17, test="sign test, exact", p_value=0.0001, p_value_permutation=0.001, p_value_holm=0.0004,
        minimum_detectable_difference=12.345, minimum_detectable_win_rate=0.05,
    )  # fmt: skip


def a_verdict() -> Verdict:
    score = {"num_replies": 2000, "unparsable": 3, "truncated": 4, "unscored": 5, "mean_response_tokens": 60.0}
    card = JudgeCard(
        judge="local", about="a head trained here", accuracy=estimate(0.71, 400), longer_is_chosen=estimate(0.58, 400),
        calibration_error=0.041, rates={"first_position": estimate(0.62)}, limits=("trained on 1,600 pairs",),
    )  # fmt: skip
    return Verdict(
        sentence="The best of 2 arms did not clearly improve on SFT.",
        confidence=0.95,
        scores=tuple(ModelScore(model=name, accuracy=estimate(0.4), repetition_rate=0.1, **score) for name in ARMS),
        comparisons=tuple(
            comparison(name, judge, baseline)
            for judge in ("verifier", "local")
            for baseline in ("sft", "against")
            for name in ARMS
            if name != baseline
        ),
        strengths=tuple(Strength(model=n, judge="local", log_odds=estimate(0.4), win_rate=estimate(0.6)) for n in ARMS),
        pair_accuracies=tuple(
            PairAccuracy(model=name, source="few_shot", raw=estimate(0.55), longer_is_chosen=estimate(0.6),
                         against_reference=None if name == "sft" else estimate(0.65))
            for name in ARMS
        ),
        judges=(card,),
        agreements=(Agreement(judges=("verifier", "local"), agreement=estimate(0.8), kappa=0.61, n=3983),),
    )  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    write_json(tmp_path / "verdict.json", a_verdict().model_dump(mode="json"))
    show_verdict(tmp_path / "verdict.json")
    return capsys.readouterr().out


def test_all_of_it_fits_80_columns_and_nothing_is_cut_off(told: str) -> None:
    assert max(map(len, told.splitlines())) <= 80
    assert "…" not in told


def test_every_figure_is_there(told: str) -> None:
    for figure in ("1200/345/455", "17 unscored", "61.2", "[48.9, 73.5]", "51.5", "-10.50", "12.35", "<0.001"):
        assert figure in told, figure
    for baseline in ("sft", "against"):
        for judge in ("verifier", "local"):
            assert f"Win rate against {baseline}, judged by {judge}; a tie is half a win." in told
    assert "-1050.0" in told  # the verifier's in points
    assert "Strengths by local over all models (Bradley-Terry)" in told
    assert "Held-out pairs whose chosen response is likelier" in told
    assert "verifier and local agree on 80.0 % [67.7, 92.3] of 3983 rows, kappa 0.61" in told
    assert told.rstrip().endswith("The best of 2 arms did not clearly improve on SFT.")


def test_what_is_known_of_a_judge_stands_beside_what_it_says(told: str) -> None:
    assert "local: a head trained here" in told
    assert "right on 71.0 % [58.7, 83.3] of 400 held-out pairs" in told
    assert "choosing the longer one would be right on 58.0 % [45.7, 70.3]" in told
    assert "expected calibration error 0.041" in told
    assert "first position: 62.0 % [49.7, 74.3]" in told
    assert "trained on 1,600 pairs" in told


def test_a_models_name_is_text(told: str) -> None:
    assert "b[red]ol" in told.replace("\n", "")


@pytest.fixture
def beside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    arm = "human+zero_shot+interleaved"
    table = {"sft": PublishedRow(average_reward=-27.9),
             arm: PublishedRow(win_rate=0.9, average_reward=-10.5, note="A first try gave [b].10[/b].")}  # fmt: skip
    section = Published(title="Table 1", source="A paper", ties="loss", table=table, notes=("Read with care.",))
    recipe = Recipe(name="r", arms={arm: Arm(human=4)}, evaluate=Evaluate(judges=("local",)))
    told = a_verdict()
    scores = tuple(score.model_copy(update={"mean_reward": estimate(-25.5)}) for score in told.scores)
    both = tuple(c.model_copy(update={"win_rate_other_ties": estimate(0.5)}) for c in told.comparisons)
    verdict = told.model_copy(update={"comparisons": both, "scores": scores})
    found = rows_of(recipe.model_copy(update={"published": section}), verdict)
    assert found is not None
    show_published(found)
    return capsys.readouterr().out


def test_published_figures_and_ours_fit_80_columns_and_what_ours_exclude_is_said(beside: str) -> None:
    assert max(map(len, beside.splitlines())) <= 80 and "…" not in beside
    for figure in ("90.0", "50.0", "[37.7, 62.3]", "61.2", "-27.9", "-25.50", "[-25.6,", "-25.4]", "1200/345/455",
                   "17 unscored", "Read with care.", "A first try gave [b].10[/b]."):  # fmt: skip
        assert figure in beside, figure
    assert beside.count("outside") == 1 + 3  # the title's, of 90 %, of -27.9 and of -10.5
