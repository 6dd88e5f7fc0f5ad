"""What may be spent: each request's worst case is set aside in the store before it is sent, then settled by its cost.

The worst case of a prompt is one token a byte of the request's body (no tokenizer makes more of it), of a reply the
most tokens it was allowed. What was in flight when a run died stays set aside. So a limit holds over resumes and over
runs that share a store, as long as the server keeps its own output limit; where it does not, asking stops.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from limbeck.api.prices import NANO, Price
from limbeck.api.reply_store import Cost, Limits, ReplyStore
from limbeck.errors import BudgetError, UsedUpError


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of money and of tokens, prompt and reply together (None: no limit), and the price money is counted by.

    `field`: where the recipe sets them, for whoever is told that they are used up.
    """

    usd: float | None = None
    tokens: int | None = None
    price: Price | None = None
    field: str = "teach.budget"

    def limits(self) -> Limits:
        """As whole numbers."""
        return Limits(self.tokens, None if self.usd is None else round(self.usd * NANO))

    def cost(self, tokens_in: int, tokens_out: int) -> Cost:
        """The cost of so many tokens; no money where no price is known."""
        return Cost(tokens_in, tokens_out, self.price.nano_dollars(tokens_in, tokens_out) if self.price else 0)


UNLIMITED = Budget()


class Purse:
    """A budget and the store that keeps its books; used in one event loop."""

    def __init__(self, store: ReplyStore, budget: Budget = UNLIMITED) -> None:
        self._store, self._budget = store, budget
        self._open = 0
        self._settled = asyncio.Event()
        self._turn = asyncio.Lock()  # whoever waits for room has it before whoever comes later
        self._broken: BudgetError | None = None

    def account(self, key: str, kind: str, request: str) -> "Booked":
        """The account of one call; `request`: its JSON for the journal, without secrets."""
        return Booked(self, key, kind, request)

    async def set_aside(self, account: "Booked", tokens_in: int, tokens_out: int) -> int:
        """Journal an attempt of a call and set its worst case aside, once there is room for it: first come, first
        served, so that a budget that ends leaves the first calls answered.

        Raises:
            UsedUpError: there is not, and nothing in flight here can make any.
            BudgetError: the server took more than it may.
        """
        async with self._turn:
            while True:
                attempt = self.set_aside_at_once(account, tokens_in, tokens_out)
                if attempt is not None:
                    return attempt
                if not self._open:
                    raise self.used_up(tokens_in, tokens_out)
                self._settled.clear()
                await self._settled.wait()

    def set_aside_at_once(self, account: "Booked", tokens_in: int, tokens_out: int) -> int | None:
        """The same without waiting: None where there is no room for it now.

        Raises:
            BudgetError: the server took more than it may.
        """
        if self._broken is not None:
            raise self._broken
        worst, limits = self._budget.cost(tokens_in, tokens_out), self._budget.limits()
        attempt = self._store.begin(account.key, account.kind, account.request, worst, limits)
        self._open += attempt is not None
        return attempt

    def settle(self, attempt: int, tokens_in: int, tokens_out: int, body: str) -> None:
        """Keep the server's answer as it came, and book what it cost.

        Where that is more than its worst case the server keeps no limit, so no budget can hold: nothing more is begun.
        """
        kept = self._store.settle(attempt, self._budget.cost(tokens_in, tokens_out), body)
        if not kept and self._budget.limits() != Limits():
            self._broken = BudgetError(
                f"the server counted {tokens_in:,} + {tokens_out:,} tokens for one request, more than it was allowed: "
                "no budget can be kept with it, so nothing more is sent; what was answered is kept"
            )
        self._release()

    def give_up(self, attempt: int, body: str = "") -> None:
        """The attempt has no usable answer, but may have been paid for: its worst case stays."""
        self._store.lose(attempt, body)
        self._release()

    def _release(self) -> None:
        self._open -= 1
        self._settled.set()

    def used_up(self, tokens_in: int, tokens_out: int) -> UsedUpError:
        """What to say where there is no room for such a request, and none to be had."""
        worst = self._budget.cost(tokens_in, tokens_out)
        spent = self._store.spent()
        limits = self._budget.limits()
        parts = []
        if limits.nano_dollars is not None:
            parts.append(
                f"${spent.nano_dollars / NANO:.4f} of ${limits.nano_dollars / NANO:g} are spent or set aside, and the "
                f"next request may cost ${worst.nano_dollars / NANO:.4f}"
            )
        if limits.tokens is not None:
            parts.append(
                f"{spent.tokens:,} of {limits.tokens:,} tokens are spent or set aside, and the next request may take "
                f"{worst.tokens:,}"
            )
        return UsedUpError(
            f"the budget is used up: {'; '.join(parts)}. What was answered is kept and not paid for again: raise "
            f"{self._budget.field} and run the same command again"
        )


class Account(Protocol):
    """Where the attempts of one call are booked."""

    async def begin(self, tokens_in: int, tokens_out: int) -> int:
        """Journal an attempt and set aside what it costs at most, in tokens; returns its number."""

    def settle(self, attempt: int, tokens_in: int, tokens_out: int, body: str) -> None:
        """Keep the server's answer as it came, and book what it cost."""

    def give_up(self, attempt: int, body: str = "") -> None:
        """The attempt has no usable answer, but may have been paid for."""


class Booked:
    """The account of one call in a purse."""

    def __init__(self, purse: Purse, key: str, kind: str, request: str) -> None:
        self.key, self.kind, self.request = key, kind, request
        self._purse = purse
        self.settle, self.give_up = purse.settle, purse.give_up
        self.begun = False

    async def begin(self, tokens_in: int, tokens_out: int) -> int:
        """See `Purse.set_aside`."""
        self.begun = True
        return await self._purse.set_aside(self, tokens_in, tokens_out)


class Unbooked:
    """For calls that are in no store: a user's own server, which samples a student."""

    async def begin(self, *_tokens: int) -> int:
        """Nothing is noted."""
        return 0

    def settle(self, attempt: int, tokens_in: int, tokens_out: int, body: str) -> None:
        """Nothing is booked."""

    def give_up(self, attempt: int, body: str = "") -> None:
        """Nothing is booked."""
