"""Batches and a second run over the same store, or an answer that was lost: nothing is bought twice."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from batch_bench import Bench, Killed, answered, echo, request

from limbeck.api import ChatClient, ChatRequest, ReplyStore
from limbeck.api.batch_book import BatchBook, Entry
from limbeck.api.batch_client import BatchClient
from limbeck.api.budget import Purse
from limbeck.api.fake_batches import FakeBatches
from limbeck.api.fake_server import FakeServer, completion, error
from limbeck.errors import TeacherError
from limbeck.recipe.pairs import Endpoint, Teach
from limbeck.records import PromptRow, user_prompt
from limbeck.teachers import OpenAITeacher, ask
from limbeck.teachers.rendering import zero_shot_request


def bought(bench: Bench) -> list[str]:
    return [key for batch in bench.server.batches for key in batch.requests]


def in_a_thread(work: Callable[[], object]) -> None:
    """An event loop runs in this one."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("refusal", [error(429, "slow"), error(400, "no")])
def test_a_refusal_after_a_lost_answer_does_not_say_that_there_is_no_batch(
    tmp_path: Path, refusal: httpx.Response
) -> None:
    """The list lags as well, until the next run."""
    posts: list[int] = []

    def first(asked: httpx.Request) -> httpx.Response | None:
        if f"{asked.method} {asked.url.path}" == "GET /v1/batches":
            return httpx.Response(200, json={"data": [], "has_more": False})
        return refusal if posts and asked.url.path == "/v1/batches" else None

    def lose(asked: httpx.Request) -> None:
        if f"{asked.method} {asked.url.path}" == "POST /v1/batches":
            posts.append(1)
            if len(posts) == 1:
                raise httpx.ReadTimeout("")

    bench = Bench(tmp_path, FakeBatches(echo, first=first, after=lose))
    with pytest.raises(TeacherError, match="run the same command again"):
        bench.ask(2)
    bench.server.first = lambda _: None
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    assert bought(bench) == ["k0", "k1"]
    with bench.store() as store:
        assert store.spent().tokens == 2 * 18


def test_the_making_of_a_batch_takes_no_longer_than_the_timeout_and_is_then_looked_for() -> None:
    asked: list[str] = []

    async def handle(heard: httpx.Request) -> httpx.Response:
        asked.append(heard.method)
        if asked == ["POST"]:
            await asyncio.sleep(5)  # a byte now and then: no pause is too long
        return httpx.Response(200, json={"id": "b", "data": [{"id": "b", "status": "x", "metadata": {"limbeck": "m"}}]})

    async def sleep(_seconds: float) -> None:
        return

    async def create() -> str:
        endpoint = Endpoint(base_url="http://fake/v1", timeout_seconds=0.05)
        async with BatchClient(endpoint, transport=httpx.MockTransport(handle), sleep=sleep, environ={}) as client:
            return await client.create("file", "m", lambda: None)

    assert asyncio.run(create()) == "b"
    assert asked == ["POST", "GET"]


def test_a_batch_whose_run_is_alive_is_not_dropped_while_it_is_asked_for_again(tmp_path: Path) -> None:
    server = FakeBatches(echo)
    bench, other = Bench(tmp_path, server), Bench(tmp_path, server)
    looked, asked_again, go_on, made = (threading.Event() for _ in range(4))
    answers: list[object] = []
    posts: list[int] = []

    def watch() -> None:
        looked.set()
        asked_again.wait(10)
        if other.time > 1160 + 1:  # when the first attempt must be dead
            go_on.set()
            made.wait(10)

    def run_other() -> None:
        answers.extend(other.ask(1))
        go_on.set()

    def first(asked: httpx.Request) -> httpx.Response | None:
        if threading.current_thread() is thread or f"{asked.method} {asked.url.path}" != "POST /v1/batches":
            return None
        posts.append(1)
        if len(posts) == 1:
            thread.start()
            looked.wait(10)
            return error(429, "slow", retry_after="110")
        asked_again.set()
        go_on.wait(10)
        return None

    def after(asked: httpx.Request) -> None:
        if posts == [1, 1] and f"{asked.method} {asked.url.path}" == "POST /v1/batches":
            made.set()

    thread = threading.Thread(target=run_other)
    server.first, server.after, other.on_sleep = first, after, watch
    assert bench.ask(1) == [answered("k0")]
    thread.join()
    assert answers == [answered("k0")]
    assert bought(bench) == ["k0"]
    with bench.store() as store:
        assert store.spent().tokens == 18


