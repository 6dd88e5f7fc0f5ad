"""Tables of a verdict on the console, each within 80 columns: comparisons, pooled seeds, strengths, pairs, judges,
and published figures beside the run's own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from limbeck.console import results, show
from limbeck.records import Estimate
from limbeck.records.verdict import Agreement, Comparison, JudgeCard, PairAccuracy, Strength
from limbeck.untrusted import visible

if TYPE_CHECKING:
    from limbeck.stages.report.published import Beside, Rows
    from limbeck.stages.verdict.pooling import Pooled

EXACT = "verifier"
_PLAIN_LINES = 12  # rates of a judge that are shown; a verifier has one a family, and the report shows all


def show_comparisons(found: Sequence[Comparison], confidence: float, ties: str) -> None:
    """Print a table for each baseline and judge: win rate, counts, difference, what could not have been seen, p."""
    for baseline, judge in dict.fromkeys((c.baseline, c.judge) for c in found):
        these = [c for c in found if (c.baseline, c.judge) == (baseline, judge)]
        results.print()
        results.print(_comparison_table(these, f"{baseline}, judged by {judge}", confidence, ties))


def _comparison_table(found: Sequence[Comparison], named: str, confidence: float, ties: str) -> Table:
    tests = " and ".join(dict.fromkeys(c.test for c in found))
    title = (
        f"Win rate against {named}; a tie is {'half a win' if ties == 'half' else 'no win'}.\n"
        f"Below each figure its {100 * confidence:.0f} % interval. p: {tests}, corrected (Holm)."
    )
    table = _table(escape(visible(title)), "candidate")
    headings = (
        "win rate,\n%",
        "W/T/L",
        f"difference,\n{_unit(found[0].judge)}",
        "least\nseen",
        "at equal\nlengths, %" + ("" if ties == "half" else "\n(ties half)"),
        "p",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for c in found:
        table.add_row(*_comparison_row(c))
    return table


def _comparison_row(c: Comparison) -> list[str]:
    scale = _scale(c.judge)
    least = c.minimum_detectable_difference
    return [
        escape(visible(c.candidate)),
        _percent(c.win_rate),
        f"{c.wins}/{c.ties}/{c.losses}" + (f"\n{c.unscored} unscored" if c.unscored else ""),
        _signed(c.difference, c.judge),
        "-" if least is None else _number(scale * least, c.judge, sign=False),
        _percent(c.length_controlled_win_rate),
        _p(c.p_value_holm),
    ]


def show_pooled(found: "Sequence[Pooled]", runs: Sequence[str], confidence: float, ties: str) -> None:
    """Print the pooled comparisons, then every arm seed by seed."""
    if not found:
        return
    show_comparisons([each.together for each in found], confidence, ties)
    judge = found[0].together.judge
    table = _table(f"Seed by seed: difference in {_unit(judge)}, and win rate in %", "arm")
    for heading in ("run", "difference", "win rate", "W/T/L", "p"):
        table.add_column(heading, justify="left" if heading == "run" else "right", overflow="fold")
    for each in found:
        for run, c in zip(runs, each.by_run, strict=True):
            told = ["-"] * 4 if c is None else _seed_row(c)
            table.add_row(escape(visible(each.together.candidate)), escape(visible(run)), *told)
        if each.spread is not None:
            table.add_row("", "sd of seeds", _number(_scale(judge) * each.spread, judge, sign=False))
    results.print()
    results.print(table)


def _seed_row(c: Comparison) -> list[str]:
    return [_signed(c.difference, c.judge), _percent(c.win_rate), f"{c.wins}/{c.ties}/{c.losses}", _p(c.p_value_holm)]


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column(first, justify="left", overflow="fold", min_width=8)
    return table


def _unit(judge: str) -> str:
    return {EXACT: "points", "pairwise": "net wins"}.get(judge, "reward")


def _scale(judge: str) -> int:
    return 100 if judge == EXACT else 1


def _number(value: float, judge: str, *, sign: bool = True) -> str:
    digits = 1 if judge == EXACT else 2
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _signed(found: Estimate, judge: str) -> str:
    low, at, high = (_number(_scale(judge) * value, judge) for value in (found.low, found.estimate, found.high))
    return f"{at}\n\\[{low}, {high}]"


def _percent(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.estimate:.1f}\n\\[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def show_strengths(found: Sequence[Strength], confidence: float) -> None:
    """Print the models by strength, one table a judge; nothing where a judge compares two models only."""
    for judge in dict.fromkeys(strength.judge for strength in found):
        these = sorted((s for s in found if s.judge == judge), key=lambda s: -s.log_odds.estimate)
        if len(these) < 3:
            continue
        title = f"Strengths by {judge} over all models (Bradley-Terry), {100 * confidence:.0f} % interval below"
        table = _table(escape(visible(title)), "model")
        for heading in ("log-odds", "as a win rate, %", "prompts"):
            table.add_column(heading, justify="right")
        for s in these:
            log_odds = f"{s.log_odds.estimate:+.2f}\n\\[{s.log_odds.low:+.2f}, {s.log_odds.high:+.2f}]"
            table.add_row(escape(visible(s.model)), log_odds, _percent(s.win_rate), str(s.log_odds.n))
        results.print()
        results.print(table)


def show_pair_accuracies(found: Sequence[PairAccuracy], confidence: float) -> None:
    """Print how often each model prefers the chosen response of held-out pairs, by source."""
    if not found:
        return
    title = f"Held-out pairs whose chosen response is likelier, %; {100 * confidence:.0f} % interval below"
    table = _table(title, "model")
    for heading in ("source", "raw", "against\nSFT", "longer is\nchosen", "prompts"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for each in found:
        shares = (each.raw, each.against_reference, each.longer_is_chosen)
        table.add_row(
            escape(visible(each.model)), escape(visible(each.source)), *map(_percent, shares), str(each.raw.n)
        )
    results.print()
    results.print(table)


def show_judges(cards: Sequence[JudgeCard], agreements: Sequence[Agreement]) -> None:
    """Print what each judge is, what was measured of it, its limits, and where judges agree."""
    for card in cards:
        show(f"\n{card.judge}: {card.about}")
        if card.accuracy is not None:
            show(f"  right on {_share(card.accuracy)} of {card.accuracy.n} held-out pairs")
        if card.longer_is_chosen is not None:
            show(f"  choosing the longer one would be right on {_share(card.longer_is_chosen)}")
        if card.calibration_error is not None:
            show(f"  expected calibration error {card.calibration_error:.3f}")
        for name, rate in list(card.rates.items())[:_PLAIN_LINES]:
            show(f"  {name.replace('_', ' ')}: {_share(rate)}")
        for limit in card.limits:
            show(f"  {limit}")
    for agreement in agreements:
        kappa = "" if agreement.kappa is None else f", kappa {agreement.kappa:.2f}"
        show(f"{' and '.join(agreement.judges)} agree on {_share(agreement.agreement)} of {agreement.n} rows{kappa}")


def _share(found: Estimate) -> str:
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def show_published(found: "Rows") -> None:
    """Print published figures beside the run's own; one that lies outside the run's interval is called so."""
    tied = {"half": "tie\n= half", "loss": "tie\n= no win"}
    title = (
        f"{found.published.title}: win rate against {found.baseline} in %, judged by {found.judge}, and average "
        f"reward.\nBelow each figure of ours its {100 * found.confidence:.0f} % interval; `outside`: the published "
        "figure is not in it."
    )
    table = _table(escape(visible(title)), "model")
    for heading in ("pub-\nlished", f"ours,\n{tied[found.published.ties]}", f"ours,\n{tied[found.other_ties]}",
                    "W/T/L", "reward,\npub.", "reward,\nours"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in found.rows:
        c, rate, reward = row.comparison, row.win_rate, row.reward
        table.add_row(
            escape(visible(row.model)),
            "-" if rate.published is None else f"{100 * rate.published:.1f}{_outside(rate)}",
            _percent(rate.ours),
            _percent(row.other_ties),
            "-" if c is None else f"{c.wins}/{c.ties}/{c.losses}" + (f"\n{c.unscored} unscored" if c.unscored else ""),
            "-" if reward.published is None else f"{reward.published:.1f}{_outside(reward)}",
            _mean(reward.ours),
        )
    results.print()
    results.print(table)
    for row in found.rows:
        if row.note:
            show(f"  {row.model}: {row.note}")
    for note in found.published.notes:
        show(f"  {note}")


def _outside(found: "Beside") -> str:
    return "\noutside" if found.place in ("above", "below") else ""


def _mean(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.estimate:.2f}\n\\[{found.low:.1f}, {found.high:.1f}]"
