"""What a finished training run tells its manifest."""

from dataclasses import asdict

from limbeck.lm.items import Items
from limbeck.lm.train import Trainer
from limbeck.manifest import BEST_STEP, KEPT_STEP, StageResult


def training_result(
    trainer: Trainer, counts_in: dict[str, int], train: Items, validation: Items, machine: str
) -> StageResult:
    """Counts, drops, tokens and facts of a run. `best_step` is counted where validations say which it is."""
    progress = trainer.progress
    best = {BEST_STEP: progress.best_step} if progress.best_step >= 0 else {}  # nothing held out: none is known
    return StageResult(
        counts_in=counts_in,
        counts_out={"trained_on": len(train.items), "steps": progress.step, **best},
        drops=train.drops | {f"validation: {reason}": count for reason, count in validation.drops.items()},
        tokens={"trained": progress.tokens},
        facts={
            "machine": machine,
            KEPT_STEP: trainer.kept_step,
            "stopped_early": progress.stopped_early,
            "stopped_by_alarm": progress.stopped_by_alarm,
            "alarms": len(trainer.watch.alarms),
            "training_seconds": round(progress.seconds, 1),
            "gradient_checkpointing": progress.recompute,
            "memory": asdict(trainer.estimate) if trainer.estimate is not None else {},
            "tracking": trainer.tracking.facts() if trainer.tracking is not None else {},
        },
    )
