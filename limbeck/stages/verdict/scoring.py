"""What one model achieved by itself: accuracies, rewards, and the form of its replies."""

from collections.abc import Sequence

from limbeck import seeds
from limbeck.recipe import Recipe
from limbeck.records import Estimate, PromptRow
from limbeck.records_verdict import ModelScore
from limbeck.stages.verdict.models import Model, scores_of
from limbeck.statistics import paired_difference, proportion, repetition_rate


def score_model(model: Model, test: Sequence[PromptRow], transfer: Sequence[PromptRow], recipe: Recipe) -> ModelScore:
    """What one model achieved. Accuracies are over all prompts scored, truncated and unparsable replies included."""
    exact = "verifier" in recipe.judged_by()
    replies = [model.replies[row.id] for row in test if row.id in model.replies]
    judged = model.judgements["verifier" if exact else recipe.judged_by()[0]]
    topics = {topic: [row for row in test if row.topic == topic] for topic in sorted({row.topic for row in test})}
    rates = [rate for reply in replies if (rate := repetition_rate(reply.text)) is not None]
    tokens = [reply.num_tokens for reply in replies if reply.num_tokens is not None]
    rewards = [judge for judge in recipe.judged_by() if judge != "verifier"]
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
        unscored=sum(score is None for judge in recipe.judged_by() for score in scores_of(model, judge, test)),
        mean_response_tokens=sum(tokens) / len(tokens) if tokens else None,
        repetition_rate=sum(rates) / len(rates) if rates else 0.0,
        chat_repetition_rate=model.chat_repetition_rate,
        retention_nats_per_token=model.nats_per_token,
    )


def _accuracy(model: Model, rows: Sequence[PromptRow], recipe: Recipe) -> Estimate | None:
    scores = [score for score in scores_of(model, "verifier", rows) if score is not None]
    if not scores:
        return None
    found = proportion(int(sum(scores)), len(scores), recipe.evaluate.confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.n)


def _mean(model: Model, judge: str, rows: Sequence[PromptRow], recipe: Recipe) -> Estimate | None:
    scores = [score for score in scores_of(model, judge, rows) if score is not None]
    if not scores:
        return None
    found = paired_difference(
        [0.0] * len(scores),
        scores,
        seed=seeds.derive(recipe.seed, "mean", judge),
        confidence=recipe.evaluate.confidence,
    )
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)
