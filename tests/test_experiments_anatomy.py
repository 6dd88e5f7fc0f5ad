"""What is wrong with a wrong reply: arithmetic is checked line by line, everything else by how the reply ends."""

from collections import Counter

import pytest

from experiments import anatomy
from experiments.__main__ import main
from experiments.anatomy import fault_of, faults
from experiments.sweep import Sweep
from limbeck.records import FinishReason, Judgement, PromptRow, Reply, user_prompt
from limbeck.stages.verdict.models import Model
from limbeck.stages.verdict.pooling import FinishedRun


def fault(text: str, *, solved: bool = False, finish: FinishReason = "stop") -> str:
    reply = Reply(prompt_id="a", text=text, finish_reason=finish, num_tokens=9)
    return fault_of(reply, Judgement(prompt_id="a", score=float(solved), solved=solved))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64 + 70 = 134\n134 + 8 = 142\n#### 142", "wrong plan"),
        ("64 + 70 = 144\n144 + 8 = 152\n#### 152", "false equation"),
        ("12*c = 131 - 11 = 130\nc = 130 / 12 = 10\n#### 10", "false equation"),
        ("12*c = 131 - 11 = 120\nc = 120 / 12 = 10\n#### 11", "wrong plan"),
        ("3 + 4 + 5 = 12\n#### 12", "wrong plan"),
        ("3 + 4 + 5 = 13\n#### 13", "false equation"),
        ("1,000 + 5 = 1,005\n#### 1005", "wrong plan"),
        ("$5 * 3 = $16\n#### 16", "false equation"),
        ("-2 - 5 = -7\n#### 7", "wrong plan"),
        ("1.5 * 2 = 3.1\n#### 3.1", "false equation"),
        ("2 + 2 = 5.\n#### 5", "false equation"),
        ("I do not know.", "no answer"),
        ("####", "wrong plan"),
    ],
)
def test_a_wrong_reply_is_named_by_its_first_fault(text: str, expected: str) -> None:
    assert fault(text) == expected


def test_a_right_reply_is_right_whatever_stands_in_it_and_a_cut_one_is_cut() -> None:
    assert fault("1 + 1 = 3\n#### 2", solved=True) == "right"
    assert fault("1 + 1 = 3\n1 + 1 = 3", finish="length") == "cut off"
    assert fault("1 + 1 = 2\n#### 2", finish="length") == "wrong plan"


def run_of(name: str, **solved: bool | None) -> FinishedRun:
    """A run of an SFT model and an arm, whose replies to prompts are right, wrong or unscored."""
    rows = [PromptRow(id=id_, prompt=user_prompt("?"), source="tasks") for id_ in solved]
    replies = {
        (id_, 0): Reply(prompt_id=id_, text="1 + 1 = 3\n#### 3", finish_reason="stop", num_tokens=9)
        for id_ in [*solved, "asked elsewhere"]
    }
    judged = {
        key: Judgement(prompt_id=key[0], score=None, unscored_reason="lost")
        if solved.get(key[0], False) is None
        else Judgement(prompt_id=key[0], score=0, solved=bool(solved.get(key[0])))
        for key in replies
    }
    models = {model: Model(model, replies, {"verifier": judged}) for model in ("sft", "arm")}
    return FinishedRun(name, rows, models, 1)


def test_only_scored_replies_to_compared_prompts_are_counted() -> None:
    assert faults(run_of("run", a=False, b=True, c=None), "sft") == Counter({"right": 1, "false equation": 1})


def test_the_table_has_a_row_a_model_over_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"short-seed1": run_of("one", a=False, b=True), "short-seed2": run_of("two", c=False, d=False)}
    monkeypatch.setattr(anatomy, "read_run", lambda folder: (None, runs[folder.name]))
    rows = anatomy.markdown(Sweep("kinds", (1, 2))).splitlines()
    assert rows[2] == "| sft | 25.0 % | 75.0 % | 0.0 % | 0.0 % | 0.0 % |"
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| sft", "| arm"]


def test_a_seed_with_other_arms_and_replies_without_scores_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = run_of("one", a=False), run_of("two", a=False)
    runs = {"short-seed1": one, "short-seed2": FinishedRun("two", other.rows, {"sft": other.models["sft"]}, 1)}
    monkeypatch.setattr(anatomy, "read_run", lambda folder: (None, runs[folder.name]))
    assert main(["faults", "kinds", "--seeds", "1", "2"]) == 2
    assert "two has other arms than one" in " ".join(capsys.readouterr().err.split())
    runs["short-seed1"] = run_of("one", a=None)
    assert main(["faults", "kinds"]) == 2
    assert "no reply of sft is scored" in " ".join(capsys.readouterr().err.split())
