"""The sweep as one figure: light, and the same bytes for the same points."""

from pathlib import Path
from typing import Any

from limbeck.store import atomic_path

_TITLES = {"pairs": "pairs in a step", "prompt": "prompt length (tokens)", "vocabulary": "vocabulary (tokens)"}


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Write seconds an optimizer step (top) and seconds per 1,000 tokens (bottom), one column an axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    # Text as text, ids from a fixed salt: the file is small and does not change with the day.
    style = {"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.size": 9, "axes.spines.top": False}
    with mpl.rc_context(style | {"axes.spines.right": False}), atomic_path(path) as temporary:
        figure, axes = pyplot.subplots(2, len(found), figsize=(3.4 * len(found), 4.6), squeeze=False, sharex="col")
        for column, (axis, points) in enumerate(found.items()):
            xs = [point["x"] for point in points]
            for row, (values, label) in enumerate(_curves(points)):
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
            axes[1][column].set_xlabel(_TITLES[axis])
        figure.tight_layout()
        figure.savefig(temporary, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _curves(points: list[dict[str, Any]]) -> list[tuple[list[float], str]]:
    return [
        ([point["seconds"] for point in points], "seconds a step"),
        ([1000 * point["seconds_per_token"] for point in points], "seconds per 1,000 tokens"),
    ]


def _short(x: int) -> str:
    return f"{x // 1024}k" if x >= 1024 and x % 1024 == 0 else str(x)
