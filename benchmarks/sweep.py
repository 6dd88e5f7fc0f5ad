"""How limbeck's optimizer step grows with pairs, prompt length and vocabulary: lines, or is there a cliff?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.compare import Bench, Contender
from benchmarks.contract import Job
from benchmarks.inputs import folder_of
from benchmarks.options import Options
from benchmarks.results import FIGURE, RESULTS, Part
from benchmarks.summary import cliff, fit_line
from limbeck.store import atomic_path

POINTS = {
    "pairs": (4, 8, 16, 32, 64),
    "prompt": (32, 64, 128, 256, 512, 1024, 2048),
    "vocabulary": (8_192, 16_384, 32_768, 65_536, 131_072, 262_144),
}
_QUICK = {"pairs": (4, 8, 16), "prompt": (32, 128, 512), "vocabulary": (8_192, 16_384, 32_768)}
TITLES = {"pairs": "pairs in a step", "prompt": "prompt length (tokens)", "vocabulary": "vocabulary (tokens)"}


def measure(options: Options, scratch: Path) -> None:
    """Measure each axis in a process of its own."""
    points = _QUICK if options.quick else POINTS
    part = Part(options.results, "sweep", {"model": options.model, "seed": options.seed, "points": points})
    bench = Bench(part, scratch)
    found: dict[str, list[dict[str, Any]]] = {}
    for number, (axis, values) in enumerate(points.items()):
        job = Job.model_validate(
            {"task": "sweep", "model": folder_of(options.model), "scratch": scratch, "axis": axis, "points": values}
            | {"seed": options.seed}
        )
        outcome = bench.run(Contender(f"limbeck, by {axis}", "limbeck_worker", job), "axis", number)
        if outcome is not None:
            found[axis] = outcome.facts["points"]
    part.finish(summarise(found), {})
    path = FIGURE if options.results == RESULTS else options.results.with_suffix(".svg")
    draw(found, path, TITLES, training_curves)


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A straight line through each axis, and the dearest unit over the median one.

    The unit is a token along pairs and prompts; along the vocabulary, where tokens stay the same, a model operation.
    """
    summary: dict[str, Any] = {}
    for axis, points in found.items():
        seconds = [point["seconds"] for point in points]
        unit = "model_flops" if axis == "vocabulary" else "tokens"
        line = fit_line([point["x"] for point in points], seconds)
        summary[axis] = {
            "line": line._asdict(),
            "unit": unit,
            "dearest_unit_over_median": cliff([point["seconds"] / point[unit] for point in points]),
            "points": points,
        }
    return summary


Points = list[dict[str, Any]]
Curves = Callable[[Points], list[tuple[list[float], str]]]


def draw(found: Mapping[str, Points], path: Path, titles: Mapping[str, str], curves: Curves) -> None:
    """Write two rows of plots, one column an axis: `curves` makes both rows' values and labels from its points."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    # Text as text, ids from a fixed salt: the file is small and does not change with the day.
    style = {"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.size": 9, "axes.spines.top": False}
    with mpl.rc_context(style | {"axes.spines.right": False}), atomic_path(path) as temporary:
        figure, axes = pyplot.subplots(2, len(found), figsize=(3.4 * len(found), 4.6), squeeze=False, sharex="col")
        for column, (axis, points) in enumerate(found.items()):
            xs = [point["x"] for point in points]
            for row, (values, label) in enumerate(curves(points)):
                plot = axes[row][column]
                plot.plot(xs, values, "o-", color="#30507a", markersize=3.5, linewidth=1.2)
                plot.set_xscale("log", base=2)
                plot.set_xticks(xs, labels=[_short(x) for x in xs])
                plot.xaxis.minorticks_off()
                if row == 0:
                    plot.set_yscale("log")  # against a log axis, what grows in proportion is a line of slope 1
                else:
                    plot.set_ylim(bottom=0)
                if column == 0:
                    plot.set_ylabel(label)
            axes[1][column].set_xlabel(titles[axis])
        figure.tight_layout()
        figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def training_curves(points: Points) -> list[tuple[list[float], str]]:
    """Seconds an optimizer step (top) and seconds per 1,000 tokens (bottom)."""
    return [
        ([point["seconds"] for point in points], "seconds a step"),
        ([1000 * point["seconds_per_token"] for point in points], "seconds per 1,000 tokens"),
    ]


def _short(x: int) -> str:
    return f"{x // 1024}k" if x >= 1024 and x % 1024 == 0 else str(x)
