"""A model on this machine as teacher: limbeck's own engine writes the replies, guided to the schema of each request.

Requests are written together (writing.py), each with random numbers of its own, so that a reply does not depend on what
else is asked. Nothing leaves the machine and no server has to run.
"""

import functools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.api.answers import Answer, Answered, Failed
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Account
from limbeck.errors import ModelError, TeacherError
from limbeck.lm.names import model_folder
from limbeck.lm.pull import KNOWN_MODELS
from limbeck.lm.samples import PromptIds, Sample
from limbeck.recipe import Model
from limbeck.recipe_pairs import Teach
from limbeck.records import Message
from limbeck.store import digest_json, digest_path
from limbeck.teachers.protocol import Request
from limbeck.teachers.schemas import bounded_schema

if TYPE_CHECKING:
    from limbeck.lm.load import LanguageModel

_SPOKEN = ("*token*", "*.jinja", "chat_template*", "vocab*", "merges*")  # what makes tokens of messages
SLOTS = 96  # replies written at once, where memory allows


class LocalTeacher:
    """`local:MODEL`: a name that `limbeck pull` knows, a folder, or a hub id. Loaded when it is first asked.

    `machine` says on which device and in which precision; `teach.structured` whether a reply is held to its schema
    ("auto" and "json_schema"), to any JSON object, or to nothing ("off"). Pairs that others read say `name`: of a
    folder its last part only.
    """

    invents_prompts = True
    budget = UNLIMITED
    concurrency = SLOTS

    def __init__(self, model: str, settings: Teach, machine: Model, seed: int) -> None:
        self.name = f"local:{_published_name(model)}"
        self._name, self._machine, self._seed, self._structured = model, machine, seed, settings.structured
        self._temperature, self._max_tokens = settings.temperature, settings.max_tokens
        self._model: LanguageModel | None = None
        self._facts: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"LocalTeacher(model={self._name!r})"

    def check(self) -> None:
        """See that the model is there (a hub id is fetched now, not in the night), and what guides its replies.

        Raises:
            TeacherError: without llguidance, unless nothing is to be guided.
            ModelError: where there is no such model, or it takes no conversation.
        """
        from limbeck.lm import guided
        from limbeck.lm.chat import chat_of
        from limbeck.lm.load import load_tokenizer

        if self._structured != "off" and not guided.installed():
            raise TeacherError(
                f"teach.teacher 'local:{self._name}': {guided.MISSING}; or set teach.structured to 'off'"
            )
        chat_of(load_tokenizer(self._name), self._name)

    def facts(self) -> Mapping[str, Any]:
        """Digest of the weights, and how the replies that were written now were sampled."""
        return self._facts

    def identity(self, request: Request) -> Mapping[str, Any]:
        """Weights and tokenizer by their content, wherever they lie, every message, the parameters and the schema."""
        return {
            "teacher": "local",
            "model": self._digest,
            "messages": [message.model_dump() for message in request.messages],
            "parameters": {"temperature": self._temperature, "max_tokens": self._max_tokens, "seed": self._seed},
            "machine": [self._machine.device, self._machine.dtype],
            "schema": self._schema(request),
        }

    @functools.cached_property
    def _digest(self) -> str:
        from limbeck.lm.reference_logps import weights_digest

        folder = model_folder(self._name)
        spoken = sorted({file for pattern in _SPOKEN for file in folder.glob(pattern)})
        return digest_json([weights_digest(folder), [[file.name, digest_path(file)] for file in spoken]])

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
        from limbeck.lm.generate import Sampling
        from limbeck.teachers.writing import Writer

        model = self._weights()
        sampling = Sampling(self._max_tokens, temperature=self._temperature, seed=self._seed, slots=SLOTS)
        takes_system = model.chat.takes_system()
        async with Writer(model, sampling) as writer:

            async def send(request: Request, account: Account) -> Answer:
                prompt = self._prompt(model, request, takes_system)
                if isinstance(prompt, Failed):
                    return prompt
                attempt = await account.begin(0, 0)  # what this machine writes is in no budget
                sample = await writer.write(prompt)
                account.settle(attempt, 0, 0, sample.text)
                return _answer(prompt, sample)

            try:
                yield send
            finally:
                self._facts = {"weights": self._digest, "structured": self._structured, "slots": writer.slots}

    def _prompt(self, model: "LanguageModel", request: Request, takes_system: bool) -> PromptIds | Failed:
        try:
            ids = model.chat.prompt_ids(request.messages if takes_system else folded(request.messages))
        except ModelError as error:
            return Failed(reason="bad_request", detail=str(error))
        most = min(self._max_tokens, (model.context_tokens or len(ids) + self._max_tokens) - len(ids))
        if most < 1:
            detail = f"a prompt of {len(ids)} tokens leaves no room in the {model.context_tokens} of {self._name}"
            return Failed(reason="bad_request", detail=detail)
        schema = self._schema(request)
        # What decides a reply decides its random numbers.
        identity = digest_json({**self.identity(request), "kind": request.kind, "sample_index": request.sample_index})
        return PromptIds(identity, ids, max_new_tokens=most, schema=json.dumps(schema) if schema else None)

    def _weights(self) -> "LanguageModel":
        from limbeck.lm.load import load_model
        from limbeck.lm.machine import place

        if self._model is None:
            self._model = load_model(self._name, *place(self._machine))
        return self._model


def _published_name(model: str) -> str:
    folder = Path(model.strip()).expanduser()
    here = folder.is_dir() or model.strip().startswith((".", "/", "~")) or len(folder.parts) > 2
    return folder.resolve().name if here and model not in KNOWN_MODELS else model


def folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same without a system turn: its words stand at the beginning of the first user turn."""
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    first = messages[1].model_copy(update={"content": f"{messages[0].content}\n\n{messages[1].content}"})
    return (first, *messages[2:])


def _answer(prompt: PromptIds, sample: Sample) -> Answer:
    tokens = {"tokens_in": len(prompt.ids), "tokens_out": len(sample.ids)}
    if sample.finish_reason == "length" or (prompt.schema and _cut(sample.text, json.loads(prompt.schema))):
        return Failed(reason="truncated", text=sample.text, **tokens)
    if not sample.text.strip():
        return Failed(reason="empty", text=sample.text, **tokens)
    return Answered(text=sample.text, finish_reason=sample.finish_reason, **tokens)


def _cut(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a string of the reply was ended by the schema's limit, not by the model."""
    reply, properties = json.loads(text), schema.get("properties", {})
    return any(len(reply[key]) >= rule["maxLength"] for key, rule in properties.items())
