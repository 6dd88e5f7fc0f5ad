"""Train a reward model from preference pairs, and measure how far it can be trusted (Ouyang et al. 2022, section 3.5).

Reads: `pairs` (pairs; part of them is held out, by prompt), `base` (model the head is put on), and where given
    `check_pairs` (pairs of other sources to measure it on).
Writes: `model/` (a classifier with one label), `metrics.jsonl`, `card.json` (accuracy, calibration, limits).
Start reading at: `run`, then `split_pairs`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.judges.card import judge_card
from limbeck.likeness import opening
from limbeck.lm import micro_batch
from limbeck.lm.items import Items
from limbeck.lm.lora import attach
from limbeck.lm.machine import describe, place
from limbeck.lm.memory import memory_told
from limbeck.lm.reward_head import with_reward_head
from limbeck.lm.reward_model import RewardModel
from limbeck.lm.reward_objective import RewardObjective, reward_items
from limbeck.lm.rewards import packed_rewards
from limbeck.lm.train import Trainer
from limbeck.lm.training_result import training_result
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import Reward
from limbeck.records import Pair
from limbeck.store import read_records, refuse_repeated, write_json
from limbeck.tracking import Tracking

JUDGES = "reward"  # the reward model that judges the result
# Of the prompts that are trained on: the checkpoint is chosen by these, so that what measures it chose nothing.
_VALIDATION_SHARE = 0.1
_MOST_VALIDATION_PROMPTS = 200
_CHECKED = "check_pairs: "


class Split(NamedTuple):
    """Pairs to train on, to choose a checkpoint by, and to measure with; no opening of a conversation is in two."""

    train: list[Pair]
    validation: list[Pair]
    heldout: list[Pair]


class _ItemSplit(NamedTuple):
    train: Items
    validation: Items
    heldout: Items


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, name: str = JUDGES) -> StageResult:
    """Train on most pairs, choose the checkpoint by some, measure on the rest.

    `name`: one by any other name than the judge's has random numbers of its own.

    Raises:
        InputError: where the pairs are too few to be split, or none of those held out can be scored.
        ModelError: where the base model takes no reward head, or has no chat template.
        TrainingError: where nothing is left to train on, or a loss is not finite.
    """
    if name != JUDGES:
        recipe = recipe.model_copy(update={"seed": seeds.derive(recipe.seed, name) % 2**31})
    settings, pairs = recipe.reward, read_records(inputs["pairs"], Pair)
    check = read_records(inputs["check_pairs"], Pair) if "check_pairs" in inputs else []
    refuse_repeated([pair.id for pair in pairs], "pair")
    refuse_repeated([pair.id for pair in check], "pair")
    check = [pair.model_copy(update={"id": f"{_CHECKED}{pair.id}"}) for pair in check]  # files may be called alike
    split = split_pairs(pairs, settings, recipe.seed)
    device, dtype = place(recipe.model)
    model = with_reward_head(str(inputs["base"]), device, dtype, recipe.seed)
    most = most_tokens(model, recipe)
    items = _ItemSplit(*(reward_items(model.conversations, part, most) for part in split))
    if not items.heldout.items:
        raise InputError(f"none of the {len(split.heldout)} held-out pairs can be scored, so the reward model can "
                         f"not be measured: {items.heldout.reasons}")  # fmt: skip
    items.train.see_some("reward model")
    adapters = attach(model, settings.lora, recipe.seed)
    model.head.requires_grad_(True)  # beside adapters too: a head drawn at random has everything to learn
    settings = micro_batch.settled(settings, model, items.train.items, "reward model")
    objective = RewardObjective(items.train.items, items.validation.items, settings, recipe.seed)
    tracking = Tracking.of(recipe, out, out.name, settings.model_dump(mode="json"))
    trainer = Trainer(model, objective, settings, out, "reward model", tracking=tracking)
    trainer.run()
    if adapters is not None:
        adapters.merge()
    other = _unseen(check, split)
    checked = reward_items(model.conversations, other, most)
    measured = [*items.heldout.items, *checked.items]
    with memory_told("reward model", model.device, "a lower judges.local.micro_batch_tokens"):
        rewards = packed_rewards(model, measured, recipe.judges.local.micro_batch_tokens)
    margins = dict(zip((item.id for item in measured), _margins(rewards), strict=True))
    _write_card(recipe, split, items, [pair for pair in (*split.heldout, *other) if pair.id in margins], margins, out)
    model.save(out / "model")
    counts_in = {"pairs": len(pairs), "used": sum(map(len, split)), "check_pairs": len(check)}
    result = training_result(trainer, counts_in, items.train, items.validation, describe(device, dtype))
    drops = {f"held out: {reason}": count for reason, count in items.heldout.drops.items()}
    drops |= {f"{_CHECKED}{reason}": count for reason, count in checked.drops.items()}
    if len(other) < len(check):
        drops[f"{_CHECKED}prompt trained on"] = len(check) - len(other)
    counts_out = {"measured_on": len(measured)}
    return result.model_copy(update={"counts_out": result.counts_out | counts_out, "drops": result.drops | drops})


def split_pairs(pairs: Sequence[Pair], settings: Reward, seed: int) -> Split:
    """At most `reward.pairs` of the pairs, drawn at random; `reward.heldout_share` of their prompts held out.

    Prompts go together by how their conversation opens: a later place of a dialogue repeats what was said before, so
    two places of one dialogue must not lie on both sides.

    Raises:
        InputError: where there are fewer than three prompts.
    """
    rng = seeds.rng(seed, "reward pairs")
    drawn = list(pairs) if len(pairs) <= settings.pairs else rng.sample(pairs, settings.pairs)
    openings = sorted({opening(pair) for pair in drawn})
    if len(openings) < 3:
        raise InputError(f"{len(pairs)} pairs with {len(openings)} different prompts: a reward model needs prompts to "
                         "train on, others to choose a checkpoint by, and others to be measured on")  # fmt: skip
    rng.shuffle(openings)
    num_heldout = min(max(1, round(settings.heldout_share * len(openings))), len(openings) - 2)
    heldout, rest = set(openings[:num_heldout]), openings[num_heldout:]
    chosen_by = set(rest[: min(max(1, round(_VALIDATION_SHARE * len(rest))), _MOST_VALIDATION_PROMPTS)])
    parts = Split([], [], [])
    for pair in drawn:
        first = opening(pair)
        place = parts.heldout if first in heldout else parts.validation if first in chosen_by else parts.train
        place.append(pair)
    return parts


def most_tokens(model: RewardModel, recipe: Recipe) -> int:
    """The longest conversation scored: what the recipe says, or the model's own bound where that is less."""
    most = recipe.judges.local.max_tokens
    return min(most, model.context_tokens or most)


