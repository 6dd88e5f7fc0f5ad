"""The batch API of one OpenAI-compatible server: files up, a batch made, its state, files down.

What may pass is tried again; everything else is one sentence (`TeacherError`). Server texts are scrubbed of the key.
Knows nothing of requests, budgets or stores.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from limbeck.api import wire
from limbeck.api.address import OPENAI, Address
from limbeck.api.batch_wire import ENDPOINT, LONGEST_BATCH_SECONDS, BatchState, read_batch, read_batches, read_id
from limbeck.api.client import RETRIED_STATUSES
from limbeck.api.connections import proxy_errors
from limbeck.api.delays import Delays, asked_for
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint

METADATA_NAME = "limbeck"
LISTED_AFTER_SECONDS = 30.0  # a batch made just now may not be in the list yet
_PATIENT_RETRIES = 120  # of a look at a batch: an hour without a network must not end a night's waiting
_PAGE = 100  # OpenAI's most
_AGAIN = "run the same command again: batches that were sent are kept, and waited for"
WITHOUT = (
    f"once {LONGEST_BATCH_SECONDS / 3600:g} hours have passed since it was sent, teach.batch = false asks for its "
    "requests one by one"
)


class NotCreatedError(TeacherError):
    """The server made no batch, so nothing of it was bought."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What may pass. `unclear`: the server may have done what it was asked."""

    why: str
    unclear: bool
    retry_after_seconds: float | None = None