def test_without_an_id_only_who_saw_a_batchs_last_step_can_make_the_next(tmp_path: Path) -> None:
    clock = [1000.0]
    with ReplyStore(tmp_path / "r.sqlite") as store:
        book, purse = BatchBook(store, lambda: clock[0]), Purse(store)
        prepared = book.prepare("s", [Entry(purse.account("k", "zero_shot", "{}"), 1, 1)], purse).batch
        assert prepared is not None
        seen = book.step(prepared, "creating")
        clock[0] += 1
        assert seen is not None and book.step(seen, "creating") is not None  # before another attempt
        assert book.step(seen, "dropped") is None
        assert book.step(seen, "creating") is None
        opened = book.step(book.read(seen), "open", "batch_0")
        clock[0] += 1
        assert opened is not None and book.step(seen, "open", "batch_0") is not None  # whoever found it
        assert book.step(opened, "done") is not None


def test_a_batch_that_another_run_finds_and_collects_before_its_own_run_knows_its_id_is_bought_once(
    tmp_path: Path,
) -> None:
    server = FakeBatches(echo)
    bench, other = Bench(tmp_path, server), Bench(tmp_path, server)

    def meanwhile(asked: httpx.Request) -> None:
        if f"{asked.method} {asked.url.path}" == "POST /v1/batches":
            server.after = lambda _: None
            in_a_thread(lambda: other.ask(1))

    server.after = meanwhile
    assert bench.ask(1) == [answered("k0")]
    assert bought(bench) == ["k0"]
    assert (other.told, bench.told) == ([("k0", False)], [("k0", True)])


def between(bench: Bench, work: Callable[[], object]) -> None:
    """Do this when the bench has looked into the store, and is about to write its first request."""
    once = iter([work])

    def write(question: str) -> ChatRequest:
        in_a_thread(next(once, lambda: None))
        return request(question)

    bench.request = write


def test_what_another_run_has_got_since_the_store_was_looked_into_is_not_bought(tmp_path: Path) -> None:
    bench, other = Bench(tmp_path, FakeBatches(echo)), Bench(tmp_path, FakeBatches(echo))
    between(bench, lambda: other.ask(2))
    assert bench.ask(3) == [answered("k0"), answered("k1"), answered("k2")]
    assert (bought(other), bought(bench)) == (["k0", "k1"], ["k2"])
    assert bench.told == [("k0", True), ("k1", True), ("k2", False)]
    with bench.store() as store:
        assert store.spent().tokens == 3 * 18


@pytest.mark.parametrize("place", ["GET /v1/batches/batch_0", "POST /v1/batches", "POST /v1/files"])
def test_what_another_run_has_sent_since_the_store_was_looked_into_is_waited_for(tmp_path: Path, place: str) -> None:
    server = FakeBatches(echo)
    bench, other = Bench(tmp_path, server), Bench(tmp_path, server)

    def kill(asked: httpx.Request) -> None:
        if f"{asked.method} {asked.url.path}" == place:
            server.after = lambda _: None
            raise Killed

    def begin() -> None:
        server.after = kill
        with pytest.raises(Killed):
            other.ask(2)

    between(bench, begin)
    assert bench.ask(3) == [answered("k0"), answered("k1"), answered("k2")]
    assert sorted(bought(bench)) == ["k0", "k1", "k2"]
    with bench.store() as store:
        assert store.spent().tokens == 3 * 18


