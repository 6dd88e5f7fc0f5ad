"""What teaching has cost so far, and what it is going to: for the progress line and the manifest."""

from collections.abc import Set
from pathlib import Path

from limbeck.api.budget import Budget
from limbeck.api.prices import NANO
from limbeck.api.reply_store import FILE_NAME, ReplyStore
from limbeck.round_folders import whole_run


class Cost:
    """The cost of `total` requests under way, in the books of `store`."""

    def __init__(self, store: ReplyStore, budget: Budget, total: int) -> None:
        self._store, self._budget, self._left = store, budget, total
        self._before, self._done = store.spent(), 0

    def skip(self) -> None:
        """A reply was there already and cost nothing now."""
        self._left -= 1

    def note(self) -> str:
        """Count one more reply, and say what is spent, of how much, and about how much it will be.

        What is in flight counts by its worst case, so that the forecast falls as replies come in.
        """
        self._done += 1
        spent = self._store.spent()
        if self._budget.price is not None:
            now, before = spent.nano_dollars / NANO, self._before.nano_dollars / NANO
            about = before + (now - before) / self._done * self._left
            return f"${now:.2f}{_of(self._budget.usd)}, about ${max(about, now):.2f} in all"
        if self._budget.tokens is not None:
            return f"{spent.tokens:,} of {self._budget.tokens:,} tokens"
        return ""


def usd_spent(store: ReplyStore, *budgets: Budget) -> float | None:
    """What everything in the store cost, earlier runs and lost requests included; None where no price is known."""
    return store.spent().nano_dollars / NANO if any(budget.price is not None for budget in budgets) else None


def usd_spent_on(keys: Set[str], store: ReplyStore, *budgets: Budget) -> float | None:
    """What the replies with these keys cost, whenever they were bought, every attempt at them included."""
    if all(budget.price is None for budget in budgets):
        return None
    return sum(nano for key, nano in store.cost_by_key().items() if key in keys) / NANO


def store_for(out: Path) -> Path:
    """The file of replies and books for the stage that writes into `out`: one for all rounds of a run, with its budget.

    The first round's folder holds it.
    """
    return whole_run(out.parent) / out.name / FILE_NAME


def _of(usd: float | None) -> str:
    return "" if usd is None else f" of ${usd:g}"
