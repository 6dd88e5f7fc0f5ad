"""The client and the store against a real server that misbehaves: nothing is lost, and nothing bought twice."""

from pathlib import Path

import pytest
from api_load import ask_load, names

from limbeck.api import Answered, Failed, ReplyStore
from limbeck.api.budget import Budget
from limbeck.api.faults import FAULTS, PASSING, Faults, Tally
from limbeck.api.faulty_server import running
from limbeck.errors import BudgetError

REASONS = {"empty": "empty", "content_filter": "content_filter", "refused": "refused", "truncated": "truncated"}


def test_500_requests_with_a_tenth_faulted_are_all_accounted_for_and_none_is_bought_twice(tmp_path: Path) -> None:
    marks = names("load", 500)
    faults = Faults.spread(0.1, seed=34)
    with running(faults) as server, ReplyStore(tmp_path / "replies.sqlite") as store:
        answers = ask_load(server.url, store, marks, concurrency=64)
        tally = server.tally()
        assert store.states() == {"done": 500}
    assert set(tally.arrivals) == set(marks)
    assert set(FAULTS) <= set(tally.by_how)  # every kind of fault was met
    assert tally.resends_beyond_faults == 0
    assert tally.waiting == ()
    assert tally.most_at_once <= 64
    for mark, answer in answers.items():
        how = tally.arrivals[mark][-1].how
        assert how not in PASSING
        assert REASONS.get(how) == (answer.reason if isinstance(answer, Failed) else None)
        assert how in REASONS or (isinstance(answer, Answered) and mark in answer.text)
    _tokens_agree(answers, tally)


def test_the_books_hold_what_the_server_charged_and_a_budget_holds_under_faults(tmp_path: Path) -> None:
    marks = names("budget", 200)
    faults = Faults.spread(0.2, seed=5)
    with running(faults) as server, ReplyStore(tmp_path / "replies.sqlite") as store:
        with pytest.raises(BudgetError):
            ask_load(server.url, store, marks, concurrency=32, budget=Budget(tokens=20_000))
        tally, spent = server.tally(), store.spent().tokens
        assert tally.tokens_in + tally.tokens_out <= spent <= 20_000
        assert 0 < store.states()["done"] < 200
        ask_load(server.url, store, marks, concurrency=32)  # without a limit the rest is bought, and booked too
        tally, spent = server.tally(), store.spent().tokens
        assert tally.tokens_in + tally.tokens_out <= spent
        assert store.states() == {"done": 200}


def _tokens_agree(answers: dict[str, Answered | Failed], tally: Tally) -> None:
    """What the client counts is no more than what the server charged, and all of it where nothing passing befell."""
    assert sum(answer.tokens_out for answer in answers.values()) <= tally.tokens_out
    assert sum(answer.tokens_in for answer in answers.values()) <= tally.tokens_in


def test_what_the_store_holds_is_not_sent_again_whatever_its_outcome_was(tmp_path: Path) -> None:
    marks = names("twice", 60)
    shares = {"refused": 0.2, "truncated": 0.2, "empty": 0.2, "content_filter": 0.2}
    with running(Faults(shares=shares)) as server, ReplyStore(tmp_path / "replies.sqlite") as store:
        first = ask_load(server.url, store, marks, concurrency=16)
        again = ask_load(server.url, store, marks, concurrency=16)
        assert server.tally().requests == 60
    assert {answer.reason for answer in first.values() if isinstance(answer, Failed)} == set(REASONS.values())
    assert {mark: answer.text for mark, answer in again.items()} == {mark: a.text for mark, a in first.items()}


def test_a_server_that_only_fails_leaves_typed_failures_and_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    marks = names("down", 4)
    with ReplyStore(tmp_path / "replies.sqlite") as store:
        with running(Faults(shares={"server_error": 1.0})) as server:
            answers = ask_load(server.url, store, marks, concurrency=4, max_retries=3)
            assert server.tally().requests == 4 * 4  # the first and three retries
        assert {answer.reason for answer in answers.values() if isinstance(answer, Failed)} == {"server_error"}
        assert store.states() == {"failed": 4}
        with running(Faults()) as server:
            answers = ask_load(server.url, store, marks, concurrency=4)
    assert all(isinstance(answer, Answered) for answer in answers.values())
