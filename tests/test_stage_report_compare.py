"""Several runs on one page: what is said of their tests, models, recipes and costs, in text and in a real browser."""

from dataclasses import replace
from pathlib import Path

import pytest
from chromium import browsing
from report_fixture import HOSTILE, MODELS, build_run, recipe
from report_page import Page
from report_rich import build_rich_run, rich_recipe
from typer.testing import CliRunner

from limbeck.cli import app
from limbeck.errors import InputError, RunFolderError
from limbeck.recipe import Recipe
from limbeck.recipe.file import write_recipe
from limbeck.records import user_prompt
from limbeck.stages import report
from limbeck.stages.report import several
from limbeck.stages.report.gather import Gathered, gather
from limbeck.stages.report.over_seeds import groups_of, seeds_table


def other_recipe() -> Recipe:
    changed = rich_recipe()
    dpo = changed.dpo.model_copy(update={"beta": 0.3})
    return changed.model_copy(update={"name": "other", "seed": 9, "dpo": dpo})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Recipe]:
    root = tmp_path_factory.mktemp("runs")
    first, second = build_rich_run(root / "first"), build_rich_run(root / "second", num_prompts=100)
    return {first: rich_recipe(), second: other_recipe()}


@pytest.fixture(scope="module")
def runs(folders: dict[Path, Recipe]) -> several.Runs:
    return {folder.name: gather(folder, made, answers=False) for folder, made in folders.items()}


