"""One OpenAI-compatible server: chat completions with bounded retries and typed outcomes.

A bad reply is a value (`Failed`); only what is final for every request is an exception (`TeacherError`): no usable
key, no such model, no connection. The key is read from the environment and appears nowhere else: not in `repr`, not
in an error, not in a reply (server texts are scrubbed). Redirects are not followed, so it goes to no other host.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import SecretStr

from limbeck.api import wire
from limbeck.api.answers import Answer, Failed
from limbeck.errors import TeacherError
from limbeck.recipe_pairs import Endpoint
from limbeck.records import Message

OPENAI_URL = "https://api.openai.com/v1"
RETRIED_STATUSES = frozenset({408, 409, 429})  # and every 5xx
FIRST_DELAY_SECONDS = 0.5  # doubled at every retry, with jitter (the schedule of OpenAI's own client)
LONGEST_DELAY_SECONDS = 30.0
LONGEST_LOOK_SECONDS = 30.0  # a list of models needs no sampling
LONGEST_RETRY_AFTER_SECONDS = 120.0  # a server that asks for an hour is asked again after two minutes


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion. `parameters` go into the body as they are (temperature, max_tokens, response_format)."""

    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON body of the request."""
        messages = [message.model_dump() for message in self.messages]
        return {"model": self.model, "messages": messages, **self.parameters}


@dataclass(frozen=True, slots=True)
class _Retry:
    failure: Failed
    retry_after_seconds: float | None = None
    unreachable: bool = False


class ChatClient:
    """A client of one server. Use as an async context manager; `complete` may be awaited many times at once.

    `read` makes an answer of a 200; `adapts` is False where a request must be taken as it is or not at all.
    `transport`, `sleep`, `now` and `environ` are the seams that tests drive; leave them out in use.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        default_base_url: str = OPENAI_URL,
        read: Callable[[bytes, str | None], Answer] = wire.read_completion,
        adapts: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.base_url = (endpoint.base_url or default_base_url).rstrip("/")
        self.adaptations: set[wire.Adaptation] = set()
        self._endpoint = endpoint
        self._read = read
        self._adapts = adapts
        self._transport = transport
        self._sleep = sleep
        self._now = now
        self._environ = environ
        self._jitter = random.Random()  # its own, so that waiting moves no other random choice
        self._key: SecretStr | None = None
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"ChatClient(base_url={self.base_url!r}, key from {self._endpoint.api_key_env})"

    def check(self) -> None:
        """Say at once, before anything is sent, whether address and key can be used.

        Raises:
            TeacherError: no key for a provider's own address, a key no header can carry, or no http(s) address.
        """
        self._key = self._read_key()
        try:
            address = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise TeacherError(f"{self.base_url!r} is no address of a server: base_url looks like {OPENAI_URL}")
        if address.userinfo or address.query:
            raise TeacherError(
                f"the base_url for {address.host} must not carry a name, password or query: "
                f"put the key into the environment variable {self._endpoint.api_key_env or 'that api_key_env names'}"
            )

    def _read_key(self) -> SecretStr | None:
        name = self._endpoint.api_key_env
        key = self._environ.get(name, "").strip()
        if not key:
            if self._endpoint.base_url is None:
                raise TeacherError(
                    f"{self.base_url} needs a key: set the environment variable {name}, or name your own server "
                    "as base_url"
                )
            return None
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise TeacherError(f"the environment variable {name} holds characters that no key has; set it again")
        return SecretStr(key)

    async def __aenter__(self) -> Self:
        self.check()
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"} if self._key else {}
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=self._endpoint.timeout_seconds,
            transport=self._transport,
            limits=httpx.Limits(max_connections=self._endpoint.concurrency),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def complete(self, request: ChatRequest) -> Answer:
        """Ask for one completion; retries connections, timeouts, 408, 409, 429 and 5xx up to `max_retries` times.

        Raises:
            TeacherError: what no other request would survive either (401, 403, 404, 410, no credit, no connection).
        """
        attempt = 0
        while True:
            outcome = await self._once(request)
            if not isinstance(outcome, _Retry):
                return outcome
            if attempt == self._endpoint.max_retries:
                break
            await self._sleep(self._delay_seconds(attempt, outcome.retry_after_seconds))
            attempt += 1
        if outcome.unreachable:
            raise TeacherError(
                f"no connection to {self.base_url} after {attempt + 1} attempts ({outcome.failure.detail}); what was "
                "answered before is kept: run the same command again"
            )
        return outcome.failure

    async def models(self) -> list[str]:
        """The names of the models that the server has, asked once and for at most 30 seconds.

        Raises:
            TeacherError: it is not there, refuses the key, or answers with no list.
        """
        if self._http is None:
            raise RuntimeError("a ChatClient is used inside `async with`")
        seconds = min(self._endpoint.timeout_seconds, LONGEST_LOOK_SECONDS)
        try:
            response = await self._http.get(f"{self.base_url}/models", timeout=seconds)
        except httpx.RequestError as error:
            why = self._scrub(str(error)) or type(error).__name__
            raise TeacherError(f"no server answers at {self.base_url} ({why})") from None
        names = wire.read_models(response.content) if response.is_success else None
        if response.status_code in (401, 403):
            raise TeacherError(self._key_sentence(response.status_code))
        if names is None:
            raise TeacherError(
                f"{self.base_url}/models gives no list of models ({response.status_code}); base_url looks like "
                "http://localhost:8000/v1"
            )
        return names

    def _delay_seconds(self, attempt: int, retry_after_seconds: float | None) -> float:
        backoff = min(FIRST_DELAY_SECONDS * 2.0**attempt, LONGEST_DELAY_SECONDS) * self._jitter.uniform(0.5, 1.0)
        return max(backoff, min(retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS))

    async def _once(self, request: ChatRequest) -> Answer | _Retry:
        if self._http is None:
            raise RuntimeError("a ChatClient is used inside `async with`")
        body = wire.adapt(request.body(), self.adaptations)
        try:
            async with asyncio.timeout(self._endpoint.timeout_seconds):
                response = await self._http.post(f"{self.base_url}/chat/completions", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            return _Retry(Failed(reason="server_error", detail=self._scrub(str(error))), unreachable=True)
        except (TimeoutError, httpx.TimeoutException):
            seconds = self._endpoint.timeout_seconds
            return _Retry(Failed(reason="timed_out", detail=f"no reply within {seconds:g} seconds"))
        except httpx.RequestError as error:
            return _Retry(Failed(reason="server_error", detail=self._scrub(f"{type(error).__name__}: {error}")))
        return await self._outcome(request, body, response)

    async def _outcome(
        self, request: ChatRequest, body: Mapping[str, Any], response: httpx.Response
    ) -> Answer | _Retry:
        status = response.status_code
        if response.is_success:
            answer = self._read(response.content, self._secret())
            return _Retry(answer) if isinstance(answer, Failed) and not answer.about_the_reply else answer
        error = wire.read_error(response.content, self._secret())
        adaptation = wire.find_adaptation(body, error) if status in (400, 422) else None
        if adaptation and (self._adapts or adaptation == "max_completion_tokens for max_tokens"):
            self.adaptations.add(adaptation)
            return await self._once(request)
        if error.code == "content_filter":
            return Failed(reason="content_filter", detail=error.message)
        if status in (400, 413, 422):
            return Failed(reason="bad_request", detail=error.message)
        retried = status in RETRIED_STATUSES or status >= 500
        if not retried or error.code == "insufficient_quota":
            raise TeacherError(self._final_sentence(status, request.model, error))
        detail = f"{status}: {error.message}"
        failure = Failed(reason="rate_limited" if status == 429 else "server_error", detail=detail)
        return _Retry(failure, wire.retry_after_seconds(response.headers.get("Retry-After"), self._now()))

    def _final_sentence(self, status: int, model: str, error: wire.ServerError) -> str:
        name, server = self._endpoint.api_key_env, self.base_url
        if status == 401 or (status == 403 and self._key is None):
            return self._key_sentence(status)
        sentences = {
            403: f"{server} does not allow the key in {name} to use {model!r} (403)",
            404: f"{server} does not know the model {model!r}, or is no chat-completions address (404)",
            410: f"{server} has retired the model {model!r} (410): choose another",
            429: f"the account behind the key in {name} has no credit left at {server} (429)",
        }
        return sentences.get(status, f"{server} answered {status}, which no retry mends: {error.message}")

    def _key_sentence(self, status: int) -> str:
        name, server = self._endpoint.api_key_env, self.base_url
        if not name:
            return f"{server} asks for a key ({status}): name with api_key_env the environment variable that holds it"
        if self._key is None:
            return f"{server} asks for a key ({status}): set the environment variable {name}"
        return f"{server} refused the key in {name} ({status}): check that it is the key of this server"

    def _secret(self) -> str | None:
        return self._key.get_secret_value() if self._key else None

    def _scrub(self, text: str) -> str:
        return wire.scrub(text, self._secret())
