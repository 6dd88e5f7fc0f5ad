"""The chat models that can be asked for a verdict: one behind an address, or one on this machine.

Both take messages and a schema and give an answer, through the reply store (`api/asking.py`).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from limbeck.api import Answer, ChatClient, ChatRequest
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Account, Budget
from limbeck.api.costs import Terms, budget_of
from limbeck.api.json_replies import schema_format
from limbeck.chat_engine import AT_ONCE, ChatEngine, Conversation
from limbeck.errors import RecipeError
from limbeck.judges.pairwise_text import bounded_schema, schema
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import Pairwise
from limbeck.records import Message

FIELD = "judges.pairwise"


class Asked(NamedTuple):
    """One question. `key` is the reply store's, and so decides a local model's random numbers; `request`: its JSON."""

    key: str
    messages: tuple[Message, ...]
    request: str


class ChatModel(Protocol):
    """Whoever can be asked for verdicts. `is_remote`: only asking shows whether it answers."""

    name: str
    concurrency: int
    is_remote: bool

    @property
    def budget(self) -> Budget:
        """What it may cost."""

    def check(self) -> None:
        """Raise where it cannot be asked at all; sends nothing."""

    def identity(self) -> Mapping[str, Any]:
        """What decides a reply besides the messages, as JSON without secrets."""

    def session(self) -> AbstractAsyncContextManager[Send[Asked]]:
        """Open what asking needs; the value is the function that answers."""


def chat_model_for(recipe: Recipe, client: ChatClient | None = None) -> ChatModel:
    """The model that `judges.pairwise.model` names; `client` is the seam for tests.

    Raises:
        RecipeError: it names none, or neither `openai:MODEL` nor `local:MODEL`.
    """
    settings = recipe.judges.pairwise
    provider, _, model = (settings.model or "").partition(":")
    if provider == "openai" and model.strip():
        return OpenAIChat(model.strip(), settings, recipe.teach.prices, client)
    if provider == "local" and model.strip():
        return LocalChat(model.strip(), settings, recipe)
    found = "names no model" if settings.model is None else f"is {settings.model!r}"
    raise RecipeError(
        f"'pairwise' is among the judges, and {FIELD}.model {found}; it is `openai:MODEL`, as in openai:gpt-4o-mini, "
        "or `local:MODEL`, as in local:path/to/folder"
    )


class OpenAIChat:
    """`openai:MODEL`: any compatible server. JSON is asked for by its schema as far as the server takes one."""

    is_remote = True

    def __init__(self, model: str, settings: Pairwise, prices: str | None, client: ChatClient | None) -> None:
        self.name = f"openai:{model}"
        self.concurrency = settings.endpoint.concurrency
        self._model, self._settings, self._prices = model, settings, prices
        self._client = client or ChatClient(settings.endpoint)

    def __repr__(self) -> str:
        return f"OpenAIChat(model={self._model!r}, client={self._client!r})"

    @cached_property
    def budget(self) -> Budget:
        """What the recipe allows, by this model's price."""
        terms = Terms(f"{FIELD}.budget", self._settings.budget, self._settings.endpoint, self._prices)
        return budget_of(self._model, terms, self._client.wants_budget)

    def check(self) -> None:
        """Raise `RecipeError` where it may cost anything, `TeacherError` where key or address cannot be used."""
        _ = self.budget
        self._client.check()

    def identity(self) -> Mapping[str, Any]:
        """Endpoint, model and the parameters, with the schema that was wanted."""
        return {"endpoint": self._client.base_url, "model": self._model, "parameters": self._parameters()}

    def _parameters(self) -> dict[str, Any]:
        wanted = schema_format("verdict", schema(), "auto")
        settings = self._settings
        return {
            **settings.endpoint.extra,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "response_format": wanted,
        }

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Asked]]:
        """Open the connection pool; the key is checked first."""
        async with self._client as client:

            async def send(asked: Asked, account: Account) -> Answer:
                return await client.complete(ChatRequest(self._model, asked.messages, self._parameters()), account)

            yield send


class LocalChat:
    """`local:MODEL`: limbeck's own engine. Costs nothing.

    With llguidance its replies are guided to the verdict's schema; without, they are read as any other's.
    """

    is_remote = False
    budget = UNLIMITED
    concurrency = AT_ONCE

    def __init__(self, model: str, settings: Pairwise, recipe: Recipe) -> None:
        self._engine = ChatEngine(
            model,
            recipe.model,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            seed=recipe.seed,
        )
        self.name = f"local:{self._engine.published_name}"

    def __repr__(self) -> str:
        return f"LocalChat(model={self._engine.name!r})"

    def check(self) -> None:
        """See that the model is there, and takes a conversation."""
        self._engine.check(f"{FIELD}.model", None)

    def identity(self) -> Mapping[str, Any]:
        """Weights and tokenizer by their content, the parameters and the schema."""
        return {"judge": "local", **self._engine.identity(), "schema": self._schema}

    @cached_property
    def _schema(self) -> dict[str, Any] | None:
        return bounded_schema() if self._engine.can_guide() else None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Asked]]:
        """Load the model, the first time, and open the engine."""
        async with self._engine.session() as write:

            async def send(asked: Asked, account: Account) -> Answer:
                return await write(Conversation(asked.key, asked.messages, self._schema), account)

            yield send
