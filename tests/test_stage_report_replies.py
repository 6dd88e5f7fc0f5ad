"""The browser of replies: what reaches the page of prompts and replies, whatever models wrote."""

from pathlib import Path

import pytest
from report_fixture import HOSTILE, MODELS, build_run, recipe
from report_page import Page, make
from report_rich import build_rich_run, rich_recipe

from limbeck.records import PromptRow, Reply, user_prompt
from limbeck.stages.report.gather import Answers, gather
from limbeck.stages.report.replies import CHUNK, TEXT_LIMIT, browser
from limbeck.store import read_records, write_records


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page(make(run_folder))


def test_replies_survive_the_journey_into_the_page_with_unseen_characters_shown(page: Page, run_folder: Path) -> None:
    gathered = browser(gather(run_folder, recipe()))
    assert gathered is not None and page.index == gathered.columns
    assert page.texts == [texts for chunk in gathered.chunks for texts in chunk]
    assert [len(chunk) for chunk in gathered.chunks] == [CHUNK, 72 - CHUNK]
    assert [model["name"] for model in page.index["models"]] == list(MODELS)
    sft = MODELS.index("sft")
    shown = [texts["replies"][sft][0] for texts in page.texts[: len(HOSTILE)]]
    assert shown[0]["text"] == HOSTILE[0]
    assert shown[3]["text"] == (
        "safe⟪U+202E⟫gnihtemos⟪U+202C⟫ then⟪U+200B⟫zero⟪U+2066⟫ width⟪U+FEFF⟫ and ⟪U+2028⟫ line"
    )
    assert shown[4]["text"] == "nul⟪U+0000⟫bell⟪U+0007⟫escape⟪U+001B⟫[31mred"
    assert shown[5]["text"] == "x" * TEXT_LIMIT and shown[5]["more"] == 1_000_000 - TEXT_LIMIT
    assert shown[7]["text"] == HOSTILE[7]


def test_marks_say_solved_wrong_unparsed_unscored_and_truncated(page: Page) -> None:
    replies = [reply for texts in page.texts for samples in texts["replies"] for reply in samples]
    assert {reply["outcome"] for reply in replies} == {"solved", "wrong", "unparsed", "unscored"}
    assert any(reply.get("truncated") for reply in replies)
    unscored = [reply for reply in replies if reply["outcome"] == "unscored"]
    assert [reply["reason"] for reply in unscored] == ["the scorer timed out"]
    assert page.index["marks"][0][11] in {"n", "nt"}


def test_a_worked_solution_is_shown_once(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    rows = read_records(root / "corpus" / "test.jsonl", PromptRow)
    given = [row.model_copy(update={"reference_response": row.problem.solution}) for row in rows if row.problem]
    free = PromptRow(id="test-0000", prompt=user_prompt("Hi"), source="own", reference_response="Hello.")
    write_records(root / "corpus" / "test.jsonl", [free, *given[1:]])
    first, second = Page(make(root)).texts[:2]
    assert [reference["title"] for reference in first["references"]] == ["Reference response"]
    assert [reference["title"] for reference in second["references"]] == ["Answer", "Worked solution"]


def test_every_sample_of_a_prompt_is_there_in_order_and_stray_replies_are_counted(tmp_path: Path) -> None:
    root = build_run(tmp_path / "run")
    ids = [("test-0000", 1), ("test-0000", 0), ("elsewhere", 0)]
    replies = [
        Reply(prompt_id=i, sample_index=s, text=f"sample {s}", finish_reason="stop", num_tokens=2) for i, s in ids
    ]
    write_records(root / "evaluate" / "base" / "replies.jsonl", replies)
    page = Page(make(root))
    assert "1 replies answer prompts that are not among the held-out prompts" in page.text
    assert [sample["text"] for sample in page.texts[0]["replies"][0]] == ["sample 0", "sample 1"]
    assert page.texts[1]["replies"][0] == []


def test_texts_are_cut_shorter_where_together_they_exceed_the_pages_budget(run_folder: Path) -> None:
    tight = browser(gather(run_folder, recipe()), budget=60_000)
    assert tight is not None
    longest = max(
        len(reply["text"]) for chunk in tight.chunks for texts in chunk for of in texts["replies"] for reply in of
    )
    assert longest < TEXT_LIMIT
    assert any("Texts are cut at" in note for note in tight.notes)


def test_a_lone_surrogate_is_shown_by_number(run_folder: Path) -> None:
    gathered = gather(run_folder, recipe())
    reply = Reply(prompt_id="test-0000", text="half \ud83d a face", finish_reason="stop", num_tokens=4)
    gathered.answers["sft"] = Answers((reply,), {}, {})
    found = browser(gathered)
    assert found is not None
    assert found.chunks[0][0]["replies"][MODELS.index("sft")][0]["text"] == "half ⟪U+D83D⟫ a face"


def test_the_index_holds_a_mean_score_a_prompt_and_judge_and_preferences_as_differences(tmp_path: Path) -> None:
    page = Page(make(build_rich_run(tmp_path / "run"), rich_recipe()))
    assert page.index["judges"] == ["verifier", "local", "pairwise"]
    assert set(page.index["scores"]["pairwise"][MODELS.index("random")]) == {1, 0, -1, None}
    assert set(page.index["scores"]["pairwise"][MODELS.index("sft")]) == {None}
    first = page.texts[0]["replies"]
    assert first[0][0]["preferred"] in {"win", "tie", "loss", "unscored"} and "preferred" not in first[1][0]
    assert set(first[0][0]["rewards"]) == {"local"}
    assert [sample["text"][:5] for sample in first[MODELS.index("on_policy")]][1] == "again"
