"""One OpenAI-compatible server: chat completions with bounded retries and typed outcomes.

A bad reply is a value (`Failed`); only what is final for every request is an exception (`TeacherError`): no usable
key, no such model, no connection. How fast is asked is `flow`'s business, what it may cost the account's, which is told
of every attempt before it is sent. Server texts are scrubbed of the key. Redirects are not followed, so it goes to no
other host.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from limbeck.api import wire
from limbeck.api.address import OPENAI, Address, Provider
from limbeck.api.answers import Answer, Failed
from limbeck.api.budget import Account, Unbooked
from limbeck.api.connections import proxy_errors, transport_for
from limbeck.api.delays import Delays, asked_for
from limbeck.api.flow import Flow, Turn
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint
from limbeck.records import Message

RETRIED_STATUSES = frozenset({408, 409, 429})  # and every 5xx
BYTES_A_TOKEN = 4  # of English, for limits a minute; a budget counts the worst case
LONGEST_CONNECT_SECONDS = 10.0
LONGEST_LOOK_SECONDS = 30.0  # a list of models needs no sampling
FREE_STATUSES = frozenset({429, 500, 503})  # and every 4xx: refused before a token was written, which nobody bills


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion. `parameters` go into the body as they are (temperature, max_tokens, response_format).

    `reply_tokens`: what a budget sets aside for a reply of which no parameter says how long it may be.
    """

    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reply_tokens: int = 0

    def body(self) -> dict[str, Any]:
        """The JSON body of the request."""
        messages = [message.model_dump() for message in self.messages]
        return {"model": self.model, "messages": messages, **self.parameters}


@dataclass(frozen=True, slots=True)
class _Retry:
    failure: Failed
    retry_after_seconds: float | None = None
    unreachable: bool = False


_UNBOOKED = Unbooked()


class _Adapted:
    """The server takes no such parameter: ask again without it."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What belongs to one request under way: its body, its turn, and its booking in the account."""

    body: Mapping[str, Any]
    turn: Turn
    account: Account
    number: int
    most_in: int
    most_out: int


