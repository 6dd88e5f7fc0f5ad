"""Find the prompts the student fails (paper step 4), and as many drawn at random, as a control.

Reads: `student` (model; a served one can do without), `pool` (prompts; of one with follow-ups the first turn), and
    `reward_model` (a reward model trained here) where it judges. In a further round `asked_1` ... (the replies of the
    rounds before), and `judging` (the pairs that its judge learnt from).
Writes: `weak.jsonl`, `random.jsonl` (weak prompts with the failing and the right replies), `replies.jsonl`,
    `judgements.jsonl`.
Start reading at: `run`, then `weak_prompts`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

from limbeck import seeds
from limbeck.console import say
from limbeck.errors import InputError, NothingFailsError, in_words
from limbeck.judges import Exchange, Judge, judge_store, make_judge
from limbeck.judges.protocol import unscored
from limbeck.likeness import opening
from limbeck.lm.generate import Sampling
from limbeck.lm.machine import release
from limbeck.lm.replies import Replies
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.mine import Mine
from limbeck.records import Judgement, Pair, PromptRow, Reply, WeakPrompt
from limbeck.store import read_records, write_records
from limbeck.students.choice import student_for

NOBODY = "nobody (rule all)"
ASKED = "asked_"
THE_JUDGES = "same prompt as a pair that a judge learnt from"
CUT = "failing reply cut off, so no rejected response"
ON_WEAK_PROMPTS = frozenset(
    {"zero_shot", "few_shot", "revise", "on_policy", "own", "reference", "divergence", "contrast"}
)


class _Judged(NamedTuple):
    """Judgements of the replies in their order, and of the reference responses by prompt, where the rule asks."""

    judgements: list[Judgement]
    references: dict[str, float | None]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str = "sft") -> StageResult:
    """Ask the student every pool prompt `mine.samples_per_prompt` times, judge, and order what it fails at random.

    The control is a uniform draw from the whole pool, of the same size (or what the arms may need, if more). Both keep
    whole failing replies, and those that a verifier calls right. `model`: the student's name, for its server.

    Raises:
        TeacherError: where the student's server or the judge is out of reach.
        InputError: where the pool is empty, or none of it can be asked or judged.
        NothingFailsError: where the student fails none, so that there is nothing to mine.
    """
    pool = read_records(inputs["pool"], PromptRow)
    _see_pool(pool, recipe)
    rng = seeds.rng(recipe.seed, "mine")
    open_to_all = _without_the_judges(pool, inputs)
    rows = _drawn(open_to_all, _asked_before(inputs), recipe.mine.max_prompts, rng)
    settings = settled(recipe, rows)
    if settings.rule == "all":
        say("  mining: nobody judges the student's replies here, so every prompt asked counts as weak")
    student = student_for(model, recipe, inputs.get("student"))
    student.check()
    sampling = Sampling.of(recipe.mine, seeds.derive(recipe.seed, "mine replies"))
    label, samples = "mining: student's replies", recipe.mine.samples_per_prompt
    asked = student.ask(rows, sampling, recipe.model, out / "replies.jsonl", label, samples)
    _see_asked(rows, asked)
    by_id = {row.id: row for row in rows}
    answered = [(by_id[reply.prompt_id], reply) for reply in asked.replies]
    facts = student.facts()
    del student  # a judge that lies here must not lie beside it
    release()
    judgements, references = _judge(settings, recipe, answered, inputs.get("reward_model"), out)
    write_records(out / "judgements.jsonl", judgements)
    failed = weak_prompts(settings, judgements, references)
    mined = mined_prompts(settings, answered, judgements, references, failed)
    weak = [row for row in mined if row.id in failed]
    if judgements and all(judgement.score is None for judgement in judgements) and settings.rule != "all":
        raise InputError(f"the judge {settings.judge} scored none of the {len(judgements):,} replies, so nothing says "
                         f"which prompts are weak; the first: {judgements[0].unscored_reason}")  # fmt: skip
    if not weak and recipe.pair_kinds().keys() & ON_WEAK_PROMPTS:
        asked_for = f"the student fails none of the {len(mined)} pool prompts"
        raise NothingFailsError(f"{asked_for}: nothing to mine; make them harder")
    rng.shuffle(weak)
    control = list(mined)
    rng.shuffle(control)
    write_records(out / "weak.jsonl", weak)
    control = control[: max(len(weak), recipe.max_candidates("random"))]
    write_records(out / "random.jsonl", control)
    cut = sum(not row.failures for row in weak)
    drops = {CUT: cut, THE_JUDGES: len(pool) - len(open_to_all)}
    drops["unscored"] = 0 if settings.judge is None else sum(judgement.score is None for judgement in judgements)
    return StageResult(
        counts_in={"pool": len(pool), "asked": len(rows)},
        counts_out={"weak": len(weak), "random": len(control)},
        drops=asked.drops | {reason: number for reason, number in drops.items() if number},
        tokens={"sampled": asked.tokens},
        facts={"rule": settings.rule, "judge": settings.judge or NOBODY,
               "fail_rate": round(len(weak) / max(len(_by_prompt(judgements)), 1), 4) if settings.judge else None,
               "weak_with_a_right_reply": sum(bool(row.successes) for row in weak),
               "truncated": sum(reply.finish_reason == "length" for reply in asked.replies)} | facts,
    )  # fmt: skip


def _see_pool(pool: Sequence[PromptRow], recipe: Recipe) -> None:
    """Refuse a pool without prompts, or without one that the verifier can judge where it is to."""
    if pool and recipe.mining().judge == "verifier" and not any(row.problem for row in pool):
        raise InputError("no prompt of the pool is a built-in problem or has a number as its answer, so the verifier "
                         "can judge none; name a reward model with mine.judge and mine.rule")  # fmt: skip
    if not pool and recipe.pair_kinds().keys() & (ON_WEAK_PROMPTS | {"random"}):
        raise InputError("the pool holds no prompt, so there is nothing to mine: what was left out of corpus.prompts, "
                         "and why, stands in the drops of corpus/manifest.json")  # fmt: skip


def _see_asked(rows: Sequence[PromptRow], asked: Replies) -> None:
    """Refuse prompts of which the student could be asked none: that it fails none would be untrue."""
    if rows and not asked.replies:
        why = in_words(asked.drops)
        raise InputError(f"none of the {len(rows):,} pool prompts could be asked: {why or 'no reply came'}")


def _without_the_judges(pool: list[PromptRow], inputs: Mapping[str, Path]) -> list[PromptRow]:
    """The pool without the prompts of the pairs that a judge learnt from, where there are such."""
    shut = {opening(pair) for pair in read_records(inputs["judging"], Pair)} if "judging" in inputs else set()
    return [row for row in pool if opening(row) not in shut] if shut else pool


def _asked_before(inputs: Mapping[str, Path]) -> set[str]:
    """The prompts that earlier rounds asked: ids of the replies in `asked_1`, `asked_2` ..."""
    return {reply.prompt_id for name in inputs if name.startswith(ASKED) for reply in read_records(inputs[name], Reply)}


def _drawn(pool: list[PromptRow], asked: Set[str], most: int, rng: Random) -> list[PromptRow]:
    """At most so many prompts: at random, those that were asked before only where the others are too few."""
    if len(pool) <= most:
        return pool
    say(f"  mining: of {len(pool):,} prompts {most:,} are asked, drawn at random (mine.max_prompts)")
    new = [row for row in pool if row.id not in asked]
    if len(new) >= most:
        return rng.sample(new, most)
    return new + rng.sample([row for row in pool if row.id in asked], most - len(new))


def settled(recipe: Recipe, rows: Sequence[PromptRow]) -> Mine:
    """The recipe's section with rule and judge filled in, now that it shows what the prompts are.

    Where neither is set and every prompt can be verified, the exact judge mines, whatever else there is.
    """
    rule, judge = recipe.mining()
    if rows and all(row.problem for row in rows) and (recipe.mine.rule, recipe.mine.judge) == (None, None):
        rule, judge = "failed", "verifier"
    elif rule is None:
        rule = "gap" if all(row.reference_response is not None for row in rows) else "bottom_quantile"
    return recipe.mine.model_copy(update={"rule": rule, "judge": judge})


def _judge(
    settings: Mine, recipe: Recipe, answered: Sequence[Exchange], reward_model: Path | None, out: Path
) -> _Judged:
    if settings.judge is None:
        return _Judged([unscored(reply, NOBODY) for _, reply in answered], {})
    judge = make_judge(settings.judge, recipe, store=judge_store(settings.judge, out), reward_model=reward_model)
    judgements = list(judge.judge(answered))
    return _Judged(judgements, _reference_scores(judge, answered) if settings.rule == "gap" else {})


def _reference_scores(judge: Judge, answered: Sequence[Exchange]) -> dict[str, float | None]:
    """Scores of the data set's own responses, each asked for once, for the rule `gap`."""
    references = {
        row.id: (row, reply.model_copy(update={"text": row.reference_response, "sample_index": 0}))
        for row, reply in answered
        if row.reference_response is not None
    }
    return {judgement.prompt_id: judgement.score for judgement in judge.judge(list(references.values()))}


