"""The records that stages exchange: one JSON object a line, one class a kind of line.

The ground floor: no torch, no network. Every record is frozen and refuses unknown keys, so a file that was edited by
hand or written by another version is refused with its line number (see `limbeck.store.read_records`) instead of being
half understood.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "stop_string"]  # end of turn, cut at the limit, cut at a stop string
HeldOutSplit = Literal["test", "transfer"]


class Record(BaseModel):
    """Base of every line: frozen, strict about unknown keys."""

    # A value that is not finite is written as NaN or Infinity, so that what was written can be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Problem(Record):
    """A verifiable reasoning problem: what a scorer needs to decide correctness, and how a good answer is reached.

    `question` and `metadata` are the generator's own item (its scorer reads them); `solution` is the worked solution,
    step by step, ending in the line `#### answer`. `content` identifies the problem whatever its wording: two problems
    with the same content are the same problem.
    """

    family: str
    question: str
    answer: str
    metadata: dict[str, Any]
    solution: str
    content: str

    @property
    def is_worded(self) -> bool:
        """Whether somebody wrote it, so that its wording is its own; a generator's families share theirs by design."""
        return self.metadata.get("worded") is True


class PromptRow(Record):
    """A prompt: a conversation that ends with a user turn, with the problem behind it where there is one.

    `reference_response` is the data set's own good answer where it has one (a chosen response, a demonstration).
    `follow_ups`: what the user says after each of the model's own replies (MT-bench); asked in evaluation (turns.py).
    """

    id: str
    prompt: tuple[Message, ...] = Field(min_length=1)
    source: str
    problem: Problem | None = None
    reference_response: str | None = None
    follow_ups: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        """The family of a problem, else the source: what tables are broken down by."""
        return self.problem.family if self.problem else self.source


class Demonstration(PromptRow):
    """A prompt and the response the student is to imitate (SFT)."""

    response: str


class Reply(Record):
    """One sampled response. `num_tokens` counts the end-of-turn token where there is one.

    It is None where a server did not say and no tokenizer is at hand to count with.
    """

    prompt_id: str
    sample_index: int = 0
    text: str
    finish_reason: FinishReason
    num_tokens: int | None


class Judgement(Record):
    """What a judge says of one reply. `score` is None where the judge could not say; `unscored_reason` then says why.

    (A reply that makes the task's scorer fail is wrong, not unscored: its score is 0, and the failure is kept there.)

    For the verifier `score` is the scorer's value and `solved` is `score == 1.0`; a reward model leaves `solved` None.
    `parsed` is False where nothing in the text could be a final answer (always True for reward models).
    """

    prompt_id: str
    sample_index: int = 0
    score: float | None
    solved: bool | None = None
    parsed: bool = True
    unscored_reason: str | None = None


class WeakPrompt(PromptRow):
    """A mined prompt with the student's failing replies to it, and those that a verifier calls right."""

    failures: tuple[str, ...] = ()
    successes: tuple[str, ...] = ()


class Divergence(Record):
    """A failing reply of the student and a right one that begins like it: `shared_characters` of both are the same."""

    prompt_id: str
    failure: str
    correction: str
    shared_characters: int


class Pair(PromptRow):
    """A preference pair with its provenance. `source` is the kind of pair (`random`, `zero_shot`, `on_policy`, ...).

    `placed_after`: id of the human pair that a rolling pair follows in the stream, the last of those it was written
    from.
    `scores`: what judges say of it, by name, for instance `margin`.
    `swapped`: screening exchanged what its author called chosen and rejected, as the task's scorer has it.
    """

    chosen: str
    rejected: str
    teacher: str | None = None
    template: str | None = None
    request_key: str | None = None
    mined_from: str | None = None
    placed_after: str | None = None
    scores: dict[str, float] = {}
    swapped: bool = False


class Metric(Record):
    """One point of a training curve. `values` by name, for instance `loss` (nats), `margin`, `accuracy`."""

    step: int
    split: Literal["train", "validation"]
    values: dict[str, float]


class Estimate(Record):
    """A figure with its interval (at the confidence the recipe names) and the number of prompts behind it."""

    estimate: float
    low: float
    high: float
    n: int


def user_prompt(text: str) -> tuple[Message, ...]:
    """The simplest conversation: one user turn."""
    return (Message(role="user", content=text),)


def system_folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same without a system turn: its words stand at the beginning of the first user turn."""
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    first = messages[1].model_copy(update={"content": f"{messages[0].content}\n\n{messages[1].content}"})
    return (first, *messages[2:])
