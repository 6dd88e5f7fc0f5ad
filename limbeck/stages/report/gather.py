"""Gathering: everything the page is made from, read from a run folder into one frozen value.

Only the verdict has to be there. Any other file may be absent (a recipe without arms has no preference training, one
without tasks no verifier); what the recipe or the verdict leads one to expect and is not found becomes a `Gap`, which
the page prints in the section that would have shown it. Refuses to know how any of it is shown.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, get_args

from limbeck.errors import InputError
from limbeck.judges.books import Paid, paid
from limbeck.manifest import MANIFEST, Manifest, read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe.rounds import unit_going_on
from limbeck.recipe.verdict import Judge
from limbeck.records import HeldOutSplit, Judgement, Metric, PromptRow, Reply
from limbeck.records.alarms import Alarm
from limbeck.records.audit import Audit
from limbeck.records.rounds import RoundsRecord
from limbeck.records.verdict import Preference, Verdict
from limbeck.round_folders import lies_at
from limbeck.stages.report.reading import Gap, OptionalFiles
from limbeck.store import read_record


class HeldOut(NamedTuple):
    """A held-out prompt and the split it belongs to."""

    split: HeldOutSplit
    row: PromptRow


class ReplyKey(NamedTuple):
    """What a reply and its judgement have in common."""

    prompt_id: str
    sample_index: int


class Answers(NamedTuple):
    """What one model replied, what each judge said of it, and whether it was preferred to the baseline's reply."""

    replies: tuple[Reply, ...]
    judgements: dict[Judge, dict[ReplyKey, Judgement]]
    preferences: dict[ReplyKey, Preference]


@dataclass(frozen=True)
class Gathered:
    """A run folder as the page sees it. `metrics` is by unit (`sft`, `dpo/ARM` ...), `answers` by model.

    `judges_paid`: what judges cost that are paid, by their names.

    `alarms`: those of the pairs first, then of every unit in the order of the run, the verdict's last.
    """

    recipe: Recipe
    recipe_text: str | None
    verdict: Verdict
    audit: Audit | None
    alarms: tuple[Alarm, ...]
    manifests: dict[str, Manifest]
    metrics: dict[str, tuple[Metric, ...]]
    prompts: tuple[HeldOut, ...]
    answers: dict[str, Answers]
    gaps: tuple[Gap, ...]
    judges_paid: dict[str, Paid] = field(default_factory=dict)
    rounds: RoundsRecord | None = None


def gather(run_folder: Path, recipe: Recipe, *, answers: bool = True) -> Gathered:
    """Read a run folder; without `answers`, leave replies and judgements unread.

    Raises:
        InputError: where there is no verdict, or a file is malformed (naming file, line and field).
        RunFolderError: where a manifest, or a judge's books, are damaged.
    """
    number, trained = recipe.rounds.number, unit_going_on(recipe.rounds, recipe.arms)
    reader = _Reader(OptionalFiles(run_folder, lambda path: lies_at(path, number, trained)))
    verdict = _read_verdict(run_folder / "verdict" / "verdict.json")
    audit = reader.audit() if recipe.arms else None
    return Gathered(
        recipe=recipe,
        recipe_text=reader.files.text("recipe", "recipe.toml"),
        verdict=verdict,
        audit=audit,
        alarms=(*(audit.alarms if audit else ()), *reader.alarms(recipe)),
        manifests=reader.manifests(recipe),
        metrics=reader.metrics(recipe),
        prompts=reader.prompts(recipe),
        answers={score.model: reader.answers(score.model, recipe) for score in verdict.scores if answers},
        gaps=tuple(reader.files.gaps),
        judges_paid={judge: cost for judge in get_args(Judge) if (cost := paid(judge, run_folder)) is not None},
        rounds=reader.rounds(),
    )


def _read_verdict(path: Path) -> Verdict:
    if not path.is_file():
        raise InputError(f"{path} does not exist: a report needs a verdict; finish the run first (`limbeck run`)")
    return read_record(path, Verdict)


