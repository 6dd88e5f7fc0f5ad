"""What SFT and DPO learn: which rows make a step, how they are packed, what their loss is, how they are validated.

Both count their denominators over the whole optimizer step, so that micro-batches of any shape give one gradient.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck import seeds
from limbeck.lm.by_source import by_source, pairs_by_source, read, several_sources, tokens_by_source
from limbeck.lm.logps import counted_logps, logps, sum_by_sequence, token_logps
from limbeck.lm.losses import Rewards, apo_zero, ipo, mean_nll, nll_per_token, rewards, sigmoid_dpo
from limbeck.lm.machine import on_device
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.packing import Item, PackedRow, neighbours, pack, under_budget
from limbeck.lm.train import StepLoss, Values
from limbeck.recipe.training import Dpo, Optimisation


def rows_of_step(
    rows: Sequence[Item], step: int, settings: Optimisation, order: Callable[[int], Sequence[int]]
) -> list[Item]:
    """Rows of optimizer step `step`: consecutive places of the stream epoch 0, epoch 1, ...

    `order(epoch)` is a permutation of the rows; the stream, not the epoch, is cut into batches, so only the last step
    of a run can be ragged.
    """
    end = round(settings.epochs * len(rows))
    places = range(step * settings.batch_size, max(min((step + 1) * settings.batch_size, end), 1))
    orders = {epoch: order(epoch) for epoch in {place // len(rows) for place in places}}
    return [rows[orders[place // len(rows)][place % len(rows)]] for place in places]


@dataclass
class SftObjective:
    """Cross-entropy on response tokens.

    `reshuffles`: each epoch has an order of its own; otherwise every epoch has that of `train`. Where rows come from
    several sources, `loss/SOURCE` is the loss of each.
    """

    train: Sequence[Item]
    heldout: Sequence[Item]
    settings: Optimisation
    seed: int
    reshuffles: bool = True

    @property
    def num_rows(self) -> int:
        """Training rows in one epoch."""
        return len(self.train)

    def rows(self, step: int) -> Sequence[Item]:
        """Rows of optimizer step `step`."""
        return rows_of_step(self.train, step, self.settings, self._order)

    def _order(self, epoch: int) -> Sequence[int]:
        order = list(range(len(self.train)))
        if self.reshuffles:
            seeds.rng(self.seed, "sft order", epoch).shuffle(order)
        return order

    @cached_property
    def _splits(self) -> bool:
        return several_sources(self.train, self.heldout)

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Yield one loss a micro-batch; the denominator is the target tokens of all of them."""
        total = sum(row.num_targets for row in rows)
        totals = tokens_by_source(rows) if self._splits else {}
        for items in under_budget(neighbours(rows), self.settings.tokens_at_once):
            row = pack(items, model.device)
            found = token_logps(model, row)
            loss = mean_nll(found, total)
            yield StepLoss(loss, {"loss": loss, **_nll_by_source(found.detach(), row, items, totals)})

    @torch.no_grad()
    def validate(self, model: PackedModel) -> Values:
        """Held-out loss in nats per target token."""
        if not self.heldout:
            return {}
        totals = tokens_by_source(self.heldout) if self._splits else {}
        total, sums = 0.0, Counter[str]()
        for items in under_budget(neighbours(self.heldout), self.settings.tokens_at_once):
            row = pack(items, model.device)
            found = token_logps(model, row)
            total -= float(found.sum())
            sums.update(read(_nll_by_source(found, row, items, totals)))
        return {"loss": total / sum(item.num_targets for item in self.heldout), **sums}


def _nll_by_source(
    token_logps: Tensor, row: PackedRow, items: Sequence[Item], totals: Mapping[str, int]
) -> dict[str, Tensor]:
    """`loss/SOURCE` in nats per target token of each source's `totals`, from [N] log-probabilities; empty: no split."""
    return by_source({"loss": -sum_by_sequence(token_logps, row)}, items, totals) if totals else {}  # [N] -> [S]


# Margin and accuracy are of the implicit rewards; changes are policy minus reference, of the tokens that count (all,
# unless the recipe says `scope = "step"`), together or per token.
# Drift is their mean size per token over both responses: no KL divergence, since the policy wrote neither. The share
# of pairs whose chosen response has more tokens (ties count half) is what length alone would reach.
_PAIR_VALUES = (
    "loss", "preference_loss", "nll", "margin", "accuracy", "chosen_logps_change", "rejected_logps_change",
    "chosen_logps_change_per_token", "rejected_logps_change_per_token", "drift", "longer_is_chosen",
)  # fmt: skip
_SPLIT_VALUES = ("loss", "margin", "accuracy")  # of each source as well, where there are several


class _OfPairs(NamedTuple):
    """Of one packed row: the summed loss to learn from, and each of the V `_PAIR_VALUES` a pair, [V, P], detached."""

    loss: Tensor
    values: Tensor

    def split(self, items: Sequence[Item], totals: Mapping[str, int]) -> dict[str, Tensor]:
        """`_SPLIT_VALUES` by source, as shares of the means over each source's `totals` pairs."""
        columns = {name: self.values[_PAIR_VALUES.index(name)] for name in _SPLIT_VALUES}
        return by_source(columns, items, totals)


