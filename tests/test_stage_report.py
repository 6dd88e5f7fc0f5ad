"""The report: what the page says, what it says is missing, and that hostile text cannot act on it."""

import base64
import hashlib
import json
import math
import re
import shutil
import time
from pathlib import Path

import pytest
from report_fixture import MODELS, SENTENCE, build_run, recipe
from report_page import Page, make

from limbeck.errors import InputError, RunFolderError
from limbeck.manifest import StageResult
from limbeck.recipe import Evaluate, Recipe
from limbeck.recipe.corpus import Corpus, Dataset
from limbeck.records import Estimate, Judgement, Metric
from limbeck.records.verdict import Comparison, ModelScore, Verdict
from limbeck.stages import report
from limbeck.stages.report.gather import gather
from limbeck.stages.report.ledger import cost_table
from limbeck.stages.report.results import main_table, side_table
from limbeck.stages.report.safe import content_security_policy, cut, json_block
from limbeck.store import read_records, write_json, write_records
from limbeck.untrusted import visible


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page(make(run_folder))


def test_headline_is_the_verdicts_sentence_followed_by_recipe_seed_and_student(page: Page) -> None:
    headline = page.text.index(SENTENCE)
    assert page.text.count("tiny", 0, headline) == 2  # the page's title, and the line above its headline
    for fact in ("smollm2-135m", "verifier", "95%", "1 h 45 min", "$0.07"):
        assert fact in page.text[headline : headline + 900]


def test_every_model_has_a_row_in_both_tables_and_figures_by_family_curves_and_cost_are_drawn(page: Page) -> None:
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes]
    assert {"Differences, judge verifier", "Accuracy by family", "Time by unit of work"} <= set(labels)
    curves = ("Loss, nats per target token", "Margin, chosen over rejected", "Accuracy, share of pairs", "Chosen logps")
    assert all(any(label.startswith(curve) for label in labels if label) for curve in curves)
    accuracies, comparisons = (
        {row[0].split(" ")[0].split("against")[0] for row in table[1:]}
        for table in page.tables
        if table[0][0] == "Model" and "p, Holm" in table[0]
    )
    assert accuracies == set(MODELS)
    assert comparisons == set(MODELS) - {"sft"}


def test_table_states_percentages_points_p_values_and_n(page: Page) -> None:
    for wording in ("60.0%", "[47.4, 71.4]", "+15.0 points", "[−4.3, +34.3]", "p = 0.292", "22 / 25 / 13", "n = 60"):
        assert wording in page.text
    assert "+0.094" in page.text  # the change of chat retention against sft, nats a token


def test_drops_by_reason_tokens_money_versions_and_hashes_are_listed(page: Page) -> None:
    for fact in ("no JSON in the reply: 20", "too long: 4", "completion: 60,118", "2.8.1 (sft)", "key     "):
        assert fact in page.text
    assert 'alert("recipe")' in page.text  # the recipe's own comment, as text


def test_hostile_text_makes_no_element_and_no_script(page: Page) -> None:
    assert page.open == []  # every element that was opened was closed where it should be
    assert len(page.raw["script"]) == 4 and len(page.raw["style"]) == 1
    names = {tag for tag, _ in page.tags}
    assert not names & {"img", "iframe", "object", "embed", "link", "base", "b"}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on") or key == "style"]
    assert len(page.data) == 3 and not any(re.search(r"[<>&\u2028\u2029]", block) for block in page.data)


def test_no_resource_outside_the_page_is_referenced(page: Page) -> None:
    references = [
        attributes[key] or ""
        for _, attributes in page.tags
        for key in ("src", "href", "action", "srcset", "data", "xlink:href")
        if key in attributes
    ]
    assert references and all(reference.startswith("#") for reference in references)
    assert not re.search(r"url\(|@import", page.raw["style"][0])
    assert not re.search(r"fetch|XMLHttpRequest|innerHTML|eval\(|https?:", page.code)


