"""What iterated runs gained: every round's model against the last one's and against SFT, on the same prompts.

Reads: `test` (prompts), `sft/...` and `round_K/...`: `replies`, `judgements_JUDGE`, and of every round `verdict`
(its verdict.json) and `made/UNIT` (manifests).
Writes: `rounds.json` (RoundsRecord).
Start reading at: `run`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.manifest import Manifest, StageResult, read_manifest
from limbeck.recipe import Recipe
from limbeck.recipe.rounds import arm_going_on
from limbeck.records import Estimate, PromptRow
from limbeck.records.rounds import Round, RoundsRecord, Stopped
from limbeck.records.verdict import ModelScore, Verdict
from limbeck.stages.verdict.comparing import rows_of
from limbeck.stages.verdict.models import BASELINE, EXACT, PAIRWISE, Asked, asked_of, read_model
from limbeck.stages.verdict.paired import Terms, difference_of
from limbeck.store import read_record, read_records, write_json

_WHY: dict[Stopped, str] = {
    "all": "all {asked} rounds were made",
    "unclear": "round {last} did not clearly gain on the model before it: its {confidence:g} % interval holds zero",
    "worse": "round {last} did worse than the model before it: its {confidence:g} % interval lies below zero",
    "unscored": "no prompt was scored both for round {last} and for the model before it",
    "budget": "the teacher's budget ended in round {next}",
    "nothing_fails": "in round {next} the student failed none of the prompts that it was asked",
    "too_few": "in round {next} there were fewer pairs than the arm asks for (and mix.take_fewer is false), or none of "
    "a kind to train on",
}
_LOOKED = (
    "whether to go on was decided on the test prompts after every round, so the last clear gain is a little flattered, "
    "and no interval here is corrected for the number of looks"
)
_NO_LOOK = "intervals are not corrected for the number of rounds"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, stopped: str) -> StageResult:
    """Add up the rounds among the inputs; `stopped` is why there are no more (`records_rounds.Stopped`).

    Raises:
        InputError: where a file is not what it should be.
    """
    (why,) = [known for known in get_args(Stopped) if known == stopped]
    numbers = sorted(int(name.split("/")[0].removeprefix("round_")) for name in inputs if name.endswith("/verdict"))
    rows = read_records(inputs["test"], PromptRow)
    asked = asked_of(rows, recipe.evaluate.samples_per_prompt)
    found = tuple(_round(number, recipe, inputs, asked) for number in numbers)
    record = RoundsRecord(
        arm=arm_going_on(recipe.rounds, recipe.arms),
        judge=recipe.judged_by()[0],
        confidence=recipe.evaluate.confidence,
        asked_for=recipe.rounds.count,
        rounds=found,
        stopped=why,
        why=_say_why(why, numbers[-1], recipe),
        limits=(_LOOKED if recipe.rounds.stop_when_unclear else _NO_LOOK,),
    )
    write_json(out / "rounds.json", record.model_dump(mode="json"))
    return StageResult(
        counts_in={"prompts": len(rows)}, counts_out={"rounds": len(found)}, facts={"stopped": record.why}
    )


def _say_why(stopped: Stopped, last: int, recipe: Recipe) -> str:
    confidence = 100 * recipe.evaluate.confidence
    return _WHY[stopped].format(asked=recipe.rounds.count, last=last, next=last + 1, confidence=confidence)


def _round(number: int, recipe: Recipe, inputs: Mapping[str, Path], asked: Asked) -> Round:
    name, judge = f"round_{number}", recipe.judged_by()[0]
    arm = arm_going_on(recipe.rounds, recipe.arms)
    verdict = read_record(inputs[f"{name}/verdict"], Verdict)
    against_last = verdict.of(arm, BASELINE, judge)
    gain = None if against_last is None else against_last.difference
    made = _made(name, inputs)
    return Round(
        number=number,
        model=f"{'' if number == 1 else f'rounds/{number}/'}{recipe.arm_unit(arm)}/model",
        score=_score(arm, verdict, judge),
        gain=gain,
        gain_over_sft=gain if number == 1 else _over_sft(name, judge, recipe, inputs, asked),
        pairs=_pairs(made[f"mix/{arm}"]),
        usd=made["teach"].result.facts.get("replies_usd"),
        seconds=round(sum(manifest.seconds for manifest in made.values()), 2),
    )


def _made(name: str, inputs: Mapping[str, Path]) -> dict[str, Manifest]:
    prefix = f"{name}/made/"
    folders = {key.removeprefix(prefix): path.parent for key, path in inputs.items() if key.startswith(prefix)}
    found = {unit: read_manifest(folder) for unit, folder in folders.items()}
    missing = [unit for unit, manifest in found.items() if manifest is None]
    if missing:
        raise InputError(f"{folders[missing[0]]} is not finished: run the same command again")
    return {unit: manifest for unit, manifest in found.items() if manifest is not None}


def _pairs(mixed: Manifest) -> int:
    """What the arm trains on, the first run of a `sequential` one included."""
    return sum(mixed.result.counts_out.get(name, 0) for name in ("train", "first"))


def _score(arm: str, verdict: Verdict, judge: str) -> Estimate | None:
    (score,) = [score for score in verdict.scores if score.model == arm]
    return _by(score, judge)


def _by(score: ModelScore, judge: str) -> Estimate | None:
    return score.accuracy if judge == EXACT else None if judge == PAIRWISE else score.mean_reward


def _over_sft(name: str, judge: str, recipe: Recipe, inputs: Mapping[str, Path], asked: Asked) -> Estimate | None:
    if judge == PAIRWISE:
        return None
    sft, student = read_model("sft", inputs, recipe), read_model(name, inputs, recipe)
    both = rows_of(sft, student, judge, asked).scored()
    seed = seeds.derive(recipe.seed, "rounds", judge)
    terms = Terms(seed, recipe.evaluate.ties, recipe.evaluate.confidence)
    return difference_of(both, terms) if both.prompts else None
