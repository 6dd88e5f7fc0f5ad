"""The ledger: what every unit of a run took in, left out and cost, and what identifies it. Arranges manifests.

Refuses to know what any unit does.
"""

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from limbeck.judges.books import Paid
from limbeck.manifest import Manifest
from limbeck.stages.report import wording
from limbeck.stages.report.figures import Bar, bars
from limbeck.stages.report.results import Figure
from limbeck.stages.report.safe import cut
from limbeck.stages.report.tables import EMPTY, Cell, Column, Table

Manifests = Mapping[str, Manifest]
JudgesPaid = Mapping[str, Paid]  # by the judge's name; one run's books, which all of its stages share
_NOBODY: JudgesPaid = MappingProxyType({})


class _TimeScale(NamedTuple):
    name: str
    seconds: int


_SCALES = (_TimeScale("hours", 3600), _TimeScale("minutes", 60), _TimeScale("seconds", 1))
_FACT_CHARACTERS = 300  # a fact that is longer belongs in its unit's own files


def time_figure(manifests: Manifests) -> Figure | None:
    """A bar a unit, in the largest unit of time that keeps the longest bar above one."""
    if not manifests:
        return None
    longest = max(manifest.seconds for manifest in manifests.values())
    scale = next(scale for scale in _SCALES if longest >= scale.seconds or scale is _SCALES[-1])
    rows = [Bar(unit, m.seconds / scale.seconds, wording.duration(m.seconds)) for unit, m in manifests.items()]
    total = wording.duration(sum(manifest.seconds for manifest in manifests.values()))
    caption = f"Time each unit of work took; together {total}."
    return Figure((bars("Time by unit of work", rows, scale.name),), (), caption)


def cost_table(manifests: Manifests, paid: JudgesPaid = _NOBODY) -> Table:
    """Counts, drops by reason, tokens and money of every unit, and their totals."""
    columns = (
        Column("Unit", "head"),
        Column("Time"),
        Column("In", "text"),
        Column("Out", "text"),
        Column("Dropped, by reason", "text"),
        Column("Tokens", "text"),
        Column("Money"),
    )
    rows = [_cost_row(unit, manifest) for unit, manifest in manifests.items()]
    judges = (_judge_row(name, cost, len(columns)) for name, cost in paid.items())
    return Table(columns, (*rows, *judges, _totals(manifests, paid)))


def _cost_row(unit: str, manifest: Manifest) -> tuple[Cell, ...]:
    result = manifest.result
    counts = (result.counts_in, result.counts_out, result.drops, result.tokens)
    return (
        Cell(unit),
        Cell(wording.duration(manifest.seconds)),
        *(Cell(wording.named_counts(each)) if each else EMPTY for each in counts),
        _money(result.money_usd),
    )


def stage_table(manifests: Manifests, paid: JudgesPaid = _NOBODY) -> Table:
    """Time, tokens and money stage by stage: a stage is the units whose names begin alike, as `--until` has it.

    What a paid judge cost follows in a row of its own: its books are the run's, not a stage's.
    """
    columns = (Column("Stage", "head"), Column("Units"), Column("Time"), Column("Tokens", "text"), Column("Money"))
    rows = [_stage_row(stage, units) for stage, units in by_stage(manifests).items()]
    judges = (_judge_row(name, cost, len(columns)) for name, cost in paid.items())
    return Table(columns, (*rows, *judges, _stage_row("Together", manifests, paid)))


def _judge_row(name: str, cost: Paid, width: int) -> tuple[Cell, ...]:
    """Its tokens as small print: where a stage counted them already, they are not counted again."""
    said = Cell(f"judge {name}", f"{wording.count(cost.tokens)} tokens in its books")
    money = Cell("price not known") if cost.usd is None else _money(cost.usd)
    return (said, *(Cell("") for _ in range(width - 2)), money)


def by_stage(manifests: Manifests) -> dict[str, dict[str, Manifest]]:
    """Units by stage, in the order of a run."""
    stages: dict[str, dict[str, Manifest]] = {}
    for unit, manifest in manifests.items():
        stages.setdefault(unit.partition("/")[0], {})[unit] = manifest
    return stages


