"""The DPO stage: its losses against another reference, in the slow, obvious form; adapters instead of all weights."""

import math
import signal
from pathlib import Path
from typing import Any

import pytest
from street import SMALL, curve, limbeck, outputs, process, settings, student, write_lines
from tiny_models import plain_logps, plain_model, tiny_folder, tiny_model

from limbeck.lm.items import of_first_step, pair_items
from limbeck.manifest import RESUMED_FROM
from limbeck.recipe import Model, Recipe
from limbeck.recipe.pairs import Arm
from limbeck.recipe.training import Dpo, Lora
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
    inputs["pairs"].parent.mkdir(parents=True, exist_ok=True)
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


def test_a_preference_about_steps_is_of_the_counted_tokens_in_training_and_validation(
    base: Path, other: Path, tmp_path: Path
) -> None:
    lines = [
        Pair(id=f"lines/{n}", prompt=user_prompt(f"{n}?"), source="own",
             chosen=f"{n} + 1 = {n + 1}\n#### {n + 1}", rejected=f"{n} + 1 = {n + 2}\n#### {n + 2}")
        for n in range(4)
    ]  # fmt: skip
    inputs = {"pairs": tmp_path / "lines.jsonl", "validation": tmp_path / "held.jsonl", "policy": base}
    write_records(inputs["pairs"], lines[:3])
    write_records(inputs["validation"], lines[3:])
    settings = Dpo(max_steps=1, nll_weight=0, scope="step")
    recipe = Recipe(name="x", model=CPU, dpo=settings, arms={"human": Arm(human=3)})
    dpo.run(recipe, inputs | {"reference": other}, tmp_path / "out", "human")
    policy, reference = plain_model(base), plain_model(other)
    slow = []
    for item in of_first_step(tiny_model(base).chat, pair_items(tiny_model(base).chat, lines, CPU).items):
        assert item.counted is not None
        chosen, rejected = (
            (plain_logps(policy, item.prompt, r) - plain_logps(reference, item.prompt, r))[part.start : part.end].sum()
            for r, part in zip(item.responses, item.parts, strict=True)
        )
        slow.append(math.log1p(math.exp(-0.1 * (chosen - rejected).item())))
    points = {(point.step, point.split): point.values["loss"] for point in curve(tmp_path / "out")}
    assert points[1, "train"] == pytest.approx(sum(slow[:3]) / 3, rel=1e-4)
    assert points[0, "validation"] == pytest.approx(slow[3], rel=1e-4)


ADAPTED = Dpo(
    lora=Lora(rank=4), learning_rate=0.02, epochs=6, batch_size=4, warmup_steps=0, nll_weight=0, micro_batch_tokens=1,
    checkpoint_every_minutes=1e-9,
)  # fmt: skip


def test_adapters_start_at_the_reference_and_widen_the_margin(
    base: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests leave values of the same pairs in the cache, scored in rows with others: alike but for the last bits.
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
    result = preferred(base, tmp_path, ADAPTED)
    train = [point.values for point in curve(tmp_path) if point.split == "train"]
    assert train[0]["margin"] == 0.0
    assert train[0]["loss"] == pytest.approx(math.log(2))
    assert train[-1]["margin"] > 0.05
    assert result.counts_out["steps"] == 6
    files = {path.name for path in tmp_path.iterdir()} - {path.name for path in tmp_path.glob(RESUMED_FROM)}
    assert files - {"alarms.jsonl"} == {"in", "adapter", "model", "metrics.jsonl", "reference_logps.jsonl"}


def test_a_command_with_adapters_that_is_killed_twice_ends_as_one_that_never_was(base: Path, tmp_path: Path) -> None:
    """First after a checkpoint; then when the adapters stand already and the model they were added to does not yet."""
    pairs = write_lines(tmp_path / "pairs.jsonl", [pair.model_dump(mode="json") for pair in PAIRS])
    chosen = ("dpo.lora.rank=4", "dpo.epochs=4", "dpo.batch_size=2", "dpo.checkpoint_every_minutes=1e-9")
    words = ("dpo", "--model", base, "--pairs", pairs, *settings(*SMALL, *chosen))
    for point, number in (("dpo/pairs/.checkpoint.pt", 4), ("dpo/pairs/model", 1)):
        with process(point, number, "SIGKILL", *words, "--out", tmp_path / "killed") as killed:
            _, err = killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, err
    assert (tmp_path / "killed" / "dpo" / "pairs" / "adapter").is_dir()
    for name in ("killed", "whole"):
        limbeck(*words, "--out", tmp_path / name).done()
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