def test_what_another_run_is_uploading_is_left_to_it(tmp_path: Path) -> None:
    server = FakeBatches(echo)
    bench, other = Bench(tmp_path, server), Bench(tmp_path, server)
    uploading, go_on, made = (threading.Event() for _ in range(3))
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.extend(other.ask(2)))

    def begin() -> None:
        thread.start()
        uploading.wait(10)

    def first(asked: httpx.Request) -> None:
        if threading.current_thread() is thread and asked.url.path == "/v1/files":
            uploading.set()
            go_on.wait(10)

    def after(asked: httpx.Request) -> None:
        if f"{asked.method} {asked.url.path}" == "POST /v1/batches":
            made.set()

    def wait() -> None:
        go_on.set()
        made.wait(10)

    server.first, server.after, bench.on_sleep = first, after, wait
    between(bench, begin)
    assert bench.ask(2) == [answered("k0"), answered("k1")]
    thread.join()
    assert answers == [answered("k0"), answered("k1")]
    assert bought(bench) == ["k0", "k1"]


def test_requests_in_an_open_batch_are_not_asked_one_by_one(tmp_path: Path) -> None:
    one_by_one, batches = FakeServer(lambda _: completion("x")), FakeBatches(lambda _: completion("x"))
    endpoint = Endpoint(base_url="http://fake/v1")
    requests = [
        zero_shot_request(PromptRow(id=str(n), prompt=user_prompt(f"What is {n}?"), source="s")) for n in range(3)
    ]

    async def sleep(_seconds: float) -> None:
        return

    def teacher(batch: bool) -> OpenAITeacher:
        client = ChatClient(endpoint, transport=one_by_one.transport, environ={})
        batch_client = BatchClient(endpoint, transport=batches.transport, sleep=sleep, environ={})
        return OpenAITeacher("m", Teach(teacher="openai:m", endpoint=endpoint, batch=batch), client, batch_client)

    def kill(asked: httpx.Request) -> None:
        if asked.url.path.startswith("/v1/batches/"):
            raise Killed

    batches.after = kill
    with ReplyStore(tmp_path / "r.sqlite") as store:
        with pytest.raises(Killed):
            ask(teacher(True), requests[:2], store)
        with pytest.raises(TeacherError, match=r"a batch with 2 of these requests is open: set teach\.batch = true"):
            ask(teacher(False), requests, store)
        assert ask(teacher(False), requests[2:], store)
        batches.after = lambda _: None
        assert ask(teacher(True), requests[:2], store)
        assert ask(teacher(False), requests, store)
        assert (len(one_by_one.bodies), len(batches.batches)) == (1, 1)


def test_requests_of_a_batch_of_which_nothing_can_come_any_more_may_be_asked_one_by_one(tmp_path: Path) -> None:
    def kill(asked: httpx.Request) -> None:
        if asked.url.path.startswith("/v1/batches/"):
            raise Killed

    bench = Bench(tmp_path, FakeBatches(echo, after=kill))
    with pytest.raises(Killed):
        bench.ask(2)
    with bench.store() as store:
        early, late = (
            BatchBook(store, clock) for clock in (lambda: bench.time + 25 * 3600, lambda: bench.time + 27 * 3600)
        )
        assert early.count_waited_for(["k0", "k1", "k2"]) == 2
        assert late.count_waited_for(["k0", "k1", "k2"]) == 0
        store.finish("k0", answered("k0"))
        assert early.count_waited_for(["k0", "k1", "k2"]) == 1


def test_a_batch_that_another_run_took_over_while_it_was_uploaded_is_not_made_twice(tmp_path: Path) -> None:
    bench, other = (Bench(tmp_path, FakeBatches(echo)) for _ in range(2))

    def meanwhile(asked: httpx.Request) -> None:
        if asked.url.path == "/v1/files":
            thread = threading.Thread(target=other.ask, args=(1,))
            thread.start()
            thread.join()

    bench.server.after = meanwhile
    with pytest.raises(TeacherError, match="another run has taken over a batch of this one"):
        bench.ask(1)
    assert (bought(bench), bought(other)) == ([], ["k0"])
    bench.server.after = lambda _: None
    assert bench.ask(1) == [answered("k0")]
    with bench.store() as store:
        assert store.spent().tokens == 18
