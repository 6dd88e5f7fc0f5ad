"""`limbeck audit` on files that people have."""

import random
from pathlib import Path
from typing import Any

import pytest
from street import limbeck, write_lines

from limbeck.commands.audit import show_audit
from limbeck.errors import InputError
from limbeck.records import Pair, user_prompt
from limbeck.records.audit import Audit
from limbeck.store import read_json, write_json, write_records

WORDS = [f"word{number}" for number in range(200)]


def rows(number: int, ending: str = "", seed: int = 1) -> list[dict[str, Any]]:
    """Pairs in TRL's format with sides drawn alike, but for what the chosen end with."""
    draw = random.Random(seed)
    said = [[" ".join(draw.choices(WORDS, k=12)) for _ in range(3)] for _ in range(number)]
    return [{"prompt": prompt, "chosen": chosen + ending, "rejected": rejected} for prompt, chosen, rejected in said]


def test_pairs_that_give_themselves_away_raise_an_alarm_and_are_left_as_they_are(tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", rows(100, " therefore"))
    done = limbeck("audit", pairs, "--out", tmp_path / "out").done()
    assert "ALARM pairs: words alone tell chosen from rejected: AUC 1.00" in done.err
    assert "ALARM pairs: audit.max_words_auc = 0.8, and it is" in done.out
    assert "‘therefore’" in done.out
    assert Audit.model_validate(read_json(tmp_path / "out" / "audit" / "audit.json")).audits[0].num_pairs == 100
    again = limbeck("audit", pairs, "--out", tmp_path / "out").done()
    assert (again.ran, again.out) == ([], done.out)


def test_stop_is_exit_code_two_with_one_sentence_and_the_figures(tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", rows(100, " therefore"))
    stopped = limbeck("audit", pairs, "--out", tmp_path / "out", "--set", "audit.on_alarm=stop")
    assert "since audit.on_alarm is 'stop'" in stopped.complaint
    assert "AUC, words alone" in stopped.out


def test_prompts_are_compared_with_those_that_are_given(tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", rows(60))
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows(90, seed=2)])
    done = limbeck("audit", pairs, "--prompts", prompts, "--out", tmp_path / "out").done()
    [found] = Audit.model_validate(read_json(tmp_path / "out" / "audit" / "audit.json")).audits
    assert found.coverage is not None and found.coverage.anchor == "given"
    assert "Clusters reached" in done.out
    assert "No alarm." in done.out


def test_nothing_that_pairs_say_of_themselves_acts_on_the_terminal(tmp_path: Path) -> None:
    bad, told = "\x1b[2J\x9b31m[red]", rows(200, " therefore\x1b]0;title\x07")
    own = [Pair(id=f"p{n}", prompt=user_prompt(row.pop("prompt")), source=("a", bad)[n % 2], **row)
           for n, row in enumerate(told)]  # fmt: skip
    write_records(tmp_path / "pairs.jsonl", own)
    done = limbeck("audit", tmp_path / "pairs.jsonl", "--out", tmp_path / "out").done()
    for text in (done.out, done.err):
        assert not set(text) & set("\x1b\x9b\x07")
    assert "ALARM ⟪U+001B⟫[2J⟪U+009B⟫31m[red]: audit.max_words_auc = 0.8" in done.out
    assert "ALARM ⟪U+001B⟫[2J⟪U+009B⟫31m[red]: words alone" in done.err


def test_field_names_in_errors_do_not_act_on_the_terminal(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "odd.jsonl", [{"a\x1b[2J": 1}])
    for command in ("audit", "inspect"):
        complaint = limbeck(command, path, *(["--out", tmp_path / "out"] if command == "audit" else [])).complaint
        assert "its fields (a⟪U+001B⟫[2J)" in complaint
    write_lines(tmp_path / "sft.jsonl", [{"prompt": "q", "response": "a", "\x9b31m": 1}])
    assert "⟪U+009B⟫31m) hold no pair" in limbeck("inspect", tmp_path / "sft.jsonl").complaint


def test_a_damaged_record_of_an_audit_is_one_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / "audit.json", {"audits": [], "alarms": 3})
    with pytest.raises(InputError, match=r"audit\.json is damaged: alarms: "):
        show_audit(tmp_path / "audit.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = limbeck("audit", tmp_path / "nothing.jsonl", "--out", tmp_path / "out")
    assert "nothing.jsonl does not exist" in refused.complaint
