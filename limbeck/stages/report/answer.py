"""Did it work: the few facts that stand under the verdict's sentence. Arranges; the verdict decided.

The best arm is the one whose difference to the baseline is the largest by the judge that gives the headline.
"""

from typing import NamedTuple

from limbeck.records.verdict import Comparison
from limbeck.stages.report import ledger, wording
from limbeck.stages.report.gather import Gathered
from limbeck.stages.report.results import baseline_of


class Fact(NamedTuple):
    """A name, what there is to say, and small print."""

    name: str
    value: str
    note: str = ""


def answer(gathered: Gathered) -> tuple[Fact, ...]:
    """The best arm with its interval, who judged, and what it took."""
    recipe, manifests = gathered.recipe, gathered.manifests
    seconds, paid = sum(manifest.seconds for manifest in manifests.values()), gathered.judges_paid
    spent = ledger.money_usd(manifests, paid)
    tokens = sum(ledger.tokens_of(manifests).values())
    of_first = "the first round's" if gathered.rounds and len(gathered.rounds.rounds) > 1 else ""
    return (
        *_best_facts(gathered),
        Fact("Judge", ", ".join(recipe.judged_by()), f"{100 * gathered.verdict.confidence:g}% intervals"),
        Fact("Student", recipe.model.student, f"seed {recipe.seed}"),
        Fact("Time", wording.duration(seconds) if manifests else wording.NOT_MEASURED, of_first),
        Fact("Tokens", wording.count(tokens) if tokens else wording.NOT_MEASURED, of_first),
        Fact(
            "Money",
            wording.money(spent) if spent is not None else wording.NOT_MEASURED,
            ledger.money_note(manifests, paid),
        ),
    )


def best_comparison(gathered: Gathered) -> Comparison | None:
    """The arm that did best against the baseline by the first judge; the only candidate where there are no arms."""
    judge, baseline = gathered.recipe.judged_by()[0], baseline_of(gathered.verdict)
    found = [c for c in gathered.verdict.comparisons
             if c.judge == judge and c.baseline == baseline and c.split == "test"]  # fmt: skip
    arms = [c for c in found if c.candidate in gathered.recipe.arms] or [c for c in found if c.candidate != "base"]
    return max(arms, key=lambda c: c.gain) if arms else None


def _best_facts(gathered: Gathered) -> tuple[Fact, ...]:
    best = best_comparison(gathered)
    if best is None:
        return ()
    interval = wording.difference_interval(best.difference, best.judge)
    controlled = best.length_controlled_win_rate
    facts = [
        Fact(f"{best.candidate} against {best.baseline}", wording.difference(best.difference, best.judge), interval),
        Fact("Won / tied / lost", f"{best.wins} / {best.ties} / {best.losses}", _chance(best)),
        Fact("Win rate", wording.percent(best.win_rate.estimate), wording.percent_interval(best.win_rate)),
    ]
    if controlled is not None:
        name = "At equal lengths" + ("" if gathered.verdict.ties == "half" else ", ties half")
        facts.append(Fact(name, wording.percent(controlled.estimate), wording.percent_interval(controlled)))
    return tuple(facts)


def _chance(comparison: Comparison) -> str:
    arms = f"{wording.p_value(comparison.p_value_holm)} after Holm"
    return arms if comparison.p_value_holm != comparison.p_value else wording.p_value(comparison.p_value)
