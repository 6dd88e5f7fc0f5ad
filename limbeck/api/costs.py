"""What asking a model may cost: the recipe's budget, with the price that money is counted by."""

from dataclasses import dataclass
from pathlib import Path

from limbeck.api.budget import Budget
from limbeck.api.prices import find_price
from limbeck.errors import RecipeError
from limbeck.recipe import pairs as recipe_pairs
from limbeck.recipe.pairs import Endpoint


@dataclass(frozen=True, slots=True)
class Terms:
    """How much may be spent at `endpoint`, by which list of prices; `field` is where the recipe says it."""

    field: str
    budget: recipe_pairs.Budget
    endpoint: Endpoint
    prices: str | None = None
    batch: bool = False


def budget_of(model: str, terms: Terms, paid: bool) -> Budget:
    """The budget for `model` under `terms`; `paid`: whether asking it may cost money.

    The packaged prices are those of the provider's own address; a list of the user's own holds for any server.

    Raises:
        RecipeError: money is limited and no price is known, or a provider's own address has no limit at all.
        InputError: the user's price list is none.
    """
    asked, own = terms.budget, Path(terms.prices) if terms.prices else None
    own_address = terms.endpoint.base_url is None or terms.endpoint.style == "azure"
    listed = find_price(model, own, batch=terms.batch) if own_address or own else None
    if asked.usd is not None and listed is None:
        where = f"in {own}" if own else ("in the packaged list" if own_address else "of a server of your own")
        raise RecipeError(
            f"{terms.field}.usd: no price for {model!r} is known {where}: name a price list with teach.prices that has "
            f'models."{model}" = {{ input = ..., output = ... }}, in dollars for a million tokens, or limit the tokens '
            f"with {terms.field}.tokens instead"
        )
    if paid and asked.usd is None and asked.tokens is None:
        unit = f"{terms.field}.usd or {terms.field}.tokens" if listed else f"{terms.field}.tokens"
        raise RecipeError(f"asking {model!r} costs money: say with {unit} how much may be spent")
    return Budget(asked.usd, asked.tokens, listed.price if listed else None, terms.field)
