"""A model behind an OpenAI-compatible server as teacher: the rendered messages go out, the raw reply comes back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from limbeck.api.answers import Answer
from limbeck.api.asking import Send
from limbeck.api.budget import Account, Budget
from limbeck.api.client import ChatClient, ChatRequest
from limbeck.api.wire import Adaptation
from limbeck.errors import TeacherError
from limbeck.recipe_pairs import Teach
from limbeck.teachers.costs import budget_of
from limbeck.teachers.protocol import Request
from limbeck.teachers.schemas import response_format

_REFUSALS: frozenset[Adaptation] = frozenset({"json_object for json_schema", "without response_format"})


class OpenAITeacher:
    """`openai:MODEL`. Asks for JSON of the reply's schema; where the server knows no such thing, as `teach.structured`
    says.

    `client` is the seam for tests: the real client over a mock transport.
    """

    invents_prompts = True

    def __init__(self, model: str, settings: Teach, client: ChatClient | None = None) -> None:
        self.name = f"openai:{model}"
        self.concurrency = settings.endpoint.concurrency
        self._model = model
        self._settings = settings
        self._client = client or ChatClient(settings.endpoint)

    def __repr__(self) -> str:
        return f"OpenAITeacher(model={self._model!r}, client={self._client!r})"

    @cached_property
    def budget(self) -> Budget:
        """What the recipe allows, by this model's price."""
        return budget_of(self._model, self._settings)

    def check(self) -> None:
        """Raise `RecipeError` where it may cost anything, `TeacherError` where key or address cannot be used."""
        _ = self.budget
        self._client.check()

    def facts(self) -> Mapping[str, Any]:
        """What the server did not take as it was asked, for instance `without response_format`."""
        return {"adaptations": sorted(self._client.adaptations)} if self._client.adaptations else {}

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
                asked = ChatRequest(self._model, request.messages, self._parameters(request))
                answer = await client.complete(asked, account)
                self._insist()
                return answer

            yield send

    def _parameters(self, request: Request) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        wanted = response_format(request.kind, self._settings.structured)
        return parameters | ({"response_format": wanted} if wanted else {})

    def _insist(self) -> None:
        wanted = self._settings.structured
        refused = _REFUSALS & self._client.adaptations
        if wanted != "auto" and refused:
            raise TeacherError(
                f"teach.structured is {wanted!r}, and {self._client.base_url} does not take that for {self._model!r}; "
                "set it to 'auto', which asks for what the server takes"
            )
