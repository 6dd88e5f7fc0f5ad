"""Steps of decoding on CUDA, recorded once for each shape and replayed as one graph.

A step of a small model is a thousand kernels that take less time than their launches: replayed, they are one launch.
The kernels and their order are those of the step that was recorded, so a replay has its bits.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.console import say
from limbeck.errors import first_line
from limbeck.lm.free_memory import is_out_of_memory

_USES_BEFORE = 3  # a shape that comes seldom is not worth the recording, which costs a few steps


@dataclass(frozen=True)
class _Step:
    graph: torch.cuda.CUDAGraph
    rows: Tensor
    logits: Tensor


class RecordedSteps:
    """Call it as `compute`, which it stands for: (int64 [2, R] on the device, how much is read) -> logits [R, V].

    The logits are overwritten by the next call. Where a step cannot be recorded, that is said once, and all go on
    unrecorded.
    """

    def __init__(self, compute: Callable[[Tensor, int], Tensor]) -> None:
        self._compute = compute
        self._steps: dict[tuple[int, int], _Step] = {}
        self._uses = Counter[tuple[int, int]]()
        self._records = True
        self._out = torch.empty(0)  # the logits of all steps: of a large vocabulary each has hundreds of megabytes

    def __call__(self, rows: Tensor, seen: int) -> Tensor:
        """One step."""
        key = (rows.shape[1], seen)
        self._uses[key] += 1
        if self._records and key not in self._steps and self._uses[key] > _USES_BEFORE:
            self._record(key, rows)
        step = self._steps.get(key)
        if step is None:
            logits = self._compute(rows, seen)
            self._room(logits)
            return logits
        step.rows.copy_(rows)
        step.graph.replay()
        return step.logits

    def _room(self, logits: Tensor) -> None:
        """Have a place for logits of this shape before it is recorded; steps recorded before keep theirs."""
        if self._records and len(self._out) < len(logits):
            self._out = torch.empty_like(logits)

    def _record(self, key: tuple[int, int], rows: Tensor) -> None:
        # The steps share their memory: only one is replayed at a time, and its logits are read before the next.
        pool = next((step.graph.pool() for step in self._steps.values()), None)
        held, logits = rows.clone(), self._out[: key[0]]
        stream = torch.cuda.current_stream(rows.device)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                logits.copy_(self._compute(held, key[1]))
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a recording that fails at its end leaves its own stream in place
            if is_out_of_memory(error):
                raise
            self._records = False
            say(f"steps of decoding cannot be recorded as CUDA graphs ({first_line(error)}): each is launched anew",
                "yellow")  # fmt: skip
            return
        self._steps[key] = _Step(graph, held, logits)
