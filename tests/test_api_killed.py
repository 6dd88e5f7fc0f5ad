"""kill -9 at a random moment of 200 requests, then the same again until done: no stored reply is bought twice."""

import random
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import api_load
import pytest
from api_load import load_calls, names

from limbeck.api import ReplyStore
from limbeck.api.faults import Faults, Tally
from limbeck.api.faulty_server import Running, running

REQUESTS, IN_FLIGHT = 200, 16
LATENCY = (0.02, 0.1)  # 16 at once: somewhat under a second in all, of which most is waiting for the server
LONGEST_SECONDS = 0.9
AT_ONCE = 2  # moments tried at the same time


class Moment(NamedTuple):
    """What one kill left: keys stored by then, and the server's account before and after the resumption."""

    stored: set[str]
    states: dict[str, int]
    before: Tally
    after: Tally
    marks: list[str]
    spent_tokens: int


def _start(server: Running, path: Path, prefix: str) -> subprocess.Popen[str]:
    words = [server.url, str(path), prefix, str(REQUESTS), str(IN_FLIGHT)]
    process = subprocess.Popen([sys.executable, api_load.__file__, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "asking\n"
    return process


def _stored(path: Path, url: str, marks: list[str]) -> set[str]:
    keys = {call.key: mark for mark, call in zip(marks, load_calls(url, marks), strict=True)}
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT key FROM replies WHERE state = 'done'").fetchall()
    database.close()
    return {keys[key] for (key,) in rows}


def _settled(server: Running, marks: list[str]) -> Tally:
    """The server's account once it has noticed that the client is gone."""
    mine, deadline = set(marks), time.monotonic() + 10
    while mine & set((tally := server.tally()).waiting):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return tally


def _kill_once(server: Running, folder: Path, number: int) -> Moment:
    prefix = f"moment{number}"
    path, marks = folder / f"{prefix}.sqlite", names(prefix, REQUESTS)
    process = _start(server, path, prefix)
    time.sleep(random.Random(f"moment {number}").uniform(0, LONGEST_SECONDS))
    process.kill()
    process.communicate()
    before = _settled(server, marks)
    stored = _stored(path, server.url, marks)
    again = _start(server, path, prefix)
    again.communicate(timeout=60)
    assert again.returncode == 0
    with ReplyStore(path) as store:
        states = store.states()
        spent = store.spent().tokens
    return Moment(stored, states, before, server.tally(), marks, spent)


def _check(moment: Moment) -> int:
    """Hold one moment against the promises; returns how many requests were sent again."""
    assert moment.states == {"done": REQUESTS}
    sent_again = 0
    for mark in moment.marks:
        before, after = moment.before.arrivals.get(mark, ()), moment.after.arrivals[mark]
        if mark in moment.stored:
            assert after == before, f"{mark} was stored and bought again"
        elif before:
            sent_again += 1
        unfounded = [arrival for arrival in after[:-1] if not arrival.worth_asking_again]
        assert len(unfounded) <= (mark not in moment.stored)  # replied, and killed before it was stored: in flight
    assert sent_again <= IN_FLIGHT
    return sent_again


def _at_random_moments(folder: Path, number: int) -> None:
    faults = Faults.spread(0.05, seed=2, latency_seconds=LATENCY)
    with running(faults) as server, ThreadPoolExecutor(AT_ONCE) as threads:
        moments = list(threads.map(lambda n: _kill_once(server, folder, n), range(number)))
        charged = server.tally()
    booked = sum(moment.spent_tokens for moment in moments)
    assert charged.tokens_in + charged.tokens_out <= booked, "the server charged what is in no book"
    again = [_check(moment) for moment in moments]
    halfway = [moment for moment in moments if 0 < len(moment.stored) < REQUESTS]
    assert halfway, "no kill fell into the middle of the work"
    assert any(again), "no kill caught a request in flight"


def test_after_kill_9_at_5_random_moments_only_what_was_in_flight_is_sent_again(tmp_path: Path) -> None:
    _at_random_moments(tmp_path, 5)


@pytest.mark.slow
def test_after_kill_9_at_50_random_moments_only_what_was_in_flight_is_sent_again(tmp_path: Path) -> None:
    _at_random_moments(tmp_path, 50)
