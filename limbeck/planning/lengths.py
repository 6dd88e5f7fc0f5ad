"""How long the rows of a table are, in tokens: counted with the student's tokenizer where that is here, else a quarter
of their characters; of rows that nobody has read, a wide assumption that is said to be one. Pure, but for the counter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple, Protocol

from limbeck.errors import ModelError
from limbeck.planning.ranges import Range, exact
from limbeck.planning.tables import Table
from limbeck.recipe import Model
from limbeck.records import Demonstration, Message, Pair, PromptRow

CHARACTERS_A_TOKEN = 4  # of English; what is counted so may be off by a third
_OFF_BY = Range(0.75, 1.0, 1.35)
_TURN_TOKENS = 5  # what a chat template puts around a turn, about
# Nothing was read: from a short question to a long one, from a short answer to a long one.
ASSUMED_PROMPT = Range(50, 150, 500)
ASSUMED_RESPONSE = Range(80, 250, 600)


class Counter(Protocol):
    """Counts tokens."""

    @property
    def exact(self) -> bool:
        """Whether it is the model's own count."""

    def prompt(self, messages: Sequence[Message]) -> int:
        """Of a conversation up to where the assistant begins."""

    def response(self, text: str) -> int:
        """Of a response without its end of turn: what is computed of it."""


class ByCharacters:
    """Without a tokenizer."""

    exact = False

    def prompt(self, messages: Sequence[Message]) -> int:
        """A quarter of the characters, and some tokens around each turn."""
        return sum(_TURN_TOKENS + self.response(message.content) for message in messages) + _TURN_TOKENS

    def response(self, text: str) -> int:
        """A quarter of the characters."""
        return math.ceil(len(text) / CHARACTERS_A_TOKEN)


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a table's rows: the prompt, the (reference, chosen) response, the rejected one. `longest_prompt`,
    `longest`: of the rows seen, the longest prompt and the longest row. `fit`: the share of rows that is within
    the limits; means are of those. `variation`: standard deviation of a row's tokens, over their mean. `seen`: rows
    that were looked at; none: all is assumed. `turns`: replies that a row asks for, one to its prompt and
    one to every follow-up.
    """

    prompt: Range
    response: Range
    rejected: Range
    longest_prompt: int
    longest: int
    fit: float
    variation: float
    seen: int
    turns: float = 1.0


class _Row(NamedTuple):
    prompt: int
    response: int
    rejected: int


def lengths_of(table: Table, counter: Counter, limits: Model) -> Lengths:
    """Measure the samples of a table. A row is fit where neither prompt nor response is over its limit."""
    rows = [found for row in table.samples if (found := _counted(row, counter)) is not None]
    fit = [row for row in rows if _fits(row, limits)]
    if not fit:
        prompt = ASSUMED_PROMPT.capped(limits.max_prompt_tokens)
        response = ASSUMED_RESPONSE.capped(limits.max_response_tokens)
        longest = limits.max_prompt_tokens + limits.max_response_tokens
        return Lengths(prompt, response, response, limits.max_prompt_tokens, longest, 1.0, 0.0, 0)
    whole = table.rows is not None and table.rows.is_exact and table.rows.likely <= len(rows)
    columns = zip(*fit, strict=True)
    prompt, response, rejected = (_mean(list(column), whole, counter.exact) for column in columns)
    totals = [sum(row) for row in fit]
    variation = stdev(totals) / max(fmean(totals), 1) if len(totals) > 1 else 1.0
    longest_prompt, share = max(row.prompt for row in fit), len(fit) / len(rows)
    turns = fmean(1 + len(row.follow_ups) for row in table.samples)
    return Lengths(prompt, response, rejected, longest_prompt, max(totals), share, variation, len(rows), turns)


def _counted(row: PromptRow, counter: Counter) -> _Row | None:
    """None where the chat template refuses the conversation."""
    response, rejected = row.reference_response or "", ""
    if isinstance(row, Demonstration):
        response = row.response
    elif isinstance(row, Pair):
        response, rejected = row.chosen, row.rejected
    try:
        return _Row(counter.prompt(row.prompt), counter.response(response), counter.response(rejected))
    except ModelError:
        return None


def _fits(row: _Row, limits: Model) -> bool:
    longest = max(row.response, row.rejected) + 1  # with its end of turn
    return row.prompt <= limits.max_prompt_tokens and longest <= limits.max_response_tokens


def _mean(values: Sequence[int], whole: bool, counted: bool) -> Range:
    """The mean, with two standard errors where the rows are a sample, wider where tokens are estimated."""
    mean = fmean(values)
    error = 0.0 if whole else 2 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else mean / 2
    found = exact(mean) if not error else Range(max(mean - error, 0), mean, mean + error)
    return found if counted else found * _OFF_BY
