"""`limbeck audit` on files that people have."""

import random
from pathlib import Path
from typing import Any

from street import limbeck, write_lines

from limbeck.records_audit import Audit
from limbeck.store import read_json

WORDS = [f"word{number}" for number in range(200)]


def rows(number: int, ending: str = "") -> list[dict[str, Any]]:
    """Pairs in TRL's format with sides drawn alike, but for what the chosen end with."""
    draw = random.Random(1)
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
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows(90)])
    done = limbeck("audit", pairs, "--prompts", prompts, "--out", tmp_path / "out").done()
    [found] = Audit.model_validate(read_json(tmp_path / "out" / "audit" / "audit.json")).audits
    assert found.coverage is not None and found.coverage.anchor == "given"
    assert "Clusters reached" in done.out
    assert "No alarm." in done.out


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = limbeck("audit", tmp_path / "nothing.jsonl", "--out", tmp_path / "out")
    assert "nothing.jsonl does not exist" in refused.complaint
