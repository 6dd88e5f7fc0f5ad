"""The DPO stage: its losses against another reference, in the slow, obvious form."""

import math
from pathlib import Path
from typing import Any

import pytest
from street import curve, student
from tiny_models import plain_logps, plain_model, tiny_folder, tiny_model

from limbeck.lm.items import pair_items
from limbeck.recipe import Arm, Dpo, Model, Recipe
from limbeck.records import Pair, user_prompt
from limbeck.stages import dpo
from limbeck.store import write_records

CPU = Model(device="cpu", dtype="fp32")
PAIRS = [
    Pair(id=f"k{n}", prompt=user_prompt(f"Pick {n}"), source="human", chosen="The answer is five.", rejected=f"No {n}.")
    for n in range(4)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("stages") / "base")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same vocabulary."""
    return tiny_folder(tmp_path_factory.mktemp("stages") / "other", "qwen2")


def preferred(base: Path, out: Path, settings: Dpo, reference: Path | None = None) -> Any:
    inputs = {"policy": base, "reference": reference or base, "pairs": out / "in" / "pairs.jsonl"}
    inputs["pairs"].parent.mkdir(parents=True)
    write_records(inputs["pairs"], PAIRS)
    return dpo.run(Recipe(name="x", model=CPU, dpo=settings, arms={"human": Arm(human=4)}), inputs, out, "human")


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "apo_zero"])
def test_with_another_reference_the_first_loss_is_the_slow_form(
    base: Path, other: Path, tmp_path: Path, loss: Any
) -> None:
    normalised = loss != "apo_zero"
    preferred(base, tmp_path, Dpo(loss=loss, max_steps=1, nll_weight=0, length_normalised=normalised), other)
    policy, reference = plain_model(base), plain_model(other)
    slow = []
    for item in pair_items(tiny_model(base).chat, PAIRS, CPU).items:
        chosen, rejected = (
            (plain_logps(policy, item.prompt, r) - plain_logps(reference, item.prompt, r)).sum().item()
            / (len(r) if normalised else 1)
            for r in item.responses
        )
        slow.append(
            {
                "sigmoid": math.log1p(math.exp(-0.1 * (chosen - rejected))),
                "ipo": (chosen - rejected - 5) ** 2,  # 1 / (2 * 0.1)
                "apo_zero": 1 - 1 / (1 + math.exp(-0.1 * chosen)) + 1 / (1 + math.exp(-0.1 * rejected)),
            }[loss]
        )
    assert curve(tmp_path)[0].values["loss"] == pytest.approx(sum(slow) / 4, rel=1e-4)
