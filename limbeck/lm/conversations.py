"""Whole conversations to the token ids that a reward model reads: its own chat template, without a generation prompt.

Unlike `Chat`, nothing here needs the template to go on where its generation prompt ends: a reward model writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from limbeck.lm.chat import refuse_without_template, shown, special_tokens_of, takes_system, templated_ids
from limbeck.records import Message


@dataclass(frozen=True)
class Conversations:
    """A tokenizer and how a conversation is put to it.

    `passes_over`: the token that the model's own forward pass takes for padding; it reads the score at the last token
    that is another. None: at the last token. `shows_system`: whether the template shows a system turn.
    """

    tokenizer: PreTrainedTokenizerBase
    special_tokens: tuple[str, ...]
    shows_system: bool
    passes_over: int | None = None

    def ids(self, prompt: Sequence[Message], response: str) -> tuple[int, ...]:
        """Ids of the conversation up to where the score is read, `response` as the assistant's last turn.

        Where the template has no place for a system turn, its words stand at the beginning of the first user turn.
        Special tokens spelled out in a message are read as plain text.

        Raises:
            ModelError: where the template refuses the conversation.
        """
        turns = (*shown(prompt, self.shows_system), Message(role="assistant", content=response))
        ids = templated_ids(self.tokenizer, self.special_tokens, turns, open_turn=False)
        end = len(ids)
        # What follows the place where the score is read cannot reach it in a causal decoder.
        while end > 1 and ids[end - 1] == self.passes_over:
            end -= 1
        return ids[:end]


def conversations_of(tokenizer: PreTrainedTokenizerBase, name: str, passes_over: int | None) -> Conversations:
    """How `tokenizer` is given conversations.

    Raises:
        ModelError: where it has no chat template.
    """
    refuse_without_template(tokenizer, name)
    return Conversations(tokenizer, tuple(special_tokens_of(tokenizer)), takes_system(tokenizer), passes_over)