def weak_prompts(
    settings: Mine, judgements: Sequence[Judgement], reference_scores: Mapping[str, float | None]
) -> set[str]:
    """Ids of the prompts that are weak under `mine.rule`, by all their replies; unscored replies say nothing.

    `failed`: the share of right replies is below `weak_below_pass_rate`. `gap`: the mean reward is below that of the
    data set's own chosen response (scores do not compare across prompts). `bottom_quantile`: the mean reward lies in
    the lowest part of all (the paper's rule). `all`: every one is.
    """
    if settings.rule == "all":
        return {judgement.prompt_id for judgement in judgements}
    scored = _by_prompt(judgements)
    if settings.rule in {None, "failed"}:
        rates = {id_: fmean(bool(judgement.solved) for judgement in mine) for id_, mine in scored.items()}
        return {id_ for id_, rate in rates.items() if rate < settings.weak_below_pass_rate}
    means = {id_: _mean_score(mine) for id_, mine in scored.items()}
    if settings.rule == "gap":
        return {
            id_
            for id_, mean in means.items()
            if (reference := reference_scores.get(id_)) is not None and mean < reference
        }
    ordered = sorted(means, key=lambda id_: means[id_])  # of equals, the one that was asked first
    return set(ordered[: max(1, round(settings.bottom_quantile * len(ordered)))])  # of few prompts the lowest at least


