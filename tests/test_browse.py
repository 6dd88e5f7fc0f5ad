"""Looking at pairs: what is read, what is marked as different, what is drawn, and that nothing a file says acts."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from street import write_lines

from limbeck.browse.differences import Span, differences
from limbeck.browse.rows import Note, Shown, Side, shown_rows
from limbeck.browse.view import view
from limbeck.errors import InputError, RunFolderError
from limbeck.records import Message, Pair, Problem, WeakPrompt, user_prompt
from limbeck.store import write_records

PROBLEM = Problem(family="f", question="2+2?", answer="4", metadata={}, solution="So 4.\n#### 4", content="2+2")
REAL = Path(__file__).parents[2] / "shared" / "data" / "dpo_en_demo.json"
WORDS = st.lists(st.sampled_from(["a", "b", "c", "1", "+", ".", "\n", "ü"]), max_size=40).map(" ".join)


def shown(left: str = "It is 4.", right: str = "It is 5.", **changes: Any) -> Shown:
    sides = Side("chosen", (left,)), Side("rejected", (right,))
    base = Shown("zero_shot/1", "zero_shot", user_prompt("What is it?"), *sides, (Note("teacher", "worked"),))
    return base._replace(**changes)


def drawn(row: Shown, columns: int = 80, *, styled: bool = False) -> str:
    """What a terminal of so many columns would get."""
    console = Console(
        file=io.StringIO(), width=columns, force_terminal=styled, color_system="standard" if styled else None
    )
    console.print(view(row, "1 of 2", columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def marked(left: str, right: str) -> list[list[str]]:
    found = differences(left, right)
    return [[left[a:b] for a, b in found.left], [right[a:b] for a, b in found.right]]


def test_only_the_words_that_differ_are_marked() -> None:
    assert marked("So 3 + 4 = 7 apples in all.", "So 3 + 4 = 8 apples in all.") == [["7"], ["8"]]
    assert marked("one two three", "one two three and more") == [[], ["and more"]]
    assert marked("the same\n  words", "the same words") == [[], []]


def test_a_single_shared_word_between_differences_is_marked_with_them() -> None:
    left, right = (
        "It began well: red cats and blue dogs, as they say.",
        "It began well: old cows and tall hens, as they say.",
    )
    assert marked(left, right) == [["red cats and blue dogs"], ["old cows and tall hens"]]


def test_texts_with_little_in_common_are_not_marked_at_all() -> None:
    found = differences("one two three four five", "alpha beta gamma delta five")
    assert (found.left, found.right, found.alike) == ((), (), False)
    assert not differences("word " * 5000, "word " * 5000).alike  # too long to compare while somebody waits


def test_texts_that_repeat_themselves_are_not_compared_while_somebody_waits() -> None:
    assert not differences("a b " * 300, "a b c " * 200).alike
    assert differences("a b " * 60, "a b c " * 40).alike
    long = " ".join(f"w{number % 1500}" for number in range(3000))
    assert differences(long, long + " end").alike


@given(WORDS, WORDS)
def test_what_is_not_marked_is_the_same_on_both_sides(left: str, right: str) -> None:
    found = differences(left, right)

    def rest(text: str, spans: tuple[Span, ...]) -> list[str]:
        for span in reversed(spans):
            text = text[: span.start] + text[span.stop :]
        return text.split()

    if found.alike:
        assert rest(left, found.left) == rest(right, found.right)


def test_answers_stand_side_by_side_where_there_is_room_and_one_below_the_other_where_not() -> None:
    wide, narrow = drawn(shown(), 80), drawn(shown(), 60)
    assert any("It is 4." in line and "It is 5." in line for line in wide.splitlines())
    assert not any("It is 4." in line and "It is 5." in line for line in narrow.splitlines())
    for text in (wide, narrow):
        for said in ("1 of 2", "zero_shot/1", "What is it?", "chosen (3 words)", "rejected (3 words)", "worked"):
            assert said in text
        assert max(map(len, text.splitlines())) <= 80


def test_differences_are_in_bold_on_a_terminal() -> None:
    text = drawn(shown(), styled=True)
    assert "\x1b[1;32m4\x1b[0m" in text
    assert "\x1b[1;31m5\x1b[0m" in text


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_nothing_that_a_file_says_acts_on_the_terminal(columns: int) -> None:
    bad = "\x1b[2J\x9b31m[red]x[/red] [link=file:///etc]y[/link]\r\x08\u202e :smile: \x07"
    row = shown(bad, bad + "z", id=bad, source=bad, notes=(Note("teacher", "[bold]\x1b[2J"),))
    row = row._replace(prompt=(Message(role="system", content=bad), *user_prompt(bad)))
    text = drawn(row, columns)
    assert not set(text) & set("\x1b\x9b\r\x08\u202e\x07")
    assert "⟪U+001B⟫[2J" in text.replace("\n", "")
    for literal in ("[red]", "[/red]", "[bold]", ":smile:"):
        assert literal in text
    styled = drawn(row, columns, styled=True)
    assert "\x1b[2J" not in styled
    assert "\x1b]8" not in styled  # no hyperlink


def test_an_empty_answer_is_said_to_be_empty() -> None:
    assert "(empty)" in drawn(shown(" \n", "x"))


def test_every_turn_of_a_conversation_is_shown_with_its_role() -> None:
    turns = [Message(role="system", content="Be brief."), *user_prompt("Hi"), Message(role="assistant", content="Ho")]
    text = drawn(shown(prompt=(*turns, *user_prompt("And?"))))
    places = [text.index(said) for said in ("system", "Be brief.", "user", "Hi", "assistant", "Ho", "And?")]
    assert places == sorted(places)


def test_limbecks_own_pairs_come_with_their_provenance(tmp_path: Path) -> None:
    known = {"teacher": "worked", "request_key": "k" * 64, "mined_from": "m/1", "scores": {"margin": 1.5}}
    answers = {"chosen": "", "rejected": "r"}
    row = Pair.model_validate(
        {"id": "p", "prompt": user_prompt("q"), "source": "revise", "problem": PROBLEM, **answers, **known}
    )
    write_records(tmp_path / "pairs.jsonl", [row])
    (found,) = shown_rows(str(tmp_path / "pairs.jsonl"), "train")
    assert (found.id, found.source, found.left.answers, found.right.answers) == ("p", "revise", ("",), ("r",))
    assert found.notes == (
        Note("teacher", "worked"),
        Note("request key", "k" * 64),
        Note("mined from", "m/1"),
        Note("score: margin", "1.5"),
        Note("answer", "4"),
    )


def test_other_peoples_fields_are_provenance_too(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 8.5, "prompt_id": "x", "problem": "[1]"}
    path = write_lines(tmp_path / "ultra.jsonl", [row])
    (found,) = shown_rows(str(path), "train")
    assert (found.id, found.source) == ("ultra/1", "ultra")
    assert found.notes == (Note("score chosen", "8.5"),)


def test_mined_prompts_show_every_failing_reply_beside_what_is_right(tmp_path: Path) -> None:
    row = WeakPrompt(
        id="w", prompt=user_prompt("2+2?"), source="tasks", problem=PROBLEM, failures=("5", "6"), successes=("four",)
    )
    write_records(tmp_path / "weak.jsonl", [row])
    (found,) = shown_rows(str(tmp_path / "weak.jsonl"), "train")
    assert (found.left.answers, found.right.answers) == (("So 4.\n#### 4", "four"), ("5", "6"))
    text = drawn(found)
    assert [said for said in ("So 4.", "four", " 5 ", " 6 ", "failing replies (1, 1 words)") if said not in text] == []


@pytest.mark.parametrize(("stage", "file"), [("teach", "teach/zero_shot.jsonl"), ("mine", "mine/random.jsonl")])
def test_a_stage_alone_shows_what_it_left(tmp_path: Path, stage: str, file: str) -> None:
    (tmp_path / "recipe.toml").write_text(f'name = "{stage}"\n')
    row = Pair(id="p", prompt=user_prompt("q"), source="zero_shot", chosen="a", rejected="b")
    (tmp_path / stage).mkdir()
    write_records(tmp_path / file, [row])
    assert [row.id for row in shown_rows(str(tmp_path), "train")] == ["p"]


def test_an_export_alone_shows_its_data_set(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "export"\n')
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "id": "p"}]
    (tmp_path / "export" / "data").mkdir(parents=True)
    write_lines(tmp_path / "export" / "data" / "train-00000-of-00001.jsonl", rows)
    assert [row.id for row in shown_rows(str(tmp_path), "train")] == ["p"]


def test_figures_and_problems_of_any_size_are_shown_or_passed_over(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "scores": {"j": 10**400}, "problem": "[" * 100_000}
    path = write_lines(tmp_path / "odd.jsonl", [row])
    (found,) = shown_rows(str(path), "train")
    assert [note.name for note in found.notes] == ["score: j"]
    assert found.notes[0].value.startswith("1000")


def test_a_run_shows_its_screened_pairs_and_not_those_dropped(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "r"\n')
    with pytest.raises(RunFolderError, match="holds no screened pairs yet"):
        list(shown_rows(str(tmp_path), "train"))
    (tmp_path / "screen").mkdir()
    for kind in ("random", "few_shot"):
        row = Pair(id=kind, prompt=user_prompt("q"), source=kind, chosen="a", rejected="b")
        write_records(tmp_path / "screen" / f"{kind}.jsonl", [row])
    write_lines(tmp_path / "screen" / "dropped.jsonl", [{"id": "x", "kind": "random", "reason": "y"}])
    assert [row.id for row in shown_rows(str(tmp_path), "train")] == ["few_shot", "random"]
    assert [row.id for row in shown_rows(str(tmp_path / "screen"), "train")] == ["few_shot", "random"]


def test_rows_without_two_answers_are_refused_or_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "sft.jsonl", [{"prompt": "q", "response": "a"}])
    with pytest.raises(InputError, match=r"sft\.jsonl, row 1: its fields \(prompt, response\) hold no pair"):
        list(shown_rows(str(path), "train"))
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    other = [{"role": "user", "content": "other"}, {"role": "assistant", "content": "a"}]
    path = write_lines(
        tmp_path / "odd.jsonl", [{"chosen": turns, "rejected": other}, {"chosen": turns, "rejected": turns}]
    )
    assert len(list(shown_rows(str(path), "train"))) == 1
    assert "1 rows cannot be shown: chosen and rejected answer different prompts" in " ".join(
        capsys.readouterr().err.split()
    )
    path = write_lines(tmp_path / "wrong.jsonl", [{"prompt": "q", "chosen": 3, "rejected": "b"}])
    with pytest.raises(InputError, match=r"wrong\.jsonl, row 1: the field 'chosen'"):
        list(shown_rows(str(path), "train"))


@pytest.mark.skipif(not REAL.is_file(), reason="the folder of real data is not here")
def test_real_pairs_are_drawn_within_every_width() -> None:
    rows = list(shown_rows(str(REAL), "train"))
    assert len(rows) == len(json.loads(REAL.read_text(encoding="utf-8")))
    for row in rows[:40]:
        for columns in (60, 80, 120):
            console = Console(file=io.StringIO(), width=columns)
            lines = console.render_lines(view(row, "1", columns))
            assert max(sum(segment.cell_length for segment in line) for line in lines) <= columns
