"""Records to token ids: demonstrations and pairs become items for packing, what is too long is dropped and counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from limbeck.errors import ModelError, TrainingError, in_words
from limbeck.lm.chat import Chat
from limbeck.lm.packing import Item
from limbeck.lm.scope import first_step
from limbeck.recipe import Model
from limbeck.recipe.training import Scope
from limbeck.records import Demonstration, Pair, PromptRow

REFUSED = "conversation refused by the chat template"


class Items(NamedTuple):
    """Items that can be trained on, and how many records could not, by reason."""

    items: list[Item]
    drops: dict[str, int]

    @property
    def reasons(self) -> str:
        """What was dropped, in words."""
        return in_words(self.drops)

    def see_some(self, label: str, use: Literal["training", "held-out"] = "training") -> None:
        """See that where there are rows, some of them can be used.

        Raises:
            TrainingError: where every row was dropped, with the reasons.
        """
        if self.drops and not self.items:
            raise TrainingError(f"{label}: no {use} row is left: {self.reasons} (model.max_prompt_tokens, "
                                "model.max_response_tokens)")  # fmt: skip


def demonstration_items(chat: Chat, rows: Iterable[Demonstration], limits: Model) -> Items:
    """One item a demonstration, with one response."""
    return _items(chat, ((row, (row.response,)) for row in rows), limits)


def pair_items(chat: Chat, pairs: Iterable[Pair], limits: Model, scope: Scope = "response") -> Items:
    """One item a pair, with two responses: chosen, rejected; `scope`: which of their tokens count."""
    found = _items(chat, ((pair, (pair.chosen, pair.rejected)) for pair in pairs), limits)
    return found if scope == "response" else found._replace(items=of_first_step(chat, found.items))


def of_first_step(chat: Chat, items: Iterable[Item]) -> list[Item]:
    """The pairs, of which only the first step counts in which their sides differ."""
    return [_of_first_step(chat, item) for item in items]


def _of_first_step(chat: Chat, item: Item) -> Item:
    chosen, rejected = item.responses
    parts = first_step((chosen, rejected), chat.token_text)
    return item if parts == item.parts else replace(item, counted=parts)


def _items(chat: Chat, rows: Iterable[tuple[PromptRow, tuple[str, ...]]], limits: Model) -> Items:
    items: list[Item] = []
    drops: Counter[str] = Counter()
    for row, texts in rows:
        try:
            prompt = chat.prompt_ids(row.prompt)
        except ModelError:
            drops[REFUSED] += 1
            continue
        responses = tuple(chat.response_ids(text) for text in texts)
        reason = _unfit(prompt, responses, limits, chat.context_tokens)
        if reason:
            drops[reason] += 1
        else:
            items.append(Item(row.id, prompt, responses, row.source))
    return Items(items, dict(drops))


def _unfit(prompt: Sequence[int], responses: Sequence[Sequence[int]], limits: Model, context: int | None) -> str | None:
    # A cut response would teach the student to stop in the middle: whole rows or none.
    if len(prompt) > limits.max_prompt_tokens:
        return f"prompt over {limits.max_prompt_tokens} tokens"
    if any(len(response) > limits.max_response_tokens for response in responses):
        return f"response over {limits.max_response_tokens} tokens"
    if context is not None and len(prompt) + max(map(len, responses)) > context:
        return f"over the {context} tokens of the model's context"
    if any(len(response) == 1 for response in responses):
        return "response without a token"
    return None
