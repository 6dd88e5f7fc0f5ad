"""Values of items split by the source of each: what metrics say of human and of synthetic rows by themselves.

Knows nothing of losses. Sums over micro-batches are means over a source, since each is divided by all of it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.lm.machine import on_device
from limbeck.lm.packing import Item


def several_sources(*rows: Sequence[Item]) -> bool:
    """Whether there is anything to split."""
    return len({item.source for items in rows for item in items}) > 1


def pairs_by_source(items: Sequence[Item]) -> Counter[str]:
    """How many items each source has."""
    return Counter(item.source for item in items)


def tokens_by_source(items: Sequence[Item]) -> Counter[str]:
    """How many target tokens each source has."""
    found: Counter[str] = Counter()
    for item in items:
        found[item.source] += item.num_targets
    return found


def by_source(values: Mapping[str, Tensor], items: Sequence[Item], totals: Mapping[str, int]) -> dict[str, Tensor]:
    """Sum each of `values`, [P] with an item a place, over each source; divide by the source's total: `name/source`.

    `totals` of a whole optimizer step or a whole held-out set: micro-batches' values then add up to means. Empty:
    nothing is split. A source without an item here has no value here.
    """
    if not totals:
        return {}
    sources = list(dict.fromkeys(item.source for item in items))
    columns = torch.stack(list(values.values()))  # [K, P]
    belongs = torch.tensor([[item.source == source for source in sources] for item in items], dtype=torch.float32)
    numbers = torch.tensor([totals[source] for source in sources], dtype=torch.float32)
    device = columns.device
    # Not a matrix product, which a GPU may cut to TF32.
    sums = (columns[:, :, None] * on_device(belongs, device)).sum(1)  # [K, P, 1] * [P, S] -> [K, P, S] -> [K, S]
    split = sums / on_device(numbers, device)
    return {
        f"{name}/{source}": split[row, column]
        for row, name in enumerate(values)
        for column, source in enumerate(sources)
    }


def read(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Numbers of one-element tensors, in one transfer from the device."""
    if not values:
        return {}
    numbers: list[float] = torch.stack(list(values.values())).tolist()
    return dict(zip(values, numbers, strict=True))
