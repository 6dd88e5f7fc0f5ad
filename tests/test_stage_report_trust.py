"""Whether a result is safe to trust, as the page says it: alarms, overlap, judges, length, strengths, pairs."""

from dataclasses import replace
from pathlib import Path

import pytest
from report_fixture import MODELS, build_run, recipe
from report_page import make
from report_rich import ALARMS, build_rich_run, enriched, rich_recipe

from limbeck.records import Estimate
from limbeck.records.verdict import Verdict
from limbeck.stages.report import outcomes, trust
from limbeck.stages.report.answer import best_comparison
from limbeck.stages.report.curves import dpo_curves, marks_of
from limbeck.stages.report.gather import Gathered, gather
from limbeck.stages.report.paired import paired


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_rich_run(tmp_path_factory.mktemp("trust") / "run")


@pytest.fixture(scope="module")
def gathered(root: Path) -> Gathered:
    return gather(root, rich_recipe())


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return make(root, rich_recipe())


def part(html: str, name: str) -> str:
    return html.partition(f'<section id="{name}">')[2].partition("<h2>")[2].partition("<h2>")[0]


def test_the_sections_answer_a_readers_questions_in_their_order(html: str) -> None:
    asked = ("By how much, and where", "Is it safe to trust?", "How it trained", "What it says now", "What it cost",
             "How to repeat it")  # fmt: skip
    places = [html.index(f"<h2>{question}</h2>") for question in asked]
    assert places == sorted(places)


def test_alarms_of_pairs_training_and_evaluation_are_numbered_once_and_in_that_order(gathered: Gathered) -> None:
    assert [(number, alarm.about) for number, alarm in trust.numbered(gathered.alarms)] == [
        (1, "zero_shot"), (2, "dpo/random"), (3, "dpo/random"), (4, "evaluate/on_policy"),
    ]  # fmt: skip


def test_an_alarm_tells_where_what_and_what_to_do_and_cannot_act_on_the_page(html: str) -> None:
    shown = part(html, "trust")
    assert "<strong>dpo/random, step 40.</strong> random: held-out accuracy is stuck at 0.48." in shown
    assert "Look at the pairs.&lt;/script&gt; Threshold: <code>dpo.alarms.min_accuracy</code>" in shown
    assert "4 alarms.</strong> Read" in html.partition("<main>")[0]


def test_curves_mark_the_steps_of_their_own_units_alarms_by_number(gathered: Gathered) -> None:
    alarms = trust.numbered(ALARMS)
    assert [(mark.step, mark.number) for mark in marks_of(["dpo/random", "sft"], alarms)] == [(40, 1), (44, 2)]
    assert marks_of(["dpo/on_policy", "evaluate/on_policy"], alarms) == ()  # the latter has no step
    figure = dpo_curves(gathered.metrics, {}, alarms).figure
    assert figure is not None and "⚠ marks the step" in figure.caption
    assert all("⚠1,2<title>alarm 1, step 40: random: random: held-out" in drawing for drawing in figure.drawings)


def test_rows_dropped_for_overlap_are_counted_and_other_drops_are_not(gathered: Gathered) -> None:
    table = trust.overlap_table(gathered.manifests)
    assert table is not None
    assert [[cell.main for cell in row] for row in table.rows] == [
        ["corpus", "0", "–"], ["screen", "3", "random: overlap with evaluation: same prompt: 3"],
    ]  # fmt: skip
    assert trust.overlap_table({}) is None


def test_judges_stand_beside_what_the_longer_response_reaches_with_rates_and_limits(gathered: Gathered) -> None:
    table = trust.judge_table(gathered.verdict)
    assert table is not None
    local, pairwise = table.rows
    assert [cell.main for cell in local[:5]] == ["local", "71.0%", "55.0%", "+16.0 points", "0.043"]
    assert "human: 66.0%" in local[1].note and "English only" in local[6].main and "human: 52.0%" in local[2].note
    assert pairwise[5].main == "flips: 18.0% [10.0, 26.0]\nfirst position: 57.0% [49.0, 65.0]"


def test_agreement_length_strength_and_pairs_are_on_the_page(html: str) -> None:
    shown = part(html, "trust")
    for fact in ("verifier and local", "64.0%", "0.31", "212", "−2.0 points", "as win rate 65.0% [58.0, 72.0]",
                 "n = 24, longer: 58.0%", "&lt;b&gt;Longest conversation"):  # fmt: skip
        assert fact in shown


