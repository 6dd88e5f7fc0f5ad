"""What the progress line and the manifest say of money."""

from pathlib import Path

from limbeck.api import ReplyStore
from limbeck.api.budget import Budget
from limbeck.api.prices import NANO, Price
from limbeck.api.reply_store import Cost as Booked
from limbeck.stages.teach.spending import Cost, usd_spent, usd_spent_on

PRICE = Price(input=1.0, output=1.0)


def pay(store: ReplyStore, usd: float, key: str = "k") -> None:
    attempt = store.begin(key, "k", "{}")
    assert attempt is not None
    store.settle(attempt, Booked(500, 500, round(usd * NANO)))


def test_the_forecast_is_what_was_spent_before_and_as_much_a_reply_as_until_now(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        pay(store, 1.0)
        cost = Cost(store, Budget(usd=9, price=PRICE), 6)
        cost.skip()  # five are left
        pay(store, 0.5)
        assert cost.note() == "$1.50 of $9, about $3.50 in all"
        pay(store, 0.1)
        assert cost.note() == "$1.60 of $9, about $2.50 in all"


def test_without_a_price_tokens_are_counted_and_without_a_limit_nothing_is_said(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        pay(store, 0.0)
        assert Cost(store, Budget(tokens=30_000), 6).note() == "1,000 of 30,000 tokens"
        assert Cost(store, Budget(), 6).note() == ""
        assert usd_spent(store, Budget()) is None
        assert usd_spent(store, Budget(price=PRICE)) == 0.0


def test_what_some_replies_cost_is_every_attempt_at_them_and_at_no_other(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        for usd, key in ((1.0, "a"), (0.25, "a"), (4.0, "b"), (0.5, "c")):
            pay(store, usd, key)
        lost = store.begin("c", "k", "{}", Booked(500, 500, round(0.1 * NANO)))
        assert lost is not None
        store.lose(lost)
        assert usd_spent_on({"a", "c", "never asked"}, store, Budget(), Budget(price=PRICE)) == 1.85
        assert usd_spent_on({"a"}, store, Budget()) is None
