"""The answer: what each model achieved on the same held-out prompts, compared with the SFT baseline pair by pair.

Reads: `test`, `transfer` (prompts) and, for each model, `<model>/replies`, `<model>/judgements_<judge>`,
`<model>/retention`.
Writes: `verdict.json`.
Start reading at: `run`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Comparison, Estimate, HeldOutSplit, Judgement, ModelScore, PromptRow, Reply, Verdict
from limbeck.statistics import (
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_difference,
    proportion,
    repetition_rate,
    sign_test,
    win_rate,
)
from limbeck.store import read_records, write_json

BASELINE = "sft"


@dataclass(frozen=True)
class _Model:
    """One model's replies and judgements, by prompt id."""

    name: str
    replies: Mapping[str, Reply]
    judgements: Mapping[str, Mapping[str, Judgement]]
    nats_per_token: float | None
    chat_repetition_rate: float | None


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Score every model, compare each with the baseline, correct for the number of arms, and say it in one sentence.

    Raises:
        InputError: where there is no prompt to judge by, which is an error and not a score of zero.
    """
    rows = {split: read_records(inputs[split], PromptRow) if split in inputs else [] for split in ("test", "transfer")}
    if not rows["test"]:
        raise InputError("no held-out prompt to judge by: ask for corpus.tasks.test or give [[corpus.evaluation]]")
    names = sorted({name.rpartition("/")[0] for name in inputs if name.endswith("/replies")})
    order = ["base", BASELINE, *recipe.arms]
    models = [_read(name, inputs, recipe) for name in sorted(names, key=order.index)]
    comparisons: list[Comparison] = []
    for judge in recipe.evaluate.judges:
        comparisons += compare_all(models, judge, "test", rows["test"], recipe)
        comparisons += compare_all(models, judge, "transfer", rows["transfer"], recipe)
    scores = tuple(score_model(model, rows["test"], rows["transfer"], recipe) for model in models)
    verdict = Verdict(
        sentence=say_verdict(scores, comparisons, recipe),
        confidence=recipe.evaluate.confidence,
        scores=scores,
        comparisons=tuple(comparisons),
    )
    write_json(out / "verdict.json", verdict.model_dump(mode="json"))
    return StageResult(
        counts_in={"models": len(models), "prompts": len(rows["test"]), "transfer": len(rows["transfer"])},
        counts_out={"comparisons": len(comparisons)},
        facts={"sentence": verdict.sentence},
    )


def _read(name: str, inputs: Mapping[str, Path], recipe: Recipe) -> _Model:
    kept = json.loads(inputs[f"{name}/retention"].read_text(encoding="utf-8"))
    judgements: dict[str, dict[str, Judgement]] = {
        judge: {j.prompt_id: j for j in read_records(inputs[f"{name}/judgements_{judge}"], Judgement)}
        for judge in recipe.evaluate.judges
    }
    replies = {reply.prompt_id: reply for reply in read_records(inputs[f"{name}/replies"], Reply)}
    return _Model(name, replies, judgements, kept["nats_per_token"], kept["repetition_rate"])


def _scores(model: _Model, judge: str, rows: Sequence[PromptRow]) -> list[float | None]:
    """A score a prompt: 1 or 0 from the verifier (solved or not), the reward otherwise, None where unscored."""
    found = [model.judgements[judge].get(row.id) for row in rows]
    if judge == "verifier":
        return [None if j is None or j.solved is None else float(j.solved) for j in found]
    return [None if j is None else j.score for j in found]


def score_model(model: _Model, test: Sequence[PromptRow], transfer: Sequence[PromptRow], recipe: Recipe) -> ModelScore:
    """What one model achieved. Accuracies are over all prompts scored, truncated and unparsable replies included."""
    exact = "verifier" in recipe.evaluate.judges
    replies = [model.replies[row.id] for row in test if row.id in model.replies]
    judged = model.judgements["verifier" if exact else recipe.evaluate.judges[0]]
    topics = {topic: [row for row in test if row.topic == topic] for topic in sorted({row.topic for row in test})}
    rates = [rate for reply in replies if (rate := repetition_rate(reply.text)) is not None]
    tokens = [reply.num_tokens for reply in replies if reply.num_tokens is not None]
    rewards = [judge for judge in recipe.evaluate.judges if judge != "verifier"]
    return ModelScore(
        model=model.name,
        accuracy=_accuracy(model, test, recipe) if exact else None,
        transfer_accuracy=_accuracy(model, transfer, recipe) if exact and transfer else None,
        accuracy_by_topic={
            topic: found
            for topic, rows in topics.items()
            if exact and (found := _accuracy(model, rows, recipe)) is not None
        },
        mean_reward=_mean(model, rewards[0], test, recipe) if rewards else None,
        num_replies=len(replies),
        unparsable=sum(not judged[reply.prompt_id].parsed for reply in replies),
        truncated=sum(reply.finish_reason == "length" for reply in replies),
        unscored=sum(score is None for judge in recipe.evaluate.judges for score in _scores(model, judge, test)),
        mean_response_tokens=sum(tokens) / len(tokens) if tokens else None,
        repetition_rate=sum(rates) / len(rates) if rates else 0.0,
        chat_repetition_rate=model.chat_repetition_rate,
        retention_nats_per_token=model.nats_per_token,
    )


def _accuracy(model: _Model, rows: Sequence[PromptRow], recipe: Recipe) -> Estimate | None:
    scores = [score for score in _scores(model, "verifier", rows) if score is not None]
    if not scores:
        return None
    found = proportion(int(sum(scores)), len(scores), recipe.evaluate.confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.n)


def _mean(model: _Model, judge: str, rows: Sequence[PromptRow], recipe: Recipe) -> Estimate | None:
    scores = [score for score in _scores(model, judge, rows) if score is not None]
    if not scores:
        return None
    found = paired_difference(
        [0.0] * len(scores),
        scores,
        seed=seeds.derive(recipe.seed, "mean", judge),
        confidence=recipe.evaluate.confidence,
    )
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def compare_all(
    models: Sequence[_Model], judge: str, split: HeldOutSplit, rows: Sequence[PromptRow], recipe: Recipe
) -> list[Comparison]:
    """Every model against the baseline on the same prompts; p-values of the arms are corrected together (Holm 1979).

    The base model is compared as well, but it is no arm: it does not take part in the correction.
    """
    baseline = next(model for model in models if model.name == BASELINE)
    others = [model for model in models if model.name != BASELINE]
    found = [c for model in others if (c := _compare(baseline, model, judge, split, rows, recipe)) is not None]
    arms = [comparison for comparison in found if comparison.candidate in recipe.arms]
    corrected = dict(zip((c.candidate for c in arms), holm([comparison.p_value for comparison in arms]), strict=True))
    return [c.model_copy(update={"p_value_holm": corrected.get(c.candidate, c.p_value)}) for c in found]


def _compare(
    baseline: _Model, candidate: _Model, judge: str, split: HeldOutSplit, rows: Sequence[PromptRow], recipe: Recipe
) -> Comparison | None:
    before, after = _scores(baseline, judge, rows), _scores(candidate, judge, rows)
    both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not both:
        return None
    b, a = [x for x, _ in both], [y for _, y in both]
    confidence = recipe.evaluate.confidence
    seed = seeds.derive(recipe.seed, "verdict", judge, split)
    difference = paired_difference(b, a, seed=seed, confidence=confidence)
    wins = win_rate(before, after, seed=seed, ties=recipe.evaluate.ties, confidence=confidence)
    exact = judge == "verifier"
    p_value = mcnemar_exact(b, a).p_value if exact else sign_test(b, a).p_value
    return Comparison(
        candidate=candidate.name,
        baseline=baseline.name,
        judge=judge,
        split=split,
        difference=Estimate(
            estimate=difference.estimate, low=difference.low, high=difference.high, n=difference.num_prompts
        ),
        win_rate=Estimate(estimate=wins.estimate, low=wins.low, high=wins.high, n=wins.num_prompts),
        wins=wins.wins,
        ties=wins.ties,
        losses=wins.losses,
        unscored=wins.unscored,
        p_value=p_value,
        p_value_holm=p_value,
        minimum_detectable_difference=minimum_detectable_difference(
            len(both), **_spread(b, a, exact=exact), alpha=(1 - confidence) / max(len(recipe.arms), 1)
        ),
    )


def _spread(b: Sequence[float], a: Sequence[float], *, exact: bool) -> dict[str, float]:
    differences = [y - x for x, y in zip(b, a, strict=True)]
    if exact:
        return {"discordant_rate": sum(d != 0 for d in differences) / len(differences)}
    mean = sum(differences) / len(differences)
    return {"sd": (sum((d - mean) ** 2 for d in differences) / max(len(differences) - 1, 1)) ** 0.5}


def say_verdict(scores: Sequence[ModelScore], comparisons: Sequence[Comparison], recipe: Recipe) -> str:
    """One sentence: from base to SFT, then the best arm against SFT, and how many arms helped or harmed."""
    judge = recipe.evaluate.judges[0]
    arms = [c for c in comparisons if c.judge == judge and c.split == "test" and c.candidate in recipe.arms]
    parts = [_say_sft(scores)] if judge == "verifier" else []
    helped = [c for c in arms if c.difference.low > 0 and c.p_value_holm < 1 - recipe.evaluate.confidence]
    harmed = [c for c in arms if c.difference.high < 0 and c.p_value_holm < 1 - recipe.evaluate.confidence]
    if arms:
        best = max(arms, key=lambda c: c.difference.estimate)
        verb = "improved on" if best in helped else "did worse than" if best in harmed else "did not clearly improve on"
        parts.append(
            f"the best of {len(arms)} {_training(recipe)}arm{'s' if len(arms) > 1 else ''}, {best.candidate}, {verb} "
            f"SFT ({_say_difference(best)})"
        )
    if len(arms) > 1:
        parts.append(f"{len(helped)} of {len(arms)} arms helped, {len(harmed)} harmed")
    if recipe.mines() and recipe.evaluate.judges == (recipe.mine.judge,) and judge != "verifier":
        parts.append(f"the judge that found the weak prompts, {judge}, is the only judge of this result")
    sentence = "; ".join(parts) or "no comparison was asked for"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _training(recipe: Recipe) -> str:
    """What all arms train by, as a word before `arm`; nothing where they differ."""
    trains = {arm.trains for arm in recipe.arms.values()}
    return f"{trains.pop().upper()} " if len(trains) == 1 else ""


def _say_sft(scores: Sequence[ModelScore]) -> str:
    by_name = {score.model: score.accuracy for score in scores}
    base, sft = by_name.get("base"), by_name.get(BASELINE)
    if base is None or sft is None:
        return "SFT was not measured"
    return f"SFT took accuracy from {_say_share(base)} to {_say_share(sft)} on {sft.n} held-out problems"


def _say_share(found: Estimate) -> str:
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _say_difference(found: Comparison) -> str:
    scale, unit = (100, "points") if found.judge == "verifier" else (1, "reward")
    d = found.difference
    return f"{scale * d.estimate:+.1f} {unit} [{scale * d.low:+.1f}, {scale * d.high:+.1f}], n = {d.n}"