def test_policy_allows_exactly_the_inline_script_and_style(page: Page) -> None:
    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    policies = [
        a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [
        f"default-src 'none'; script-src {source(page.code)}; style-src {source(page.raw['style'][0])}; "
        "base-uri 'none'; form-action 'none'"
    ]
    assert content_security_policy("a", "b") != content_security_policy("a", "c")


def test_same_run_folder_gives_the_same_bytes(run_folder: Path, page: Page) -> None:
    assert make(run_folder) == make(run_folder)


def test_missing_files_are_named_and_the_rest_of_the_page_is_there(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    gone = ["dpo/random+zero_shot/metrics.jsonl", "evaluate/base/replies.jsonl", "verdict/manifest.json", "recipe.toml"]
    for name in gone:
        (root / name).unlink()
    for judgements in (root / "evaluate" / "sft").glob("judgements_*"):
        judgements.unlink()
    page = Page(make(root))
    assert SENTENCE in page.text
    assert all(name in page.text for name in (*gone, "evaluate/sft/judgements_*.jsonl"))
    assert [model["name"] for model in page.index["models"]] == list(MODELS[1:])
    assert "outcome" not in page.texts[0]["replies"][0][0]


def test_quantity_without_a_metric_and_values_that_are_not_finite_are_said(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    for arm in MODELS[2:]:
        lines = [Metric(step=step, split="train", values={"loss": 0.6}) for step in range(3)]
        write_records(root / "dpo" / arm / "metrics.jsonl", lines)
    sft = read_records(root / "sft" / "metrics.jsonl", Metric)
    write_records(root / "sft" / "metrics.jsonl", [*sft, Metric(step=401, split="train", values={"loss": math.nan})])
    text = Page(make(root)).text
    assert "The metrics hold no margin." in text
    assert "The metrics hold no solved." not in text  # nobody asked for it
    assert "Problems solved" not in text
    assert "sft: 1 values are not finite and are not drawn." in text


def test_the_problems_that_an_arm_in_training_solved_are_drawn(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    path = root / "dpo" / MODELS[2] / "metrics.jsonl"
    validations = [
        Metric(step=at, split="validation", values={"loss": 0.6, "solved": 0.5, "problems": 20}) for at in (0, 9)
    ]
    write_records(path, [*read_records(path, Metric), *validations])
    assert "Problems solved" in Page(make(root)).text


def test_run_without_arms_tasks_and_verifier_is_reported_by_reward(tmp_path: Path) -> None:
    reward = Recipe(
        name="reward",
        corpus=Corpus(demonstrations=(Dataset(path="d.jsonl"),)),
        evaluate=Evaluate(judges=("nemotron",)),
    )
    root = build_run(tmp_path / "run")
    scores = [
        ModelScore(model=m, mean_reward=Estimate(estimate=r, low=r - 1, high=r + 1, n=60), num_replies=60, unparsable=0,
                   truncated=0, unscored=0, mean_response_tokens=50, repetition_rate=0)
        for m, r in (("base", -3.5), ("sft", 1.25))
    ]  # fmt: skip
    change = Estimate(estimate=4.75, low=3, high=6, n=60)
    comparison = Comparison(
        candidate="sft", baseline="base", judge="nemotron", split="test", difference=change, win_rate=change, wins=40,
        ties=0, losses=20, unscored=0, p_value=1e-9, p_value_holm=1e-9, minimum_detectable_difference=0.5,
    )  # fmt: skip
    verdict = Verdict(sentence="sft is ahead.", confidence=0.9, scores=tuple(scores), comparisons=(comparison,))
    write_json(root / "verdict" / "verdict.json", verdict.model_dump(mode="json"))
    for model in ("base", "sft"):
        (root / "evaluate" / model / "judgements_verifier.jsonl").unlink()
        lines = [Judgement(prompt_id="test-0000", score=2.5), Judgement(prompt_id="test-0001", score=None)]
        write_records(root / "evaluate" / model / "judgements_nemotron.jsonl", lines)
    page = Page(make(root, reward))
    for said in ("−3.50", "+4.75", "[+3.00, +6.00]", "p < 0.001", "The recipe has no arms", "Difference to base"):
        assert said in page.text
    [first], [second] = page.texts[0]["replies"][1], page.texts[1]["replies"][1]
    assert first["rewards"] == {"nemotron": 2.5} and "outcome" not in first
    assert page.index["scores"]["nemotron"][1][:3] == [2.5, None, None]
    assert second["outcome"] == "unscored" and second["reason"] == "no reason given"


def test_arms_that_left_the_recipe_do_not_count(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    before = gather(root, recipe()).manifests
    for stage in ("mix", "dpo", "sft_arms", "evaluate"):
        shutil.copytree(root / "dpo" / "random", root / stage / "old")
    assert gather(root, recipe()).manifests == before
    (root / "evaluate" / "old" / "manifest.json").unlink()
    assert gather(root, recipe()).gaps == ()
    without_arms = recipe().model_copy(update={"arms": {}})
    assert set(gather(root, without_arms).manifests) == {
        "corpus",
        "retain",
        "sft",
        "evaluate/base",
        "evaluate/sft",
        "verdict",
    }
    assert {gap.path for gap in gather(root, without_arms).gaps} == set()


def test_main_table_is_of_the_recipes_first_judge(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    page = Page(make(root, recipe().model_copy(update={"evaluate": Evaluate(judges=("nemotron", "verifier"))})))
    assert "Held-out prompts, judge nemotron" in page.text


def test_main_table_has_a_column_only_for_what_was_measured(run_folder: Path) -> None:
    verdict = gather(run_folder, recipe()).verdict
    titles = [column.title for column in main_table(verdict, "verifier").columns]
    assert "Accuracy" in titles
    assert "At equal lengths" not in titles
    even = Estimate(estimate=0.667, low=0.505, high=0.796, n=60)
    learned = [
        comparison.model_copy(update={"judge": "local", "length_controlled_win_rate": even})
        for comparison in verdict.comparisons
    ]
    scores = [score.model_copy(update={"accuracy": None, "transfer_accuracy": None}) for score in verdict.scores]
    table = main_table(verdict.model_copy(update={"comparisons": learned, "scores": scores}), "local")
    titles = [column.title for column in table.columns]
    assert {"Accuracy", "Transfer accuracy"}.isdisjoint(titles)
    at = titles.index("At equal lengths")
    assert titles[at - 1].startswith("Win rate against")
    assert {len(row) for row in table.rows} == {len(titles)}
    assert ("66.7%", "[50.5, 79.6]") in {tuple(row[at]) for row in table.rows}


def test_unscored_judgements_are_a_bare_count(run_folder: Path) -> None:
    verdict = gather(run_folder, recipe()).verdict
    two_judges = verdict.scores[0].model_copy(update={"num_replies": 4, "unscored": 6})
    row = side_table(verdict.model_copy(update={"scores": (two_judges,)})).rows[0]
    assert row[5].main == "6"


def test_money_that_nobody_knows_is_a_dash_and_none_spent_is_a_sum(run_folder: Path) -> None:
    manifests = gather(run_folder, recipe()).manifests
    known = {unit: manifest.result.money_usd for unit, manifest in manifests.items()}
    assert {unit for unit, money in known.items() if money is not None} == {"teach"}
    money = {row[0].main: row[-1].main for row in cost_table(manifests).rows}
    assert (money["teach"], money["corpus"], money["Together"]) == ("$0.07", "–", "$0.07")
    unknown = {"corpus": manifests["corpus"]}
    assert cost_table(unknown).rows[-1][-1].main == "–"
    free = manifests["corpus"].model_copy(update={"result": StageResult(money_usd=0)})
    assert [row[-1].main for row in cost_table({"corpus": free}).rows] == ["$0.00", "$0.00"]


def test_missing_verdict_is_an_input_error_that_says_what_to_do(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    (root / "verdict" / "verdict.json").unlink()
    with pytest.raises(InputError, match=r"verdict\.json does not exist: a report needs a verdict"):
        make(root)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("verdict/verdict.json", InputError, r"verdict\.json is damaged: the whole: invalid JSON"),
        ("evaluate/sft/replies.jsonl", InputError, r"replies\.jsonl, line 1"),
        ("sft/manifest.json", RunFolderError, r"manifest\.json is damaged"),
    ],
)
def test_malformed_file_is_an_error_that_names_it(
    tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    root = build_run(tmp_path / "run")
    (root / name).write_text("{", encoding="utf-8")
    with pytest.raises(error, match=message):
        make(root)


def test_stage_result_counts_models_prompts_and_replies(run_folder: Path) -> None:
    result = report.run(recipe(), {"run": run_folder}, run_folder / "report")
    assert result.counts_in == {"models": 5, "prompts": 72, "replies": 360}
    assert result.facts["bytes"] == (run_folder / "report" / "report.html").stat().st_size
    assert result.facts["not_found"] == []


def test_two_thousand_prompts_and_five_models_render_in_seconds_within_a_bounded_size(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run", num_prompts=2000, reply_length=6)
    started = time.monotonic()
    html = make(root)
    assert time.monotonic() - started < 10
    assert len(html.encode()) < 15_000_000


def test_characters_that_hide_or_reorder_are_shown_and_the_others_left() -> None:
    assert visible("a\u202eb\u2069\x00\r\x9b\U000e0041") == "a⟪U+202E⟫b⟪U+2069⟫⟪U+0000⟫⟪U+000D⟫⟪U+009B⟫⟪U+E0041⟫"
    assert visible("tab\tline\nend\r\n שלום 👩\u200d🔬 é") == "tab\tline\nend\n שלום 👩\u200d🔬 é"
    assert cut("abc\u202edef", 4) == ("abc⟪U+202E⟫", 3)
    assert cut("abc", 3) == ("abc", 0)


def test_json_block_cannot_end_its_script_and_parses_back() -> None:
    value = {"</script><!--": ["&amp;", "\u2028\u2029", "naïve"]}
    block = json_block(value)
    assert not re.search(r"[<>&\u2028\u2029]", block)
    assert json.loads(block) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_block(float("nan"))
