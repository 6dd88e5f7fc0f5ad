"""What is sampled: prompts, how long each reply may become, and what ends one. Passes to workers as a JSON file."""

import json
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.options import Options

WARM_UP_PROMPTS, WARM_UP_TOKENS = 8, 16


class Prompt(NamedTuple):
    """Token ids to continue, by at most so many, or by exactly so many where the work is forced."""

    id: str
    ids: list[int]
    max_new_tokens: int


class Work(NamedTuple):
    """Prompts of the warm-up, which is not timed, and those that are. `forced`: an end of turn ends nothing."""

    warm_up: list[Prompt]
    timed: list[Prompt]
    stop_tokens: list[int]
    forced: bool = False

    @property
    def num_forced_tokens(self) -> int:
        """New tokens of all timed prompts, where they are forced."""
        return sum(prompt.max_new_tokens for prompt in self.timed)

    def first(self, number: int, max_new_tokens: int | None = None) -> "Work":
        """The first prompts alone; with a number of tokens, limited to it."""
        few = self.timed[:number]
        if max_new_tokens is not None:
            few = [prompt._replace(max_new_tokens=max_new_tokens) for prompt in few]
        return self._replace(timed=few)

    def forced_to(self, lengths: Sequence[int]) -> "Work":
        """As many prompts as there are lengths, each continued by exactly as many tokens."""
        timed = [prompt._replace(max_new_tokens=n) for prompt, n in zip(self.timed, lengths, strict=False)]
        return self._replace(timed=timed, forced=True)


def uneven_lengths(number: int, longest: int, seed: int) -> list[int]:
    """Lengths from 1 to `longest`, drawn uniformly."""
    rng = random.Random(seed)
    return [rng.randint(1, longest) for _ in range(number)]


def grade_school_work(options: Options) -> Work:
    """Reasoning Gym's gsm_symbolic questions through the model's chat template; those behind them warm up."""
    from benchmarks.inputs import chat
    from limbeck.records import Message
    from limbeck.tasks.gym import items

    template = chat(options.model)
    number = options.prompts + WARM_UP_PROMPTS
    prompts = [
        Prompt(
            f"gsm/{n}",
            list(template.prompt_ids([Message(role="user", content=item.question)])),
            options.max_new_tokens if n < options.prompts else WARM_UP_TOKENS,
        )
        for n, item in enumerate(islice(items("gsm_symbolic", {}, options.seed), number))
    ]
    return Work(prompts[options.prompts :], prompts[: options.prompts], sorted(template.stop_tokens))


def write_work(path: Path, work: Work) -> None:
    """Write work for workers to read, by field: one of them shares no code with this."""
    fields = work._asdict() | {part: [p._asdict() for p in getattr(work, part)] for part in ("warm_up", "timed")}
    path.write_text(json.dumps(fields), encoding="utf-8")


def read_work(path: Path) -> Work:
    """Read what `write_work` wrote."""
    value = json.loads(path.read_text(encoding="utf-8"))
    parts = {part: [Prompt(**prompt) for prompt in value[part]] for part in ("warm_up", "timed")}
    return Work(**(value | parts))


def write_replies(path: Path, replies: dict[str, list[int]]) -> None:
    """Write the token ids of every reply, by its prompt's id."""
    path.write_text(json.dumps(replies), encoding="utf-8")


def read_replies(path: Path) -> dict[str, list[int]]:
    """Read what a worker wrote."""
    replies: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))
    return replies
