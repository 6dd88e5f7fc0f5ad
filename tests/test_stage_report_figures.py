"""Figures of the report: scales, ticks, marks and wording, against values worked out by hand."""

import math
import re

import pytest

from limbeck.records import Estimate, Metric
from limbeck.stages.report import svg, wording
from limbeck.stages.report.curves import bin_size, binned, dpo_curves, points_of, sft_curves
from limbeck.stages.report.figures import Bar, Curve, Dot, DotAxis, DotGroup, bars, dot_whisker, panel
from limbeck.stages.report.plots import Axis, Points, Tally, bin_width, core, histogram_panel, point_panel, tally_bars


def estimate(middle: float, half: float = 0.1) -> Estimate:
    return Estimate(estimate=middle, low=middle - half, high=middle + half, n=15)


def test_scale_maps_ends_to_ends_and_the_middle_to_the_middle() -> None:
    scale = svg.Scale(-1, 3, 100, 20)
    assert [scale.at(value) for value in (-1, 1, 3)] == [100, 60, 20]


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [
        (0, 100, 9, ["0", "20", "40", "60", "80", "100"]),
        (-0.31, 0.52, 6, ["−0.2", "0", "0.2", "0.4"]),
        (0.48, 0.98, 6, ["0.5", "0.6", "0.7", "0.8", "0.9"]),
        (0, 2e-4, 6, ["0", "5e−5", "1e−4", "1.5e−4", "2e−4"]),
        (0, 12_000, 5, ["0", "5,000", "10,000"]),
    ],
)
def test_ticks_are_round_and_labelled_alike(low: float, high: float, most: int, labels: list[str]) -> None:
    assert svg.tick_labels(svg.ticks(low, high, most)) == labels


def test_domain_is_never_empty_and_stops_at_included_values() -> None:
    assert svg.domain([5, 5]) == (0, 10)
    low, high = svg.domain([0.1 + 0.2, 0.3])  # equal but for rounding
    assert high - low > 0.5
    assert svg.tick_labels(svg.ticks(*svg.domain([5e-324, 0]), 6))
    assert svg.domain([0], include=(0,)) == (0, 1)
    assert svg.domain([0.2, 0.7], include=(0, 1)) == (0, 1)
    low, high = svg.domain([0, 100])
    assert (low, high) == (-4, 104)


def test_text_in_a_drawing_is_escaped_and_made_visible() -> None:
    drawn = svg.text(1, 2.5, "<b>\u202e&", tip='"><script>')
    assert drawn == (
        '<text x="1" y="2.5" class="label" text-anchor="start">&lt;b&gt;⟪U+202E⟫&amp;'
        "<title>&#34;&gt;&lt;script&gt;</title></text>"
    )


def test_thirty_arms_differ_in_colour_or_shape() -> None:
    marks = [str(svg.marker(series, 0, 0, 1)) for series in range(2, 32)]
    assert len(set(marks)) == 30
    assert svg.colour_class(0) == "c0" and svg.colour_class(8) == "c2"


def test_whisker_runs_from_low_to_high_on_the_axis() -> None:
    group = DotGroup("family", "n = 15", (Dot(1, Estimate(estimate=0.5, low=0.25, high=1.0, n=15), "sft: 50%"),))
    drawn = str(dot_whisker("Accuracy", [group], DotAxis("accuracy, %", 100, (0, 100))))
    whisker = re.search(r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)" y2="[\d.]+" class="whisker c1">', drawn)
    assert whisker is not None
    left, right = 225, 1016  # where 0 and 100 stand when nothing is printed at the right
    assert float(whisker[1]) == pytest.approx(left + 0.25 * (right - left), abs=0.01)
    assert float(whisker[2]) == pytest.approx(right, abs=0.01)
    assert "accuracy, %" in drawn and "sft: 50%" in drawn and "n = 15" in drawn


def test_long_labels_are_shortened_and_kept_as_hover_text() -> None:
    name = "a_family_with_a_very_long_name_indeed"
    drawn = str(dot_whisker("Accuracy", [DotGroup(name, "", (Dot(2, estimate(0.5), ""),))], DotAxis("%")))
    assert f"{name[:29]}…<title>{name}</title>" in drawn


def test_panel_draws_a_line_a_split_and_marks_on_validation_only() -> None:
    points = ((0.0, 0.7), (10.0, 0.5), (20.0, 0.4))
    drawn = str(panel("Loss", "nats", [Curve(2, "arm", "train", points), Curve(2, "arm", "validation", points)]))
    assert drawn.count("<polyline") == 2
    assert drawn.count('class="dot c2"') == 3
    assert "arm, validation, step 20: 0.4" in drawn and "optimizer step" in drawn


def test_bars_are_as_long_as_their_values() -> None:
    drawn = str(bars("Time", [Bar("sft", 8, "8 min"), Bar("dpo", 2, "2 min"), Bar("mix", 0, "0 s")], "minutes"))
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.02)
    assert widths[2] == 0


