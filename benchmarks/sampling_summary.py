"""What sampling runs come to: ratios, agreement of replies, lines through the sweeps. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.compare import LIMBECK, Outcomes
from benchmarks.summary import fit_line, median_ratio

INT8 = "limbeck, int8"
TRANSFORMERS, VLLM = "transformers, best settings found", "vLLM, best settings found"
EXACT = "transformers, fp32"  # whose greedy replies the others' are compared with

Replies = Mapping[str, Sequence[int]]


class Agreement(NamedTuple):
    """Share of replies that are the same token for token, and the mean number of tokens before the first other one."""

    identical: float
    mean_common_prefix: float


def agreement(ours: Replies, theirs: Replies) -> Agreement:
    """Compare replies by prompt.

    Raises:
        ValueError: where the two do not hold the same prompts.
    """
    if ours.keys() != theirs.keys():
        raise ValueError("the two sides answered different prompts")
    same = [list(ours[id_]) == list(theirs[id_]) for id_ in ours]
    return Agreement(fmean(same), fmean(common_prefix(ours[id_], theirs[id_]) for id_ in ours))


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two replies begin with in common."""
    different = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))


def throughput(outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """Medians by contender, and limbeck over each of the others; contenders that never finished are left out."""
    ours = _speeds(outcomes.get(LIMBECK, {}).items())
    our_memory = {n: float(run.peak_memory_bytes) for n, run in outcomes.get(LIMBECK, {}).items()}
    found: dict[str, dict[str, Any]] = {}
    for name, runs in outcomes.items():
        if not runs:
            continue
        speeds = _speeds(runs.items())
        memory = {n: float(run.peak_memory_bytes) for n, run in runs.items()}
        found[name] = {
            "tokens_per_second": median(speeds.values()),
            "slowest_and_fastest": [min(speeds.values()), max(speeds.values())],
            "mean_new_tokens": median(run.target_tokens / run.rows for run in runs.values()),
            "dtype": next(iter(runs.values())).facts["dtype"],
            "peak_memory_gib": median(memory.values()) / 2**30,
            "peak_device_memory_gib": median(run.peak_device_memory_bytes for run in runs.values()) / 2**30,
        }
        if name != LIMBECK:
            found[name]["limbeck_is_faster_by"] = median_ratio(ours, speeds)
            found[name]["limbeck_peak_memory_over"] = median_ratio(our_memory, memory)
    return found


def _speeds(runs: Iterable[tuple[int, Any]]) -> dict[int, float]:
    return {n: run.target_tokens / run.seconds for n, run in runs}


def int8_over(outcomes: Outcomes) -> dict[str, float | None]:
    """What limbeck's variant of 8 bits, a model of its own, is faster by: over each of the others."""
    ours = _speeds(outcomes.get(INT8, {}).items())
    others = [name for name, runs in outcomes.items() if runs and name != INT8] if ours else []
    return {name: median_ratio(ours, _speeds(outcomes[name].items())) for name in others}


def useful_rows(outcomes: Outcomes) -> float | None:
    """Rows of limbeck's forward passes that made a token of a reply or read one of a prompt, over all rows computed."""
    shares = [
        run.facts["useful_rows"] / run.facts["computed_rows"]
        for run in outcomes.get(LIMBECK, {}).values()
        if "computed_rows" in run.facts
    ]
    return median(shares) if shares else None


def sweep_lines(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A straight line through the seconds of each axis.

    Along the slots, where the work stays the same, through the seconds in which every slot writes one token: a line
    there says that a forward pass costs something by itself, and then the same for every slot.
    """
    summary: dict[str, Any] = {}
    for axis, points in found.items():
        values = [_seconds_a_pass(point) if axis == "slots" else point["seconds"] for point in points]
        line = fit_line([point["x"] for point in points], values)._asdict() if len(points) > 1 else None
        summary[axis] = {"line": line, "points": points}
    return summary


def _seconds_a_pass(point: Mapping[str, Any]) -> float:
    return float(point["x"] * point["seconds"] / point["tokens"])


def headlines(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures at the top of the results; int8 is none of them."""
    found = summary["contenders"]
    return {
        "sampling_over_transformers": found.get(TRANSFORMERS, {}).get("limbeck_is_faster_by"),
        "sampling_over_vllm_cpu": found.get(VLLM, {}).get("limbeck_is_faster_by"),
        "sampling_peak_memory_over_transformers": found.get(TRANSFORMERS, {}).get("limbeck_peak_memory_over"),
        "sampling_useful_rows": summary["uneven"]["useful_rows"],
    }