def _stage_row(name: str, manifests: Manifests, paid: JudgesPaid = _NOBODY) -> tuple[Cell, ...]:
    tokens = tokens_of(manifests)
    return (
        Cell(name),
        Cell(wording.count(len(manifests))),
        Cell(wording.duration(sum(manifest.seconds for manifest in manifests.values()))),
        Cell(wording.named_counts(tokens)) if tokens else EMPTY,
        _money(money_usd(manifests, paid)),
    )


def tokens_of(manifests: Manifests) -> Counter[str]:
    """Tokens of all units together, by what they were."""
    tokens: Counter[str] = Counter()
    for manifest in manifests.values():
        tokens.update(manifest.result.tokens)
    return tokens


def _totals(manifests: Manifests, paid: JudgesPaid) -> tuple[Cell, ...]:
    tokens = tokens_of(manifests)
    return (
        Cell("Together"),
        Cell(wording.duration(sum(manifest.seconds for manifest in manifests.values()))),
        *(Cell(""), Cell(""), Cell("")),  # what goes in and out differs from unit to unit: sums would mean nothing
        Cell(wording.named_counts(tokens)),
        _money(money_usd(manifests, paid)),
    )


def money_usd(manifests: Manifests, paid: JudgesPaid = _NOBODY) -> float | None:
    """What teacher and judges were paid as far as it is known; None where neither a unit nor a judge's books know."""
    known = [m.result.money_usd for m in manifests.values() if m.result.money_usd is not None]
    known += [cost.usd for cost in paid.values() if cost.usd is not None]
    return sum(known) if known else None


def money_note(manifests: Manifests, paid: JudgesPaid) -> str:
    """Who was paid what, where it was not the teacher alone; and whose price is not known."""
    if not paid:
        return ""
    taught = money_usd(manifests)
    told = [] if taught is None else [f"teacher {wording.money(taught)}"]
    for name, cost in paid.items():
        unknown = f"{wording.count(cost.tokens)} tokens, price not known"
        told.append(f"{name} {unknown if cost.usd is None else wording.money(cost.usd)}")
    return ", ".join(told)


def _money(usd: float | None) -> Cell:
    return EMPTY if usd is None else Cell(wording.money(usd))


def facts_table(manifests: Manifests) -> Table:
    """What units noted besides counts, as JSON, cut where it is long."""
    rows = []
    for unit, manifest in manifests.items():
        for name, value in manifest.result.facts.items():
            written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text, more = cut(written, _FACT_CHARACTERS)
            note = f"… {wording.count(more)} more characters" if more else ""
            rows.append((Cell(unit), Cell(name), Cell(text, note)))
    return Table((Column("Unit", "head"), Column("Fact", "text"), Column("Value", "text")), tuple(rows))


def version_table(manifests: Manifests) -> Table:
    """Versions of Python, limbeck and its libraries; where units differ, each version with its units."""
    found: dict[str, dict[str, list[str]]] = {}
    for unit, manifest in manifests.items():
        for library, version in manifest.versions.items():
            found.setdefault(library, {}).setdefault(version, []).append(unit)
    rows = []
    for library, versions in found.items():
        several = len(versions) > 1
        lines = [f"{version} ({', '.join(units)})" if several else version for version, units in versions.items()]
        rows.append((Cell(library), Cell("\n".join(lines))))
    return Table((Column("Library", "head"), Column("Version", "text")), tuple(rows))


def hash_table(manifests: Manifests) -> Table:
    """The key of every unit with the SHA-256 digests of what it read and left."""
    columns = (Column("Unit", "head"), Column("Seed"), Column("Key and digests (SHA-256)", "code"))
    return Table(columns, tuple((Cell(unit), Cell(str(m.seed)), Cell(_digests(m))) for unit, m in manifests.items()))


def _digests(manifest: Manifest) -> str:
    lines = [f"key     {manifest.key}"]
    lines += [f"read    {digest}  {name}" for name, digest in manifest.inputs.items()]
    lines += [f"left    {digest}  {name}" for name, digest in manifest.outputs.items()]
    return "\n".join([*lines, f"finished {manifest.finished_at}"])