def test_what_length_changes_compares_like_with_like_where_a_tie_is_no_win(gathered: Gathered) -> None:
    even = Estimate(estimate=0.5, low=0.4, high=0.6, n=100)
    c = gathered.verdict.comparisons[0].model_copy(update={
        "win_rate": Estimate(estimate=0.25, low=0.2, high=0.3, n=100), "win_rate_other_ties": even,
        "length_controlled_win_rate": even,
    })  # fmt: skip
    counted = {"ties": "loss", "comparisons": (c, c.model_copy(update={"win_rate_other_ties": None}))}
    table = trust.length_table(gathered.verdict.model_copy(update=counted))
    assert table is not None
    assert [[cell.main for cell in row[2:]] for row in table.rows] == [
        ["50.0%", "50.0%", "0.0 points"], ["–", "50.0%", "–"],
    ]  # fmt: skip


def test_the_facts_of_the_first_screen_are_of_the_arm_that_its_sentence_calls_best(gathered: Gathered) -> None:
    """By a learned judge the best is whoever wins most prompts, not whose mean reward a few prompts lift."""
    made = next(c for c in gathered.verdict.comparisons if c.judge == "verifier" and c.split == "test")
    lifted = made.model_copy(update={
        "judge": "local", "candidate": "random", "baseline": "sft", "wins": 51, "ties": 0, "losses": 49,
        "difference": Estimate(estimate=0.5, low=0.4, high=0.6, n=100),
    })  # fmt: skip
    best = lifted.model_copy(update={
        "candidate": "on_policy", "wins": 60, "losses": 40,
        "difference": Estimate(estimate=0.3, low=0.2, high=0.4, n=100),
    })  # fmt: skip
    verdict = gathered.verdict.model_copy(update={"comparisons": (lifted, best)})
    recipe = gathered.recipe.model_copy(
        update={"evaluate": gathered.recipe.evaluate.model_copy(update={"judges": ("local",)})}
    )
    found = best_comparison(replace(gathered, verdict=verdict, recipe=recipe))
    assert found is not None and found.candidate == "on_policy"
    assert outcomes.results_of(replace(gathered, verdict=verdict), "local").summary.startswith("on_policy ")


def test_an_older_verdict_says_what_it_lacks_in_a_clause_and_leaves_the_rest_out(tmp_path: Path) -> None:
    shown = part(make(build_run(tmp_path / "run")), "trust")
    assert "The verdict holds no card of its judges (verifier)." in shown
    for absent in ("At equal lengths", "Held-out pairs</h3>", "agree", "Calibration, bin by bin"):
        assert absent not in shown


def test_a_prompt_counts_once_and_only_where_both_models_were_scored(gathered: Gathered) -> None:
    found = paired(gathered, "on_policy", "sft", "verifier")
    assert len(found) == 60 and {pair.difference for pair in found} == {-1, 0, 1}
    assert len(paired(gathered, "base", "sft", "verifier")) == 59  # one of base is unscored
    preferred = paired(gathered, "random", "sft", "pairwise")
    assert 0 < len(preferred) < 60 and all(pair.before is None for pair in preferred)
    assert paired(gathered, "elsewhere", "sft", "verifier") == ()


def test_a_reward_has_points_and_a_histogram_and_right_or_wrong_has_lengths_only(gathered: Gathered) -> None:
    figures = (outcomes.scatter_figure, outcomes.histogram_figure, outcomes.length_figure)
    drawn = {
        judge: [draw(gathered, judge) is not None for draw in figures] for judge in ("verifier", "local", "pairwise")
    }
    assert drawn == {"verifier": [False, False, True], "local": [True, True, True], "pairwise": [False, False, True]}
    scatter = outcomes.scatter_figure(gathered, "local")
    assert scatter is not None and len(scatter.drawings) == len(MODELS) - 1
    assert scatter.drawings[0].count("h0") == 60


def test_topics_have_differences_and_tallies_for_every_model(gathered: Gathered) -> None:
    figure = outcomes.topic_figure(gathered.verdict, "verifier")
    assert figure is not None and figure.drawings[0].count('class="dot') == 4 * 4
    rows = outcomes.topic_table(gathered.verdict).rows
    assert len(rows) == 4 * len(gathered.verdict.comparisons)
    assert rows == tuple(sorted(rows, key=lambda row: row[0].main))


def test_somebody_elses_responses_are_a_model_without_files(root: Path) -> None:
    verdict = gather(root, rich_recipe()).verdict
    theirs = verdict.scores[0].model_copy(update={"model": "against"})
    (root / "verdict" / "verdict.json").write_text(
        verdict.model_copy(update={"scores": (*verdict.scores, theirs)}).model_dump_json(), encoding="utf-8"
    )
    found = gather(root, rich_recipe())
    assert found.answers["against"].replies == ()
    assert not any("against" in gap.path for gap in found.gaps)
    assert "<span>against</span>" in make(root, rich_recipe())


def test_the_rich_fixture_is_a_verdict_that_can_be_written_and_read() -> None:
    empty = Verdict(sentence="s", confidence=0.95, scores=(), comparisons=())
    again = Verdict.model_validate_json(enriched(empty).model_dump_json())
    assert again == enriched(empty) and recipe().judged_by() == ("verifier",)
