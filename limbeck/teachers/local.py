"""A model on this machine as teacher: limbeck's own engine writes the replies, guided to the schema of each request.

Nothing leaves the machine and no server has to run (`chat_engine.py`).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from limbeck.api.answers import Answer
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Account
from limbeck.chat_engine import AT_ONCE, ChatEngine, Conversation
from limbeck.recipe import Model
from limbeck.recipe.pairs import Teach
from limbeck.store import digest_json
from limbeck.teachers.protocol import Request
from limbeck.teachers.schemas import bounded_schema


class LocalTeacher:
    """`local:MODEL`: a name that `limbeck pull` knows, a folder, or a hub id. Loaded when it is first asked.

    `machine` says on which device and in which precision; `teach.structured` whether a reply is held to its schema
    ("auto" and "json_schema"), to any JSON object, or to nothing ("off"). Pairs that others read say `name`: of a
    folder its last part only.
    """

    invents_prompts = True
    budget = UNLIMITED
    concurrency = AT_ONCE

    def __init__(self, model: str, settings: Teach, machine: Model, seed: int) -> None:
        self._engine = ChatEngine(
            model, machine, temperature=settings.temperature, max_tokens=settings.max_tokens, seed=seed
        )
        self.name = f"local:{self._engine.published_name}"
        self._structured = settings.structured
        self._facts: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"LocalTeacher(model={self._engine.name!r})"

    def check(self) -> None:
        """See that the model is there, and what guides its replies.

        Raises:
            TeacherError: without llguidance, unless nothing is to be guided.
            ModelError: where there is no such model, or it takes no conversation.
        """
        advice = None if self._structured == "off" else "; or set teach.structured to 'off'"
        self._engine.check("teach.teacher", advice)

    def facts(self) -> Mapping[str, Any]:
        """Digest of the weights, and how the replies that were written now were sampled."""
        return self._facts

    def identity(self, request: Request) -> Mapping[str, Any]:
        """Weights and tokenizer by their content, wherever they lie, every message, the parameters and the schema."""
        return {
            "teacher": "local",
            **self._engine.identity(),
            "messages": [message.model_dump() for message in request.messages],
            "schema": self._schema(request),
        }

    def _schema(self, request: Request) -> dict[str, Any] | None:
        schema = bounded_schema(request.kind)
        if schema is None or self._structured == "off":
            return None
        return {"type": "object"} if self._structured == "json_object" else schema

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Request]]:
        """Load the model, the first time, and open the engine.

        Raises:
            ModelError: where the model cannot be loaded; from the function that asks, where it cannot go on.
        """
        async with self._engine.session() as write:

            async def send(request: Request, account: Account) -> Answer:
                return await write(self._conversation(request), account)

            yield send
        self._facts = {
            "weights": self._engine.digest,
            "structured": self._structured,
            "slots": self._engine.slots,
        }

    def _conversation(self, request: Request) -> Conversation:
        # What decides a reply decides its random numbers.
        identity = digest_json({**self.identity(request), "kind": request.kind, "sample_index": request.sample_index})
        return Conversation(identity, request.messages, self._schema(request))
