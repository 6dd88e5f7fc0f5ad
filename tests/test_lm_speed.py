"""How fast this machine is taken to be, where a timing went wrong."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from limbeck.lm import speed
from limbeck.lm.load import LanguageModel


def test_a_machine_too_busy_to_be_timed_gives_a_rate_too_low_and_never_one_beyond_all_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = {1: [2.0, 3.0], 3: [1.5, 9.0]}  # seconds of short and long replies, twice each: the long were quicker
    asked: list[int] = []

    def seconds(_model: object, _slots: int, number: int) -> float:
        asked.append(number)
        return took[number][(asked.count(number) - 1) % 2]

    monkeypatch.setattr(speed, "_sampling_seconds", seconds)
    model = SimpleNamespace(device=torch.device("cpu"))
    assert speed._sampled(cast(LanguageModel, model), 96) == pytest.approx(96 * 2 / 1.5)
    took |= {1: [1.0, 0.5], 3: [4.0, 1.5]}
    asked.clear()
    assert speed._sampled(cast(LanguageModel, model), 96) == pytest.approx(96 * 2 / (1.5 - 0.5))