@dataclass
class DpoObjective:
    """Preference loss against fixed reference log-probabilities; pairs in the order that mixing gave them, always.

    Where they come from several sources, `margin/SOURCE` and the like are the means over each.
    `reference_logps`: for each pair's id, (chosen, rejected) in nats under the reference, from the same code path.
    """

    train: Sequence[Item]
    heldout: Sequence[Item]
    reference_logps: Mapping[str, tuple[float, float]]
    settings: Dpo

    @property
    def num_rows(self) -> int:
        """Training pairs in one epoch."""
        return len(self.train)

    def rows(self, step: int) -> Sequence[Item]:
        """Pairs of optimizer step `step`."""
        return rows_of_step(self.train, step, self.settings, lambda _: range(len(self.train)))

    def losses(self, model: PackedModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        """Yield one loss a micro-batch; the denominator is the pairs of all of them."""
        totals = pairs_by_source(rows) if self._splits else {}
        for items in under_budget(neighbours(rows), self.settings.tokens_at_once):
            found = self._values(model, items)
            means = dict(zip(_PAIR_VALUES, (found.values.sum(1) / len(rows)).unbind(), strict=True))  # [V, P] -> [V]
            yield StepLoss(found.loss / len(rows), means | found.split(items, totals))

    def validate(self, model: PackedModel) -> Values:
        """Held-out means over pairs."""
        if not self.heldout:
            return {}
        totals = pairs_by_source(self.heldout) if self._splits else {}
        rows: list[list[float]] = []
        sums = Counter[str]()
        for items in under_budget(neighbours(self.heldout), self.settings.tokens_at_once):
            found = self._values(model, items)
            rows.append(found.values.sum(1).tolist())  # [V, P] -> [V]
            sums.update(read(found.split(items, totals)))
        columns = zip(*rows, strict=True)
        means = {name: sum(column) / len(self.heldout) for name, column in zip(_PAIR_VALUES, columns, strict=True)}
        return {**means, **sums}

    @cached_property
    def _splits(self) -> bool:
        return several_sources(self.train, self.heldout)

    def _values(self, model: PackedModel, items: Sequence[Item]) -> _OfPairs:
        row = pack(items, model.device)
        found = token_logps(model, row)  # [N]
        policy = counted_logps(found, row).view(-1, 2)  # [P, 2]: chosen, rejected
        reference = on_device(torch.tensor([self.reference_logps[i] for i in row.ids]), policy.device)  # [P, 2]
        counted = [[part.end - part.start for part in item.parts] for item in items]
        num_tokens = on_device(torch.tensor(counted), policy.device)  # [P, 2]
        whole = on_device(torch.tensor([[len(r) for r in item.responses] for item in items]), policy.device)  # [P, 2]
        settings = self.settings
        implied = rewards(policy, reference, settings.beta, num_tokens if settings.length_normalised else None)
        preference = preference_loss(implied, settings)
        nll = nll_per_token(sum_by_sequence(found, row).view(-1, 2)[:, 0], whole[:, 0])  # [P], of whole responses
        loss = preference + settings.nll_weight * nll if settings.nll_weight else preference
        with torch.no_grad():
            accurate = (implied.margin > 0).float()
            changes = policy - reference  # [P, 2]
            per_token = changes / num_tokens
            longer = ((whole[:, 0] - whole[:, 1]).sign() + 1) / 2  # [P]: 1, a half, 0
            values = torch.stack(
                (loss, preference, nll, implied.margin, accurate, *changes.unbind(1), *per_token.unbind(1),
                 per_token.abs().mean(1), longer)
            )  # fmt: skip
        return _OfPairs(loss.sum(), values)


def preference_loss(implied: Rewards, settings: Dpo) -> Tensor:
    """The loss that the recipe names, [P]."""
    if settings.loss == "ipo":
        return ipo(implied, settings.beta)
    if settings.loss == "apo_zero":
        return apo_zero(implied)
    return sigmoid_dpo(implied, settings.label_smoothing)


def pair_logps(model: PackedModel, items: Sequence[Item], max_tokens: int) -> dict[str, tuple[float, float]]:
    """(chosen, rejected) log-probabilities of each pair under `model`, over the tokens that count, by id, in nats;
    through the training path.
    """
    found: dict[str, tuple[float, float]] = {}
    with torch.no_grad():
        for run in under_budget(items, max_tokens):
            row = pack(run, model.device)
            values = logps(model, row).view(-1, 2).tolist()
            found |= {id_: (chosen, rejected) for id_, (chosen, rejected) in zip(row.ids, values, strict=True)}
    return found


def mean_nll_of(model: PackedModel, items: Sequence[Item], max_tokens: int) -> float:
    """Mean negative log-likelihood of the responses, in nats per response token."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for run in under_budget(items, max_tokens):
            row = pack(run, model.device)
            total -= float(token_logps(model, row).sum())
            tokens += len(row.targets)
    return total / tokens
