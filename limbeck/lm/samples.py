"""What is asked of the sampling engine, and what it gives back. Pure values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limbeck.records import FinishReason


@dataclass(frozen=True)
class PromptIds:
    """A prompt to be continued `num_samples` times; `id` names it and, with the seed, decides its random numbers.

    `max_new_tokens`: where it differs from the sampling's. `schema`: a JSON schema, as JSON, that the reply keeps to
    (guided.py).
    """

    id: str
    ids: tuple[int, ...]
    num_samples: int = 1
    max_new_tokens: int | None = None
    schema: str | None = None


@dataclass(frozen=True)
class Sample:
    """A finished sample: token ids (the stop token included), their log-probabilities in nats, and why it ended.

    `text`: without stop tokens, without the stop string and what follows it.
    """

    prompt_id: str
    sample_index: int
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish_reason: FinishReason
    text: str


@dataclass
class Tally:
    """What was computed: rows of prefill and decoding, how many of them were of use; halvings of the slots."""

    computed_rows: int = 0
    useful_rows: int = 0
    steps: int = 0
    halvings: int = 0


# Asked before every step what has come meanwhile, of at most so many tokens, prompt and reply together; does not wait.
Arriving = Callable[[int], Sequence[PromptIds]]
