"""What is wrong with a wrong reply: arithmetic is checked line by line, everything else by how the reply ends."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.anatomy import fault_of, faults, holds
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
        ("3 + 4 + 5 = 12\n#### 12", "wrong plan"),  # the tail of a longer sum is no equation of its own
        ("2 + 3 = 5 + 1 = 6\n#### 6", "wrong plan"),  # nor is what leads into one
        ("-2 - 5 = -7\n#### 7", "wrong plan"),
        ("1.5 * 2 = 3.1\n#### 3.1", "false equation"),
        ("2 + 2 = 5.\n#### 5", "false equation"),
        ("4 / 0 = 4\n#### 4", "false equation"),
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


@given(st.integers(-999, 999), st.sampled_from("+-*"), st.integers(-999, 999), st.integers(-3, 3))
def test_an_equation_holds_when_its_result_is_the_one(a: int, sign: str, b: int, off: int) -> None:
    result = {"+": a + b, "-": a - b, "*": a * b}[sign] + off
    assert holds(str(a), sign, str(b), str(result)) == (off == 0)
    assert fault(f"{a} {sign} {b} = {result}\n#### {result}") == ("wrong plan" if off == 0 else "false equation")


def test_only_judged_replies_to_compared_prompts_are_counted() -> None:
    rows = [PromptRow(id=name, prompt=user_prompt("?"), source="tasks") for name in ("a", "b")]
    texts = {"a": "1 + 1 = 3\n#### 3", "b": "#### 2", "else": "1 + 1 = 3\n#### 3"}
    replies = {
        (id_, 0): Reply(prompt_id=id_, text=text, finish_reason="stop", num_tokens=9) for id_, text in texts.items()
    }
    judged = {key: Judgement(prompt_id=key[0], score=0, solved=key[0] == "b") for key in replies}
    run = FinishedRun("run", rows, {"sft": Model("sft", replies, {"verifier": judged})}, 1)
    assert faults(run, "sft") == Counter({"right": 1, "false equation": 1})
