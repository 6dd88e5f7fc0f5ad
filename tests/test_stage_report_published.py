"""Published figures beside a run's own: what lies inside, outside, or is missing, is said in words, in Markdown too."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_fixture import MODELS, SENTENCE, build_run, recipe
from report_page import Page, make
from report_published import PUBLISHED, REWARD, build_published_run, published_recipe

from limbeck.api.reply_store import Cost, ReplyStore
from limbeck.commands.runs import show_end
from limbeck.judges.books import run_store
from limbeck.recipe import Recipe
from limbeck.records import Estimate
from limbeck.stages import report
from limbeck.stages.report.gather import Gathered, gather
from limbeck.stages.report.markdown import escaped, markdown
from limbeck.stages.report.page import render
from limbeck.stages.report.published import Beside, Row, Rows, rows_of
from limbeck.stages.report.published_tables import outside_of, table_of
from limbeck.stages.report.samples import samples_of
from limbeck.stages.report.tables import Cell, Column, Table


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_published_run(tmp_path_factory.mktemp("published") / "run")


@pytest.fixture(scope="module")
def gathered(run_folder: Path) -> Gathered:
    return gather(run_folder, published_recipe())


@pytest.fixture(scope="module")
def page(gathered: Gathered) -> Page:
    return Page(render(gathered))


@pytest.fixture
def rows(gathered: Gathered) -> dict[str, Row]:
    return {row.model: row for row in found(gathered).rows}


def found(gathered: Gathered) -> Rows:
    rows = rows_of(gathered.recipe, gathered.verdict)
    assert rows is not None
    return rows


@pytest.mark.parametrize(
    ("published", "place"), [(0.4, "inside"), (0.6, "inside"), (0.39, "below"), (0.61, "above"), (None, None)]
)
def test_a_published_figure_is_inside_from_the_lower_to_the_upper_bound(published: float | None, place: str) -> None:
    assert Beside(published, None, Estimate(estimate=0.5, low=0.4, high=0.6, n=9)).place == place


def test_nothing_lies_anywhere_where_this_run_has_no_figure() -> None:
    assert Beside(0.5, None, None).place is None


def test_published_rows_come_first_in_their_order_then_the_arms_that_were_not_published(rows: dict[str, Row]) -> None:
    assert list(rows) == ["sft", "random", "random+zero_shot", "on_policy"]
    assert rows["on_policy"].win_rate.published is None and rows["on_policy"].win_rate.ours is not None


def test_the_published_win_rate_is_compared_with_ours_under_the_same_ties(rows: dict[str, Row]) -> None:
    row = rows["random+zero_shot"]
    assert row.comparison is not None and row.comparison.ties > 0
    strict = row.comparison.wins / 60
    assert row.win_rate.ours is not None and row.win_rate.ours.estimate == pytest.approx(strict)
    assert row.other_ties == row.comparison.win_rate  # the verdict counts ties half
    assert row.win_rate.place == "inside" and rows["random"].win_rate.place == "above"


def test_a_verdict_that_holds_one_way_of_counting_ties_leaves_the_other_empty(tmp_path: Path) -> None:
    old = gather(build_run(tmp_path / "run"), published_recipe())
    for row in found(old).rows[1:]:
        assert row.win_rate.ours is None and row.win_rate.place is None and row.other_ties is not None


def test_the_published_rates_own_interval_is_wilsons_over_its_prompts(rows: dict[str, Row]) -> None:
    own = rows["random"].win_rate.interval
    assert own is not None and (own.low, own.high) == (pytest.approx(0.5784, abs=1e-4), pytest.approx(0.6212, abs=1e-4))


def test_the_page_opens_with_the_published_table_and_says_in_words_what_lies_outside(page: Page) -> None:
    tables = [at for at, (tag, _) in enumerate(page.tags) if tag == "table"]
    first = page.text.index("Win rate against sft, published")
    assert first < page.text.index("Difference to sft") and tables
    for said in ("60.0%", "[57.8, 62.1]", "outside ours", "inside ours", "on 2,000 prompts", "A first try gave .10.",
                 "−27.90", "58.5%", "a tie is no win", "a tie is half a win", "A note *on* the table."):  # fmt: skip
        assert said in page.text, said
    assert "3 of 5 published figures lie outside this run’s intervals." in page.text
    assert "b" not in {tag for tag, _ in page.tags}


def test_columns_of_somebody_elses_responses_are_there_only_where_something_is_known_of_them(
    gathered: Gathered,
) -> None:
    titles = [column.title for column in table_of(found(gathered)).columns]
    assert "Win rate against given responses, published" in titles
    rows = found(gathered)
    nothing = tuple(row._replace(against=Beside(None, None, None)) for row in rows.rows)
    assert not any("given responses" in column.title for column in table_of(rows._replace(rows=nothing)).columns)


def test_every_row_has_a_cell_a_column(gathered: Gathered) -> None:
    table = table_of(found(gathered))
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_nothing_beside_anything_is_said_so(gathered: Gathered) -> None:
    lonely = tuple(
        row._replace(win_rate=row.win_rate._replace(ours=None), reward=row.reward._replace(ours=None))
        for row in found(gathered).rows
    )
    assert outside_of(found(gathered)._replace(rows=lonely)).startswith("No published figure has one")


def test_published_figures_are_drawn_from_this_runs_curves_and_what_was_not_logged_is_said(page: Page) -> None:
    labels = [attributes.get("aria-label") or "" for tag, attributes in page.tags if tag == "svg"]
    assert "DPO loss, loss, over optimizer steps" in labels
    assert any(label.startswith("Accuracy of a run with a very lon…, accuracy") for label in labels)
    assert "Nothing: dpo/on_policy logged no surprise." in page.text
    assert page.text.count("Chance is an accuracy of one half") == 2  # there, and with the curves of every arm
    assert "Accuracy of a run with a very long title indeed (accuracy of random+zero_shot)" in page.text


def test_samples_are_of_the_baseline_and_every_arm_on_the_same_prompts(gathered: Gathered) -> None:
    samples = samples_of(gathered, 4)
    assert len({sample.prompt_id for sample in samples}) == 4
    assert all([card.model for card in sample.cards] == ["sft", *MODELS[2:]] for sample in samples)
    texts = {reply.prompt_id: reply.text for reply in gathered.answers["random"].replies}
    card = samples[0].cards[1]
    assert texts[samples[0].prompt_id].startswith(card.said.text[:5])
    assert any(word in card.facts for word in ("solved", "wrong")) and "tokens" in card.facts


def test_which_prompts_are_shown_depends_on_the_seed_and_on_no_score(gathered: Gathered) -> None:
    def drawn(seed: int, of: Gathered) -> list[str]:
        made = of.recipe.model_copy(update={"seed": seed})
        return [sample.prompt_id for sample in samples_of(replace(of, recipe=made), 5)]

    unjudged = {model: each._replace(judgements={}) for model, each in gathered.answers.items()}
    assert drawn(7, gathered) == drawn(7, replace(gathered, answers=unjudged))
    assert len({tuple(drawn(seed, gathered)) for seed in range(5)}) == 5


def test_a_prompt_that_one_model_did_not_answer_is_not_shown(gathered: Gathered) -> None:
    random = gathered.answers["random"]
    short = {**gathered.answers, "random": random._replace(replies=random.replies[:2])}
    samples = samples_of(replace(gathered, answers=short), 5)
    assert {sample.prompt_id for sample in samples} == {reply.prompt_id for reply in random.replies[:2]}
    assert samples_of(replace(gathered, answers={}), 5) == ()


def test_without_published_figures_the_page_has_no_such_section(run_folder: Path) -> None:
    page = Page(make(run_folder))
    assert "published" not in page.text and ("section", {"id": "published"}) not in page.tags


def test_the_first_table_lies_beside_the_page_as_markdown(run_folder: Path) -> None:
    report.run(published_recipe(), {"run": run_folder}, run_folder / "report")
    lines = (run_folder / "report" / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == r"### Table 1 \<b\>of\</b\> \| a paper"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 4 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert r"| random+zero\_shot | 37.0% [34.9, 39.1]; inside ours |" in rows[4]
    assert r"- random: A first try gave .10." in lines


def test_without_published_figures_the_markdown_is_the_main_table(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    report.run(recipe(), {"run": run}, run / "report")
    text = (run / "report" / "table.md").read_text(encoding="utf-8")
    assert text.startswith("### tiny\n\n| Model | Accuracy |") and "| random |" in text


def test_markdown_shows_signs_that_would_act_as_they_are_and_keeps_a_cell_on_its_line() -> None:
    table = Table((Column("a|b", "head"), Column("n")), ((Cell("x\ny", "<i>\nz"), Cell("1", "[0, 2]")),))
    assert markdown("T", table, "said").splitlines()[2:5] == [
        r"| a\|b | n |", "|---|---:|", r"| x y; \<i\>; z | 1 [0, 2] |",
    ]  # fmt: skip
    assert escaped("[x](http://y) [z]") == r"[x\](http://y) [z]"
    assert escaped("a\u202eb `c` *d*") == r"a⟪U+202E⟫b \`c\` \*d\*"


def test_published_figures_decide_no_result_but_the_report() -> None:
    from limbeck import pipeline

    def parts(made: Recipe) -> dict[str, object]:
        return {unit.name: unit.part for unit in pipeline.units(made, Path("base"))}

    with_it, without = parts(published_recipe()), parts(recipe())
    assert {name for name in without if with_it[name] != without[name]} == {"report"}
    assert pipeline.part_alone(published_recipe(), "dpo") == pipeline.part_alone(recipe(), "dpo")


def test_mean_rewards_stand_beside_the_published_ones(rows: dict[str, Row]) -> None:
    assert rows["random+zero_shot"].reward == Beside(-1.0, None, REWARD)
    assert rows["random"].reward.place == "below" and rows["random"].note == PUBLISHED["table"]["random"]["note"]


def test_what_a_judge_cost_is_in_the_money_on_top_and_in_a_row_of_its_own(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    with ReplyStore(run_store("nemotron", run)) as store:
        attempt = store.begin("key", "reward", "{}", Cost(900, 100, 5_000_000_000))
        assert attempt is not None
        store.settle(attempt, Cost(800, 20, 1_250_000_000))
    with ReplyStore(run_store("pairwise", run)) as store:
        store.begin("key", "pairwise", "{}", Cost(30, 10))
    page = Page(make(run)).text
    assert "Money$1.32 teacher $0.07, nemotron $1.25, pairwise 40 tokens, price not known" in page
    assert page.count("judge nemotron820 tokens in its books") == 2 and page.count("price not known") == 3
    assert page.count("$1.32") == 3  # on top, and where stages and units are added up


def test_a_judge_that_was_asked_nothing_is_not_listed(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    with ReplyStore(run_store("nemotron", run)):
        pass
    assert gather(run, recipe()).judges_paid == {}


def test_a_run_ends_with_the_published_table_where_there_is_one(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_end(published_recipe(), run_folder)
    told = capsys.readouterr().out
    assert told.index(SENTENCE[:40]) < told.index("Table 1 <b>of</b> | a paper: win rate") < told.index("As Markdown:")
    show_end(recipe(), run_folder)
    told = capsys.readouterr().out
    assert "Table 1" not in told and "As Markdown" not in told and "report.html" in told
