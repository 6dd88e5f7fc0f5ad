"""What a teacher may cost: the recipe's budget, with the price that money is counted by."""

from pathlib import Path

from limbeck.api.budget import Budget
from limbeck.api.prices import find_price
from limbeck.errors import RecipeError
from limbeck.recipe_pairs import Teach


def budget_of(model: str, settings: Teach, paid: bool) -> Budget:
    """The budget for `model` behind `settings.endpoint`; `paid`: whether asking it may cost money.

    The packaged prices are those of the provider's own address; a list of the user's own holds for any server.

    Raises:
        RecipeError: money is limited and no price is known, or a provider's own address has no limit at all.
        InputError: the user's price list is none.
    """
    asked, own = settings.budget, Path(settings.prices) if settings.prices else None
    own_address = settings.endpoint.base_url is None or settings.endpoint.style == "azure"
    listed = find_price(model, own, batch=settings.batch) if own_address or own else None
    if asked.usd is not None and listed is None:
        where = f"in {own}" if own else ("in the packaged list" if own_address else "of a server of your own")
        raise RecipeError(
            f"teach.budget.usd: no price for {model!r} is known {where}: name a list that has it with teach.prices, or "
            "limit the tokens with teach.budget.tokens instead"
        )
    if paid and asked.usd is None and asked.tokens is None:
        unit = "teach.budget.usd or teach.budget.tokens" if listed else "teach.budget.tokens"
        raise RecipeError(f"openai:{model} costs money: say with {unit} how much may be spent")
    return Budget(asked.usd, asked.tokens, listed.price if listed else None)
