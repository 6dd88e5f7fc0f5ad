"""Tables of results, for the terminal and for docs/performance.md, whose part between two markers is written here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.compare import AS_IT_COMES, BEST, LIMBECK
from benchmarks.results import DOCUMENT, RESULTS, load
from benchmarks.sampling_table import sampling_lines
from benchmarks.summary import over_whole_batch
from benchmarks.teacher_table import teacher_lines
from benchmarks.telling import failures, gib, ratio, span, times, told
from limbeck.errors import InputError
from limbeck.store import write_text

BEGIN = "<!-- results: written by `python -m benchmarks table`; do not edit -->"
END = "<!-- end of results -->"


def tables(results: Mapping[str, Any]) -> str:
    """Everything that was measured, as Markdown; a part that was not measured says so in one line."""
    writers: dict[str, tuple[str, Callable[[Mapping[str, Any]], list[str]]]] = {
        "dpo": ("DPO", _preference),
        "sft": ("SFT", _sft),
        "logps": ("Exactness", _logps),
        "sweep": ("Growth", _sweep),
        "gpu": ("DPO on a GPU", _preference),
        "sampling": ("Sampling", sampling_lines),
        "teacher": ("Asking a teacher", teacher_lines),
    }
    if "sampling_gpu" in results:
        writers["sampling_gpu"] = ("Sampling on a GPU", sampling_lines)
    lines = []
    for part, (title, write) in writers.items():
        lines += [f"### {title}", ""]
        if part in results:
            lines += [*write(results[part]), "", _measured(results[part]), ""]
        else:
            lines += [f"Not measured yet: `make bench WHAT={part}`.", ""]
    return "\n".join(lines)


def write_document(results_path: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Put the tables between the document's markers."""
    write_text(document, with_tables(document.read_text(encoding="utf-8"), load(results_path), document))


def with_tables(text: str, results: Mapping[str, Any], document: Path = DOCUMENT) -> str:
    """The document's text with these results in it.

    Raises:
        InputError: where a marker is missing.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{document} has lost the line `{BEGIN if not begin else END}`, between which results go")
    return f"{head}{BEGIN}\n\n{tables(results)}\n{END}{tail}"


def _preference(part: Mapping[str, Any]) -> list[str]:
    settings, summary = part["settings"], part["summary"]
    lines = [
        f"{settings['model']}, {settings['pairs']} pairs, {settings['pairs_a_step']} a step, "
        f"{settings['epochs']} epochs and the reference pass.",
        "",
        "| contender | pairs a second (slowest to fastest run) | limbeck is faster by | peak memory "
        "| limbeck's over it | on the GPU |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in summary["contenders"].items():
        lines.append(
            f"| {name} | {found['pairs_per_second']:.3g} ({span(found['slowest_and_fastest'])}) "
            f"| {times(found.get('limbeck_is_faster_by'))} | {found['peak_memory_gib']:.2f} GiB "
            f"| {ratio(name, found)} "
            f"| {gib(found['peak_device_memory_gib'])} |"
        )
    lines += [*_whole_batch(part), *failures(part, summary["contenders"])]
    if summary["share_of_matmul_peak"] is not None and "device" not in settings:  # the probe is a CPU's
        lines += ["", f"limbeck's share of the machine's matrix-product rate: {summary['share_of_matmul_peak']:.1%}."]
    lines += [*_runs(part), *_settings(part)]
    if part.get("not_installed"):
        lines += ["", f"Not installed there, so not measured: {', '.join(part['not_installed'])}."]
    return lines


def _sft(part: Mapping[str, Any]) -> list[str]:
    settings, summary = part["settings"], part["summary"]
    lines = [
        f"{settings['model']}, the first {settings['rows']} rows of `{settings['data']}` "
        f"({settings['target_tokens']} target tokens), {settings['rows_a_step']} a step, one epoch.",
        "",
        "| contender | target tokens a second (slowest to fastest run) | limbeck is faster by | steps | peak memory "
        "| limbeck's over it |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in summary["contenders"].items():
        lines.append(
            f"| {name} | {found['target_tokens_per_second']:.3g} ({span(found['slowest_and_fastest'])}) "
            f"| {times(found.get('limbeck_is_faster_by'))} | {found['optimizer_steps']} "
            f"| {found['peak_memory_gib']:.2f} GiB | {ratio(name, found)} |"
        )
    lines += failures(part, summary["contenders"])
    leak = summary["leak_between_packed_rows_nats"]
    if leak is not None:
        seen = "do not see each other" if leak == 0 else "see each other"
        lines += [
            "",
            f"Sequences of one of TRL's packed rows {seen} on this machine: with the first one changed, "
            f"log-probabilities of the others move by {leak:.2g} nats at most.",
        ]
    return [*lines, *_runs(part), *_settings(part)]


def _logps(part: Mapping[str, Any]) -> list[str]:
    summary = part["summary"]
    lines = [
        f"{part['settings']['pairs']} pairs, summed log-probabilities of a response"
        + (f" ({summary['mean_logps_nats']:.0f} nats in the mean)." if summary["mean_logps_nats"] else "."),
        "",
        "| between | largest difference, nats | mean |",
        "|---|---|---|",
    ]
    for name, found in summary["differences_nats"].items():
        lines.append(f"| {name} | {found['largest']:.2g} | {found['mean']:.2g} |")
    return lines + failures(part, {})


def _sweep(part: Mapping[str, Any]) -> list[str]:
    lines = [
        "![seconds a step and per token, by pairs, prompt length and vocabulary](figures/training_sweep.svg)",
        "",
        "| along | from | to | seconds a step | off a line by | dearest unit over the median |",
        "|---|---|---|---|---|---|",
    ]
    for axis, found in part["summary"].items():
        first, last = found["points"][0], found["points"][-1]
        unit = "token" if found["unit"] == "tokens" else "model operation"
        lines.append(
            f"| {axis} | {first['x']} | {last['x']} | {first['seconds']:.3g} to {last['seconds']:.3g} "
            f"| {found['line']['largest_deviation']:.0%} | {found['dearest_unit_over_median']:.2f} ({unit}) |"
        )
    return lines + failures(part, {})


def _whole_batch(part: Mapping[str, Any]) -> list[str]:
    """limbeck over TRL with undivided batches; nothing where TRL's best settings are that, or no trial was."""
    batch, best = part["settings"]["pairs_a_step"], part["trl_settings"].get(BEST, {})
    if best.get("micro_batch") in (None, batch):
        return []
    over_best = part["summary"]["contenders"].get(BEST, {}).get("limbeck_is_faster_by")
    ratio = over_whole_batch(part["runs"], over_best)
    if ratio is None:
        return []
    return [
        "",
        f"Over TRL's fastest settings with all {batch} pairs of a step in one micro-batch, limbeck is faster by "
        f"{times(ratio)}: an estimate, since those settings ran in trials alone.",
    ]


