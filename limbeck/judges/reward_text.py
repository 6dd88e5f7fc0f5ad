"""What goes to a Nemotron-style reward model and what comes back, as values. Pure."""

import math
import re
from collections.abc import Callable, Sequence

from limbeck.records import Message, system_folded

TokenCounter = Callable[[Sequence[Message]], int]

_PART = re.compile(r"\s*(\w+)\s*:\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*")
_MESSAGE_TOKENS = 8  # Llama 3's template wraps a turn in about five tokens, and begins with one
_LETTERS_A_TOKEN = 3  # English has more than 4; to count too many leaves a row out, too few costs a refused request
_LETTER = re.compile(r"[A-Za-z ]")


def parse_reward(text: str) -> float | None:
    """Read `reward` from `key:value[,key:value]`; None where the text is not of that form or has no one reward."""
    rewards = []
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        if match[1] == "reward":
            rewards.append(float(match[2]))
    return rewards[0] if len(rewards) == 1 and math.isfinite(rewards[0]) else None


def reward_messages(prompt: Sequence[Message], response: str) -> tuple[Message, ...]:
    """The conversation to be scored: the prompt and the response as its last turn.

    The reward model's card knows no system role, so a system message becomes the beginning of the first user turn.
    """
    return (*system_folded(prompt), Message(role="assistant", content=response))


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Estimate a conversation's tokens without a tokenizer, on the high side.

    Letters and spaces count a third each, other ASCII characters (digits, signs, line ends) one each, all others half
    of their UTF-8 bytes; eight more for every turn. English prose comes out at about one and a half times its count.
    """
    return sum(_MESSAGE_TOKENS + _text_tokens(message.content) for message in messages)


def _text_tokens(text: str) -> int:
    ascii_count = sum(map(str.isascii, text))
    letters = len(_LETTER.findall(text))
    other_bytes = len(text.encode()) - ascii_count
    return math.ceil(letters / _LETTERS_A_TOKEN + (ascii_count - letters) + other_bytes / 2)
