"""How far each judge can be trusted: what it is, what was measured of it here, and where it agrees with the others."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from limbeck import seeds
from limbeck.judges.protocol import is_over_long
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import Estimate
from limbeck.records.verdict import Agreement, JudgeCard
from limbeck.stages.verdict.comparing import rows_of
from limbeck.stages.verdict.models import BASELINE, EXACT, PAIRWISE, Asked, Model
from limbeck.stages.verdict.paired import sign_of
from limbeck.statistics import clustered_proportion, judge_agreement
from limbeck.statistics.agreement import Outcome
from limbeck.store import read_record

NOT_MEASURED = "its accuracy was not measured here"
_OUTCOMES: dict[int, Outcome] = {1: "win", 0: "tie", -1: "loss"}


def card_of(judge: str, models: Sequence[Model], asked: Asked, recipe: Recipe, inputs: Mapping[str, Path]) -> JudgeCard:
    """What is known of a judge, with the rates that its judgements show; `asked`: all rows, of every split."""
    confidence = recipe.evaluate.confidence
    if judge == EXACT:
        return JudgeCard(
            judge=judge,
            about="the built-in problems' own scorers, which are exact",
            rates=_failed_extractions(models, asked, confidence),
            limits=("a reply in which no final answer is found counts as wrong",),
        )
    rates = _rates(judge, models, asked, confidence)
    if judge == PAIRWISE:
        about = f"{recipe.judges.pairwise.model}, which is shown two replies in both orders"
        return JudgeCard(
            judge=judge, about=about, rates=rates, limits=(NOT_MEASURED, "a flip between the orders is a tie")
        )
    if judge == "local":
        return _local(recipe, inputs, rates)
    limits = (
        NOT_MEASURED,
        f"a conversation over {recipe.judges.nemotron.max_tokens:,} tokens is left out of both sides",
        "its rewards do not compare across prompts: the mean is secondary",
    )
    about = f"{recipe.judges.nemotron.model}, a reward model behind an address"
    return JudgeCard(judge=judge, about=about, rates=rates, limits=limits)


def _local(recipe: Recipe, inputs: Mapping[str, Path], rates: dict[str, Estimate]) -> JudgeCard:
    if "reward_card" in inputs:
        card = read_record(inputs["reward_card"], JudgeCard)
        return card.model_copy(update={"judge": "local", "rates": card.rates | rates})
    return JudgeCard(
        judge="local", about=f"{recipe.judges.local.model}, a reward model", rates=rates, limits=(NOT_MEASURED,)
    )


def _failed_extractions(models: Sequence[Model], asked: Asked, confidence: float) -> dict[str, Estimate]:
    """How often no final answer is found in a reply, over all models' replies, and by family."""
    found = {"failed_extraction": _failed(models, asked, confidence)}
    if len(set(asked.topics)) > 1:
        for topic in sorted(set(asked.topics)):
            found[f"failed_extraction: {topic}"] = _failed(models, asked.of_topic(topic), confidence)
    return {name: rate for name, rate in found.items() if rate is not None}


def _failed(models: Sequence[Model], asked: Asked, confidence: float) -> Estimate | None:
    judged = [
        (prompt, not judgement.parsed)
        for model in models
        for key, prompt in zip(asked.keys, asked.prompts, strict=True)
        if (judgement := model.judgements.get(EXACT, {}).get(key)) is not None and judgement.score is not None
    ]
    return _share(judged, confidence)


def _rates(judge: str, models: Sequence[Model], asked: Asked, confidence: float) -> dict[str, Estimate]:
    """Shares of ties, of unscored and of over-long replies; of a pairwise judge, of flips and of the place shown first.

    Over all models compared with SFT; replies to one prompt are one piece of evidence.
    """
    baseline, others = _sides(models)
    if baseline is None:
        return {}
    tied, missing, over_long = [], [], []
    for model in others:
        rows = rows_of(baseline, model, judge, asked)
        for prompt, before, after in zip(asked.prompts, rows.baseline, rows.candidate, strict=True):
            missing.append((prompt, before is None or after is None))
            if before is not None and after is not None:
                tied.append((prompt, before == after))
    for model in (baseline, *others):
        judged = model.judgements.get(judge, {})
        known = [(prompt, judged.get(key)) for key, prompt in zip(asked.keys, asked.prompts, strict=True)]
        over_long += [(prompt, is_over_long(j.unscored_reason)) for prompt, j in known if j is not None]
    found = {"ties": tied, "unscored": missing} | ({"over_long": over_long} if judge == "nemotron" else {})
    found |= _orders(others, asked) if judge == PAIRWISE else {}
    return {name: rate for name, marks in found.items() if (rate := _share(marks, confidence)) is not None}


def _orders(models: Sequence[Model], asked: Asked) -> dict[str, list[tuple[str, bool]]]:
    """Of pairs judged in both orders: whether the two answers differ. Of answers that name one: was it shown first?"""
    flips, first = [], []
    for model in models:
        for key, prompt in zip(asked.keys, asked.prompts, strict=True):
            said = model.preferences.get(key)
            if said is None or said.candidate_first is None or said.baseline_first is None:
                continue
            flips.append((prompt, said.candidate_first != said.baseline_first))
            first += [(prompt, said.candidate_first == "candidate")] if said.candidate_first != "tie" else []
            first += [(prompt, said.baseline_first == "baseline")] if said.baseline_first != "tie" else []
    return {"flips": flips, "first_position": first}


def _share(marks: Sequence[tuple[str, bool]], confidence: float) -> Estimate | None:
    """The share of marks that are true; the first of each is its prompt."""
    if not marks:
        return None
    found = clustered_proportion([float(mark) for _, mark in marks], [prompt for prompt, _ in marks], confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


class _Sides(NamedTuple):
    baseline: Model | None
    others: list[Model]


def _sides(models: Sequence[Model]) -> _Sides:
    """SFT, and the models that are compared with it."""
    baseline = next((model for model in models if model.name == BASELINE), None)
    return _Sides(baseline, [model for model in models if model.name not in (BASELINE, AGAINST)])


def agreements(models: Sequence[Model], asked: Asked, recipe: Recipe) -> list[Agreement]:
    """How far every two judges agree on win, tie or loss against SFT, over all models and rows that both scored."""
    outcomes = {judge: _outcomes(judge, models, asked) for judge in recipe.judged_by()}
    found = []
    for one, other in combinations(outcomes, 2):
        first, second = outcomes[one], outcomes[other]
        if not any(a is not None and b is not None for a, b in zip(first, second, strict=True)):
            continue
        agreed = judge_agreement(
            first,
            second,
            seed=seeds.derive(recipe.seed, "agreement", one, other),
            clusters=asked.prompts * (len(first) // max(len(asked.keys), 1)),
            confidence=recipe.evaluate.confidence,
        )
        raw = agreed.raw
        estimate = Estimate(estimate=raw.estimate, low=raw.low, high=raw.high, n=raw.num_prompts)
        found.append(Agreement(judges=(one, other), agreement=estimate, kappa=agreed.kappa, n=raw.num_rows))
    return found


def _outcomes(judge: str, models: Sequence[Model], asked: Asked) -> list[Outcome | None]:
    """Win, tie or loss of each model but SFT, row by row, one model after the other."""
    baseline, others = _sides(models)
    found: list[Outcome | None] = []
    if baseline is None:
        return found
    for model in others:
        rows = rows_of(baseline, model, judge, asked)
        for before, after in zip(rows.baseline, rows.candidate, strict=True):
            found.append(None if before is None or after is None else _OUTCOMES[sign_of(after - before)])
    return found
