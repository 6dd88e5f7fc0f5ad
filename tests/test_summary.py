"""What commands print at their end, of names that users and models give."""

import pytest

from limbeck.recipe_pairs import Teach
from limbeck.stages.teach.rehearsal import Rehearsed
from limbeck.summary import show_rehearsal


def test_a_teachers_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    rehearsed = Rehearsed({}, requests=2, prompt_tokens=9, most_reply_tokens=20, prompts_usd=None, most_usd=None)
    show_rehearsal(rehearsed, Teach(teacher="openai:[red]x[/blue] \x1b[2J"))
    assert "No price is known for openai:[red]x[/blue] ⟪U+001B⟫[2J; there is no budget" in capsys.readouterr().out
