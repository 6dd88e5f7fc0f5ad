"""Find the prompts the student fails (paper step 4), and as many drawn at random, as a control.

Reads: `student` (model; a served one can do without), `pool` (prompts), and what the judge needs.
Writes: `weak.jsonl`, `random.jsonl` (weak prompts with the failing replies), `replies.jsonl`, `judgements.jsonl`.
Start reading at: `run`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck import seeds
from limbeck.api.reply_store import FILE_NAME
from limbeck.errors import InputError
from limbeck.judges import make_judge
from limbeck.lm.generate import Sampling
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Judgement, PromptRow, Reply, WeakPrompt
from limbeck.store import read_records, write_records
from limbeck.students.choice import student_for

CUT = "failing reply cut off, so no rejected response"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str = "sft") -> StageResult:
    """Ask the student every pool prompt once, judge, and order failures uniformly at random.

    The control is a uniform draw from the whole pool, weak or not, of the same size (or what the arms need, if more).
    Both keep whole failing replies. `model` is the student's name, by which it may have a server.

    Raises:
        TeacherError: where the student's server or the judge is out of reach.
        InputError: where the judge can judge none, or the student fails none, so that there is nothing to mine.
    """
    pool = read_records(inputs["pool"], PromptRow)
    if recipe.mine.judge == "verifier" and not any(row.problem for row in pool):
        raise InputError("no prompt of the pool is a built-in problem, so the verifier can judge none; name a reward "
                         "model with mine.judge and mine.rule")  # fmt: skip
    rng = seeds.rng(recipe.seed, "mine")
    rows = pool if len(pool) <= recipe.mine.max_prompts else rng.sample(pool, recipe.mine.max_prompts)
    student = student_for(model, recipe, inputs.get("student"))
    student.check()
    sampling = Sampling.of(recipe.mine, seeds.derive(recipe.seed, "mine replies"))
    asked = student.ask(rows, sampling, recipe.model, out / "replies.jsonl", "mining: student's replies")
    by_id = {row.id: row for row in rows}
    answered = [(by_id[reply.prompt_id], reply) for reply in asked.replies]
    judgements = _judge(recipe, answered, out)
    write_records(out / "judgements.jsonl", judgements)
    failed = weak_places(recipe, judgements, _reference_scores(recipe, answered, out))
    weak = [_weak(row, reply, failed=True) for place_, (row, reply) in enumerate(answered) if place_ in failed]
    if not weak and recipe.pair_kinds().keys() & {"zero_shot", "few_shot", "on_policy"}:
        raise InputError(
            f"the student fails none of the {len(answered)} pool prompts: nothing to mine; make them harder"
        )
    rng.shuffle(weak)
    control = [_weak(row, reply, failed=place_ in failed) for place_, (row, reply) in enumerate(answered)]
    rng.shuffle(control)
    write_records(out / "weak.jsonl", weak)
    control = control[: max(len(weak), recipe.pairs_to_ask("random"))]
    write_records(out / "random.jsonl", control)
    cut = sum(not row.failures for row in weak)
    unscored = sum(judgement.score is None for judgement in judgements)
    return StageResult(
        counts_in={"pool": len(pool), "asked": len(rows)},
        counts_out={"weak": len(weak), "random": len(control)},
        drops=asked.drops | {reason: count for reason, count in (("unscored", unscored), (CUT, cut)) if count},
        tokens={"sampled": asked.tokens},
        facts={"fail_rate": round(len(weak) / max(len(answered) - unscored, 1), 4),
               "truncated": sum(reply.finish_reason == "length" for reply in asked.replies)} | student.facts(),
    )  # fmt: skip


def _judge(recipe: Recipe, answered: Sequence[tuple[PromptRow, Reply]], out: Path) -> list[Judgement]:
    judge = make_judge(recipe.mine.judge, recipe, store=out / FILE_NAME)
    return list(judge.judge(answered))


def _reference_scores(
    recipe: Recipe, answered: Sequence[tuple[PromptRow, Reply]], out: Path
) -> dict[str, float | None]:
    """Scores of the data set's own responses, for the rule `gap`."""
    if recipe.mine.rule != "gap":
        return {}
    references = [
        (row, reply.model_copy(update={"text": row.reference_response}))
        for row, reply in answered
        if row.reference_response is not None
    ]
    return {judgement.prompt_id: judgement.score for judgement in _judge(recipe, references, out)}


def weak_places(
    recipe: Recipe, judgements: Sequence[Judgement], reference_scores: Mapping[str, float | None]
) -> set[int]:
    """Places of the judgements that count as weak under `mine.rule`; unscored ones never do.

    `gap`: the reply's reward is below that of the data set's own chosen response (scores do not compare across
    prompts). `bottom_quantile`: the reward lies in the lowest part of all (the paper's rule).
    """
    scored = [(place_, judgement) for place_, judgement in enumerate(judgements) if judgement.score is not None]
    if recipe.mine.rule == "failed":
        return {place_ for place_, judgement in scored if not judgement.solved}
    if recipe.mine.rule == "gap":
        return {
            place_
            for place_, judgement in scored
            if (reference := reference_scores.get(judgement.prompt_id)) is not None
            and (judgement.score or 0.0) < reference
        }
    ordered = sorted(scored, key=lambda entry: (entry[1].score, entry[0]))
    return {place_ for place_, _ in ordered[: round(recipe.mine.bottom_quantile * len(ordered))]}


def _weak(row: PromptRow, reply: Reply, *, failed: bool) -> WeakPrompt:
    whole = reply.finish_reason == "stop"  # a cut reply would get an end of turn that the student never wrote
    return WeakPrompt(**dict(row), failures=(reply.text,) if failed and whole else ())
