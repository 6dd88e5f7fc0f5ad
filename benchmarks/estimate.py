"""How long a run will take, roughly, said before it begins."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.contract import Job
from benchmarks.flops import Sizes, training_flops
from benchmarks.inputs import demonstration_rows, folder_of, preference_rows
from benchmarks.options import Options
from benchmarks.processes import run_worker
from limbeck.console import clock, say

# Shares of the matrix-product rate that contenders are taken to reach, for this estimate only. Low ones: a run that is
# done early disappoints nobody.
_SHARES = {"limbeck": 0.4, "TRL": 0.12}
_TRIALS = 7  # of TRL's settings: three precisions, attention, smaller micro-batches, compilation


def say_how_long(options: Options, parts: Sequence[str], scratch: Path) -> None:
    """One sentence from the operations that are needed and the machine's measured rate."""
    if not {"dpo", "sft"} & set(parts):
        return
    found = run_worker("limbeck_worker", Job(task="rates", model=folder_of(options.model), scratch=scratch)).facts
    rate = max(found["matmul_flops_per_second"].values())
    sizes = Sizes(**found["sizes"])
    total = 0.0
    if "dpo" in parts:
        rows, few = (preference_rows(options, n).timed for n in (options.pairs, options.trial_rows))
        each = training_flops(sizes, rows, options.epochs, reference=True) / rate
        trials = (3 if options.quick else _TRIALS) * training_flops(sizes, few, 1, reference=True) / rate
        total += _seconds(each, trials, options.repeats, 2)
    if "sft" in parts and options.data.is_file():
        rows = demonstration_rows(options, options.sft_rows).timed
        each = training_flops(sizes, rows, 1, reference=False) / rate
        total += _seconds(each, each * _TRIALS * 2 * options.trial_rows / len(rows), options.repeats, 3)
    more = [part for part in ("logps", "sweep", "gpu") if part in parts]
    say(
        f"about {clock(total)} for {' and '.join(p for p in ('dpo', 'sft') if p in parts)}, at "
        f"{rate / 1e9:.0f} billion operations a second" + (f"; {', '.join(more)} come on top" if more else "")
    )


def _seconds(limbeck: float, trials: float, repeats: int, contenders: int) -> float:
    return repeats * (limbeck / _SHARES["limbeck"] + contenders * limbeck / _SHARES["TRL"]) + trials / _SHARES["TRL"]