class BatchClient:
    """Use as an async context manager. `transport`, `sleep`, `now` and `environ` are the seams that tests drive."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.sleep, self.now = sleep, now
        self.timeout_seconds = endpoint.timeout_seconds
        self._retries = endpoint.max_retries
        self._address = Address(endpoint, OPENAI, environ)
        self._transport = transport
        self._delays = Delays()
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"BatchClient(base_url={self.base_url!r}, key from {self._address.key_place or 'nowhere'})"

    @property
    def base_url(self) -> str:
        """Where the server is."""
        return self._address.base_url

    @property
    def secret(self) -> str | None:
        """The key, for removing it from texts."""
        return self._address.secret

    async def __aenter__(self) -> Self:
        self._address.check()
        with proxy_errors():
            self._http = httpx.AsyncClient(
                headers=self._address.headers(), timeout=self.timeout_seconds, transport=self._transport
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def upload(self, content: bytes) -> str:
        """Upload a file of requests; returns its id.

        Raises:
            TeacherError: no batch API, no usable key, no connection, or a file that is not taken.
        """
        files = {"file": ("limbeck.jsonl", content, "application/jsonl")}
        response = await self._send("POST", "/files", self._retries, files=files, data={"purpose": "batch"})
        file_id = read_id(response.content) if response.is_success else None
        if file_id is None:
            raise TeacherError(self._sentence(response, "/files"))
        return file_id

    async def create(self, file_id: str, mark: str, before_each: Callable[[], None]) -> str:
        """Have the server run an uploaded file; returns the batch's id. `before_each` is called before every attempt.

        Where an answer was lost, the server's list says whether there is such a batch: none is made twice. No attempt
        takes longer than `timeout_seconds`.

        Raises:
            NotCreatedError: the server refused every attempt.
            TeacherError: whether the batch was made could not be found out.
        """
        asked = {
            "input_file_id": file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {METADATA_NAME: mark},
        }
        attempt, unclear = 0, False  # once it is unclear, no later refusal says that there is no batch
        while True:
            before_each()
            outcome = await self._try("POST", "/batches", self.timeout_seconds, json=asked)
            if isinstance(outcome, httpx.Response):
                return self._created(outcome, unclear)
            unclear = unclear or outcome.unclear
            if unclear:
                await self.sleep(LISTED_AFTER_SECONDS)
                found = await self.find(mark)
                if found is not None:
                    return found
            if attempt == self._retries:
                break
            await self._wait(attempt, outcome)
            attempt += 1
        sentence = f"{self.base_url} made no batch after {attempt + 1} attempts ({outcome.why}); {_AGAIN}"
        raise TeacherError(sentence) if unclear else NotCreatedError(sentence)

    async def find(self, mark: str) -> str | None:
        """The id of the batch with this mark in the server's list, or None where it has none.

        Raises:
            TeacherError: the server gives no list.
        """
        after: dict[str, str] = {}
        while True:
            params = {"limit": str(_PAGE), **after}
            response = await self._send("GET", "/batches", self._retries, params=params)
            page = read_batches(response.content, self.secret) if response.is_success else None
            if page is None:
                told = self._sentence(response, "/batches")
                raise TeacherError(f"{told}; so whether a batch was made before is not known; {WITHOUT}")
            states, more = page
            for state in states:
                if state.mark == mark:
                    return state.id
            if not (more and states) or after == {"after": states[-1].id}:
                return None
            after = {"after": states[-1].id}

    async def look(self, batch_id: str) -> BatchState | None:
        """How a batch stands; None where the server does not know it.

        Raises:
            TeacherError: no usable key, or no service for an hour.
        """
        response = await self._send("GET", f"/batches/{batch_id}", _PATIENT_RETRIES)
        if response.status_code == 404:
            return None
        state = read_batch(response.content, self.secret) if response.is_success else None
        if state is None:
            raise TeacherError(self._sentence(response, f"/batches/{batch_id}"))
        return state

    async def lines(self, file_id: str) -> list[bytes] | None:
        """The lines of a file; None where the server has it no longer.

        Raises:
            TeacherError: no usable key, or no service for an hour.
        """
        response = await self._send("GET", f"/files/{file_id}/content", _PATIENT_RETRIES)
        if response.status_code == 404:
            return None
        if not response.is_success:
            raise TeacherError(self._sentence(response, f"/files/{file_id}/content"))
        return [line for line in response.content.splitlines() if line.strip()]

    def _created(self, response: httpx.Response, unclear: bool) -> str:
        batch_id = read_id(response.content) if response.is_success else None
        if batch_id is not None:
            return batch_id
        sentence = self._sentence(response, "/batches")
        if unclear:
            raise TeacherError(f"{sentence}; whether an earlier attempt made the batch is not known, so {_AGAIN}")
        raise TeacherError(sentence) if response.is_success else NotCreatedError(sentence)

    async def _send(self, method: str, path: str, retries: int, **content: Any) -> httpx.Response:
        """What comes back after what may pass has passed: a success or a refusal."""
        attempt = 0
        while True:
            outcome = await self._try(method, path, **content)
            if isinstance(outcome, httpx.Response):
                return outcome
            if attempt == retries:
                break
            await self._wait(attempt, outcome)
            attempt += 1
        raise TeacherError(
            f"{self.base_url} gave no service at {path} after {attempt + 1} attempts ({outcome.why}); {_AGAIN}"
        )

    async def _try(
        self, method: str, path: str, most_seconds: float | None = None, **content: Any
    ) -> httpx.Response | _Trouble:
        """`most_seconds`: from the first byte to the last; the client's own timeout is one of each pause."""
        if self._http is None:
            raise RuntimeError("a BatchClient is used inside `async with`")
        try:
            async with asyncio.timeout(most_seconds):
                response = await self._http.request(method, f"{self.base_url}{path}", **content)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            return _Trouble(f"no connection: {self._words(error)}", unclear=False)
        except (TimeoutError, httpx.RequestError) as error:
            return _Trouble(f"the answer was lost: {self._words(error)}", unclear=True)
        status = response.status_code
        if status < 500 and status not in RETRIED_STATUSES:
            return response
        said = wire.read_error(response.content, self.secret)
        if said.code == "insufficient_quota":
            return response
        after = wire.retry_after_seconds(response.headers.get("Retry-After"), self.now())
        return _Trouble(f"{status}: {said.message}", status != 429, after)

    async def _wait(self, attempt: int, trouble: _Trouble) -> None:
        await self.sleep(self._delays.seconds(attempt, asked_for(trouble.retry_after_seconds)))

    def _sentence(self, response: httpx.Response, path: str) -> str:
        """What an answer that is of no use means."""
        status, server = response.status_code, self.base_url
        said = wire.read_error(response.content, self.secret)
        if status in (401, 403):
            return self._address.key_sentence(status)
        if status in (404, 405, 501):
            return f"{server} has no batch API ({status} at {path}): set teach.batch = false"
        if said.code == "insufficient_quota":
            return f"{self._address.account} has no credit left at {server} ({status})"
        if response.is_success:
            return f"{server} answered {path} with what is not OpenAI's batch API: {said.message}"
        return f"{server} answered {status} at {path}: {said.message}"

    def _words(self, error: Exception) -> str:
        return wire.scrub(str(error), self.secret) or type(error).__name__
