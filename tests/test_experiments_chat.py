"""The chat experiment's parts: no row serves two ends, and the recorded teacher hands out what was recorded."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from experiments import recorded_teacher
from experiments.chat_data import JUDGING_PAIRS, main, write_data
from experiments.recorded_teacher import RecordedTeacher, read_pairs
from limbeck.api.fake_server import FakeServer
from limbeck.errors import InputError
from limbeck.records import Message, Pair, PromptRow, user_prompt
from limbeck.teachers.protocol import NewPromptRow, Request
from limbeck.teachers.rendering import rolling_prompt_request, zero_shot_request

SHARED = Path(__file__).parents[2] / "shared" / "data"


def source(folder: Path, humans: int = 520) -> Path:
    """Files in the published schemas, with rows that are too long among them."""
    human = [
        {side: f"\n\nHuman: question {n}?\n\nAssistant: the {side} answer {n}" for side in ("chosen", "rejected")}
        for n in range(humans)
    ] + [dict.fromkeys(("chosen", "rejected"), f"\n\nHuman: long?\n\nAssistant: {'word ' * 200}")]
    lines = "".join(json.dumps(row) + "\n" for row in human)
    (folder / "hh_harmless_test.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    alpaca = [{"instruction": f"Do thing {n}.", "input": "", "output": f"done {n} " * 12} for n in range(240)]
    (folder / "alpaca_en_demo.json").write_text(json.dumps(alpaca))
    (folder / "dpo_en_demo.json").write_text(json.dumps([ai(n, turns) for n in range(9) for turns in (1, 3)]))
    return folder


def ai(number: int, turns: int) -> dict[str, Any]:
    said = [{"from": "human", "value": f"ask {number} turn {turn} of {turns}"} for turn in range(turns)]
    return {
        "conversations": said,
        "chosen": {"from": "gpt", "value": f" good {number}\n"},
        "rejected": {"from": "gpt", "value": f"bad {number}"},
    }


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def human_prompt(row: dict[str, Any]) -> str:
    text: str = row.get("chosen", row.get("prompt", ""))
    return text.split("\n\nAssistant:", maxsplit=1)[0]


def test_no_row_serves_two_ends_and_long_ones_serve_none(tmp_path: Path) -> None:
    files = {path.stem: rows(path) for path in write_data(source(tmp_path), tmp_path / "out")}
    asked = [row for row in files["evaluation"] if row["prompt"].startswith("\n\nHuman:")]
    parts = [{human_prompt(row) for row in part} for part in (files["human"], files["judging"], asked)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 190 + JUDGING_PAIRS + 60
    assert not any("long?" in prompt for part in parts for prompt in part)
    learnt = {row["instruction"] for row in files["demonstrations"]}
    assert learnt.isdisjoint(row["prompt"] for row in files["evaluation"])
    assert [row["prompt"] for row in asked] == [human_prompt(row) + "\n\nAssistant:" for row in asked]


def test_pairs_of_one_prompt_are_the_teachers_and_those_of_several_turns_the_judges(tmp_path: Path) -> None:
    files = {path.stem: rows(path) for path in write_data(source(tmp_path), tmp_path / "out")}
    assert sorted(row["preferred"] for row in files["recorded"]) == [f"good {n}" for n in range(9)]
    assert {len(row["conversations"]) for row in files["judging_ai"]} == {3}
    given = [{"prompt": row["prompt"], "response": row["preferred"]} for row in files["recorded"]]
    assert files["prompts"] == given


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_data(source(tmp_path), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_source_with_too_few_rows_or_none_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="only 30 short human pairs, and 490 are needed"):
        write_data(source(tmp_path, 30), tmp_path / "out")
    assert main(["--source", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("there is no file")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public files are not here")
def test_the_public_files_hold_enough(tmp_path: Path) -> None:
    files = {path.stem: rows(path) for path in write_data(SHARED, tmp_path)}
    assert {name: len(part) for name, part in files.items()} == {
        "demonstrations": 160, "human": 190, "judging": 240, "judging_ai": 42, "evaluation": 120, "recorded": 59,
        "prompts": 59,
    }  # fmt: skip


RECORDED = {
    'say "hi" <b>': {"preferred": "hi", "dispreferred": "no"},
    "rivers and bridges": {"preferred": "a", "dispreferred": "b"},
    "winter bread": {"preferred": "c", "dispreferred": "d"},
}


def answer(request: Request) -> httpx.Response:
    """What the teacher answers to a request as limbeck's own templates word it."""
    server = FakeServer(RecordedTeacher(RECORDED))
    body = {"messages": [message.model_dump() for message in request.messages]}
    with httpx.Client(transport=server.transport) as client:
        return client.post("http://fake/v1/chat/completions", json=body)


def pair(prompt: str) -> Pair:
    return Pair(id=prompt, prompt=user_prompt(prompt), source="human", chosen="x", rejected="y")


def content(response: httpx.Response) -> Any:
    return json.loads(response.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("prompt", RECORDED)
def test_a_recorded_prompt_gets_its_own_pair(prompt: str) -> None:
    row = PromptRow(id="p", prompt=user_prompt(prompt), source="s")
    assert content(answer(zero_shot_request(row))) == RECORDED[prompt]


def test_a_prompt_that_was_not_recorded_or_has_several_turns_is_refused_and_not_made_up() -> None:
    turns = (*user_prompt("winter bread"), Message(role="assistant", content="x"), *user_prompt("more"))
    for prompt in (user_prompt("summer"), turns):
        assert answer(zero_shot_request(PromptRow(id="p", prompt=prompt, source="s"))).status_code == 404


def test_a_new_prompt_is_the_recorded_one_that_shares_most_words_with_what_is_shown() -> None:
    context = tuple(pair(text) for text in ("how do rivers flow?", "who builds bridges?"))
    request = rolling_prompt_request(NewPromptRow(id="n", context=context))
    assert content(answer(request)) == {"prompt": "rivers and bridges"}


def test_recorded_pairs_are_read_from_what_the_data_script_writes(tmp_path: Path) -> None:
    write_data(source(tmp_path), tmp_path / "out")
    pairs = read_pairs(tmp_path / "out" / "recorded.jsonl")
    assert pairs["ask 3 turn 0 of 1"] == {"preferred": "good 3", "dispreferred": "bad 3"}


def test_what_is_no_pair_or_a_port_that_is_taken_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = tmp_path / "wrong.jsonl", tmp_path / "right.jsonl"
    wrong.write_text('{"prompt": "a", "preferred": "b"}\n')
    right.write_text('{"prompt": "a", "preferred": "b", "dispreferred": "c"}\n')
    assert recorded_teacher.main(["--pairs", str(wrong)]) == 2
    assert "wrong.jsonl, line 1: expected texts as prompt, preferred and dispreferred" in capsys.readouterr().err
    with FakeServer(RecordedTeacher(RECORDED)).listen() as url:
        port = url.split(":")[-1].removesuffix("/v1")
        assert recorded_teacher.main(["--pairs", str(right), "--port", port]) == 2
    assert f"port {port}: " in capsys.readouterr().err