def _runs(part: Mapping[str, Any]) -> list[str]:
    """What limbeck ran in, how often all ran, and on how many rows TRL's settings were tried."""
    facts: dict[str, Any] = next((run["outcome"]["facts"] for run in part["runs"] if _finished(run)), {})
    kept = {None: "-", False: "kept", True: "computed again"}[facts.get("recompute")]
    settings = part["settings"]
    return [
        "",
        f"limbeck's dtype: {facts.get('dtype', '-')}; its activations: {kept}. Repetitions: "
        f"{settings.get('repeats', '-')}; rows in a trial of TRL's settings: {settings.get('trial_rows', '-')}.",
    ]


def _finished(run: Mapping[str, Any]) -> bool:
    return run["contender"] == LIMBECK and "outcome" in run


def _settings(part: Mapping[str, Any]) -> list[str]:
    """Settings of TRL: those that were found, then every trial, with its seconds or why it failed."""
    lines = []
    for name, settings in part["trl_settings"].items():
        if name != AS_IT_COMES:
            lines += ["", f"{name}: {told(settings)}."]
    trials = [run for run in part["runs"] if "trial" in run]
    if trials:
        lines += ["", "| TRL's settings tried | seconds |", "|---|---|"]
    for run in trials:
        took = f"{run['outcome']['seconds']:.1f}" if "outcome" in run else f"failed: {run['failed']}"
        lines.append(f"| {told(run['settings'])} | {took.replace('|', '/')} |")
    return lines


def _measured(part: Mapping[str, Any]) -> str:
    machine, versions = part["hardware"], part["versions"]
    flags = ", ".join(f"{'' if there else 'no '}{flag}" for flag, there in machine["flags"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB ({flags})"
    if "device" in part["settings"]:
        where = f"{part['settings']['device']}; {where}"
    tools = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl") if name in versions)
    return f"Measured on {part['date']}: {where}; {tools}."
