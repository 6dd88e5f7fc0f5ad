"""Budgets: never exceeded, whoever asks at once, and whenever a run dies."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.api import Answer, Answered, Call, ReplyStore, ask_all
from limbeck.api.asking import Send
from limbeck.api.budget import Account, Budget, Purse
from limbeck.api.prices import NANO, Price, find_price
from limbeck.api.reply_store import Cost, Limits
from limbeck.errors import BudgetError, InputError

PRICE = Price(input=2.0, output=10.0)


@pytest.fixture
def store(tmp_path: Path) -> ReplyStore:
    return ReplyStore(tmp_path / "replies.sqlite")


class Asked:
    """A session whose calls cost what `costs` says, of (100, 50) tokens set aside; some get no answer."""

    def __init__(self, costs: list[tuple[int, int] | None], seed: int = 0) -> None:
        self.costs, self.spent, self.answered = costs, 0, 0
        self._draw = random.Random(seed)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[int]]:
        yield self._send

    async def _send(self, number: int, account: Account) -> Answer:
        attempt = await account.begin(100, 50)
        for _ in range(self._draw.randrange(4)):
            await asyncio.sleep(0)
        cost = self.costs[number]
        self.spent += sum(cost or (100, 50))  # what got no answer may have cost anything up to that
        if cost is None:
            account.give_up(attempt)
        else:
            account.settle(attempt, *cost, "{}")
        self.answered += 1
        return Answered(text="x")


def calls(number: int) -> list[Call[int]]:
    return [Call(f"k{n}", "zero_shot", "{}", n) for n in range(number)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(1, 3000),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_the_tokens_spent_never_exceed_the_limit_and_asking_goes_on_while_there_is_room(
    costs: list[tuple[int, int] | None], limit: int, concurrency: int, seed: int
) -> None:
    with TemporaryDirectory() as folder, ReplyStore(Path(folder) / "r.sqlite") as store:
        asked = Asked(costs, seed)
        try:
            ask_all(calls(len(costs)), asked.session, store, concurrency=concurrency, budget=Budget(tokens=limit))
            assert asked.answered == len(costs)
        except BudgetError:
            assert store.spent().tokens + 150 > limit
            assert asked.answered < len(costs)
        assert asked.spent == store.spent().tokens <= limit
        assert store.states().get("done", 0) == asked.answered


def test_a_budget_that_ends_leaves_the_first_calls_answered_without_a_hole(store: ReplyStore) -> None:
    asked = Asked([(20, 10)] * 60)
    with pytest.raises(BudgetError):
        ask_all(calls(60), asked.session, store, concurrency=16, budget=Budget(tokens=900))  # room for 6 at once
    answered = [store.get(call.key) is not None for call in calls(60)]
    assert 20 < sum(answered) < 60
    assert answered == sorted(answered, reverse=True)


def test_money_is_set_aside_by_the_worst_case_and_settled_by_the_cost(store: ReplyStore) -> None:
    budget = Budget(usd=1.0, price=PRICE)

    async def work() -> None:
        account = Purse(store, budget).account("a", "k", "{}")
        attempt = await account.begin(1000, 500)
        assert store.spent().nano_dollars == 0.007 * NANO  # 1,000 x $2 + 500 x $10, a million
        account.settle(attempt, 400, 100, "raw")
        assert store.spent() == (500, 0.0018 * NANO)

    asyncio.run(work())


def test_what_was_in_flight_when_a_run_died_stays_set_aside_and_the_limit_holds_over_resumes(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        assert store.begin("a", "k", "{}", Cost(100, 50, 7), Limits(tokens=300)) is not None
    with ReplyStore(path) as resumed:
        assert resumed.attempts() == {"open": 1}
        assert resumed.begin("a", "k", "{}", Cost(100, 50, 7), Limits(tokens=300)) is not None
        assert resumed.begin("b", "k", "{}", Cost(1, 0, 0), Limits(tokens=300)) is None
        assert resumed.spent() == (300, 14)
        assert resumed.times_sent() == {"a": 2}


def test_two_runs_that_share_a_store_share_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as one, ReplyStore(path) as two:
        worst, limits = Cost(6, 4), Limits(tokens=25)
        assert [run.begin(str(n), "k", "{}", worst, limits) is None for n, run in enumerate((one, two, one, two))] == [
            False, False, True, True,
        ]  # fmt: skip


def test_a_server_that_takes_more_than_it_may_is_asked_no_more_but_its_answer_is_kept(store: ReplyStore) -> None:
    asked = Asked([(100, 51), (1, 1), (1, 1)])
    with pytest.raises(BudgetError, match="100 \\+ 51 tokens for one request, more than it was allowed"):
        ask_all(calls(3), asked.session, store, concurrency=1, budget=Budget(tokens=10_000))
    assert store.get("k0") == Answered(text="x")
    assert asked.answered == 1


def test_without_a_limit_such_a_server_is_only_booked(store: ReplyStore) -> None:
    ask_all(calls(2), Asked([(100, 51), (1, 1)]).session, store, concurrency=1)
    assert store.spent().tokens == 153


def test_a_used_up_budget_says_what_is_spent_and_what_to_raise(store: ReplyStore) -> None:
    asked = Asked([(100, 50)] * 9)
    with pytest.raises(BudgetError) as caught:
        ask_all(calls(9), asked.session, store, concurrency=4, budget=Budget(usd=0.002, price=PRICE))
    assert "$0.0014 of $0.002 are spent or set aside, and the next request may cost $0.0007" in str(caught.value)
    assert "raise teach.budget" in str(caught.value)


def test_the_raw_answer_is_kept_with_its_attempt(store: ReplyStore) -> None:
    attempt = store.begin("a", "k", "{}")
    assert attempt is not None
    store.settle(attempt, Cost(1, 2, 3), '{"choices": []}')
    assert store.attempts() == {"settled": 1}
    assert store.bodies("a") == ['{"choices": []}']


def test_a_store_of_the_version_before_is_taken_over_with_its_replies(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with ReplyStore(path) as store:
        store.begin("a", "k", "{}")
        store.finish("a", Answered(text="paid for"))
        for table in ("attempts", "spent"):
            store._database.execute(f"DROP TABLE {table}")
        store._database.execute("PRAGMA user_version = 1")
    with ReplyStore(path) as store:
        assert store.get("a") == Answered(text="paid for")
        assert store.spent() == (0, 0)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(0, 200), st.floats(0, 200))
def test_a_cost_is_never_rounded_down(tokens_in: int, tokens_out: int, dear_in: float, dear_out: float) -> None:
    nano = Price(input=dear_in, output=dear_out).nano_dollars(tokens_in, tokens_out)
    exact = (tokens_in * dear_in + tokens_out * dear_out) * 1000
    assert exact - 0.01 <= nano <= exact + 1.01


def test_a_dated_model_costs_what_its_undated_name_does_and_another_model_is_unknown() -> None:
    plain, dated = find_price("gpt-4o"), find_price("gpt-4o-2024-08-06")
    assert plain is not None and dated is not None
    assert plain.price == dated.price == Price(input=2.5, output=10.0)
    mini = find_price("gpt-4o-mini-2024-07-18")
    assert mini is not None and mini.price.output == 0.6
    assert find_price("gpt-4o-audio") is None


def test_the_users_own_price_list_decides_alone(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('date = "2026-11-01"\n[models]\nmine = { input = 1, output = 2 }\n')
    listed = find_price("mine", own)
    assert listed is not None and listed.price == Price(input=1, output=2) and listed.date == "2026-11-01"
    assert find_price("gpt-4o", own) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml", "no price list in TOML"),
        ('date = "2026-11-01"', "models: field required"),
        ('date = "May"\n[models]', "date:"),
        ('date = "2026-11-01"\n[models]\nm = { input = -1, output = 2 }', "models.m.input"),
        ('date = "2026-11-01"\n[models]\nm = { input = 1 }', "models.m.output: field required"),
        ('date = "2026-11-01"\n[models]\nm = { input = 1, output = 2, cached = 3 }', "models.m.cached"),
    ],
)
def test_a_price_list_that_is_none_is_refused_by_its_field(tmp_path: Path, text: str, words: str) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(text)
    with pytest.raises(InputError, match=r"prices\.toml") as caught:
        find_price("m", own)
    assert words in str(caught.value)


def test_a_missing_price_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        find_price("m", tmp_path / "none.toml")
