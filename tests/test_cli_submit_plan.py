"""A leaderboard's file, written and checked; and how many prompts a question needs."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from street import SMALL, Outcome, limbeck, settings, student, write_lines

ASKED = ["What is 1?", "What  is 2?", [{"role": "user", "content": "And 3?"}]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("submit") / "base")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "prompts.jsonl", [{"prompt": prompt, "id": n} for n, prompt in enumerate(ASKED)])


def submit(prompts: Path, *words: object) -> Outcome:
    out = () if "--check" in words else ("--out", prompts.parent / "out" / "submission.jsonl")
    return limbeck("submit", *words, "--prompts", prompts, *out)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(path: Path, given: Sequence[tuple[object, object]]) -> Path:
    return write_lines(path, [{"prompt": prompt, "response": response} for prompt, response in given])


def test_a_models_responses_stand_in_the_prompts_order_with_their_exact_text(base: Path, prompts: Path) -> None:
    small = settings(*SMALL, "evaluate.max_new_tokens=6")
    done = submit(prompts, base, *small).done()
    path = Path(done.out.strip())
    assert [row["prompt"] for row in rows(path)] == ASKED
    assert all(set(row) == {"prompt", "response"} for row in rows(path))
    before = path.read_bytes()
    submit(prompts, base, *small).done()
    assert path.read_bytes() == before  # written anew, not appended to
    assert not list(path.parent.glob(".*"))
    checked = submit(prompts, "--check", path).done()
    assert checked.out.strip() == f"{path}: 3 responses, as the prompts ask for them"


def test_responses_in_any_order_are_put_into_the_prompts_order(prompts: Path, tmp_path: Path) -> None:
    given = answers(tmp_path / "r.jsonl", [(ASKED[2], "c"), ("Not asked", "x"), ("What is 2?", "b"), (ASKED[0], "a")])
    done = submit(prompts, given).done()
    path = Path(done.out.strip())
    assert rows(path) == [{"prompt": prompt, "response": text} for prompt, text in zip(ASKED, "abc", strict=True)]
    assert f"1 responses of {given} are to other prompts and left out, the first in line 2" in done.err


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_prompt(prompts: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "windows.jsonl"
    theirs.write_bytes(b"\xef\xbb\xbf" + prompts.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    given = answers(tmp_path / "r.jsonl", list(zip(ASKED, "abc", strict=True)))
    given.write_bytes(b"\xef\xbb\xbf" + given.read_bytes())
    path = Path(submit(theirs, given).done().out.strip())
    assert not path.read_bytes().startswith(b"\xef")
    assert [row["prompt"] for row in rows(path)] == ASKED
    submit(theirs, "--check", path).done()


def test_a_place_where_no_file_can_be_written_is_refused_before_anything_is_sampled(
    prompts: Path, tmp_path: Path
) -> None:
    given = answers(tmp_path / "r.jsonl", list(zip(ASKED, "abc", strict=True)))
    (tmp_path / "folder").mkdir()
    before = prompts.read_bytes(), given.read_bytes()
    for out, complaint in (
        (tmp_path / "folder", "folder is a folder; name the file to write"),
        (prompts, "would take the place of a file that is read"),
        (given, "would take the place of a file that is read"),
        (given / "s.jsonl", "r.jsonl is a file, not a folder"),
    ):
        assert complaint in limbeck("submit", given, "--prompts", prompts, "--out", out).complaint
    assert (prompts.read_bytes(), given.read_bytes()) == before


def test_a_prompt_asked_twice_keeps_both_its_responses(tmp_path: Path) -> None:
    prompts = write_lines(tmp_path / "p.jsonl", [{"prompt": "Hi"}, {"prompt": "Hi"}])
    given = answers(tmp_path / "r.jsonl", [("Hi", "one"), ("Hi", "two")])
    assert [row["response"] for row in rows(Path(submit(prompts, given).done().out.strip()))] == ["one", "two"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([("What is 1?", "a"), (ASKED[2], "c")], "no response to the prompt of {prompts}, line 2 ('What  is 2?')"),
        ([(ASKED[0], "a"), (ASKED[1], " \n"), (ASKED[2], "c")], "line 2 ('What  is 2?') is empty"),
        ([(ASKED[0], "a"), (ASKED[0], "A"), (ASKED[1], "b"), (ASKED[2], "c")], "line 2: a second response to a prompt"),
    ],
)
def test_missing_empty_and_repeated_responses_are_refused_and_nothing_is_written(
    prompts: Path, given: list[tuple[object, object]], complaint: str
) -> None:
    refused = submit(prompts, answers(prompts.parent / "r.jsonl", given))
    assert complaint.format(prompts=prompts) in refused.complaint
    assert not (prompts.parent / "out").exists()


def test_a_submission_is_not_written_where_a_folder_is(prompts: Path, tmp_path: Path) -> None:
    given = answers(tmp_path / "given.jsonl", [(prompt, "so") for prompt in ASKED])
    folder = tmp_path / "out"
    folder.mkdir()
    complaint = limbeck("submit", given, "--prompts", prompts, "--out", folder).complaint
    assert complaint.startswith(f"--out {folder} is a folder; name the file to write")


def test_a_refused_file_leaves_an_earlier_submission_as_it_was(prompts: Path) -> None:
    whole = answers(prompts.parent / "r.jsonl", list(zip(ASKED, "abc", strict=True)))
    path = Path(submit(prompts, whole).done().out.strip())
    before = path.read_bytes()
    assert submit(prompts, answers(prompts.parent / "s.jsonl", [(ASKED[0], "a")])).code == 2
    assert path.read_bytes() == before


FIRST, SECOND, THIRD = ({"prompt": prompt, "response": "x"} for prompt in ASKED)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([FIRST, THIRD, SECOND], "line 2: the prompt of {prompts}, line 3, which comes later; expected that of "
         "{prompts}, line 2 ('What  is 2?')"),
        ([FIRST, FIRST, SECOND, THIRD], "line 2: the prompt of {prompts}, line 1, which was answered before"),
        ([FIRST, SECOND | {"prompt": "What is 2?"}, THIRD], "line 2: the prompt differs in white space"),
        ([FIRST | {"prompt": "What is one?"}, SECOND, THIRD], "line 1: a prompt that does not stand in {prompts}"),
        ([FIRST, SECOND], "ends after 2 of 3 prompts: the response to that of {prompts}, line 3 ('And 3?') is missing"),
        ([FIRST, SECOND, THIRD, THIRD], "line 4: one line more than the 3 prompts"),
        ([FIRST, SECOND | {"response": ""}, THIRD], "line 2: the response should be a text that is not empty"),
        ([FIRST, SECOND | {"model": "m"}, THIRD], "line 2: expected the fields prompt and response, found prompt, "
         "response, model"),
        ([FIRST, {"prompt": ASKED[1]}, THIRD], "line 2: expected the fields prompt and response, found prompt"),
    ],
)  # fmt: skip
def test_the_first_line_that_offends_is_named(prompts: Path, lines: list[object], complaint: str) -> None:
    path = write_lines(prompts.parent / "theirs.jsonl", lines)
    assert complaint.format(prompts=prompts) in submit(prompts, "--check", path).complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give either a model or a file of responses, or --check FILE"),
        (["absent.jsonl"], "no model 'absent.jsonl'"),
        (["--check", "absent.jsonl"], "absent.jsonl cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(prompts: Path, words: list[str], complaint: str) -> None:
    assert complaint in submit(prompts, *words).complaint


def plan(*words: object) -> Outcome:
    return limbeck("plan", *words)


def test_a_plan_says_how_many_prompts_show_a_difference() -> None:
    # McNemar's test: ((1.96 sqrt(d) + 0.8416 sqrt(d - 0.03^2)) / 0.03)^2 with d = 0.2, rounded up (Connor 1987).
    lines = plan("--detect", 3, "--discordant-rate", 0.2).done().out.splitlines()
    (row,) = [line for line in lines if "20 %" in line]
    expected = ((1.959964 * 0.2**0.5 + 0.841621 * (0.2 - 0.03**2) ** 0.5) / 0.03) ** 2
    number = int(row.split("│")[2].replace(",", ""))
    assert number == pytest.approx(expected, rel=0.01)
    assert lines[-1] == "With a probability of 80 %, at 5 % error over 1 arm."


def test_more_arms_need_more_prompts_and_more_prompts_show_less() -> None:
    def column(out: str, place: int) -> float:
        (row,) = [line for line in out.splitlines() if line.startswith("│")]
        return float(row.split("│")[place].replace(",", ""))

    rate = ("--judge", "reward", "--ties-rate", 0.1)
    one, four = (column(plan("--detect", 3, "--arms", arms, *rate).done().out, 2) for arms in (1, 4))
    assert four > 1.2 * one
    few, many = (column(plan("--prompts", prompts, *rate).done().out, 3) for prompts in (200, 2000))
    assert few == pytest.approx(many * 10**0.5, rel=0.1)  # the root of the number, the table's rounding aside


def test_a_difference_that_cannot_be_is_no_number() -> None:
    out = plan("--detect", 10, "--discordant-rate", 0.05).done().out
    (row,) = [line for line in out.splitlines() if "5 %" in line and line.startswith("│")]
    assert row.split("│")[2].strip() == "-"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "limbeck plan: give either --detect POINTS or --prompts NUMBER"),
        (["--detect", "3", "--prompts", "9"], "limbeck plan: give either --detect POINTS or --prompts NUMBER"),
        (["--detect", "0"], "--detect should be points from 0.001 to below 100, found 0"),
        (["--detect", "3", "--judge", "oracle"], "--judge 'oracle': expected one of verifier, reward"),
        (["--detect", "3", "--ties-rate", "0.1"], "--ties-rate goes with --judge reward"),
        (["--detect", "3", "--discordant-rate", "7"], "a rate is a share between 0 and 1, not 7"),
        (["--detect", "3", "--power", "2"], "--power should lie from 0.5 to 0.999999, found 2"),
        (["--detect", "3", "--power", "0.3"], "--power should lie from 0.5 to 0.999999, found 0.3"),
        (["--detect", "3", "--confidence", "95"], "--confidence should lie above 0 and be at most 0.999999, found 95"),
        (["--detect", "-3"], "--detect should be points from 0.001 to below 100, found -3"),
        (["--detect", "1e-300"], "--detect should be points from 0.001 to below 100, found 1e-300"),
        (["--detect", "3", "--confidence", "0.9999999999999999"], "at most 0.999999, found 0.9999999999999999"),
        (["--detect", "nan"], "--detect should be points from 0.001 to below 100, found nan"),
    ],
)
def test_a_plan_that_makes_no_sense_is_one_sentence(words: list[str], complaint: str) -> None:
    assert complaint in plan(*words).complaint
