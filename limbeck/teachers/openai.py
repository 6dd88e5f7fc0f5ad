"""A model behind an OpenAI-compatible server as teacher: the rendered messages go out, the raw reply comes back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from limbeck.api.answers import Answer
from limbeck.api.asking import Send
from limbeck.api.batch_client import BatchClient
from limbeck.api.batch_results import Batching
from limbeck.api.budget import Account
from limbeck.api.client import ChatClient, ChatRequest
from limbeck.recipe_pairs import Teach
from limbeck.teachers.costs import budget_of
from limbeck.teachers.protocol import Request


class OpenAITeacher:
    """`openai:MODEL`. Asks for JSON (`response_format`), and does without where the server knows no such thing.

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
        self.budget = budget_of(model, settings)
        self._client = client or ChatClient(settings.endpoint)
        self._parameters: dict[str, Any] = {
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "response_format": {"type": "json_object"},
        }
        self._batching: Batching[Request] | None = None
        if settings.batch:
            self._batching = Batching(batch_client or BatchClient(settings.endpoint), self._chat_request)

    def __repr__(self) -> str:
        return f"OpenAITeacher(model={self._model!r}, client={self._client!r})"

    def check(self) -> None:
        """Raise `TeacherError` where key or address cannot be used."""
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
        """Endpoint, model, every message and the parameters."""
        return {
            "endpoint": self._client.base_url,
            "model": self._model,
            "messages": [message.model_dump() for message in request.messages],
            "parameters": self._parameters,
        }

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Request]]:
        """Open the connection pool; the key is checked first."""
        async with self._client as client:

            async def send(request: Request, account: Account) -> Answer:
                return await client.complete(self._chat_request(request), account)

            yield send

    def _chat_request(self, request: Request) -> ChatRequest:
        return ChatRequest(self._model, request.messages, self._parameters)
