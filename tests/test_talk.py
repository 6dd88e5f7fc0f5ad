"""`limbeck chat`: a conversation that fills the model's context goes on with its last turns."""

from pathlib import Path

import pytest
from tiny_models import tiny_folder, tiny_model

from limbeck.commands.talk import _reply
from limbeck.lm.generate import Sampling
from limbeck.records import Message


def test_a_conversation_beyond_the_context_goes_on_with_its_last_turns_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", max_position_embeddings=96))
    sampling = Sampling(max_new_tokens=20, temperature=0.0, slots=1, ignore_end_of_turn=True)
    question, answer = Message(role="user", content="How far is it?"), Message(role="assistant", content="Far away.")
    alone = _reply(model, [question], sampling)
    assert alone
    assert "fit into" not in capsys.readouterr().err
    assert _reply(model, [question, answer, question, answer, question, answer, question], sampling)
    assert "of 7 turns the last " in capsys.readouterr().err
    assert _reply(model, [question, answer, Message(role="user", content="word " * 60)], sampling) == ""
    assert "is longer than what" in capsys.readouterr().err