class _Reader:
    """What lies where in a run folder."""

    def __init__(self, files: OptionalFiles) -> None:
        self.files = files

    def manifests(self, recipe: Recipe) -> dict[str, Manifest]:
        """Manifests by unit, in the order of a run and its models; a unit folder without one is a gap."""
        found = {}
        for name in _units(recipe):
            folder = self.files.at(name)
            if not folder.is_dir():
                continue
            manifest = read_manifest(folder)
            if manifest is None:
                self.files.gaps.append(Gap("cost", f"{name}/{MANIFEST}"))
            else:
                found[name] = manifest
        return found

    def audit(self) -> Audit | None:
        """What the audit of the pairs found."""
        path = "audit/audit.json"
        return read_record(self.files.at(path), Audit) if self.files.has("pairs", path) else None

    def rounds(self) -> RoundsRecord | None:
        """What further rounds gained, where there were to be some."""
        path = self.files.at("rounds/rounds.json")
        return read_record(path, RoundsRecord) if path.is_file() else None

    def alarms(self, recipe: Recipe) -> list[Alarm]:
        """The alarms that units left; those of the audit stand in its own record."""
        folders = [unit for unit in _units(recipe) if unit != "audit"]
        return [alarm for unit in folders for alarm in self.files.where_there(f"{unit}/alarms.jsonl", Alarm)]

    def metrics(self, recipe: Recipe) -> dict[str, tuple[Metric, ...]]:
        """Training curves by unit: SFT, then the recipe's arms, each after its first run, then the reward model."""
        units = [unit for unit in recipe.training_units() if recipe.rounds.number == 1 or unit != "sft"]
        found = {unit: self.files.records("training", f"{unit}/metrics.jsonl", Metric) for unit in units}
        reward = self.files.where_there("reward/metrics.jsonl", Metric)
        return found | ({"reward": reward} if reward else {})

    def prompts(self, recipe: Recipe) -> tuple[HeldOut, ...]:
        """Held-out prompts; transfer prompts are missed only where the recipe asks for some."""
        wants_transfer = recipe.corpus.tasks is not None and recipe.corpus.tasks.transfer > 0
        found = [HeldOut("test", row) for row in self.files.records("replies", "corpus/test.jsonl", PromptRow)]
        if wants_transfer or self.files.at("corpus/transfer.jsonl").is_file():
            rows = self.files.records("replies", "corpus/transfer.jsonl", PromptRow)
            found += [HeldOut("transfer", row) for row in rows]
        return tuple(found)

    def answers(self, model: str, recipe: Recipe) -> Answers:
        """A model's replies, the judgements of every judge that left some, and preferences where two were compared.

        Replies of somebody else's model, which the recipe knows by a file only, are not missed.
        """
        folder = f"evaluate/{model}"
        if model not in ("base", "sft", *recipe.arms) and not self.files.at(folder).is_dir():
            return Answers((), {}, {})
        replies = self.files.records("replies", f"{folder}/replies.jsonl", Reply)
        judgements: dict[Judge, dict[ReplyKey, Judgement]] = {}
        judge: Judge
        for judge in get_args(Judge):
            lines = self.files.where_there(f"{folder}/judgements_{judge}.jsonl", Judgement)
            if lines:
                judgements[judge] = {ReplyKey(line.prompt_id, line.sample_index): line for line in lines}
        preferred = self.files.where_there(f"compare/{model}/preferences.jsonl", Preference)
        preferences = {ReplyKey(line.prompt_id, line.sample_index): line for line in preferred}
        if replies and not judgements and not preferences and recipe.judged_by() != ("pairwise",):
            self.files.gaps.append(Gap("replies", f"{folder}/judgements_*.jsonl"))
        return Answers(replies, judgements, preferences)


def _units(recipe: Recipe) -> list[str]:
    """The recipe's units by the names of their folders, in the order of a run; other folders hold what has left it.

    Of a round's recipe those of that round alone: what all rounds share is told of in the run's own report.
    """
    kinds, arms = recipe.pair_kinds(), recipe.arms
    units = ["corpus", "retain", "sft", *_mining_units(recipe), *(("screen",) if kinds else ())]
    units += ["reward"] if "reward" in recipe.reward_units() else []
    units += [*(("export",) if kinds else ()), *(f"mix/{arm}" for arm in arms), *(("audit",) if kinds else ())]
    for trains in ("dpo", "sft"):
        own = [arm for arm, settings in arms.items() if settings.trains == trains]
        units += [unit for arm in own if (unit := recipe.first_run_unit(arm))] + [recipe.arm_unit(arm) for arm in own]
    units += [*_judging_units(recipe), "verdict"]
    trained = unit_going_on(recipe.rounds, recipe.arms)
    return [unit for unit in units if lies_at(unit, recipe.rounds.number, trained) == unit]


def _mining_units(recipe: Recipe) -> list[str]:
    if not recipe.mines():
        return []
    learned_here = ("reward_mine",) if "reward_mine" in recipe.reward_units() else ()
    branching = ("branch",) if "divergence" in recipe.pair_kinds() else ()
    return [*learned_here, "mine", *branching, "teach"]


def _judging_units(recipe: Recipe) -> list[str]:
    models = ("base", "sft", *recipe.arms)
    against = () if recipe.evaluate.against is None else ("evaluate/against",)
    units = [*(f"evaluate/{model}" for model in models), *against]
    if any(arm.trains == "dpo" for arm in recipe.arms.values()):
        units += [f"heldout_pairs/{model}" for model in models]
    return units + [f"compare/{model}" for model in models if "pairwise" in recipe.judged_by() and model != "sft"]
