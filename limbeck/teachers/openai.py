"""A model behind an OpenAI-compatible server as teacher: the rendered messages go out, the raw reply comes back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from limbeck.api.answers import Answer
from limbeck.api.asking import Send
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_results import Batching
from limbeck.api.budget import Account, Budget
from limbeck.api.client import ChatClient, ChatRequest
from limbeck.api.costs import Terms, budget_of
from limbeck.api.wire import Adaptation
from limbeck.recipe.pairs import Teach
from limbeck.teachers.protocol import Request
from limbeck.teachers.schemas import response_format

_REFUSALS: frozenset[Adaptation] = frozenset({"json_object for json_schema", "without response_format"})


class OpenAITeacher:
    """`openai:MODEL`. Asks for JSON of the reply's schema; where the server knows no such thing, as `teach.structured`
    says.

    With `teach.batch` requests go out through the provider's batch API. `client` and `batch_client` are the seams for
    tests: the real clients over a mock transport.
    """

    invents_prompts = True

    def __init__(
        self,
        model: str,
        settings: Teach,
        client: ChatClient | None = None,
        batch_client: BatchClient | None = None,
    ) -> None:
        self.name = f"openai:{model}"
        self.concurrency = settings.endpoint.concurrency
        self._model = model
        self._settings = settings
        self._client = client or ChatClient(settings.endpoint)
        forbidden = dict.fromkeys(_REFUSALS, self._not_taken()) if settings.structured != "auto" else {}
        self._client.forbidden = forbidden
        self._batching: Batching[Request] | None = None
        if settings.batch:
            batch_client = batch_client or BatchClient(settings.endpoint)
            self._batching = Batching(batch_client, self._chat_request, forbidden=forbidden)

    def __repr__(self) -> str:
        return f"OpenAITeacher(model={self._model!r}, client={self._client!r})"

    @cached_property
    def budget(self) -> Budget:
        """What the recipe allows, by this model's price."""
        settings = self._settings
        terms = Terms("teach.budget", settings.budget, settings.endpoint, settings.prices, settings.batch)
        return budget_of(self._model, terms, self._client.wants_budget)

    def check(self) -> None:
        """Raise `RecipeError` where it may cost anything, `TeacherError` where key or address cannot be used."""
        _ = self.budget
        self._client.check()

    def facts(self) -> Mapping[str, Any]:
        """What the server did not take as it was asked, for instance `without response_format`."""
        adaptations = self._client.adaptations | (self._batching.adaptations if self._batching else set())
        facts: dict[str, Any] = {"adaptations": sorted(adaptations)} if adaptations else {}
        return facts | ({"batch": True} if self._batching else {})

    def batching(self) -> Batching[Request] | None:
        """How requests go out in batches; None where the recipe wants them one by one."""
        return self._batching

    def identity(self, request: Request) -> Mapping[str, Any]:
        """Endpoint, model, every message and the parameters, with the schema that was wanted."""
        return {
            "endpoint": self._client.base_url,
            "model": self._model,
            "messages": [message.model_dump() for message in request.messages],
            "parameters": self._parameters(request),
        }

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Request]]:
        """Open the connection pool; the key is checked first.

        The function that answers raises `TeacherError` where `teach.structured` insists on what the server refuses.
        """
        async with self._client as client:

            async def send(request: Request, account: Account) -> Answer:
                return await client.complete(self._chat_request(request), account)

            yield send

    def _chat_request(self, request: Request) -> ChatRequest:
        return ChatRequest(self._model, request.messages, self._parameters(request))

    def _parameters(self, request: Request) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            **self._settings.endpoint.extra,
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        wanted = response_format(request.kind, self._settings.structured)
        return parameters | ({"response_format": wanted} if wanted else {})

    def _not_taken(self) -> str:
        return (
            f"teach.structured is {self._settings.structured!r}, and {self._client.base_url} does not take that for "
            f"{self._model!r}; set it to 'auto', which asks for what the server takes"
        )
