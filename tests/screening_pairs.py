"""Pairs and held-out prompts for the tests of screening."""

from typing import Any

from limbeck.records import Pair, Problem, PromptRow, user_prompt

PROBLEM = Problem(family="f", question="2+2?", answer="4", metadata={}, solution="#### 4", content="2+2")


def pair(**changes: Any) -> Pair:
    """A good pair, with changes."""
    base = {"id": "p", "prompt": user_prompt("Why is the sky blue today?"), "source": "zero_shot"}
    return Pair.model_validate({**base, "chosen": "Because of scattering.", "rejected": "It just is so.", **changes})


def asked(text: str, **changes: Any) -> Pair:
    """A good pair on another prompt."""
    return pair(prompt=user_prompt(text), **changes)


def held(text: str, problem: Problem | None = None) -> PromptRow:
    """A prompt of the evaluation."""
    return PromptRow(id="e", prompt=user_prompt(text), source="eval", problem=problem)


def says_four(_problem: Problem, text: str) -> bool:
    """A scorer of `PROBLEM`."""
    return text.endswith("#### 4")
