"""The stage's work: one model asked, judged, and measured for what is left of its chat."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.judges import Exchange, judge_store, make_judge
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import Demonstration, PromptRow
from limbeck.stages.evaluate.given import NOTHING, given_replies
from limbeck.store import read_records, refuse_repeated, write_json, write_records
from limbeck.turns import every_turn


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str) -> StageResult:
    """Sample, judge, and measure chat retention of one model, called `model`.

    Where there are `responses`, nobody is asked: these are its replies, of one called `against` one a prompt.

    Raises:
        InputError: where the only judge can judge none of the prompts.
        TeacherError: where the model's server or a judge is out of reach for good.
    """
    rows = [row for name in ("test", "transfer") if name in inputs for row in read_records(inputs[name], PromptRow)]
    if recipe.judged_by() == ("verifier",) and not any(row.problem for row in rows):
        raise InputError("no held-out prompt is a built-in problem or has a number as its answer, so the verifier can "
                         "judge none; name another judge")  # fmt: skip
    refuse_repeated([turn.row.id for turn in every_turn(rows)], "prompt")
    if "responses" in inputs:
        return _run_given(recipe, inputs, out, rows, every=model != AGAINST)
    return _run_asked(recipe, inputs, out, rows, model)


def _run_asked(
    recipe: Recipe, inputs: Mapping[str, Path], out: Path, rows: Sequence[PromptRow], model: str
) -> StageResult:
    # Only here is a model asked: replies that are there already are judged without torch.
    from limbeck.lm.generate import Sampling
    from limbeck.lm.machine import release
    from limbeck.stages.evaluate.asking import ask_every_turn, finish
    from limbeck.stages.evaluate.retaining import retention
    from limbeck.students.choice import student_for

    student = student_for(model, recipe, inputs.get("model"))
    student.check()
    sampling = Sampling.of(recipe.evaluate, seeds.derive(recipe.seed, "evaluate"))
    asked = ask_every_turn(student, rows, sampling, recipe, out / "replies.jsonl", f"evaluating {model}")
    chat = read_records(inputs["chat_heldout"], Demonstration) if "chat_heldout" in inputs else []
    write_json(out / "retention.json", retention(student, chat, recipe, out))
    facts = {"tokens_per_second": round(asked.tokens_per_second, 1)} | student.facts()
    del student  # a judge that lies here must not lie beside it
    release()
    unscored = _judge(recipe, asked.exchanges, inputs, out)
    finish(out / "replies.jsonl")
    return StageResult(
        counts_in={"prompts": len(rows), "chat": len(chat)},
        counts_out={"replies": len(asked.exchanges)},
        drops=asked.drops | unscored,
        tokens={"sampled": asked.tokens},
        facts=facts,
    )


def _run_given(
    recipe: Recipe, inputs: Mapping[str, Path], out: Path, rows: Sequence[PromptRow], *, every: bool
) -> StageResult:
    given = given_replies(rows, inputs["responses"], out / "replies.jsonl", every=every)
    unscored = _judge(recipe, given.exchanges, inputs, out)
    write_json(out / "retention.json", NOTHING)
    return given.result.model_copy(update={"drops": given.result.drops | unscored})


def _judge(recipe: Recipe, exchanges: Sequence[Exchange], inputs: Mapping[str, Path], out: Path) -> dict[str, int]:
    """Write each judge's judgements; returns how many could not be scored. `pairwise` judges no reply by itself."""
    unscored: Counter[str] = Counter()
    for name in recipe.judged_by():
        if name == "pairwise":
            continue
        judge = make_judge(name, recipe, store=judge_store(name, out), reward_model=inputs.get("reward_model"))
        judgements = list(judge.judge(exchanges))
        write_records(out / f"judgements_{name}.jsonl", judgements)
        unscored[f"{name}: unscored"] = sum(judgement.score is None for judgement in judgements)
    return {reason: number for reason, number in unscored.items() if number}
