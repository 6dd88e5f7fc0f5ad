"""A user's file for a stage alone that is taken as it is: what other files are checked for, it is checked for too."""

import json
from pathlib import Path
from typing import Any

import pytest
from street import limbeck, write_lines

from limbeck.records import Pair
from limbeck.store import read_records

PAIR: dict[str, Any] = {
    "id": "a",
    "prompt": [{"role": "user", "content": "What is two and two?"}],
    "source": "x",
    "chosen": "four it is",
    "rejected": "five it is",
}
USER, SYSTEM, ASSISTANT = ({"role": role, "content": "Be brief."} for role in ("user", "system", "assistant"))


def test_half_a_character_in_a_file_of_limbecks_own_format_is_named_with_its_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "id": "b", "chosen": "four \ud83d"}])
    complaint = limbeck("screen", "--pairs", path, "--out", tmp_path / "out").complaint
    assert complaint == f"{path}, line 2: a text holds half of a surrogate pair, which is no character"
    weak = {name: value for name, value in PAIR.items() if name not in ("chosen", "rejected")}
    path = write_lines(tmp_path / "weak.jsonl", [{**weak, "failures": ["four \ud83d"]}])
    words = ("teach", "--weak", path, "--teacher", "worked", "--count", 1, "--out", tmp_path / "taught")
    assert limbeck(*words).complaint.startswith(f"{path}, line 1: a text holds half of a surrogate pair")


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ([SYSTEM], "no user turn"),
        ([USER, ASSISTANT], "prompt does not end with a user turn"),
        ([{"role": "user", "content": " "}], "empty turn"),
        ([USER, USER], "turns do not alternate between user and assistant"),
    ],
)
def test_a_prompt_that_no_chat_template_takes_is_named_with_its_row(
    prompt: list[dict[str, str]], why: str, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "id": "b", "prompt": prompt}])
    complaint = limbeck("screen", "--pairs", path, "--out", tmp_path / "out").complaint
    assert complaint.startswith(f"{path}, row 'b': {why}; a prompt is user and assistant by turns")


def test_a_json_array_in_a_file_called_jsonl_is_read_as_the_corpus_stage_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps([PAIR, {**PAIR, "id": "b", "prompt": [USER]}], indent=1))
    done = limbeck("screen", "--pairs", path, "--out", tmp_path / "out").done()
    assert len(read_records(Path(done.out.splitlines()[-1]) / "human.jsonl", Pair)) == 2
