"""DPO runs of a tiny model on pairs with a known grain, watched: how the runs of tests go well or wrong.

Responses are words of two halves of the vocabulary, and what is preferred is having more words of one of them. With
`contrast` 1 every word of a chosen response is of its half; with 0 the halves say nothing.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tiny_models import VOCABULARY, tiny_model

from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import DpoObjective, pair_logps
from limbeck.lm.packing import Item
from limbeck.lm.train import Trainer
from limbeck.recipe.alarms import Alarms
from limbeck.recipe.training import Dpo
from limbeck.records.alarms import Alarm

HALVES = (range(20, 28), range(28, 36))
SETTINGS = Dpo(
    learning_rate=3e-3, warmup_steps=4, batch_size=8, epochs=1, beta=0.5, validate_every_steps=5,
    micro_batch_tokens=4096, checkpoint_every_minutes=1000,
)  # fmt: skip


def pairs(source: str, number: int, seed: int, contrast: float = 0.4, prefers: int = 0) -> list[Item]:
    """Pairs on prompts of their own; `prefers`: the half that chosen responses have more words of."""
    draw = random.Random(f"{source} {seed}")

    def words(length: int, share: float) -> tuple[int, ...]:
        return tuple(draw.choice(HALVES[prefers if draw.random() < share else 1 - prefers]) for _ in range(length))

    def pair(at: int) -> Item:
        prompt = tuple(draw.choice(range(3, VOCABULARY - 20)) for _ in range(3))
        responses = tuple(words(draw.randint(4, 7), 0.5 + side * contrast / 2) for side in (1, -1))
        return Item(f"{source}/{seed}/{at}", prompt, responses, source)

    return [pair(at) for at in range(number)]


def variations(source: str, number: int, seed: int, seeds: int) -> list[Item]:
    """Pairs written from a few seeds: each is one of `seeds` pairs with one word of either response exchanged."""
    draw, written = random.Random(f"{source} {seed}"), pairs(source, seeds, seed, contrast=0.0)

    def varied(response: tuple[int, ...]) -> tuple[int, ...]:
        at = draw.randrange(len(response))
        return (*response[:at], draw.choice(range(3, VOCABULARY - 20)), *response[at + 1 :])

    return [
        Item(f"{source}/{seed}/{at}", (one := draw.choice(written)).prompt, tuple(map(varied, one.responses)), source)
        for at in range(number)
    ]


def mixed(*parts: Sequence[Item], seed: int = 0) -> list[Item]:
    """All of them, shuffled."""
    items = [item for part in parts for item in part]
    random.Random(seed).shuffle(items)
    return items


def watched(
    start: Path | LanguageModel,
    train: Sequence[Item],
    heldout: Sequence[Item],
    out: Path,
    rules: Alarms | None = None,
    **settings: object,
) -> tuple[Alarm, ...]:
    """Train from `start`, which is the reference too; the model is `start` itself where that is one."""
    model = tiny_model(start) if isinstance(start, Path) else start
    reference: Mapping[str, tuple[float, float]] = pair_logps(model, [*train, *heldout], 4096)
    chosen = SETTINGS.model_copy(update=settings)
    objective = DpoObjective(train, heldout, reference, chosen)
    trainer = Trainer(model, objective, chosen, out, "DPO", rules or Alarms(), "dpo/arm")
    trainer.run()
    torch.manual_seed(0)
    return tuple(trainer.watch.alarms)
