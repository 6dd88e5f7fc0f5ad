"""Rewards that were computed before, by what they were computed from; one file, shared by all runs of a user.

It stands on `LogpsCache`, whose entries hold two numbers: of a reward both are the reward.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from limbeck.lm.logps_cache import LogpsCache
from limbeck.lm.reference_logps import computation_of, pair_key
from limbeck.lm.rewards import alone

Ids = tuple[int, ...]


class RewardCache:
    """Rewards by token ids, under one model on one machine. Use as a context manager."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, path: Path) -> None:
        self._computed = computation_of(folder, device, dtype).digest
        self._entries = LogpsCache(path)

    def known(self, conversations: Sequence[Ids]) -> dict[Ids, float]:
        """What was computed before of `conversations`."""
        keys = {self._key(ids): ids for ids in conversations}
        return {keys[key]: reward for key, (reward, _) in self._entries.get(list(keys)).items()}

    def keep(self, rewards: Mapping[Ids, float]) -> None:
        """Keep `rewards`, all or none."""
        self._entries.put({self._key(ids): (reward, reward) for ids, reward in rewards.items()})

    def _key(self, ids: Ids) -> bytes:
        return pair_key(self._computed, alone("", ids))

    def __enter__(self) -> Self:
        self._entries.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entries.__exit__(kind, error, trace)
