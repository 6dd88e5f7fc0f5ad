"""A model on this machine, asked as a server is: a conversation in, an answer out, guided to a JSON schema where asked.

What teachers and judges of the name `local:MODEL` share. Conversations are answered together (`lm/writing.py`), each
with random numbers of its own, so that an answer does not depend on what else is asked.
"""

import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.api.answers import Answer, Answered, Failed
from limbeck.api.budget import Account
from limbeck.errors import ModelError, TeacherError
from limbeck.lm.names import model_folder
from limbeck.lm.pull import KNOWN_MODELS
from limbeck.lm.samples import PromptIds, Sample
from limbeck.recipe import Model
from limbeck.records import Message
from limbeck.store import digest_json, digest_path

if TYPE_CHECKING:
    from limbeck.lm.load import LanguageModel

_SPOKEN = ("*token*", "*.jinja", "chat_template*", "vocab*", "merges*")  # what makes tokens of messages
AT_ONCE = 512  # conversations under way at most: as many as any device writes at once


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is to be answered. `identity` decides its random numbers; `schema`: of the one JSON object it must be."""

    identity: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None


Write = Callable[[Conversation, Account], Awaitable[Answer]]


class ChatEngine:
    """The model `name`: one that `limbeck pull` knows, a folder, or a hub id. Loaded when it is first asked.

    `machine` says on which device and in which precision. `slots`: answers written at once so far, 0 before the first.
    """

    def __init__(self, name: str, machine: Model, *, temperature: float, max_tokens: int, seed: int) -> None:
        self.name, self.slots = name, 0
        self._machine, self._seed = machine, seed
        self._temperature, self._max_tokens = temperature, max_tokens
        self._model: LanguageModel | None = None

    def check(self, who: str, advice: str | None) -> None:
        """See that the model is there (a hub id is fetched now, not in the night), and what guides its replies.

        `who` is what asks, as the recipe names it; `advice` is what to do without llguidance, None where nothing is to
        be guided.

        Raises:
            TeacherError: without llguidance, where it is needed.
            ModelError: where there is no such model, or it takes no conversation.
        """
        from limbeck.lm.chat import chat_of
        from limbeck.lm.guided import MISSING
        from limbeck.lm.load import load_tokenizer

        if advice is not None and not self.can_guide():
            raise TeacherError(f"{who} 'local:{self.name}': {MISSING}{advice}")
        chat_of(load_tokenizer(self.name), self.name)

    def can_guide(self) -> bool:
        """Whether its answers can be held to a schema: llguidance is installed."""
        from limbeck.lm import guided

        return guided.installed()

    @property
    def published_name(self) -> str:
        """What others may read: of a folder its last part only."""
        folder = Path(self.name.strip()).expanduser()
        here = folder.is_dir() or self.name.strip().startswith((".", "/", "~")) or len(folder.parts) > 2
        return folder.resolve().name if here and self.name not in KNOWN_MODELS else self.name

    @functools.cached_property
    def digest(self) -> str:
        """Weights and tokenizer by their content, wherever they lie."""
        from limbeck.lm.reference_logps import weights_digest

        folder = model_folder(self.name)
        spoken = sorted({file for pattern in _SPOKEN for file in folder.glob(pattern)})
        return digest_json([weights_digest(folder), [[file.name, digest_path(file)] for file in spoken]])

    def identity(self) -> dict[str, Any]:
        """What decides an answer besides the conversation, as JSON."""
        return {
            "model": self.digest,
            "parameters": {"temperature": self._temperature, "max_tokens": self._max_tokens, "seed": self._seed},
            "machine": [self._machine.device, self._machine.dtype],
        }

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Write]:
        """Load the model, the first time, and open the engine; the value is the function that answers.

        Raises:
            ModelError: where the model cannot be loaded; from the function that asks, where it cannot go on.
        """
        from limbeck.lm.generate import Sampling
        from limbeck.lm.writing import Writer

        model = self._weights()
        sampling = Sampling(self._max_tokens, temperature=self._temperature, seed=self._seed)
        async with Writer(model, sampling) as writer:

            async def write(asked: Conversation, account: Account) -> Answer:
                prompt = self._prompt(model, asked)
                if isinstance(prompt, Failed):
                    return prompt
                attempt = await account.begin(0, 0)  # what this machine writes is in no budget
                sample = await writer.write(prompt)
                account.settle(attempt, 0, 0, sample.text)
                return _answer(prompt, sample)

            try:
                yield write
            finally:
                self.slots = writer.slots

    def _prompt(self, model: "LanguageModel", asked: Conversation) -> PromptIds | Failed:
        try:
            ids = model.chat.prompt_ids(asked.messages)
        except ModelError as error:
            return Failed(reason="bad_request", detail=str(error))
        most = min(self._max_tokens, (model.context_tokens or len(ids) + self._max_tokens) - len(ids))
        if most < 1:
            detail = f"a prompt of {len(ids)} tokens leaves no room in the {model.context_tokens} of {self.name}"
            return Failed(reason="bad_request", detail=detail)
        schema = json.dumps(asked.schema) if asked.schema else None
        return PromptIds(asked.identity, ids, max_new_tokens=most, schema=schema)

    def _weights(self) -> "LanguageModel":
        from limbeck.lm.load import load_model
        from limbeck.lm.machine import place

        if self._model is None:
            self._model = load_model(self.name, *place(self._machine))
        return self._model


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
    return any("maxLength" in rule and len(reply[key]) >= rule["maxLength"] for key, rule in properties.items())
