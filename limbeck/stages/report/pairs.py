"""What the pairs are like, as tables: shortcuts and lengths, variety, coverage. Arranges the audit's record.

Refuses to compute a figure and to decide what is an alarm: the audit did both.
"""

from limbeck.records import Estimate
from limbeck.records.audit import Audit, PairsAudit, PromptCoverage, Variety
from limbeck.stages.report import wording
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table

_SIDES = ("prompts", "chosen", "rejected")


def shortcut_table(audit: Audit) -> Table:
    """Numbers and lengths of every set, and how well its chosen can be told by their surface alone."""
    columns = (
        Column("Pairs", "head"),
        Column("Number"),
        Column("Words, chosen / rejected"),
        Column("Longer is chosen"),
        Column("AUC, words alone"),
        Column("AUC, length alone"),
        Column("Telling words", "text"),
    )
    return Table(columns, tuple(_shortcut_row(each) for each in audit.audits))


def _shortcut_row(audit: PairsAudit) -> tuple[Cell, ...]:
    found = audit.shortcut
    sampled = f"{wording.count(audit.num_sampled)} sampled" if audit.num_sampled < audit.num_pairs else ""
    sides = (audit.chosen_length, audit.rejected_length)
    longer = audit.longer_is_chosen
    return (
        Cell(audit.label, "\n".join(f"not measured: {why}" for why in audit.not_measured)),
        Cell(wording.count(audit.num_pairs), sampled),
        Cell(
            " / ".join(wording.plain(side.words, 1) for side in sides),
            " / ".join(wording.plain(side.characters, 0) for side in sides) + " characters",
        ),
        Cell(wording.percent(longer.estimate), wording.percent_interval(longer)) if longer else EMPTY,
        *((_area(found.words_auc), _area(found.length_auc)) if found else (EMPTY, EMPTY)),
        Cell("\n".join(found.telling())) if found and found.telling() else EMPTY,
    )


def _area(auc: Estimate) -> Cell:
    return Cell(wording.plain(auc.estimate), f"[{wording.plain(auc.low)}, {wording.plain(auc.high)}]")


def variety_table(audit: Audit) -> Table:
    """How varied the prompts and both sides of every set are among themselves."""
    names = ("Distinct-1", "Distinct-2", "Distinct-3", "Self-BLEU", "Vendi score")
    columns = (Column("Pairs", "head"), Column("Texts", "text"), Column("Compared"), *map(Column, names))
    rows = [
        (Cell(each.label if side == _SIDES[0] else ""), Cell(side), *_variety_cells(getattr(each, side)))
        for each in audit.audits
        for side in _SIDES
    ]
    return Table(columns, tuple(rows))


def _variety_cells(found: Variety) -> tuple[Cell, ...]:
    shares = (found.distinct_1, found.distinct_2, found.distinct_3, found.self_bleu)
    return (
        Cell(wording.count(found.num_texts)),
        *(EMPTY if share is None else Cell(wording.plain(share, 3)) for share in shares),
        EMPTY if found.vendi is None else Cell(wording.plain(found.vendi, 1)),
    )


def coverage_table(audit: Audit) -> Table:
    """How the prompts of every set spread over the clusters of the anchor's, beside as many of those."""
    columns = (
        Column("Pairs", "head"),
        Column("Compared with", "text"),
        Column("Clusters reached"),
        Column("Effective clusters"),
        Column("Vendi score"),
        Column("Far from all"),
    )
    return Table(columns, tuple(_coverage_row(each.label, each.coverage) for each in audit.audits if each.coverage))


def _coverage_row(label: str, found: PromptCoverage) -> tuple[Cell, ...]:
    shared = f"\n{wording.count(found.num_shared)} left out: among them" if found.num_shared else ""
    return (
        Cell(label),
        Cell(
            f"{found.anchor} prompts",
            f"{found.num_clusters} clusters, {wording.count(found.num_compared)} prompts{shared}",
        ),
        Cell(wording.percent(found.reached), f"{found.anchor}: {wording.percent(found.reached_by_anchor)}"),
        Cell(wording.plain(found.effective, 1), f"{found.anchor}: {wording.plain(found.effective_of_anchor, 1)}"),
        Cell(
            wording.plain(found.vendi, 1),
            f"{found.anchor}: {wording.plain(found.vendi_of_anchor, 1)}\nof {wording.count(found.num_vendi)} each",
        ),
        Cell(wording.percent(found.far), f"{found.anchor}: 5.0%"),
    )
