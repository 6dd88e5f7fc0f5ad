"""Audit: look at all pairs before anything is trained on them, and raise an alarm where training would learn the wrong.

Reads: kind/KIND and arm/ARM (Pair), or one `pairs` (Pair); of an arm that trains in two runs also first/ARM (Pair), for
    the first one; and at most one anchor/NAME (rows with prompts).
Writes: audit.json (Audit).
Start reading at: `run`, then `measure.py`, `alarms.py`; what is measured is defined in limbeck/statistics.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from limbeck.console import meter, say
from limbeck.errors import AuditError, InputError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow
from limbeck.records.alarms import Alarm
from limbeck.records.audit import Audit, PairsAudit
from limbeck.stages.audit.alarms import alarms_of
from limbeck.stages.audit.measure import Anchor, asked, measure
from limbeck.store import read_records, write_json

__all__ = ["AUDIT", "run"]

AUDIT = "audit.json"
_MOST_SOURCES = 8  # a file of pairs with more sources is shown as a whole


class _Set(NamedTuple):
    """Some pairs to audit together, under a name."""

    of: Literal["kind", "arm"]
    name: str
    pairs: list[Pair]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Audit every set of pairs in `inputs`; alarms go to the console too.

    Raises:
        InputError: an input file is not what it should be, or is of an arm or alone and holds no pair.
        AuditError: there is an alarm, and the recipe says `audit.on_alarm = "stop"`; `audit.json` is written first.
    """
    anchor = _anchor(inputs)
    audits = []
    audited = [name for name in inputs if name.partition("/")[0] not in {"anchor", "first"}]
    with meter("audit", len(audited), "sets") as progress:
        for name in audited:
            audits += [_measure(each, anchor, recipe) for each in _sets(name, inputs)]
            progress.advance()
    # The mixture of an arm of one kind is that kind again: one alarm is enough.
    single = {arm for arm, mixture in recipe.arms.items() if len(mixture.counts()) == 1}
    loud = [audit for audit in audits if audit.of == "kind" or audit.name not in single]
    found = Audit(audits=tuple(audits), alarms=tuple(a for audit in loud for a in alarms_of(audit, recipe.audit)))
    write_json(out / AUDIT, found.model_dump(mode="json"))
    for alarm in found.alarms:
        say(f"ALARM {alarm.sentence} {alarm.advice}", style="yellow")
    if found.alarms and recipe.audit.on_alarm == "stop":
        raise AuditError(_stop(found.alarms, out / AUDIT))
    return _result(found, anchor, recipe)


def _anchor(inputs: Mapping[str, Path]) -> Anchor | None:
    for name, path in inputs.items():
        if name.startswith("anchor/"):
            kind = Pair if name in {"anchor/human", "anchor/random"} else PromptRow
            prompts = [words for row in read_records(path, kind) if (words := asked(row))]
            return Anchor(name.partition("/")[2], tuple(prompts))
    return None


def _sets(name: str, inputs: Mapping[str, Path]) -> Iterator[_Set]:
    pairs = read_records(inputs[name], Pair)
    if not pairs and name.startswith("kind/"):  # `mix.take_fewer`: arms have other kinds, and are audited
        return
    if not pairs:
        raise InputError(f"{inputs[name]} holds no pair to audit")
    group, _, own = name.partition("/")
    if group == "arm" and (first := inputs.get(f"first/{own}")):
        pairs = [*read_records(first, Pair), *pairs]
    yield _Set("arm" if group == "arm" else "kind", own or name, pairs)
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    if not own and 1 < len(sources) <= _MOST_SOURCES:
        yield from (_Set("kind", source, [pair for pair in pairs if pair.source == source]) for source in sources)


def _measure(each: _Set, anchor: Anchor | None, recipe: Recipe) -> PairsAudit:
    own = anchor is not None and (each.of, each.name) == ("kind", anchor.name)  # no set is narrower than itself
    return measure(
        each.name,
        each.of,
        each.pairs,
        None if own else anchor,
        recipe.audit,
        seed=recipe.seed,
        confidence=recipe.evaluate.confidence,
    )


def _stop(alarms: tuple[Alarm, ...], path: Path) -> str:
    more = f" ({len(alarms) - 1} more above)" if len(alarms) > 1 else ""
    return (
        f"{alarms[0].sentence.rstrip('.')}{more}; nothing is trained on these pairs, since audit.on_alarm is 'stop'. "
        f'All figures are in {path}; change {alarms[0].field} or set audit.on_alarm = "say" to go on'
    )


def _result(found: Audit, anchor: Anchor | None, recipe: Recipe) -> StageResult:
    areas = {audit.label: audit.shortcut for audit in found.audits if audit.shortcut}
    return StageResult(
        counts_in={audit.label: audit.num_pairs for audit in found.audits},
        counts_out={"alarms": len(found.alarms)},
        facts={
            "alarms": [alarm.sentence for alarm in found.alarms],
            "sampled": {audit.label: audit.num_sampled for audit in found.audits},
            "compared_with": anchor and f"{min(len(anchor.prompts), recipe.audit.sample_pairs)} {anchor.name} prompts",
            "words_auc": {name: round(shortcut.words_auc.estimate, 4) for name, shortcut in areas.items()},
            "length_auc": {name: round(shortcut.length_auc.estimate, 4) for name, shortcut in areas.items()},
        },
    )
