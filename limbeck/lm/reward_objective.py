"""What a reward model learns: that of two responses to one prompt, the chosen one has the higher reward.

The loss is Bradley and Terry's likelihood (Ouyang et al. 2022, equation 1), its denominator the pairs of the whole
optimizer step, so that micro-batches of any shape give one gradient.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck import seeds
from limbeck.errors import ModelError
from limbeck.lm.by_source import by_source, pairs_by_source, read, several_sources
from limbeck.lm.conversations import Conversations
from limbeck.lm.items import REFUSED, Items
from limbeck.lm.losses import bradley_terry
from limbeck.lm.objectives import rows_of_step
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item, neighbours, pack, under_budget
from limbeck.lm.rewards import compared, sequence_rewards
from limbeck.lm.train import StepLoss, Values
from limbeck.recipe.training import Optimisation
from limbeck.records import Pair

SAME = "chosen and rejected read the same"
# Of a pair: `reward` is the mean of both responses' rewards. The first three also by source, where there are several.
_VALUES = ("loss", "margin", "accuracy", "reward")
_SPLIT_VALUES = _VALUES[:3]


def reward_items(conversations: Conversations, pairs: Iterable[Pair], max_tokens: int) -> Items:
    """One item a pair, with both conversations; what is longer than `max_tokens`, either of the two, is dropped whole.

    A cut conversation would be scored by another end than its own.
    """
    items: list[Item] = []
    drops: Counter[str] = Counter()
    for pair in pairs:
        try:
            chosen, rejected = (conversations.ids(pair.prompt, text) for text in (pair.chosen, pair.rejected))
        except ModelError:
            drops[REFUSED] += 1
            continue
        item = compared(pair.id, chosen, rejected, pair.source)
        if max(len(chosen), len(rejected)) > max_tokens:
            drops[f"conversation over {max_tokens:,} tokens"] += 1
        elif item is None:
            drops[SAME] += 1
        else:
            items.append(item)
    return Items(items, dict(drops))


class _OfPairs(NamedTuple):
    """Of one packed row: the summed loss to learn from, and each of `_VALUES` a pair, [4, P], detached."""

    loss: Tensor
    values: Tensor

    def split(self, items: Sequence[Item], totals: Mapping[str, int]) -> dict[str, Tensor]:
        """`_SPLIT_VALUES` by source, as shares of the means over each source's `totals` pairs."""
        columns = dict(zip(_SPLIT_VALUES, self.values, strict=False))
        return by_source(columns, items, totals)


@dataclass
class RewardObjective:
    """Bradley-Terry loss on pairs; each epoch has an order of its own, decided by the seed."""

    train: Sequence[Item]
    heldout: Sequence[Item]
    settings: Optimisation
    seed: int

    @property
    def num_rows(self) -> int:
        """Training pairs in one epoch."""
        return len(self.train)

    def rows(self, step: int) -> Sequence[Item]:
        """Pairs of optimizer step `step`."""
        return rows_of_step(self.train, step, self.settings, self._order)

    def _order(self, epoch: int) -> Sequence[int]:
        order = list(range(len(self.train)))
        seeds.rng(self.seed, "reward order", epoch).shuffle(order)
        return order

    @cached_property
    def _splits(self) -> bool:
        return several_sources(self.train, self.heldout)

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Yield one loss a micro-batch; the denominator is the pairs of all of them."""
        totals = pairs_by_source(rows) if self._splits else {}
        for items in under_budget(neighbours(rows), self.settings.tokens_at_once):
            found = _of_pairs(model, items)
            means = dict(zip(_VALUES, (found.values.sum(1) / len(rows)).unbind(), strict=True))  # [4, P] -> [4]
            yield StepLoss(found.loss / len(rows), means | found.split(items, totals))

    def validate(self, model: PackedModel) -> Values:
        """Held-out means over pairs."""
        if not self.heldout:
            return {}
        totals = pairs_by_source(self.heldout) if self._splits else {}
        sums = Counter[str]()
        for items in under_budget(neighbours(self.heldout), self.settings.tokens_at_once):
            found = _of_pairs(model, items)
            means = dict(zip(_VALUES, (found.values.sum(1) / len(self.heldout)).unbind(), strict=True))
            sums.update(read(means | found.split(items, totals)))
        return dict(sums)


def _of_pairs(model: PackedModel, items: Sequence[Item]) -> _OfPairs:
    found = sequence_rewards(model, pack(items, model.device), items).view(-1, 2)  # [P, 2]: chosen, rejected
    chosen, rejected = found.unbind(1)
    loss = bradley_terry(chosen, rejected)
    with torch.no_grad():
        margin = chosen - rejected
        values = torch.stack([loss, margin, (margin > 0).float(), found.mean(1)])
    return _OfPairs(loss.sum(), values)
