"""The store and the path through it: what was paid for is kept, also when the process is killed."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from limbeck.api import Answer, Answered, Call, Failed, ReplyStore, ask_all, reply_key
from limbeck.api.asking import Send
from limbeck.api.budget import Account
from limbeck.api.reply_store import FILE_NAMES
from limbeck.errors import RunFolderError, TeacherError

CALLS = [Call(f"k{number}", "zero_shot", "{}", number) for number in range(12)]


def ask_until_killed(path: Path, report: Connection) -> None:
    """Runs in a process of its own: answers five requests, then hangs with three in flight, and says so."""

    async def send(number: int, account: Account) -> Answer:
        await account.begin(0, 0)
        if number >= 5:
            report.send(number)
            await asyncio.sleep(600)
        return Answered(text=f"reply {number}")

    @asynccontextmanager
    async def session() -> AsyncIterator[Send[int]]:
        yield send

    with ReplyStore(path) as store:
        ask_all(CALLS, session, store, concurrency=3)


class Recorder:
    """A session that notes what was sent, and how much at once."""

    def __init__(self, broken_at: int | None = None) -> None:
        self.sent: list[int] = []
        self.opened = self.in_flight = self.most_in_flight = 0
        self._broken_at = broken_at

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[int]]:
        self.opened += 1
        yield self._send

    async def _send(self, number: int, account: Account) -> Answer:
        await account.begin(0, 0)
        if number == self._broken_at:
            raise TeacherError("gone")
        self.sent.append(number)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return Answered(text=f"reply {number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replies.sqlite"


def test_a_stored_reply_never_reaches_the_server_again(path: Path) -> None:
    first, second = Recorder(), Recorder()
    with ReplyStore(path) as store:
        answers = ask_all(CALLS, first.session, store, concurrency=4)
    with ReplyStore(path) as store:
        assert ask_all(CALLS, second.session, store, concurrency=4) == answers
    assert answers["k3"] == Answered(text="reply 3")
    assert (sorted(first.sent), first.most_in_flight) == (list(range(12)), 4)
    assert (second.sent, second.opened) == ([], 0)


def test_the_same_key_twice_in_one_batch_is_sent_once(path: Path) -> None:
    recorder = Recorder()
    with ReplyStore(path) as store:
        ask_all([CALLS[0], CALLS[0]], recorder.session, store, concurrency=2)
    assert recorder.sent == [0]


def test_after_kill_9_only_what_was_in_flight_is_sent_again(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=ask_until_killed, args=(path, there))
    process.start()
    assert {here.recv() for _ in range(3)} == {5, 6, 7}
    process.kill()
    process.join()
    here.close()
    there.close()
    resumed = Recorder()
    with ReplyStore(path) as store:
        assert store.states() == {"done": 5, "sent": 3}
        answers = ask_all(CALLS, resumed.session, store, concurrency=3)
        again = {key for key, times in store.times_sent().items() if times > 1}
    assert len(answers) == 12
    assert sorted(resumed.sent) == list(range(5, 12))
    assert again == {"k5", "k6", "k7"}


def test_what_was_answered_before_a_final_error_is_stored(path: Path) -> None:
    with ReplyStore(path) as store:
        with pytest.raises(TeacherError, match="gone"):
            ask_all(CALLS, Recorder(broken_at=6).session, store, concurrency=1)
        assert store.states() == {"done": 6, "sent": 1}


def test_what_is_in_flight_when_one_request_cannot_be_written_is_stored_before_that_shows(path: Path) -> None:
    class Written(Recorder):
        async def _send(self, number: int, account: Account) -> Answer:
            if number == 3:
                "half \ud83d".encode()
            return await super()._send(number, account)

    with ReplyStore(path) as store:
        with pytest.raises(UnicodeEncodeError):
            ask_all(CALLS, Written().session, store, concurrency=4)
        assert store.states() == {"done": 3}  # nothing is begun after it, and nothing of it was booked


def test_a_failure_of_the_reply_is_stored_and_a_failure_of_transport_is_not(path: Path) -> None:
    truncated = Failed(reason="truncated", text="half", tokens_out=9)
    with ReplyStore(path) as store:
        for key, answer in {"a": truncated, "b": Failed(reason="timed_out")}.items():
            store.begin(key, "zero_shot", "{}")
            store.finish(key, answer)
        assert store.get("a") == truncated
        assert store.get("b") is None
        assert store.states() == {"done": 1, "failed": 1}


def test_of_two_runs_that_ask_at_once_both_keep_the_first_reply(path: Path) -> None:
    with ReplyStore(path) as one, ReplyStore(path) as two:
        for store in (one, two):
            store.begin("a", "zero_shot", "{}")
        one.finish("a", Answered(text="first"))
        two.finish("a", Answered(text="second"))
        assert one.get("a") == two.get("a") == Answered(text="first")


def test_everything_that_decides_a_reply_changes_its_key() -> None:
    base = {"endpoint": "e", "model": "m", "messages": ["a"], "parameters": {"t": 1}, "kind": "k", "sample_index": 0}
    keys = {reply_key(base)} | {reply_key({**base, name: "other"}) for name in base}
    assert len(keys) == 7


def test_a_file_that_is_no_store_and_one_of_another_version_are_refused_by_name(tmp_path: Path) -> None:
    noise, newer = tmp_path / "noise.sqlite", tmp_path / "newer.sqlite"
    noise.write_bytes(b"no database at all" * 100)
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 9")
    database.close()
    for path in (noise, newer):
        with pytest.raises(RunFolderError, match=path.name):
            ReplyStore(path)


def test_the_files_a_kill_leaves_behind_are_all_named_as_what_to_keep(path: Path) -> None:
    store = ReplyStore(path)
    store.begin("a", "zero_shot", "{}")
    assert {file.name for file in path.parent.iterdir()} == set(FILE_NAMES)
    store.close()
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAMES[0]]


def test_a_final_error_of_one_lets_those_in_flight_finish_and_begins_no_more(path: Path) -> None:
    recorder = Recorder(broken_at=2)
    with ReplyStore(path) as store:
        with pytest.raises(TeacherError, match="gone"):
            ask_all(CALLS, recorder.session, store, concurrency=4)
        assert sorted(recorder.sent) == [0, 1]  # the fourth worker had not begun
        assert store.states() == {"done": 2, "sent": 1}


def test_what_another_run_bought_meanwhile_is_not_bought_again(path: Path) -> None:
    recorder = Recorder()
    with ReplyStore(path) as store, ReplyStore(path) as other:

        def buy_the_rest(key: str, _from_store: bool) -> None:
            if key == "k0":
                for call in CALLS[1:]:
                    other.begin(call.key, "k", "{}")
                    other.finish(call.key, Answered(text="theirs"))

        answers = ask_all(CALLS, recorder.session, store, concurrency=1, on_answer=buy_the_rest)
    assert recorder.sent == [0]
    assert answers["k5"] == Answered(text="theirs")
