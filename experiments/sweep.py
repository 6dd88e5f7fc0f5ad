"""A sweep: the runs of one recipe under several seeds, and each arm beside SFT and beside the control."""

import math
from dataclasses import dataclass
from pathlib import Path

from limbeck import conductor, pipeline, seeds
from limbeck.commands.compared import read_run
from limbeck.errors import InputError
from limbeck.lm.names import model_folder
from limbeck.manifest import read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe
from limbeck.records.verdict import Comparison
from limbeck.stages.verdict.models import EXACT
from limbeck.stages.verdict.paired import Terms
from limbeck.stages.verdict.pooling import FinishedRun, Pooled, pool

RECIPES = Path(__file__).parent / "recipes"
RUNS = Path("runs") / "experiments"
CONTROL = "control"  # the arm that goes on with SFT on the same answers


@dataclass(frozen=True)
class Sweep:
    """A recipe's name, the seeds it is carried out with, overrides, and whether the test is opened."""

    name: str
    seeds: tuple[int, ...] = (1,)
    overrides: tuple[str, ...] = ()
    opens_test: bool = False
    runs: Path = RUNS

    def recipe(self, seed: int) -> Recipe:
        """The recipe under one seed.

        Raises:
            InputError: where there is no recipe of that name.
        """
        path = RECIPES / f"{self.name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
            raise InputError(f"no experiment {self.name!r}; there are {known}")
        overrides = (*self.overrides, f"seed={seed}")
        recipe = load_recipe(path, overrides)
        if recipe.corpus.tasks is None:  # only built-in problems have a part to make choices on
            return recipe
        split = "test" if self.opens_test else "validation"
        return load_recipe(path, (*overrides, f"evaluate.on={split}"))

    def folder(self, seed: int) -> Path:
        """The run of one seed; recipes that name the same run share everything before their arms."""
        return self.runs / f"{self.recipe(seed).name}-seed{seed}"


@dataclass(frozen=True)
class ArmResult:
    """One arm over all seeds. `rates`, a seed each: of problems solved, or of comparisons with SFT that a learned judge
    says were won. `tokens`: trained on, a seed, in the mean. `to_control` is None of the control itself, and where
    there is none.
    """

    arm: str
    rates: tuple[float, ...]
    to_sft: Pooled
    to_control: Pooled | None
    tokens: float
    seconds: float


def carry_out(sweep: Sweep) -> None:
    """Run every seed; what is fresh is not done again."""
    for seed in sweep.seeds:
        recipe = sweep.recipe(seed)
        pipeline.check(recipe)
        conductor.run(recipe, model_folder(recipe.model.student), sweep.folder(seed))


def results(sweep: Sweep) -> list[ArmResult]:
    """Read what came of it by the judge named first, best arm first, by the gain over SFT over all seeds.

    Raises:
        RunFolderError: where a run is not finished.
    """
    read = [read_run(sweep.folder(seed)) for seed in sweep.seeds]
    recipe, runs = read[0][0], [run for _, run in read]
    arms, judge = list(recipe.arms), recipe.judged_by()[0]
    settings = recipe.evaluate
    terms = Terms(seeds.derive(recipe.seed, "experiments"), settings.ties, settings.confidence, family=len(arms))
    to_sft = {one.together.candidate: one for one in pool(runs, arms, judge, terms)}
    others = [arm for arm in arms if arm != CONTROL] if CONTROL in arms else []
    to_control = {one.together.candidate: one for one in pool(runs, others, judge, terms, CONTROL)} if others else {}
    found = [
        ArmResult(
            arm,
            tuple(_rate(run, arm, judge, by_run) for run, by_run in zip(runs, to_sft[arm].by_run, strict=True)),
            to_sft[arm],
            to_control.get(arm),
            *_spent(sweep, recipe, arm),
        )
        for arm in arms
        if arm in to_sft
    ]
    return sorted(found, key=lambda one: -one.to_sft.together.gain)


def _rate(run: FinishedRun, arm: str, judge: str, to_sft: Comparison | None) -> float:
    """Share of the compared prompts' replies that are right, or by a learned judge better than those of SFT."""
    if judge != EXACT:
        return math.nan if to_sft is None else to_sft.win_rate.estimate
    asked = {row.id for row in run.rows}
    judged = run.models[arm].judgements[judge].items()
    solved = [bool(each.solved) for (prompt, _), each in judged if prompt in asked and each.score is not None]
    return sum(solved) / len(solved)


def _spent(sweep: Sweep, recipe: Recipe, arm: str) -> tuple[float, float]:
    """Tokens and seconds of an arm's own training, both runs where it has two; means over seeds."""
    names = [name for name in (recipe.first_run_unit(arm), recipe.arm_unit(arm)) if name is not None]
    manifests = [read_manifest(sweep.folder(seed) / name) for seed in sweep.seeds for name in names]
    done = [manifest for manifest in manifests if manifest is not None]
    tokens = sum(manifest.result.tokens.get("trained", 0) for manifest in done)
    return tokens / len(sweep.seeds), sum(manifest.seconds for manifest in done) / len(sweep.seeds)
