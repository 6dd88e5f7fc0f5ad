"""What teaching would ask and cost, without asking: the stage itself, with a teacher that only listens."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from limbeck.api.answers import Answer, Answered
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Account
from limbeck.api.client import BYTES_A_TOKEN
from limbeck.api.prices import NANO
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Screen
from limbeck.records import Message
from limbeck.stages.teach.writing import teach_pairs
from limbeck.teachers import NewPromptRow, Request, Teacher, contrast_teacher_for, teacher_for
from limbeck.teachers.schemas import KEYS, PROMPT_KEYS


@dataclass(slots=True)
class Asked:
    """The requests of one template: how many, their prompts in bytes, and the first of them."""

    first: tuple[Message, ...]
    number: int = 0
    prompt_bytes: int = 0


class Rehearsed(NamedTuple):
    """What teaching comes to where every reply is usable and kept. Tokens of prompts by four bytes a token.

    `most_reply_tokens`: where every reply is as long as it may be. Dollars are None where no price is known.
    """

    by_template: Mapping[str, Asked]
    requests: int
    prompt_tokens: int
    most_reply_tokens: int
    prompts_usd: float | None
    most_usd: float | None


@dataclass
class _Listener:
    """A teacher that writes down what it is asked, and answers what parses and passes.

    `number` tells two of one name apart, which are asked at two addresses.
    """

    number: int
    name: str
    invents_prompts: bool
    heard: dict[str, Asked] = field(default_factory=dict)
    concurrency: int = 1
    budget = UNLIMITED

    def check(self) -> None:
        """Always there."""

    def facts(self) -> Mapping[str, Any]:
        """Nothing is kept of a rehearsal."""
        return {}

    def identity(self, request: Request) -> Mapping[str, Any]:
        """The messages and who is asked."""
        return {"teacher": [self.number, self.name], "messages": [message.model_dump() for message in request.messages]}

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Request]]:
        """Yield the function that listens."""

        async def send(request: Request, _account: Account) -> Answer:
            return Answered(text=self._reply(request))

        yield send

    def _reply(self, request: Request) -> str:
        asked = self.heard.setdefault(request.kind, Asked(request.messages))
        asked.number += 1
        asked.prompt_bytes += sum(len(message.content.encode()) for message in request.messages)
        place = f"{self.number} {self.name} {request.kind} {asked.number}"
        words = _unlike_others(place)
        keys = KEYS.get(request.kind)
        if keys is None:
            return words
        if keys == PROMPT_KEYS and isinstance(request.row, NewPromptRow) and not self.invents_prompts:
            fresh = request.row.fresh
            return json.dumps({"prompt": fresh.problem.question if fresh and fresh.problem else words})
        return json.dumps({key: _unlike_others(f"{place} {key}") for key in keys})


def rehearse(recipe: Recipe, inputs: Mapping[str, Path]) -> Rehearsed:
    """Go through the stage with a teacher that only listens; nothing is sent and nothing is kept.

    Raises:
        RecipeError, InputError: as the stage itself.
    """
    teacher, weaker = teacher_for(recipe), contrast_teacher_for(recipe)
    asked = [one for one in (teacher, weaker) if one is not None]
    listeners = [_Listener(number, one.name, one.invents_prompts) for number, one in enumerate(asked)]
    lenient = recipe.model_copy(update={"screen": Screen(min_response_characters=0, on_verifier_disagreement="keep")})
    with TemporaryDirectory() as folder:
        teach_pairs(lenient, listeners[0], inputs, Path(folder), weaker=listeners[1] if weaker else None)
    return _estimate(recipe, asked, listeners)


def _estimate(recipe: Recipe, teachers: Sequence[Teacher], listeners: Sequence[_Listener]) -> Rehearsed:
    """Each teacher's requests by its own price; money is known as far as prices are."""
    requests = prompts = prompts_nano = most_nano = 0
    for teacher, listener in zip(teachers, listeners, strict=True):
        number = sum(asked.number for asked in listener.heard.values())
        tokens = round(sum(asked.prompt_bytes for asked in listener.heard.values()) / BYTES_A_TOKEN)
        requests, prompts = requests + number, prompts + tokens
        prompts_nano += teacher.budget.cost(tokens, 0).nano_dollars
        most_nano += teacher.budget.cost(tokens, number * recipe.teach.max_tokens).nano_dollars
    priced = any(teacher.budget.price is not None for teacher in teachers)
    return Rehearsed(
        by_template={name: asked for listener in reversed(listeners) for name, asked in listener.heard.items()},
        requests=requests,
        prompt_tokens=prompts,
        most_reply_tokens=requests * recipe.teach.max_tokens,
        prompts_usd=prompts_nano / NANO if priced else None,
        most_usd=most_nano / NANO if priced else None,
    )


def _unlike_others(seed: str) -> str:
    """Words that no other request gets, so that nothing is taken for a duplicate."""
    digits = hashlib.sha256(seed.encode()).hexdigest()
    return " ".join(digits[start : start + 4].translate(_LETTERS) for start in range(0, 48, 4))


_LETTERS = str.maketrans("0123456789", "ghijklmnop")  # figures might be read as an answer
