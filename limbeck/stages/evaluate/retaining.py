"""How much of the base model's conversation is left."""

from collections.abc import Sequence
from pathlib import Path

from limbeck import seeds
from limbeck.lm.generate import Sampling
from limbeck.lm.items import demonstration_items
from limbeck.lm.micro_batch import scoring_tokens
from limbeck.lm.objectives import mean_nll_of
from limbeck.recipe import Recipe
from limbeck.records import Demonstration
from limbeck.stages.evaluate.given import NOTHING, Retention
from limbeck.statistics import repetition_rate
from limbeck.students.protocol import Student


def retention(student: Student, chat: Sequence[Demonstration], recipe: Recipe, out: Path) -> Retention:
    """How much of the base model's conversation is left, on held-out everyday prompts.

    `nats_per_token`: mean negative log-likelihood of the base model's replies. `repetition_rate`: mean share of
    repeated 4-word runs in the student's own replies to the same prompts. Both None where there are no such prompts.
    The first needs the weights, also of a served student; where there is nothing to measure they are not loaded.
    """
    if not chat or recipe.corpus.chat is None:
        return NOTHING
    items = demonstration_items(student.weights().chat, chat, recipe.model).items
    if not items:
        return NOTHING
    sampling = Sampling(
        max_new_tokens=recipe.corpus.chat.max_new_tokens,
        temperature=recipe.corpus.chat.temperature,
        seed=seeds.derive(recipe.seed, "retain"),
    )
    replies = student.ask(chat, sampling, recipe.model, out / "chat_replies.jsonl", "  chat retention").replies
    rates = [rate for reply in replies if (rate := repetition_rate(reply.text)) is not None]
    return {
        "nats_per_token": mean_nll_of(student.weights(), items, scoring_tokens(recipe.sft, student.weights().device)),
        "repetition_rate": sum(rates) / len(rates) if rates else None,
        "prompts": len(items),
    }
