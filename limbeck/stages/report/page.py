"""The page: everything gathered, laid out once, as one HTML text. Same input, same bytes.

Refuses to read a run folder and to decide anything: `gather.py` read, the verdict decided.
"""

from functools import cache
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from limbeck.stages.report import curves, ledger, pairs, results, wording
from limbeck.stages.report.gather import Gathered, Part
from limbeck.stages.report.replies import browser
from limbeck.stages.report.safe import content_security_policy, json_block
from limbeck.stages.report.sources import source_table
from limbeck.untrusted import visible

_HERE = Path(__file__).parent


def render(gathered: Gathered) -> str:
    """The whole page."""
    script, style = (_HERE / "page.js").read_text("utf-8"), (_HERE / "page.css").read_text("utf-8")
    replies = browser(gathered)
    return _environment().get_template("page.html.j2").render(
        recipe=gathered.recipe,
        verdict=gathered.verdict,
        policy=content_security_policy(script, style),
        script=script,
        style=style,
        replies_json=json_block(replies.data) if replies else None,
        reply_notes=replies.notes if replies else (),
        reply_topics=sorted({row["topic"] for row in replies.data["rows"]}) if replies else (),
        gaps={part: [gap.path for gap in gathered.gaps if gap.part == part] for part in get_args(Part)},
        recipe_text=gathered.recipe_text,
        **_results(gathered),
        **_pairs(gathered),
        **_training(gathered),
        **_ledger(gathered),
    )  # fmt: skip


def _results(gathered: Gathered) -> dict[str, Any]:
    verdict, judge = gathered.verdict, gathered.recipe.judged_by()[0]
    return {
        "judge": judge,
        "confidence": f"{100 * verdict.confidence:g}%",
        "main_table": results.main_table(verdict, judge),
        "side_table": results.side_table(verdict),
        "comparison_table": results.comparison_table(verdict),
        "difference_figures": results.difference_figures(verdict),
        "accuracy_figure": results.accuracy_figure(verdict),
    }


def _pairs(gathered: Gathered) -> dict[str, Any]:
    audit = gathered.audit
    return {
        "audit": audit,
        "shortcut_table": pairs.shortcut_table(audit) if audit else None,
        "variety_table": pairs.variety_table(audit) if audit else None,
        "coverage_table": pairs.coverage_table(audit) if audit else None,
    }


def _training(gathered: Gathered) -> dict[str, Any]:
    series = results.series_of(gathered.verdict)
    return {
        "sft_curves": curves.sft_curves(gathered.metrics, series),
        "dpo_curves": curves.dpo_curves(gathered.metrics, series),
        "source_table": source_table(gathered.metrics),
    }


def _ledger(gathered: Gathered) -> dict[str, Any]:
    manifests = gathered.manifests
    seconds = sum(manifest.seconds for manifest in manifests.values())
    spent = ledger.money_usd(manifests)
    return {
        "total_time": wording.duration(seconds) if manifests else wording.NOT_MEASURED,
        "total_money": wording.money(spent) if spent is not None else wording.NOT_MEASURED,
        "time_figure": ledger.time_figure(manifests),
        "cost_table": ledger.cost_table(manifests),
        "facts_table": ledger.facts_table(manifests),
        "version_table": ledger.version_table(manifests),
        "hash_table": ledger.hash_table(manifests),
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: object) -> object:
    """What every `{{ }}` of the template passes through: text is made visible, then escaped; markup is left alone."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
