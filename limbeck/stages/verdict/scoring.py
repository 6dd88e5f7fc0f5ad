"""What one model achieved by itself: accuracies, rewards, and the form of its replies."""

from limbeck import seeds
from limbeck.recipe import Recipe
from limbeck.records import Estimate
from limbeck.records.verdict import ModelScore
from limbeck.stages.verdict.models import EXACT, PAIRWISE, Asked, Model, preferences_of, scores_of
from limbeck.statistics import clustered_proportion, paired_difference, repetition_rate


def score_model(model: Model, test: Asked, transfer: Asked, recipe: Recipe) -> ModelScore:
    """What one model achieved. Accuracies are over all replies scored, truncated and unparsable ones included."""
    judges = recipe.judged_by()
    confidence, exact = recipe.evaluate.confidence, EXACT in judges
    judged = model.judgements.get(EXACT if exact else judges[0], {})
    present = [key for key in dict.fromkeys(map(model.key_of, test.keys)) if key in model.replies]
    replies = [model.replies[key] for key in present]
    rates = [rate for reply in replies if (rate := repetition_rate(reply.text)) is not None]
    tokens = [reply.num_tokens for reply in replies if reply.num_tokens is not None]
    rewards = [judge for judge in judges if judge not in (EXACT, PAIRWISE)]
    return ModelScore(
        model=model.name,
        accuracy=_accuracy(model, test, confidence) if exact else None,
        transfer_accuracy=_accuracy(model, transfer, confidence) if exact else None,
        accuracy_by_topic={
            topic: found
            for topic in sorted(set(test.topics))
            if exact and (found := _accuracy(model, test.of_topic(topic), confidence)) is not None
        },
        mean_reward=_mean(model, rewards[0], test, recipe) if rewards else None,
        num_replies=len(replies),
        unparsable=sum(key in judged and not judged[key].parsed for key in present),
        truncated=sum(reply.finish_reason == "length" for reply in replies),
        unscored=sum(_unscored(model, judge, test) for judge in judges),
        missing=len(set(map(model.key_of, test.keys))) - len(replies),
        mean_response_tokens=sum(tokens) / len(tokens) if tokens else None,
        repetition_rate=sum(rates) / len(rates) if rates else 0.0,
        chat_repetition_rate=model.chat_repetition_rate,
        retention_nats_per_token=model.nats_per_token,
    )


def _unscored(model: Model, judge: str, asked: Asked) -> int:
    """Rows without a score, missing replies included. The baseline of a pairwise judge is no candidate of it."""
    if judge == PAIRWISE:
        return sum(score is None for score in preferences_of(model, asked)) if model.preferences else 0
    keys = dict(zip(map(model.key_of, asked.keys), scores_of(model, judge, asked), strict=True))
    return sum(score is None for score in keys.values())


def _accuracy(model: Model, asked: Asked, confidence: float) -> Estimate | None:
    """The share solved with Wilson's interval, widened for several samples of a prompt."""
    pairs = zip(asked.prompts, scores_of(model, EXACT, asked), strict=True)
    scored = [(prompt, score) for prompt, score in pairs if score is not None]
    if not scored:
        return None
    found = clustered_proportion([score for _, score in scored], [prompt for prompt, _ in scored], confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def _mean(model: Model, judge: str, asked: Asked, recipe: Recipe) -> Estimate | None:
    pairs = zip(asked.prompts, scores_of(model, judge, asked), strict=True)
    scored = [(prompt, score) for prompt, score in pairs if score is not None]
    if not scored:
        return None
    found = paired_difference(
        [0.0] * len(scored),
        [score for _, score in scored],
        seed=seeds.derive(recipe.seed, "mean", judge),
        clusters=[prompt for prompt, _ in scored],
        confidence=recipe.evaluate.confidence,
    )
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)
