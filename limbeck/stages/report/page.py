"""The page: everything gathered, laid out once, as one HTML text. Same input, same bytes.

Its order is that of a reader's questions: did it work (and as published, where figures were), by how much and where, is
it safe to trust, how did it train, what does it say now, what did it cost, how is it repeated. Refuses to read a run
folder and to decide anything: `gather.py` read, the verdict decided.
"""

from typing import Any, get_args

from limbeck.manifest import KEPT_STEP
from limbeck.stages.report import curves, ledger, outcomes, pairs, published_tables, results, rounds, sources, trust
from limbeck.stages.report.answer import answer
from limbeck.stages.report.assets import assets, filled
from limbeck.stages.report.gather import Gathered
from limbeck.stages.report.markdown import markdown
from limbeck.stages.report.published import rows_of
from limbeck.stages.report.reading import Part
from limbeck.stages.report.replies import browser
from limbeck.stages.report.safe import json_block
from limbeck.stages.report.samples import samples_of


def render(gathered: Gathered) -> str:
    """The whole page."""
    alarms = trust.numbered(gathered.alarms)
    return filled(
        "page.html.j2",
        {
            "recipe": gathered.recipe,
            "verdict": gathered.verdict,
            "answer": answer(gathered),
            "alarms": alarms,
            "gaps": {part: [gap.path for gap in gathered.gaps if gap.part == part] for part in get_args(Part)},
            "recipe_text": gathered.recipe_text,
            **assets()._asdict(),
            "published": _published(gathered, alarms),
            **_results(gathered),
            **_rounds(gathered),
            **_trust(gathered),
            **_pairs(gathered),
            **_training(gathered, alarms),
            **_replies(gathered),
            **_ledger(gathered),
        },
    )


def render_table(gathered: Gathered) -> str:
    """The page's first table as Markdown."""
    found = rows_of(gathered.recipe, gathered.verdict)
    if found is None:
        verdict, judge = gathered.verdict, gathered.recipe.judged_by()[0]
        said = f"{verdict.sentence} Judge {judge}; brackets hold {100 * verdict.confidence:g}% intervals."
        return markdown(gathered.recipe.name, results.main_table(verdict, judge), said)
    caption = f"{published_tables.caption_of(found)} {published_tables.outside_of(found)}"
    table = published_tables.table_of(found)
    return markdown(found.published.title, table, caption, published_tables.notes_of(found))


def _published(gathered: Gathered, alarms: tuple[trust.NumberedAlarm, ...]) -> dict[str, Any] | None:
    found = rows_of(gathered.recipe, gathered.verdict)
    if found is None:
        return None
    drawn = published_tables.figure_of(found, gathered.metrics, results.series_of(gathered.verdict), alarms)
    return {
        "title": found.published.title,
        "outside": published_tables.outside_of(found),
        "table": published_tables.table_of(found),
        "caption": published_tables.caption_of(found),
        "notes": published_tables.notes_of(found),
        "figure": drawn.figure,
        "gaps": drawn.notes,
        "samples": samples_of(gathered, found.published.samples),
    }


def _results(gathered: Gathered) -> dict[str, Any]:
    verdict, judge = gathered.verdict, gathered.recipe.judged_by()[0]
    others = [name for name in outcomes.judges_of(verdict) if name != judge]
    return {
        "judge": judge,
        "confidence": f"{100 * verdict.confidence:g}%",
        "main_table": results.main_table(verdict, judge),
        "comparison_table": results.comparison_table(verdict),
        "accuracy_figure": results.accuracy_figure(verdict),
        "headline": outcomes.results_of(gathered, judge),
        "others": [outcomes.results_of(gathered, name) for name in others],
        "topic_table": outcomes.topic_table(verdict),
    }


def _rounds(gathered: Gathered) -> dict[str, Any]:
    record = gathered.rounds
    return {"rounds": record, "rounds_table": rounds.rounds_table(record) if record else None}


def _trust(gathered: Gathered) -> dict[str, Any]:
    verdict = gathered.verdict
    return {
        "side_table": results.side_table(verdict),
        "overlap_table": trust.overlap_table(gathered.manifests),
        "judge_table": trust.judge_table(verdict),
        "reliability_table": trust.reliability_table(verdict),
        "agreement_table": trust.agreement_table(verdict),
        "length_table": trust.length_table(verdict),
        "strength_figures": trust.strength_figures(verdict),
        "pair_accuracy_figure": trust.pair_accuracy_figure(verdict),
        "pair_accuracy_table": trust.pair_accuracy_table(verdict),
    }


def _pairs(gathered: Gathered) -> dict[str, Any]:
    audit = gathered.audit
    return {
        "audit": audit,
        "shortcut_table": pairs.shortcut_table(audit) if audit else None,
        "variety_table": pairs.variety_table(audit) if audit else None,
        "coverage_table": pairs.coverage_table(audit) if audit else None,
    }


def _kept_steps(gathered: Gathered) -> dict[str, int]:
    """By unit that trained: after how many steps its model was."""
    facts = {unit: manifest.result.facts for unit, manifest in gathered.manifests.items()}
    return {unit: found[KEPT_STEP] for unit, found in facts.items() if KEPT_STEP in found}


def _training(gathered: Gathered, alarms: tuple[trust.NumberedAlarm, ...]) -> dict[str, Any]:
    series = results.series_of(gathered.verdict)
    return {
        "sft_curves": curves.sft_curves(gathered.metrics, series, alarms),
        "dpo_curves": curves.dpo_curves(gathered.metrics, series, alarms),
        "reward_curves": curves.reward_curves(gathered.metrics, alarms),
        "source_figures": sources.source_figures(gathered.metrics, alarms),
        "source_table": sources.source_table(gathered.metrics, _kept_steps(gathered)),
    }


def _replies(gathered: Gathered) -> dict[str, Any]:
    replies = browser(gathered)
    return {
        "replies_json": json_block(replies.columns) if replies else None,
        "reply_chunks": [json_block(chunk) for chunk in replies.chunks] if replies else (),
        "reply_notes": replies.notes if replies else (),
    }


def _ledger(gathered: Gathered) -> dict[str, Any]:
    manifests, paid = gathered.manifests, gathered.judges_paid
    return {
        "time_figure": ledger.time_figure(manifests),
        "stage_table": ledger.stage_table(manifests, paid),
        "cost_table": ledger.cost_table(manifests, paid),
        "facts_table": ledger.facts_table(manifests),
        "version_table": ledger.version_table(manifests),
        "hash_table": ledger.hash_table(manifests),
    }
