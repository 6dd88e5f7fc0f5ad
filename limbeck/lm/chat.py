"""Conversations to token ids: the model's own chat template, prompt and response tokenised apart, one end of turn.

Prompt ids are never merged with response ids across the boundary, and the end-of-turn token is part of the response,
so it stands inside the loss, also where the pad token is the same token.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from limbeck.errors import ModelError
from limbeck.records import Message, system_folded

_PROBE = "limbeck"
_MARKER = re.compile("(\ue000[0-9]+\ue001)")  # private-use characters: no template's own text holds them
# Before a template with a switch for thoughts (Qwen3's); who serves the saved model may still set it otherwise.
_WITHOUT_THOUGHTS = "{%- if enable_thinking is not defined %}{%- set enable_thinking = false %}{%- endif %}"


@dataclass(frozen=True)
class Chat:
    """A tokenizer, the token that ends an assistant's turn, and every token that stops sampling.

    `special_tokens`: the spelling of every token that must not be forged in a message. `context_tokens`: how many a
    conversation may have; None where that is not known. `shows_system`: whether the template shows a system turn.
    """

    tokenizer: PreTrainedTokenizerBase
    end_of_turn: int
    stop_tokens: frozenset[int]
    special_tokens: tuple[str, ...]
    context_tokens: int | None = None
    shows_system: bool = True

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the templated conversation up to where the assistant begins to write.

        Where the template has no place for a system turn, its words stand at the beginning of the first user turn.
        Special tokens spelled out in a message are read as plain text: a data set cannot forge a turn.

        Raises:
            ModelError: where the template refuses the conversation.
        """
        turns = shown(messages, self.shows_system)
        return templated_ids(self.tokenizer, self.special_tokens, turns, open_turn=True)

    def response_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a whole response, its end of turn included exactly once.

        Special tokens spelled out in `text` are read as plain text: a data set cannot forge a turn.
        """
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return (*ids, self.end_of_turn)

    def token_text(self, token: int) -> str:
        """The text of one token, special ones included."""
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def text(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, stop tokens left out."""
        kept = [token for token in ids if token not in self.stop_tokens]
        decoded: Any = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(decoded)


def templated_ids(
    tokenizer: PreTrainedTokenizerBase, special_tokens: Sequence[str], messages: Sequence[Message], *, open_turn: bool
) -> tuple[int, ...]:
    """Ids of the templated conversation; `open_turn`: up to where the assistant begins to write.

    Special tokens spelled out in a message are read as plain text.
    """
    if not any(token in message.content for token in special_tokens for message in messages):
        text = _render(tokenizer, [message.model_dump() for message in messages], open_turn=open_turn)
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    # The template is rendered around markers; its own text may hold special tokens, the messages' text may not. White
    # space at an edge stays outside of the marker, for the template to trim.
    texts = [message.content.strip() for message in messages]
    marked = [
        {"role": message.role, "content": message.content.replace(text, f"\ue000{number}\ue001", 1)}
        for number, (message, text) in enumerate(zip(messages, texts, strict=True))
    ]
    text = _render(tokenizer, marked, open_turn=open_turn)
    ids: list[int] = []
    for piece in _MARKER.split(text):
        own = piece.startswith("\ue000")
        content = texts[int(piece[1:-1])] if own else piece
        ids += tokenizer.encode(content, add_special_tokens=False, split_special_tokens=own)
    return tuple(ids)


def shown(messages: Sequence[Message], shows_system: bool) -> Sequence[Message]:
    """The turns as a template shows them all: without a system turn where it has no place for one."""
    return messages if shows_system else system_folded(messages)


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template shows the words of a system turn; some refuse it, others leave it out."""
    turns = [{"role": "system", "content": _PROBE}, {"role": "user", "content": ""}]
    try:
        return _PROBE in _render(tokenizer, turns, open_turn=True)
    except ModelError:
        return False


def refuse_without_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """See that there is a chat template.

    Raises:
        ModelError: where there is none.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name} has no chat template, so a conversation cannot be put to it; use its instruct or chat variant, or "
            "save a `chat_template.jinja` beside its tokenizer"
        )


def chat_of(tokenizer: PreTrainedTokenizerBase, name: str, context_tokens: int | None = None) -> Chat:
    """Find out how `tokenizer` ends a turn: the first token after an assistant's words in its own template.

    A template that begins a turn otherwise than it shows a response, unless thoughts are switched off, is the chat's
    with that switch: whatever renders it, here or where the saved model is served, then sees what was trained on.

    Raises:
        ModelError: where there is no chat template, or it does not put the words where a response can be learnt.
    """
    refuse_without_template(tokenizer, name)
    as_it_is = turn = _turn_of(tokenizer)
    if turn.after is None:
        tokenizer = _without_thoughts(tokenizer)
        turn = _turn_of(tokenizer)
    if turn.after is None:
        raise ModelError(
            f"the chat template of {name} does not continue its own generation prompt with the response: "
            f"{as_it_is.contradiction}; save one of your own, in which both are the same, as `chat_template.jinja` "
            "beside its tokenizer"
        )
    after = tokenizer.encode(turn.after, add_special_tokens=False)
    specials = special_tokens_of(tokenizer)
    end = after[0] if after and after[0] in specials.values() else tokenizer.eos_token_id
    if not isinstance(end, int):
        raise ModelError(f"{name} names no token that ends a turn: neither its chat template nor its eos_token does")
    stops = {end} | ({tokenizer.eos_token_id} if isinstance(tokenizer.eos_token_id, int) else set())
    return Chat(tokenizer, end, frozenset(stops), tuple(specials), context_tokens, takes_system(tokenizer))


class _Turn(NamedTuple):
    """A template's text of a question, up to where the assistant begins to write, and of the same with a response."""

    opened: str
    answered: str

    @property
    def after(self) -> str | None:
        """What follows a response; None where that does not stand where the assistant begins to write."""
        begun = self.opened + _PROBE
        return self.answered.removeprefix(begun) if self.opened and self.answered.startswith(begun) else None

    @property
    def contradiction(self) -> str:
        """What the two have between question and response, in words."""
        prompt = self.opened.rpartition(_PROBE)[2]
        shown_after = self.answered.rpartition(_PROBE)[0].rpartition(_PROBE)[2]
        thinks = ", for the model to think first," if "<think>" in prompt else ""
        return (
            f"after a question the prompt goes on with {prompt!r}{thinks} and a response is shown after {shown_after!r}"
        )


def _turn_of(tokenizer: PreTrainedTokenizerBase) -> _Turn:
    question, response = {"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}
    opened = _render(tokenizer, [question], open_turn=True)
    return _Turn(opened, _render(tokenizer, [question, response], open_turn=False))


def _without_thoughts(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    quiet = copy.deepcopy(tokenizer)
    quiet.chat_template = _WITHOUT_THOUGHTS + tokenizer.get_chat_template()
    return quiet


def special_tokens_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Ids of all special tokens by spelling. The named ones are not all: templates of Phi 3 and Gemma 3 end a turn with
    a token that is marked as special in the vocabulary, but has no name in the tokenizer's settings.
    """
    marked = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], *, open_turn: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn))
    except (TemplateError, ValueError, TypeError) as error:
        raise ModelError(f"the chat template refused a conversation: {error}") from error