@pytest.fixture(scope="module")
def page(folders: dict[Path, Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    report.compare(folders, path)
    return path


def test_different_test_prompts_are_said_first_and_equal_ones_too(runs: several.Runs) -> None:
    assert several.cautions(runs) == (
        "The runs were judged on different test prompts (first: 60, second: 100; 60 are in all of them): only "
        "differences to a run’s own baseline can be compared, and those with care.",
    )
    assert several.cautions({"a": runs["first"], "b": runs["first"]}) == (
        "All runs were judged on the same 60 test prompts.",
    )


def test_another_judge_or_student_is_said(tmp_path: Path, runs: several.Runs) -> None:
    plain = gather(build_run(tmp_path / "plain"), recipe(), answers=False)
    said = several.cautions({"plain": plain, "first": runs["first"]})
    assert said[1:] == ("The judge is not the same in all runs (plain: verifier; first: verifier, local, pairwise).",)


def test_runs_whose_prompts_are_missing_cannot_be_told_equal(tmp_path: Path, runs: several.Runs) -> None:
    root = build_run(tmp_path / "run")
    (root / "corpus" / "test.jsonl").unlink()
    said = several.cautions({"first": runs["first"], "second": gather(root, recipe(), answers=False)})
    assert said[0].startswith("Whether the runs were judged on the same test prompts cannot be told")


def test_every_model_has_an_estimate_a_run_and_every_comparison_a_row_a_run(runs: several.Runs) -> None:
    [accuracy] = several.score_figures(runs)
    assert accuracy.drawings[0].count('class="dot') == 2 * len(MODELS)
    assert [entry.name for entry in accuracy.legend] == ["first", "second"]
    rows = several.comparison_table(runs).rows
    assert len(rows) == 2 * 3 * 4  # runs, judges, candidates
    assert [row[0].main for row in rows[:6]] == ["base"] * 6
    assert len(several.difference_figures(runs)) == 3


def test_topics_and_training_lie_over_each_other(runs: several.Runs) -> None:
    topics = several.topic_figure(runs)
    assert topics is not None and topics.drawings[0].count('class="dot') == 2 * 4
    overlays = several.training_curves(runs)
    assert [overlay.name for overlay in overlays] == ["sft", *MODELS[2:]]
    figure = overlays[1].curves.figure
    assert figure is not None and figure.drawings[0].count("<polyline") == 2 * 2  # runs, splits


def test_recipes_differ_in_the_fields_that_differ_and_in_no_other(runs: several.Runs) -> None:
    table = several.recipe_table(runs)
    assert table is not None
    assert [[cell.main for cell in row] for row in table.rows] == [["seed", "7", "9"], ["dpo.beta", "0.1", "0.3"]]
    assert several.recipe_table({"a": runs["first"], "b": runs["first"]}) is None


def test_an_arm_that_one_recipe_lacks_is_a_dash(tmp_path: Path, runs: several.Runs) -> None:
    fewer = rich_recipe().model_copy(update={"arms": {"random": recipe().arms["random"]}})
    lean = gather(build_run(tmp_path / "lean"), fewer, answers=False)
    table = several.recipe_table({"first": runs["first"], "lean": lean})
    assert table is not None
    assert ["arms.on_policy.on_policy", "40", "–"] in [[cell.main for cell in row] for row in table.rows]


def test_costs_stand_stage_by_stage_with_their_sum(runs: several.Runs) -> None:
    rows = {row[0].main: row[1] for row in several.cost_table(runs).rows}
    assert rows["teach"].note == "241,320 tokens\n$0.07"
    assert rows["Together"].main == "1 h 45 min" and rows["corpus"].note == ""


def test_the_page_holds_no_script_and_nothing_from_outside(page: Path) -> None:
    parsed = Page(page.read_text(encoding="utf-8"))
    assert parsed.open == [] and parsed.raw["script"] == []
    [policy] = [given["content"] for tag, given in parsed.tags if tag == "meta" and "http-equiv" in given]
    assert policy is not None and "default-src 'none'; script-src 'none'; style-src 'sha256-" in policy
    assert not {"img", "link", "iframe", "script"} & {tag for tag, _ in parsed.tags}


def test_hostile_names_and_sentences_are_text(tmp_path: Path) -> None:
    root = build_run(tmp_path / "<b>run")
    verdict = gather(root, recipe(), answers=False).verdict.model_copy(update={"sentence": HOSTILE[0]})
    (root / "verdict" / "verdict.json").write_text(verdict.model_dump_json(), encoding="utf-8")
    report.compare({root: recipe(), build_run(tmp_path / "plain"): recipe()}, tmp_path / "page.html")
    parsed = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert HOSTILE[0] in parsed.text and "<b>run" in parsed.text
    assert not {"b", "img", "script"} & {tag for tag, _ in parsed.tags}


def test_it_opens_in_a_browser_in_light_and_dark_without_complaint(page: Path, tmp_path: Path) -> None:
    with browsing(tmp_path) as tab:
        for width in (390, 1200):
            tab.look(scheme="dark", width=width)
            assert tab.open(page) < 2
            assert tab.js("document.documentElement.scrollWidth") <= width
            assert tab.js("document.querySelector('h1').textContent") == "2 runs side by side"
        assert tab.complaints == []
        assert set(tab.requests) == {page.as_uri()}


def test_one_run_is_no_comparison(folders: dict[Path, Recipe], tmp_path: Path) -> None:
    first = next(iter(folders))
    with pytest.raises(InputError, match="needs two runs or more, and 1 is named"):
        report.compare({first: recipe()}, tmp_path / "page.html")


def test_folders_of_the_same_name_are_told_apart_by_what_lies_above(tmp_path: Path) -> None:
    found = {build_run(tmp_path / above / "demo", hostile=False): recipe() for above in ("a", "b")}
    report.compare(found, tmp_path / "page.html")
    assert {"a/demo", "b/demo"} <= set(Page((tmp_path / "page.html").read_text(encoding="utf-8")).text.split("\n"))


def test_the_command_writes_beside_the_first_run_and_asks_for_the_option(folders: dict[Path, Recipe]) -> None:
    for folder, made in folders.items():
        write_recipe(folder / "recipe.toml", made)
    named = [str(folder) for folder in folders]
    done = CliRunner().invoke(app, ["report", "--compare", *named], catch_exceptions=False)
    written = next(iter(folders)).parent / "comparison.html"
    assert done.exit_code == 0 and written.is_file()
    refused = CliRunner().invoke(app, ["report", *named])
    assert isinstance(refused.exception, RunFolderError) and "--compare" in str(refused.exception)


def test_prompts_decide_whether_tests_are_the_same_whatever_they_are_called(runs: several.Runs) -> None:
    first = runs["first"]
    renamed = tuple(h._replace(row=h.row.model_copy(update={"id": f"x{n}"})) for n, h in enumerate(first.prompts))
    other = {"prompt": user_prompt("Else?")}
    changed = tuple(held._replace(row=held.row.model_copy(update=other)) for held in first.prompts)
    assert several.cautions({"a": first, "b": replace(first, prompts=renamed)})[0].startswith("All runs")
    assert "0 are in all" in several.cautions({"a": first, "b": replace(first, prompts=changed)})[0]


def reseeded(run: Gathered, seed: int, by: float = 0.0) -> Gathered:
    """The same run under another seed, whose differences are larger by so much, and win rates by half of it."""
    moved = tuple(
        c.model_copy(update={"difference": c.difference.model_copy(update={"estimate": c.difference.estimate + by}),
                             "win_rate": c.win_rate.model_copy(update={"estimate": c.win_rate.estimate + by / 2})})
        for c in run.verdict.comparisons
    )  # fmt: skip
    made = run.recipe.model_copy(update={"name": f"r{seed}", "seed": seed})
    return replace(run, recipe=made, verdict=run.verdict.model_copy(update={"comparisons": moved}))


def test_seeds_of_one_recipe_have_their_mean_their_spread_and_their_ends(runs: several.Runs) -> None:
    first = runs["first"]
    table = seeds_table({"a": reseeded(first, 1), "b": reseeded(first, 2, 0.1), "c": reseeded(first, 3, 0.2)})
    assert table is not None
    [row] = [row for row in table.rows if (row[0].main, row[2].main) == ("random+zero_shot", "verifier")]
    assert row[1].main == "3 seeds" and row[1].note == "a, b, c"
    assert (row[3].main, row[3].note) == ("+25.0 points", "sd 10.0\n+15.0 to +35.0")  # 15, 25 and 35 points
    assert (row[4].main, row[4].note) == ("62.5%", "sd 5.0\n57.5 to 67.5")


def test_other_recipes_and_the_same_seed_again_are_not_averaged(runs: several.Runs, page: Path) -> None:
    first, second = runs["first"], runs["second"]  # of another beta
    assert groups_of({"first": first, "second": second}) == ()
    assert groups_of({"a": first, "again": replace(first)}) == ()
    both = {"a": reseeded(first, 1), "x": reseeded(second, 1), "b": reseeded(first, 2), "y": reseeded(second, 5)}
    assert groups_of(both) == (("a", "b"), ("x", "y"))
    assert "Means over the seeds" not in page.read_text(encoding="utf-8")


def test_the_same_round_of_several_seeds_is_averaged(runs: several.Runs) -> None:
    found = {}
    for name, seed in (("a", 1), ("b", 2)):
        run = reseeded(runs["first"], 10 + seed)
        rounds = run.recipe.rounds.model_copy(update={"number": 2, "first_seed": seed})
        found[name] = replace(run, recipe=run.recipe.model_copy(update={"rounds": rounds}))
    assert groups_of(found) == (("a", "b"),)


def test_a_comparison_that_one_seed_lacks_is_not_averaged(runs: several.Runs) -> None:
    first = runs["first"]
    fewer = first.verdict.model_copy(update={"comparisons": first.verdict.comparisons[:1]})
    table = seeds_table({"a": reseeded(first, 1), "b": reseeded(replace(first, verdict=fewer), 2)})
    assert table is not None and len(table.rows) == 1


def test_means_over_seeds_are_on_the_page(folders: dict[Path, Recipe], tmp_path: Path) -> None:
    one, two = folders
    made = rich_recipe()
    report.compare({one: made, two: made.model_copy(update={"seed": 8})}, tmp_path / "page.html")
    assert "Means over the seeds" in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
