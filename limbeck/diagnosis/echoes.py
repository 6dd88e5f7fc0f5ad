"""Replies that say their prompt again or go on with it, instead of answering it.

What it cannot see: a prompt said again in other words. Start reading at: `echoes_prompt`.
"""

import re

from limbeck.likeness import begins_with_prompt, normalised

RUN_WORDS = 6  # of the prompt in a row: an answer takes up shorter ones ("the sum of 3 and 4 is")
LEAST_WORDS = 12  # a shorter reply that is made of the prompt's words may well be the answer
MOSTLY = 0.6
_WORD = re.compile(r"\w+|[^\w\s]")
# Who starts to speak where a reply goes on with the conversation; `Question:` and its like only as the first words,
# since an answer may list questions.
_TURN = re.compile(r"^\W*(?:user|human)\s*:|<\|im_start\|>|^\W*\[INST\]", re.IGNORECASE | re.MULTILINE)
_ASKS = re.compile(r"\A\W*(?:question|problem|exercise|prompt|instruction|q)(?: \d+)?\s*:", re.IGNORECASE)


def echoes_prompt(prompt: str, reply: str) -> bool:
    """Whether a reply mostly repeats or goes on with its prompt (the last user turn).

    It begins with the whole prompt; or runs of `RUN_WORDS` words of the prompt make up `MOSTLY` of it; or it writes a
    user's turn, or opens as one. A prompt that holds such marks itself may be answered with them.
    """
    if begins_with_prompt(reply, prompt) or share_of_prompt(prompt, reply) >= MOSTLY:
        return True
    return any(mark.search(reply) and not mark.search(prompt) for mark in (_TURN, _ASKS))


def share_of_prompt(prompt: str, reply: str) -> float:
    """Share of a reply's words that lie in runs of `RUN_WORDS` that the prompt has too; 0 for a short reply."""
    words, asked = _WORD.findall(normalised(reply)), _WORD.findall(normalised(prompt))
    if len(words) < LEAST_WORDS:
        return 0.0
    runs = {tuple(asked[at : at + RUN_WORDS]) for at in range(len(asked) - RUN_WORDS + 1)}
    taken: set[int] = set()
    for at in range(len(words) - RUN_WORDS + 1):
        if tuple(words[at : at + RUN_WORDS]) in runs:
            taken.update(range(at, at + RUN_WORDS))
    return len(taken) / len(words)
