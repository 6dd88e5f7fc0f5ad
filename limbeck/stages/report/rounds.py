"""Iterated runs: what every round gained over the last one's model and over SFT, and what that took."""

from limbeck.records import Estimate
from limbeck.records.rounds import Round, RoundsRecord
from limbeck.stages.report import wording
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table


def rounds_table(record: RoundsRecord) -> Table:
    """A row a round."""
    columns = (
        Column("Round", "head"),
        Column("Accuracy" if record.judge == "verifier" else "Mean reward"),
        Column("Gain over the last model"),
        Column("Gain over SFT"),
        Column("Pairs"),
        Column("Gain per 1,000 pairs"),
        Column("Teacher's replies"),
        Column("Gain per $"),
        Column("Time to make it"),
        Column("Gain per hour"),
    )
    return Table(columns, tuple(_row(one, record.judge) for one in record.rounds))


def _row(one: Round, judge: str) -> tuple[Cell, ...]:
    return (
        Cell(str(one.number), one.model),
        _score(one.score, judge),
        _gain(one.gain, judge),
        _gain(one.gain_over_sft, judge),
        Cell(wording.count(one.pairs)),
        _rate(one.gain_per_1000_pairs, judge),
        EMPTY if one.usd is None else Cell(wording.money(one.usd)),
        _rate(one.gain_per_usd, judge),
        Cell(wording.duration(one.seconds)),
        _rate(one.gain_per_hour, judge),
    )


def _score(found: Estimate | None, judge: str) -> Cell:
    if found is None:
        return EMPTY
    if judge == "verifier":
        return Cell(wording.percent(found.estimate), wording.percent_interval(found))
    return Cell(wording.plain(found.estimate), f"[{wording.plain(found.low)}, {wording.plain(found.high)}]")


def _gain(found: Estimate | None, judge: str) -> Cell:
    if found is None:
        return EMPTY
    return Cell(wording.difference(found, judge), wording.difference_interval(found, judge))


def _rate(value: float | None, judge: str) -> Cell:
    return EMPTY if value is None else Cell(wording.signed(value * (100 if judge == "verifier" else 1), 2))