def _unseen(check: Sequence[Pair], split: Split) -> list[Pair]:
    seen = {opening(pair) for pair in (*split.train, *split.validation)}
    return [pair for pair in check if opening(pair) not in seen]


def _margins(rewards: Sequence[float]) -> list[float]:
    """[2 P] rewards, chosen and rejected by turns -> [P]."""
    return [chosen - rejected for chosen, rejected in zip(rewards[::2], rewards[1::2], strict=True)]


def _write_card(
    recipe: Recipe, split: Split, items: _ItemSplit, pairs: Sequence[Pair], margins: Mapping[str, float], out: Path
) -> None:
    sources = sorted({pair.source for pair in split.train})
    base, number = recipe.reward.base or recipe.model.student, len(items.train.items)
    limits = [f"trained on pairs of {', '.join(sources)} only: of other prompts nothing was measured"]
    limits += recipe.judging_limits()
    left_out = sum(items.heldout.drops.values())
    if left_out:
        limits.append(f"{left_out} held-out pairs were left out of the measurement: {items.heldout.reasons}")
    card = judge_card(
        "local",
        f"a Bradley-Terry reward model on {base}, trained on {number:,} pairs; measured on pairs of other prompts",
        pairs,
        [margins[pair.id] for pair in pairs],
        seed=seeds.derive(recipe.seed, "reward card"),
        confidence=recipe.evaluate.confidence,
        more_limits=limits,
    )
    write_json(out / "card.json", card.model_dump(mode="json"))
