"""The data set's card (README.md), made of facts alone: what was counted, what the recipe says. Pure.

Licence and languages stand there only where the user stated them. Names that come from files or models stand in code
spans on one line each, in which neither markdown nor HTML means anything; what goes into YAML is written as JSON, which
YAML reads.
"""

import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Dataset
from limbeck.recipe.export import PAIR_SECTIONS
from limbeck.recipe.pairs import Arm, MadeKind, PairKind
from limbeck.recipe.part import deciding_part
from limbeck.records import Pair
from limbeck.stages.export.columns import COLUMNS, REASON
from limbeck.store import digest_json
from limbeck.untrusted import one_line

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_NAMES_LISTED = 30
_NAME_CHARACTERS = 160
# The hub's own size classes, by the number of rows below which each ends.
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}


@dataclass
class Facts:
    """What is counted while rows are written. `suffix`: of the files."""

    suffix: str
    splits: dict[str, Counter[str]] = field(default_factory=dict)
    teachers: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    human_left_out: int = 0
    longer_chosen: int = 0
    verifiable: int = 0

    def count(self, split: str, pair: Pair) -> None:
        """Count one pair that was kept."""
        self.splits.setdefault(split, Counter())[pair.source] += 1
        self.teachers.update([pair.teacher] if pair.teacher else [])
        self.templates.update([pair.template] if pair.template else [])
        self.longer_chosen += len(pair.chosen) > len(pair.rejected)
        self.verifiable += pair.problem is not None

    def total_by_kind(self) -> Counter[str]:
        """Kept pairs by kind, over the splits."""
        return sum(self.splits.values(), Counter())


def card(recipe: Recipe, facts: Facts) -> str:
    """The whole card, front matter first."""
    parts = (
        _front_matter(recipe, facts),
        f"# {recipe.name}: preference pairs\n\n{_opening(facts)}",
        _what_is_in_it(recipe, facts),
        _columns(facts),
        _how_made(recipe, facts),
        _terms(recipe, facts),
        _limits(recipe, facts),
    )
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """Text as a markdown code span on one line, whatever it holds (CommonMark 0.31, section 6.1)."""
    line = one_line(text, _NAME_CHARACTERS) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def _front_matter(recipe: Recipe, facts: Facts) -> str:
    total = facts.total_by_kind()
    lines = ["---", f"pretty_name: {json.dumps(recipe.name)}"]
    if recipe.export.licence:
        lines.append(f"license: {json.dumps(recipe.export.licence)}")
    if recipe.export.languages:
        lines += ["language:", *(f"- {json.dumps(language)}" for language in recipe.export.languages)]
    tags = ["preference", "dpo", "limbeck", *(["synthetic"] if set(total) - {"human"} else [])]
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    size = next((name for below, name in _SIZES.items() if total.total() < below), "10M<n<100M")
    lines += ["size_categories:", f"- {size}", "configs:", "- config_name: default", "  data_files:"]
    lines += _data_files("data", sorted(facts.splits) or ["train"], facts.suffix)
    if facts.drops:
        lines += ["- config_name: dropped", "  data_files:", *_data_files("dropped", ["dropped"], facts.suffix)]
    return "\n".join([*lines, "---"])


def _data_files(folder: str, splits: Iterable[str], suffix: str) -> list[str]:
    return [
        line
        for split in splits
        for line in (f"  - split: {split}", f"    path: {json.dumps(f'{folder}/{split}-*.{suffix}')}")
    ]


def _opening(facts: Facts) -> str:
    split = "train" if "train" in facts.splits or not facts.splits else min(facts.splits)
    dropped = '\ndropped = load_dataset("PATH", "dropped", split="dropped")' if facts.drops else ""
    return (
        f"{_counted(facts.total_by_kind().total(), 'preference pair')} in TRL's conversational format with an explicit "
        "prompt.\n\n```python\nfrom datasets import load_dataset\n\n"
        f'pairs = load_dataset("PATH", split="{split}")  # as it is what TRL\'s DPOTrainer takes{dropped}\n```'
    )


def _what_is_in_it(recipe: Recipe, facts: Facts) -> str:
    lines = ["## What is in it", ""]
    for split, kinds in sorted(facts.splits.items()):
        lines.append(f"- {split}: {_counted(kinds.total(), 'pair')}")
        lines += [f"  {line}" for line in _listed(kinds)]
    if "validation" in facts.splits:
        rolling = ", of `rolling` ones the last along the pairs they follow" if facts.total_by_kind()["rolling"] else ""
        lines += ["", f"`validation` holds the first {recipe.mix.heldout_pairs} pairs of each kind in the order of the "
                  f"run's seed{rolling}, which no training mixture of the run takes, and every other pair that shares "
                  "a prompt with one of them: no prompt is in both splits."]  # fmt: skip
    described = [kind for kind, _ in _ranked(facts.total_by_kind()) if kind in get_args(PairKind)]
    if described and recipe.arms:
        lines += ["", "Kinds:", ""]
        lines += [f"- `{kind}`: {Arm.model_fields[kind].description}" for kind in described]
    for title, names in (("Teachers", facts.teachers), ("Request templates", facts.templates)):
        if names:
            lines += ["", f"{title}, with the pairs of each:", "", *_listed(names)]
    if facts.drops:
        lines += ["", f"Dropped by screening ({_counted(facts.drops.total(), 'pair')}, kept with their reasons in the "
                  "configuration `dropped`):", "", *_listed(facts.drops)]  # fmt: skip
    return "\n".join(lines)


