"""Tokens counted as the engine would, for a plan: with a model's own tokenizer and chat template, no weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.lm.chat import Chat, chat_of
from limbeck.lm.load import load_tokenizer
from limbeck.records import Message


@dataclass(frozen=True)
class TokenCounter:
    """Counts what is computed of a row: see `Item.num_tokens`."""

    chat: Chat
    exact: bool = True

    def prompt(self, messages: Sequence[Message]) -> int:
        """Tokens of a conversation up to where the assistant begins.

        Raises:
            ModelError: where the chat template refuses it.
        """
        return len(self.chat.prompt_ids(messages))

    def response(self, text: str) -> int:
        """Tokens of a response, its end of turn left out: that is only predicted."""
        return len(self.chat.response_ids(text)) - 1


def counter_of(folder: Path) -> TokenCounter:
    """The counter of the model in a folder.

    Raises:
        ModelError: where there is no tokenizer, or it has no chat template.
    """
    return TokenCounter(chat_of(load_tokenizer(str(folder)), str(folder)))
