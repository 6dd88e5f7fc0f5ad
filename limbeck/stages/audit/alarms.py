"""Alarms: which figures of an audit lie beyond the recipe's thresholds, and what to do about each. Pure.

Start reading at: `alarms_of`.
"""

from collections.abc import Iterator

from limbeck.recipe.audit import Audit
from limbeck.records import Estimate
from limbeck.records.alarms import Alarm
from limbeck.records.audit import PairsAudit, PromptCoverage, Shortcut

_WORDS = (
    "Have both responses written in one form (templates for the teacher, a stronger contrast in what they say instead "
    "of how), or use kinds whose sides have one author (revise, on_policy)."
)
_LENGTH = (
    "Lower screen.max_length_ratio, ask the teacher for responses of equal length, or set dpo.length_normalised = true."
)
_PHRASES = "Raise teach.temperature, ask for prompts of more kinds, or mix more pairs of other kinds into the arms."
_REACH = "Widen what prompts are made from: more human or pool prompts, mine.max_prompts, rolling pairs."
_EVEN = "Take fewer pairs of the crowded clusters, raise teach.weak_prompts_shown, or mix in more human pairs."
_ALIKE = "Raise teach.temperature or teach.weak_prompts_shown, drop near-duplicates, or write rolling pairs."


def alarms_of(audit: PairsAudit, rules: Audit) -> list[Alarm]:
    """The alarms that one set of pairs raises: shortcuts, then the responses' variety, then the prompts' coverage."""
    label = audit.label
    found = list(_shortcuts(label, audit.shortcut, audit.longer_is_chosen, rules)) if audit.shortcut else []
    bleu = audit.chosen.self_bleu
    if bleu is not None and bleu > rules.max_self_bleu:
        sentence = (
            f"{label}: chosen responses are made of each other's phrases: self-BLEU {bleu:.2f} of "
            f"{audit.chosen.num_texts:,}, threshold {rules.max_self_bleu:g}."
        )
        found.append(_alarm(label, "max_self_bleu", bleu, rules.max_self_bleu, sentence, _PHRASES))
    return [*found, *(_narrow(label, audit.coverage, rules) if audit.coverage else ())]


def _alarm(label: str, field: str, value: float, threshold: float, sentence: str, advice: str) -> Alarm:
    return Alarm(
        about=label, field=f"audit.{field}", value=value, threshold=threshold, sentence=sentence, advice=advice
    )


def _shortcuts(label: str, found: Shortcut, longer: Estimate | None, rules: Audit) -> Iterator[Alarm]:
    if found.words_auc.low > rules.max_words_auc:
        sentence = (
            f"{label}: words alone tell chosen from rejected: {_area(found.words_auc)}, threshold "
            f"{rules.max_words_auc:g}{_telling(found)}."
        )
        yield _alarm(label, "max_words_auc", found.words_auc.low, rules.max_words_auc, sentence, _WORDS)
    if found.length_auc.low > rules.max_length_auc:
        share = f"; the longer is chosen in {100 * longer.estimate:.0f} %" if longer else ""
        sentence = (
            f"{label}: length alone tells chosen from rejected: {_area(found.length_auc)}, threshold "
            f"{rules.max_length_auc:g}{share}."
        )
        yield _alarm(label, "max_length_auc", found.length_auc.low, rules.max_length_auc, sentence, _LENGTH)


def _area(auc: Estimate) -> str:
    return f"AUC {auc.estimate:.2f} [{auc.low:.2f}, {auc.high:.2f}] on unseen prompts"


def _telling(found: Shortcut) -> str:
    lines = found.telling()
    return f"; most telling in the {', in the '.join(lines)}" if lines else ""


def _narrow(label: str, found: PromptCoverage, rules: Audit) -> Iterator[Alarm]:
    reached = _ratio(found.reached, found.reached_by_anchor)
    if reached < rules.min_clusters_reached:
        sentence = (
            f"{label}: prompts are narrow: {found.num_compared:,} of them reach {100 * found.reached:.0f} % of the "
            f"clusters of {found.anchor} prompts, where as many {found.anchor} ones reach "
            f"{100 * found.reached_by_anchor:.0f} %: ratio {reached:.2f}, threshold {rules.min_clusters_reached:g}."
        )
        yield _alarm(label, "min_clusters_reached", reached, rules.min_clusters_reached, sentence, _REACH)
    even = _ratio(found.effective, found.effective_of_anchor)
    if even < rules.min_effective_clusters:
        sentence = (
            f"{label}: prompts crowd in few clusters of {found.anchor} prompts: effectively {found.effective:.1f}, "
            f"where {found.anchor} ones lie in {found.effective_of_anchor:.1f}: ratio {even:.2f}, threshold "
            f"{rules.min_effective_clusters:g}."
        )
        yield _alarm(label, "min_effective_clusters", even, rules.min_effective_clusters, sentence, _EVEN)
    varied = _ratio(found.vendi, found.vendi_of_anchor)
    if varied < rules.min_vendi:
        sentence = (
            f"{label}: prompts are much alike: Vendi score {found.vendi:.0f}, where as many {found.anchor} ones "
            f"({found.num_vendi:,}) have {found.vendi_of_anchor:.0f}: ratio {varied:.2f}, threshold "
            f"{rules.min_vendi:g}."
        )
        yield _alarm(label, "min_vendi", varied, rules.min_vendi, sentence, _ALIKE)


def _ratio(value: float, of: float) -> float:
    return value / of  # neither share nor effective number of the anchor is ever 0: its prompts lie somewhere
