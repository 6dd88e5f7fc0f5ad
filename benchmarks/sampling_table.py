"""The sampling part's tables."""

from collections.abc import Mapping
from typing import Any

from benchmarks.sampling_summary import EXACT, INT8
from benchmarks.telling import failures, gib, ratio, span, times, told

_AXES = {"prompts": "prompts", "new_tokens": "new tokens a prompt", "slots": "slots"}


def sampling_lines(part: Mapping[str, Any]) -> list[str]:
    """Throughput and agreement, uneven lengths, growth, settings and trials."""
    settings, summary = part["settings"], part["summary"]
    on_gpu = "device" in settings
    lines = [
        f"{settings['model']}, {settings['prompts']} prompts of gsm_symbolic ({settings['prompt_tokens']} tokens, the "
        f"longest {settings['longest_prompt']}), greedy, at most {settings['max_new_tokens']} new tokens; limbeck with "
        f"{settings['slots']} slots. Repetitions: {settings['repeats']}.",
        "",
        *_contenders(summary["contenders"], summary["agreement"], on_gpu),
        *_int8(summary),
        *_uneven(summary["uneven"], settings, on_gpu),
        *_growth(summary["sweep"], on_gpu),
        *failures(part, summary["contenders"]),
    ]
    facts = [run["outcome"]["facts"] for run in part["runs"] if "outcome" in run]
    versions = {one["vllm"] for one in facts if "vllm" in one}
    lines += [text for version in versions for text in ("", f"vLLM {version}.")]
    for name, reason in part.get("left_out", {}).items():
        lines += ["", f"{name.split(',')[0]} is left out: {reason}."]
    return [*lines, *_trials(part)]


def _contenders(found: Mapping[str, Any], agreement: Mapping[str, Any] | None, on_gpu: bool) -> list[str]:
    """A table of contenders; without `agreement` nothing is said of what they wrote."""
    columns = ["contender", "useful tokens a second (slowest to fastest run)", "limbeck is faster by", "peak memory"]
    columns += ["limbeck's over it", *(["on the GPU"] if on_gpu else []), "new tokens, mean"]
    columns += [] if agreement is None else [f"replies identical to {EXACT}", "common prefix, mean"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, one in found.items():
        shared = (agreement or {}).get(name)
        same = f" {shared['identical']:.1%} | {shared['mean_common_prefix']:.0f} |" if shared else " - | - |"
        lines.append(
            f"| {name} ({one['dtype']}) | {one['tokens_per_second']:.3g} ({span(one['slowest_and_fastest'])}) "
            f"| {times(one.get('limbeck_is_faster_by'))} | {one['peak_memory_gib']:.2f} GiB | {ratio(name, one)} "
            f"| {gib(one['peak_device_memory_gib']) + ' | ' if on_gpu else ''}{one['mean_new_tokens']:.0f} |"
            + ("" if agreement is None else same)
        )
    return lines


def _int8(summary: Mapping[str, Any]) -> list[str]:
    over = summary["int8_is_faster_by"]
    if not over:
        return []
    told_over = ", ".join(f"{times(value)} over {name}" for name, value in over.items() if value is not None)
    return ["", f"{INT8}, which computes something else, is faster by {told_over}."]


def _uneven(uneven: Mapping[str, Any], settings: Mapping[str, Any], on_gpu: bool) -> list[str]:
    if not uneven["contenders"]:
        return []
    lines = [
        "",
        f"Uneven lengths: the same prompts, forced to 1 to {uneven['longest']} new tokens each, drawn uniformly with "
        f"seed {settings['seed']} ({uneven['tokens']} in all).",
        "",
        *_contenders(uneven["contenders"], None, on_gpu),
    ]
    if uneven["useful_rows"] is not None:
        lines += ["", f"Useful rows of limbeck's there: {uneven['useful_rows']:.1%} of those it computed."]
    return lines


def _growth(sweep: Mapping[str, Any], on_gpu: bool) -> list[str]:
    if not sweep:
        return []
    lines = ["", "Growth, limbeck alone, forced lengths:"]
    if not on_gpu:
        figure = "figures/sampling_sweep.svg"
        lines += ["", f"![seconds and tokens a second, by prompts, new tokens and slots]({figure})"]
    lines += ["", "| along | from | to | seconds | tokens a second | off a line by |", "|---|---|---|---|---|---|"]
    for axis, found in sweep.items():
        first, last = found["points"][0], found["points"][-1]
        deviation = f"{found['line']['largest_deviation']:.0%}" if found["line"] else "-"
        lines.append(
            f"| {_AXES[axis]} | {first['x']} | {last['x']} | {first['seconds']:.3g} to {last['seconds']:.3g} "
            f"| {first['tokens_per_second']:.3g} to {last['tokens_per_second']:.3g} | {deviation} |"
        )
    return lines


def _trials(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, settings in part["sampler_settings"].items():
        lines += ["", f"{name}: {told(settings)}."]
    trials = [run for run in part["runs"] if "trial" in run]
    if trials:
        lines += ["", "| tried | settings | tokens a second |", "|---|---|---|"]
    for run in trials:
        if "outcome" in run:
            speed = f"{run['outcome']['target_tokens'] / run['outcome']['seconds']:.3g}"
        else:
            speed = f"failed: {run['failed']}".replace("|", "/")
        lines.append(f"| {run['contender'].split(',')[0]} | {told(run['settings'])} | {speed} |")
    return lines
