"""How limbeck's optimizer step grows with pairs, prompt length and vocabulary: lines, or is there a cliff?"""

from pathlib import Path
from typing import Any

from benchmarks.compare import Bench, Contender
from benchmarks.contract import Job
from benchmarks.figure import draw
from benchmarks.inputs import folder_of
from benchmarks.options import ROOT, Options
from benchmarks.results import RESULTS, Part
from benchmarks.summary import cliff, fit_line

FIGURE = ROOT / "docs" / "figures" / "training_sweep.svg"
POINTS = {
    "pairs": (4, 8, 16, 32, 64),
    "prompt": (32, 64, 128, 256, 512, 1024, 2048),
    "vocabulary": (8_192, 16_384, 32_768, 65_536, 131_072, 262_144),
}
_QUICK = {"pairs": (4, 8, 16), "prompt": (32, 128, 512), "vocabulary": (8_192, 16_384, 32_768)}
_TINY = {"pairs": (1, 2, 4), "prompt": (4, 8, 16), "vocabulary": (300, 600, 1200)}


def measure(options: Options, scratch: Path) -> None:
    """Measure each axis in a process of its own."""
    points = _TINY if options.tiny else _QUICK if options.quick else POINTS
    part = Part(options.results, "sweep", {"model": options.model, "seed": options.seed, "points": points})
    bench = Bench(part, scratch)
    found: dict[str, list[dict[str, Any]]] = {}
    for number, (axis, values) in enumerate(points.items()):
        job = Job.model_validate(
            {"task": "sweep", "model": folder_of(options.model), "scratch": scratch, "axis": axis, "points": values}
        )
        outcome = bench.run(Contender(f"limbeck, by {axis}", "limbeck_worker", job), "axis", number)
        if outcome is not None:
            found[axis] = outcome.facts["points"]
    part.finish(summarise(found), {})
    draw(found, FIGURE if options.results == RESULTS else options.results.with_suffix(".svg"))


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
