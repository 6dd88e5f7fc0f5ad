"""Gathering: everything the page is made from, read from a run folder into one frozen value.

Only the verdict has to be there. Any other file may be absent (a recipe without arms has no preference training, one
without tasks no verifier); what the recipe or the verdict leads one to expect and is not found becomes a `Gap`, which
the page prints in the section that would have shown it. Refuses to know how any of it is shown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.manifest import MANIFEST, Manifest, read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe_verdict import Judge
from limbeck.records import HeldOutSplit, Judgement, Metric, PromptRow, Reply
from limbeck.records_audit import Audit
from limbeck.records_verdict import Verdict
from limbeck.store import AnyRecord, first_problem, read_records

Part = Literal["pairs", "training", "replies", "cost", "recipe"]


class Gap(NamedTuple):
    """A file that was looked for in vain, and the part of the page that misses it."""

    part: Part
    path: str


class HeldOut(NamedTuple):
    """A held-out prompt and the split it belongs to."""

    split: HeldOutSplit
    row: PromptRow


class ReplyKey(NamedTuple):
    """What a reply and its judgement have in common."""

    prompt_id: str
    sample_index: int


class Answers(NamedTuple):
    """What one model replied, and what each judge said of it."""

    replies: tuple[Reply, ...]
    judgements: dict[Judge, dict[ReplyKey, Judgement]]


@dataclass(frozen=True)
class Gathered:
    """A run folder as the page sees it. `metrics` is by unit (`sft`, `dpo/ARM` ...), `answers` by model."""

    recipe: Recipe
    recipe_text: str | None
    verdict: Verdict
    audit: Audit | None
    manifests: dict[str, Manifest]
    metrics: dict[str, tuple[Metric, ...]]
    prompts: tuple[HeldOut, ...]
    answers: dict[str, Answers]
    gaps: tuple[Gap, ...]


def gather(run_folder: Path, recipe: Recipe) -> Gathered:
    """Read a run folder.

    Raises:
        InputError: where there is no verdict, or a file is malformed (naming file, line and field).
        RunFolderError: where a manifest is damaged.
    """
    reader = _Reader(run_folder)
    verdict = _read_verdict(run_folder / "verdict" / "verdict.json")
    recipe_path = run_folder / "recipe.toml"
    return Gathered(
        recipe=recipe,
        recipe_text=recipe_path.read_text(encoding="utf-8", errors="replace")
        if reader.has("recipe", "recipe.toml")
        else None,
        verdict=verdict,
        audit=reader.audit() if recipe.arms else None,
        manifests=reader.manifests(recipe),
        metrics=reader.metrics(recipe),
        prompts=reader.prompts(recipe),
        answers={score.model: reader.answers(score.model) for score in verdict.scores},
        gaps=tuple(reader.gaps),
    )


def _read_verdict(path: Path) -> Verdict:
    if not path.is_file():
        raise InputError(f"{path} does not exist: a report needs a verdict; finish the run first (`limbeck run`)")
    return _whole(path, Verdict)


def _whole(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error


class _Reader:
    """Reads optional files and remembers, in `gaps`, those that are not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gaps: list[Gap] = []

    def has(self, part: Part, path: str) -> bool:
        """Whether the file is there; if not, that is remembered as a gap."""
        found = (self.root / path).is_file()
        if not found:
            self.gaps.append(Gap(part, path))
        return found

    def records(self, part: Part, path: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        """The records of a file, none where it is absent."""
        return tuple(read_records(self.root / path, kind)) if self.has(part, path) else ()

    def manifests(self, recipe: Recipe) -> dict[str, Manifest]:
        """Manifests by unit, in the order of a run and its models; a unit folder without one is a gap."""
        found = {}
        for name in _units(recipe):
            folder = self.root / name
            if not folder.is_dir():
                continue
            manifest = read_manifest(folder)
            if manifest is None:
                self.gaps.append(Gap("cost", f"{name}/{MANIFEST}"))
            else:
                found[name] = manifest
        return found

    def audit(self) -> Audit | None:
        """What the audit of the pairs found."""
        path = "audit/audit.json"
        return _whole(self.root / path, Audit) if self.has("pairs", path) else None

    def metrics(self, recipe: Recipe) -> dict[str, tuple[Metric, ...]]:
        """Training curves by unit: SFT, then the recipe's arms, each after its first run where it has one."""
        runs = (unit for arm in recipe.arms for unit in (recipe.first_run_unit(arm), recipe.arm_unit(arm)) if unit)
        units = ("sft", *runs)
        return {unit: self.records("training", f"{unit}/metrics.jsonl", Metric) for unit in units}

    def prompts(self, recipe: Recipe) -> tuple[HeldOut, ...]:
        """Held-out prompts; transfer prompts are missed only where the recipe asks for some."""
        wants_transfer = recipe.corpus.tasks is not None and recipe.corpus.tasks.transfer > 0
        found = [HeldOut("test", row) for row in self.records("replies", "corpus/test.jsonl", PromptRow)]
        if wants_transfer or (self.root / "corpus/transfer.jsonl").is_file():
            rows = self.records("replies", "corpus/transfer.jsonl", PromptRow)
            found += [HeldOut("transfer", row) for row in rows]
        return tuple(found)

    def answers(self, model: str) -> Answers:
        """A model's replies and the judgements of every judge that left some."""
        folder = f"evaluate/{model}"
        replies = self.records("replies", f"{folder}/replies.jsonl", Reply)
        judgements: dict[Judge, dict[ReplyKey, Judgement]] = {}
        judge: Judge
        for judge in get_args(Judge):
            if (self.root / folder / f"judgements_{judge}.jsonl").is_file():
                lines = self.records("replies", f"{folder}/judgements_{judge}.jsonl", Judgement)
                judgements[judge] = {ReplyKey(line.prompt_id, line.sample_index): line for line in lines}
        if replies and not judgements:
            self.gaps.append(Gap("replies", f"{folder}/judgements_*.jsonl"))
        return Answers(replies, judgements)


def _units(recipe: Recipe) -> list[str]:
    """The recipe's units by the names of their folders, in the order of a run; other folders hold what has left it."""
    kinds, arms = recipe.pair_kinds(), recipe.arms
    units = ["corpus", "retain", "sft", *(("mine", "teach") if kinds.keys() - {"human"} else ())]
    units += [*(("screen", "export") if kinds else ()), *(f"mix/{arm}" for arm in arms), *(("audit",) if kinds else ())]
    for trains in ("dpo", "sft"):
        own = [arm for arm, settings in arms.items() if settings.trains == trains]
        units += [unit for arm in own if (unit := recipe.first_run_unit(arm))] + [recipe.arm_unit(arm) for arm in own]
    return [*units, *(f"evaluate/{model}" for model in ("base", "sft", *arms)), "verdict"]