def _by_prompt(judgements: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    scored: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.score is not None:
            scored[judgement.prompt_id].append(judgement)
    return dict(scored)


def _mean_score(judgements: Sequence[Judgement]) -> float:
    return fmean(judgement.score for judgement in judgements if judgement.score is not None)


def mined_prompts(
    settings: Mine,
    answered: Sequence[tuple[PromptRow, Reply]],
    judgements: Sequence[Judgement],
    reference_scores: Mapping[str, float | None],
    weak: Set[str],
) -> list[WeakPrompt]:
    """Every prompt once, in the order it was asked, with its failing and its right replies: whole ones, none twice.

    By a verifier, both are what it says. By a reward, the failing replies of a weak prompt are those below its
    reference (`gap`), or not above its own mean (`bottom_quantile`), and none is called right. By nobody (`all`) every
    reply is taken to fail.
    """
    limits = reference_scores if settings.rule == "gap" else {
        id_: _mean_score(scored) for id_, scored in _by_prompt(judgements).items()
    }  # fmt: skip
    rows: dict[str, PromptRow] = {}
    failures: defaultdict[str, list[str]] = defaultdict(list)
    successes: defaultdict[str, list[str]] = defaultdict(list)
    for (row, reply), judgement in zip(answered, judgements, strict=True):
        rows[row.id] = row
        # A cut reply would get an end of turn that the student never wrote.
        if reply.finish_reason != "stop":
            continue
        if settings.rule == "all":
            failures[row.id].append(reply.text)
        elif judgement.score is None:
            continue
        elif settings.rule in {None, "failed"}:
            (successes if judgement.solved else failures)[row.id].append(reply.text)
        elif row.id in weak and _below(judgement.score, limits[row.id], strictly=settings.rule == "gap"):
            failures[row.id].append(reply.text)
    return [
        WeakPrompt(
            **dict(row), failures=tuple(dict.fromkeys(failures[id_])), successes=tuple(dict.fromkeys(successes[id_]))
        )
        for id_, row in rows.items()
    ]


def _below(score: float, limit: float | None, *, strictly: bool) -> bool:
    return limit is not None and (score < limit if strictly else score <= limit)