class ChatClient:
    """A client of one server. Use as an async context manager; `complete` may be awaited many times at once.

    `read` makes an answer of a 200; `adapts` is False where a request must be taken as it is or not at all.
    `transport`, `sleep`, `now` and `environ` are the seams that tests drive; leave them out in use.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        provider: Provider = OPENAI,
        read: Callable[[bytes, str | None], Answer] = wire.read_completion,
        adapts: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.adaptations: set[wire.Adaptation] = set()
        self._address = Address(endpoint, provider, environ)
        self._endpoint = endpoint
        self._read = read
        self._adapts = adapts
        self._transport = transport
        self._sleep = sleep
        self._now = now
        self._delays = Delays()
        self._flow = Flow(
            endpoint.concurrency, endpoint.requests_per_minute, endpoint.tokens_per_minute, sleep=self._sleep
        )
        self.forbidden: dict[wire.Adaptation, str] = {}  # what must be taken as it is, and the sentence where it is not
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"ChatClient(base_url={self.base_url!r}, key from {self._address.key_place or 'nowhere'})"

    @property
    def wants_budget(self) -> bool:
        """Whether asking may cost money, for all that can be told from the address and the key."""
        return self._address.wants_budget()

    @property
    def base_url(self) -> str:
        """Where the server is."""
        return self._address.base_url

    def check(self) -> None:
        """Say at once, before anything is sent, whether address and key can be used.

        Raises:
            TeacherError: no key for a provider's own address, a key no header can carry, or no http(s) address.
        """
        self._address.check()

    async def __aenter__(self) -> Self:
        self.check()
        self._flow.restart()
        seconds = self._endpoint.timeout_seconds
        with proxy_errors():
            self._http = httpx.AsyncClient(
                headers={"Content-Type": "application/json", **self._address.headers()},
                # Shorter than the whole, so that a server that accepts no connection is told from one that is slow.
                timeout=httpx.Timeout(seconds, connect=min(seconds / 2, LONGEST_CONNECT_SECONDS)),
                limits=httpx.Limits(max_connections=None),  # the flow bounds them
                transport=self._transport or transport_for(self._endpoint.concurrency),
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def complete(self, request: ChatRequest, account: Account = _UNBOOKED) -> Answer:
        """Ask for one completion; retries connections, timeouts, 408, 409, 429 and 5xx up to `max_retries` times.

        Raises:
            TeacherError: what no other request would survive either (401, 403, 404, 410, no credit, no connection).
            BudgetError: the account has no room for another attempt.
        """
        attempt, waited_for = 0, 0.0
        while True:
            outcome = await self._attempt(request, account, waited_for)
            if isinstance(outcome, _Adapted):
                continue  # each parameter is left out once
            if not isinstance(outcome, _Retry):
                return outcome
            if attempt == self._endpoint.max_retries:
                break
            waited_for = await self._wait(attempt, outcome.retry_after_seconds)
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
            raise TeacherError(self._address.key_sentence(response.status_code))
        if names is None:
            raise TeacherError(
                f"{self.base_url}/models gives no list of models ({response.status_code}); base_url looks like "
                "http://localhost:8000/v1"
            )
        return names

    async def _wait(self, attempt: int, retry_after_seconds: float | None) -> float:
        """Wait before the next attempt. What the server asks for by Retry-After holds for every request."""
        asked = asked_for(retry_after_seconds)
        mark = self._flow.pause(asked) if asked else 0.0
        await self._sleep(self._delays.seconds(attempt, asked))
        return mark

    async def _attempt(self, request: ChatRequest, account: Account, waited_for: float) -> Answer | _Retry | _Adapted:
        if self._http is None:
            raise RuntimeError("a ChatClient is used inside `async with`")
        body = wire.adapt(request.body(), self.adaptations)
        content = wire.encode(body)
        most_out = int(body.get("max_tokens") or body.get("max_completion_tokens") or request.reply_tokens)
        async with self._flow.turn(len(content) / BYTES_A_TOKEN + most_out, waited_for) as turn:
            number = await account.begin(len(content), most_out)
            await turn.confirm()  # room in a budget may have been waited for
            attempt = _Attempt(body, turn, account, number, len(content), most_out)
            try:
                async with asyncio.timeout(self._endpoint.timeout_seconds):
                    response = await self._http.post(self._address.chat_url(request.model), content=content)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
                account.settle(number, 0, 0, "")
                return _Retry(Failed(reason="server_error", detail=self._scrub(str(error))), unreachable=True)
            except (TimeoutError, httpx.RequestError) as error:
                return self._lost(attempt, error)
            if response.is_success:
                return self._success(attempt, response)
            return self._refusal(attempt, request.model, response)

    def _lost(self, attempt: _Attempt, error: Exception) -> _Retry:
        """No answer to what was sent, which may have been paid for."""
        attempt.account.give_up(attempt.number)
        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            attempt.turn.pushed_back()
            seconds = self._endpoint.timeout_seconds
            return _Retry(Failed(reason="timed_out", detail=f"no reply within {seconds:g} seconds"))
        attempt.turn.failed()
        return _Retry(Failed(reason="server_error", detail=self._scrub(f"{type(error).__name__}: {error}")))

    def _success(self, attempt: _Attempt, response: httpx.Response) -> Answer | _Retry:
        answer = self._read(response.content, self._address.secret)
        raw = wire.without(response.content, self._address.secret)
        tokens = answer.tokens_in + answer.tokens_out
        if tokens:  # a count that is missing keeps its side's worst case
            tokens_out = answer.tokens_out or (attempt.most_out if answer.text else 0)
            attempt.account.settle(attempt.number, answer.tokens_in or attempt.most_in, tokens_out, raw)
        else:
            attempt.account.give_up(attempt.number, raw)
        if isinstance(answer, Failed) and not answer.about_the_reply:
            attempt.turn.failed()
            return _Retry(answer)
        attempt.turn.good(tokens)
        return answer

    def _refusal(self, attempt: _Attempt, model: str, response: httpx.Response) -> Answer | _Retry | _Adapted:
        status = response.status_code
        raw = wire.without(response.content, self._address.secret)
        if status < 500 or status in FREE_STATUSES:
            attempt.account.settle(attempt.number, 0, 0, raw)
        else:
            attempt.account.give_up(attempt.number, raw)
        error = wire.read_error(response.content, self._address.secret)
        adaptation = wire.find_adaptation(attempt.body, error) if status in (400, 422) else None
        if adaptation in self.forbidden:
            raise TeacherError(self.forbidden[adaptation])
        if adaptation and (self._adapts or adaptation == "max_completion_tokens for max_tokens"):
            self.adaptations.add(adaptation)
            return _Adapted()
        if error.code == "content_filter":
            return Failed(reason="content_filter", detail=error.message)
        if status in (400, 413, 422):
            return Failed(reason="bad_request", detail=error.message)
        retried = status in RETRIED_STATUSES or status >= 500
        if not retried or error.code == "insufficient_quota":
            raise TeacherError(self._final_sentence(status, model, error))
        (attempt.turn.pushed_back if status in (429, 503) else attempt.turn.failed)()
        failure = Failed(
            reason="rate_limited" if status == 429 else "server_error", detail=f"{status}: {error.message}"
        )
        return _Retry(failure, wire.retry_after_seconds(response.headers.get("Retry-After"), self._now()))

    def _final_sentence(self, status: int, model: str, error: wire.ServerError) -> str:
        name, server = self._address.key_place, self.base_url
        if status == 401 or (status == 403 and self._address.key is None):
            return self._address.key_sentence(status)
        sentences = {
            403: f"{server} does not allow the key in {name} to use {model!r} (403)",
            404: f"{server} does not know the model {model!r}, or is no chat-completions address (404)",
            410: f"{server} has retired the model {model!r} (410): choose another",
            429: f"{self._address.account} has no credit left at {server} (429)",
        }
        return sentences.get(status, f"{server} answered {status}, which no retry mends: {error.message}")

    def _scrub(self, text: str) -> str:
        return wire.scrub(text, self._address.secret)