def test_bins_are_means_and_the_last_may_be_shorter() -> None:
    assert binned([(1, 2), (2, 4), (3, 9)], 2) == ((1.5, 3.0), (3.0, 9.0))
    assert [bin_size(points) for points in (0, 150, 151, 301)] == [1, 1, 2, 3]


def test_points_are_finite_and_of_one_split() -> None:
    metrics = [
        Metric(step=1, split="train", values={"loss": 0.5}),
        Metric(step=2, split="train", values={"loss": math.inf}),
        Metric(step=2, split="validation", values={"loss": 0.4}),
    ]
    assert points_of(metrics, "loss", "train") == ((1.0, 0.5),)
    assert points_of(metrics, "margin", "train") == ()


def test_no_metrics_make_no_figure_and_arms_share_the_panels() -> None:
    assert sft_curves({}, {}).figure is None
    lines = (Metric(step=1, split="train", values={"loss": 0.7, "margin": 0.0}),)
    curves = dpo_curves({"dpo/a": lines, "dpo/b": lines}, {"a": 2, "b": 3})
    assert curves.figure is not None and len(curves.figure.drawings) == 2
    assert [entry.name for entry in curves.figure.legend] == ["a", "b"]


def test_numbers_are_worded_with_one_decimal_signs_and_brackets() -> None:
    share = Estimate(estimate=0.617, low=0.54, high=0.693, n=60)
    assert (wording.percent(0.617), wording.percent_interval(share)) == ("61.7%", "[54.0, 69.3]")
    change = Estimate(estimate=0.0521, low=-0.01, high=0.113, n=60)
    assert wording.difference(change, "verifier") == "+5.2 points"
    assert wording.difference_interval(change, "verifier") == "[−1.0, +11.3]"
    assert wording.difference(change, "nemotron") == "+0.05"
    assert [wording.signed(value) for value in (-0.04, 0.0, 0.06, -2)] == ["0.0", "0.0", "+0.1", "−2.0"]
    assert [wording.p_value(p) for p in (0.0004, 0.001, 0.0123, 1)] == [
        "p < 0.001", "p = 0.001", "p = 0.012", "p = 1.000",
    ]  # fmt: skip


def test_durations_have_two_units_at_most_and_money_keeps_small_sums() -> None:
    assert [wording.duration(seconds) for seconds in (2.34, 59.96, 250, 3599.7, 11_520)] == [
        "2.3 s", "1 min 0 s", "4 min 10 s", "1 h 0 min", "3 h 12 min",
    ]  # fmt: skip
    assert [wording.money(usd) for usd in (0, 0.0042, 12.5)] == ["$0.00", "$0.0042", "$12.50"]
    assert (wording.count_of(3, 60), wording.count_of(0, 0)) == ("3 (5.0%)", "0")


def test_a_bar_is_split_in_proportion_and_counts_stand_where_there_is_room() -> None:
    drawn = str(tally_bars("Outcomes", [Tally("arm", "n = 100", 50, 49, 1, "50%")]))
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="24"', drawn)]
    assert widths == pytest.approx([0.5 * 535 - 1, 0.49 * 535 - 1, 0.01 * 535 - 1], abs=0.01)
    assert re.findall(r"on-\w+", drawn) == ["on-won", "on-tied"]


def test_bins_are_round_and_one_holds_no_difference() -> None:
    assert bin_width([-3, 2.2]) == 0.2
    assert bin_width([0.0]) == 0.1
    drawn = str(histogram_panel("arm", "", [-1.0, -0.04, 0.0, 0.04, 1.0, 1.0], "difference"))
    assert re.findall(r">([−\d.]+) ± 0.05: (\d) prompts", drawn) == [("−1", "1"), ("0", "3"), ("1", "2")]


def test_points_are_one_path_and_a_far_outlier_stands_at_the_edge() -> None:
    places = tuple((float(x), float(x)) for x in range(20))
    drawn = str(point_panel(Points(2, "arm", "", (*places, (1e6, 5.0))), Axis("tokens"), Axis("score")))
    assert drawn.count("<path") == 1 and drawn.count("h0") == 21
    assert "M332," in drawn  # at the right edge
    xs = [float(x) for x in re.findall(r"M([\d.]+),", drawn)]
    assert max(xs[:20]) - min(xs[:20]) > 30  # and the others are not pressed into one place


def test_the_core_holds_everything_where_nothing_is_far_out() -> None:
    assert core([1.0, 2.0, 3.0, 4.0, 9.0]) == (1, 9)
    assert core([1.0, 2.0, 3.0, 4.0, 1000.0]) == (1, 16)  # quartiles 2 and 4
    assert core([0.0, 0.0, 0.0, 0.0, 7.0]) == (0, 7)
    assert core([1.0, 1000.0]) == (1, 1000)