def _columns(facts: Facts) -> str:
    lines = ["## Columns", "", *(f"- `{column.name}`: {column.meaning}" for column in COLUMNS)]
    if facts.drops:
        lines.append(f"- `{REASON}` (in `dropped` only): the first rule that spoke against the pair")
    return "\n".join(lines)


def _how_made(recipe: Recipe, facts: Facts) -> str:
    version = importlib.metadata.version("limbeck")
    lines = ["## How it was made", ""]
    if not recipe.arms:
        return "\n".join([*lines, f"limbeck {version}, from a file of pairs: `limbeck export FILE`."])
    lines += [f"limbeck {version}, with the recipe {code(recipe.name)} and seed {recipe.seed}:", "", "```sh",
              "limbeck run RECIPE.toml --until export", "```", "",
              f"SHA-256 of what the recipe says of making pairs: `{_recipe_digest(recipe)}`"]  # fmt: skip
    if set(facts.total_by_kind()) - {"human"}:
        lines += ["", f"The student whose replies were mined: {code(_place(recipe.model.student))}."]
    sources = [*recipe.corpus.preferences, *recipe.corpus.prompts]
    if sources:
        lines += ["", "Prompts and human pairs come from:", "", *(f"- {_source(source)}" for source in sources)]
    return "\n".join(lines)


def _recipe_digest(recipe: Recipe) -> str:
    """Of what decides the pairs: not on which machine, how fast and for how much money they are made.

    Of the arms that is how many pairs of each kind they want.
    """
    part = deciding_part(recipe, set(PAIR_SECTIONS))
    part["model"] = {name: value for name, value in part["model"].items() if name not in {"device", "dtype"}}
    kinds = recipe.pair_kinds()
    made = [kind for kind in get_args(MadeKind) if kind in kinds]
    wanted = {kind: [recipe.accept(kind), recipe.max_candidates(kind)] for kind in made}
    return digest_json(part | {"kinds": sorted(kinds), "wanted": wanted})


def _source(source: Dataset) -> str:
    config = f", configuration {code(source.config)}" if source.config else ""
    return f"{code(_place(source.path))}, split {code(source.split)}{config}"


def _place(path: str) -> str:
    """A hub id as it is; of a local path its last part, since where a file lay is nobody's matter."""
    local = _HUB_ID.fullmatch(path) is None or Path(path).exists()
    return Path(path).name if local else path


def _terms(recipe: Recipe, facts: Facts) -> str:
    export = recipe.export
    languages = ", ".join(map(code, export.languages))
    lines = [
        "## Licence, language, terms",
        "",
        f"- Licence: {code(export.licence) if export.licence else 'unknown: nobody stated one'}",
        f"- Language: {languages or 'unknown: nobody stated one'}",
    ]
    if facts.teachers:
        lines.append("- To check before you use or pass this on: the terms of the teachers named above may restrict "
                     "what their output may be used for.")  # fmt: skip
    if "human" in facts.total_by_kind():
        lines.append("- To check as well: pairs of the source `human` stand under the terms of the data sets they "
                     "come from.")  # fmt: skip
    return "\n".join(lines)


def _limits(recipe: Recipe, facts: Facts) -> str:
    total = facts.total_by_kind().total()
    lines = ["## Known limits", ""]
    if total:
        lines += [
            f"- The chosen answer is the longer one in {facts.longer_chosen} of {total} pairs.",
            f"- {facts.verifiable} of {total} prompts are problems whose answers a program can check.",
        ]
    if recipe.arms:
        lines.append("- Pairs were screened by rules. What the rules cannot see, for instance an evaluation prompt "
                     "said in other words or a wrong claim in free text, is still there.")  # fmt: skip
    return "\n".join([*lines, "- Rejected answers are there to be worse than the chosen: they are no demonstrations."])


def _listed(names: Mapping[str, int]) -> list[str]:
    ranked = _ranked(names)
    lines = [f"- {code(name)}: {count}" for name, count in ranked[:_NAMES_LISTED]]
    more = ranked[_NAMES_LISTED:]
    return [*lines, f"- {len(more)} more names: {sum(count for _, count in more)}"] if more else lines


def _ranked(names: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
