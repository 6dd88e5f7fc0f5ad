"""The fixture's run with everything that a verdict can hold: four judges, samples, topics, strengths, pairs, alarms."""

import random
from pathlib import Path

from report_fixture import FAMILIES, MODELS, build_run, recipe

from limbeck.recipe import Evaluate, Recipe
from limbeck.records import Estimate, Judgement, Metric, Reply
from limbeck.records.alarms import Alarm
from limbeck.records.verdict import (
    Agreement,
    Comparison,
    JudgeCard,
    PairAccuracy,
    Preference,
    ReliabilityBin,
    Strength,
    TopicResult,
    Verdict,
)
from limbeck.store import read_json, read_records, write_json, write_records

REWARD = {model: -1.2 + 0.6 * index for index, model in enumerate(MODELS)}
ALARMS = (
    Alarm(about="dpo/random", field="dpo.alarms.min_accuracy", value=0.48, threshold=0.5, step=40,
          sentence="random: held-out accuracy is stuck at 0.48.", advice="Look at the pairs.</script>"),
    Alarm(about="dpo/random", field="dpo.alarms.max_drift", value=9, threshold=5, step=44,
          sentence="random: chosen log-probability falls.", advice="Raise dpo.nll_weight."),
    Alarm(about="evaluate/on_policy", field="evaluate.alarms.max_repetition", value=0.3, threshold=0.1,
          sentence="on_policy repeats itself.", advice="Train for fewer steps."),
)  # fmt: skip


def rich_recipe() -> Recipe:
    """The recipe of the rich run: an exact judge first, then a learned and a comparing one."""
    judges = {"judges": ("verifier", "local", "pairwise")}
    return recipe().model_copy(update={"evaluate": Evaluate.model_validate(judges)})


def build_rich_run(root: Path, *, num_prompts: int = 60, hostile: bool = True, reply_length: int = 1) -> Path:
    """Write a run folder and return it. Same arguments, same bytes."""
    build_run(root, num_prompts=num_prompts, hostile=hostile, reply_length=reply_length)
    rng = random.Random(5)
    for model in MODELS:
        replies = read_records(root / "evaluate" / model / "replies.jsonl", Reply)
        lines = [Judgement(prompt_id=each.prompt_id, score=rng.gauss(REWARD[model], 1.1)) for each in replies]
        write_records(root / "evaluate" / model / "judgements_local.jsonl", lines)
        if model != "sft":
            preferences = [_preference(reply.prompt_id, rng) for reply in replies]
            write_records(root / "compare" / model / "preferences.jsonl", preferences)
    again = [reply.model_copy(update={"sample_index": 1, "text": f"again {reply.text[:40]}"}) for reply in replies]
    write_records(root / "evaluate" / MODELS[-1] / "replies.jsonl", [*replies, *again])
    verdict = Verdict.model_validate(read_json(root / "verdict" / "verdict.json"))
    write_json(root / "verdict" / "verdict.json", enriched(verdict).model_dump(mode="json"))
    for unit in ("dpo/random", "evaluate/on_policy"):
        write_records(root / unit / "alarms.jsonl", [alarm for alarm in ALARMS if alarm.about == unit])
    write_records(root / "verdict" / "alarms.jsonl", ALARMS[:1])
    for arm in MODELS[2:]:
        path = root / "dpo" / arm / "metrics.jsonl"
        write_records(path, [_by_source(metric, rng) for metric in read_records(path, Metric)])
    _add_overlap(root / "screen" / "manifest.json")
    return root


def _preference(prompt_id: str, rng: random.Random) -> Preference:
    outcome = rng.choice(("win", "win", "tie", "loss", None))
    reason = None if outcome else "the judge's reply named neither"
    return Preference.model_validate({"prompt_id": prompt_id, "outcome": outcome, "unscored_reason": reason})


def estimate(middle: float, half: float = 0.08, n: int = 60) -> Estimate:
    """An estimate with a symmetric interval."""
    return Estimate(estimate=middle, low=middle - half, high=middle + half, n=n)


def enriched(verdict: Verdict) -> Verdict:
    """The fixture's verdict with what later versions add."""
    old = tuple(_with_topics(comparison) for comparison in verdict.comparisons)
    further = [
        comparison.model_copy(update={"judge": judge, "difference": estimate(0.3 * place, 0.25)})
        for judge in ("local", "pairwise")
        for place, comparison in enumerate(old)
        if comparison.split == "test"
    ]
    trusted = JudgeCard(
        judge="local", about="Trained in this run.", accuracy=estimate(0.71), longer_is_chosen=estimate(0.55),
        accuracy_by_source={"human": estimate(0.66), "zero_shot": estimate(0.81)}, calibration_error=0.043,
        longer_is_chosen_by_source={"human": estimate(0.52)}, beyond_longer=estimate(0.16, 0.1),
        reliability=tuple(ReliabilityBin(predicted=p, observed=p - 0.03, n=40) for p in (0.55, 0.75, 0.95)),
        limits=("Knows harmlessness in English only.", "<b>Longest conversation: 4,096 tokens.</b>"),
    )  # fmt: skip
    both = JudgeCard(judge="pairwise", about="openai:some-model, both orders.",
                     rates={"flips": estimate(0.18), "first_position": estimate(0.57)})  # fmt: skip
    return verdict.model_copy(update={
        "comparisons": (*old, *further),
        "strengths": tuple(
            Strength(model=model, judge="local", log_odds=estimate(0.2 * (place - 1), 0.3),
                     win_rate=estimate(0.5 + 0.05 * (place - 1), 0.07))
            for place, model in enumerate(MODELS)
        ),
        "pair_accuracies": tuple(
            PairAccuracy(model=model, source=source, raw=estimate(0.5 + 0.06 * place, n=24),
                         against_reference=None if model == "sft" else estimate(0.55 + 0.06 * place, n=24),
                         longer_is_chosen=estimate(0.58, n=24))
            for source in ("random", "zero_shot") for place, model in enumerate(MODELS)
        ),
        "judges": (trusted, both),
        "agreements": (Agreement(judges=("verifier", "local"), agreement=estimate(0.64), kappa=0.31, n=212),),
    })  # fmt: skip


def _with_topics(comparison: Comparison) -> Comparison:
    share = 1 / len(FAMILIES)
    topics = tuple(
        TopicResult(topic=topic, wins=round(comparison.wins * share) + place, ties=4, losses=place,
                    difference=estimate(comparison.difference.estimate + 0.1 * (place - 1), 0.2, 15))
        for place, topic in enumerate(FAMILIES)
    )  # fmt: skip
    controlled = comparison.win_rate.model_copy(update={"estimate": comparison.win_rate.estimate - 0.02})
    return comparison.model_copy(update={"by_topic": topics, "length_controlled_win_rate": controlled})


def _by_source(metric: Metric, rng: random.Random) -> Metric:
    values = dict(metric.values)
    for source, factor in {"random": 1.2, "zero_shot": 0.3}.items():
        values[f"margin/{source}"] = values["margin"] * factor
        values[f"accuracy/{source}"] = min(1.0, 0.5 + (values["accuracy"] - 0.5) * factor * rng.uniform(0.9, 1.1))
    return metric.model_copy(update={"values": values})


def _add_overlap(path: Path) -> None:
    manifest = read_json(path)
    manifest["result"]["drops"] = {"random: overlap with evaluation: same prompt": 3, "zero_shot: too long": 8}
    write_json(path, manifest)
