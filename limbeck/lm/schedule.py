"""How many steps a training run has, at which learning rate each, and how far gradients are scaled down."""

import math

from limbeck.recipe.training import Optimisation


def num_steps(settings: Optimisation, num_rows: int) -> int:
    """Optimizer steps for `epochs` passes, a ragged last step included, capped by `max_steps`."""
    steps = max(1, math.ceil(round(settings.epochs * num_rows) / settings.batch_size))
    return min(steps, settings.max_steps) if settings.max_steps else steps


def learning_rate(settings: Optimisation, step: int, steps: int) -> float:
    """Linear warm-up over at most half the run, then linear decay to zero; `step` counts from 0."""
    warmup = min(settings.warmup_steps, steps // 2)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (steps - step) / max(steps - warmup, 1)


def clip_scale(norm: float, max_norm: float) -> float:
    """What to multiply gradients of `norm` with, so that their norm is at most `max_norm`; never more than 1."""
    return max_norm / norm if norm > max_norm else 1.0
