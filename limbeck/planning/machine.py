"""What the machine at hand makes of it: memory of a training step, keys and values of a sampler, hours.

The student's configuration must lie here; its weights need not. Nothing is fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from limbeck.errors import LimbeckError
from limbeck.planning.ranges import ZERO, Range
from limbeck.planning.work import Work
from limbeck.recipe import Recipe
from limbeck.recipe.training import Optimisation

if TYPE_CHECKING:
    from limbeck.lm.memory import Estimate
    from limbeck.lm.speed import Speed

SPEEDS = "speeds.json"
# How far a run's rate lies from that of the probe, which times a single row on a machine that may be busy: lengths vary
# (docs/performance.md, growth: up to 12 % a token), and so does what else the machine does.
_TRAINING_RATE = Range(0.6, 0.95, 1.25)
# Keys grow with what is written, and few prompts do not fill the slots (docs/performance.md: 8 slots reach 0.4 of 128).
_SAMPLING_RATE = Range(0.4, 0.8, 1.15)
_RECOMPUTING = 0.75  # a second forward pass beside a forward and a backward one, which cost one and two


class Memory(NamedTuple):
    """A training step's peak in bytes, and whether activations are computed again for it to fit."""

    estimate: "Estimate"
    recomputed: bool


@dataclass(frozen=True)
class Machine:
    """`words`: device and precision. `speed` None: unknown, for want of the student's configuration. `footprint`: what
    training with some settings holds, for rows of so many responses. `cached_bytes`: of a token's keys and values.
    """

    words: str
    free_bytes: int = 0
    speed: "Speed | None" = None
    layers: int = 0
    slots: int = 0
    cached_bytes: int = 0
    footprint: Callable[[Optimisation, int], Any] | None = None
    device_type: str = "cpu"

    def memory(self, work: Work, *, reward: bool) -> Memory | None:
        """The peak of a training unit. None: it does not train, or nothing is known of the model."""
        settings = work.settings
        if settings is None or self.footprint is None or not work.rows:
            return None
        from limbeck.lm.memory import most_tokens
        from limbeck.lm.micro_batch import widest

        footprint = self.footprint(settings, work.responses)

        def estimate(at_once: int) -> Any:
            tokens = most_tokens(work.longest, at_once, settings.batch_size)
            return footprint.estimate(tokens, self.free_bytes, reward=reward)

        found = estimate(widest(settings, self.device_type, estimate))
        asked = settings.gradient_checkpointing
        recomputed = asked == "on" or (asked == "auto" and not found.fits(False) and found.recomputed_bytes is not None)
        return Memory(found, recomputed)

    def cache_bytes(self, work: Work) -> int:
        """Most that keys and values of a sampling unit take: every slot with a sample of the longest length."""
        samples = min(self.slots, round(work.rows.high)) if work.rows else 0
        return samples * work.longest * self.cached_bytes if work.sampled.high else 0

    def seconds(self, work: Work, *, recomputed: bool, samples_here: bool = True) -> Range | None:
        """How long a unit takes. None: the speed is unknown."""
        if self.speed is None:
            return None if (work.trained + work.scored + work.sampled).high else ZERO
        training = _TRAINING_RATE * self.speed.trained * (_RECOMPUTING if recomputed else 1.0)
        scoring, sampling = _TRAINING_RATE * self.speed.scored, _SAMPLING_RATE * self.speed.sampled
        here = work.sampled if samples_here else ZERO
        return work.trained.per(training) + work.scored.per(scoring) + here.per(sampling)


def machine_for(recipe: Recipe, student: Path | None, said: Callable[[str], None]) -> Machine:
    """Look at the machine, and time it where that has not been done before. `said` is told what is missing."""
    from limbeck.lm.footprint import footprint_of
    from limbeck.lm.free_memory import device_memory
    from limbeck.lm.generate import usual_slots
    from limbeck.lm.machine import describe, place
    from limbeck.lm.pull import cache_folder
    from limbeck.lm.shape import read_config, shape_of
    from limbeck.lm.speed import speed_of

    device, dtype = place(recipe.model)
    words, free = describe(device, dtype), device_memory(device).free
    if student is None:
        return Machine(words, free)
    try:
        config = read_config(student)
        shape = shape_of(config)
        speed = speed_of(config, device, dtype, cache_folder() / SPEEDS)
    except LimbeckError as error:
        said(f"{error}; so neither memory nor hours can be given")
        return Machine(words, free)
    known: dict[tuple[str, int], Any] = {}

    def footprint(settings: Optimisation, responses: int) -> Any:
        key = (str(settings.lora), responses)
        if key not in known:
            known[key] = footprint_of(config, shape, settings, responses, device, dtype)
        return known[key]

    cached = shape.cached_numbers * dtype.itemsize
    return Machine(words, free, speed, shape.layers, usual_slots(device), cached, footprint, device.type)
