"""Who says how good a reply is: the exact verifier of the built-in tasks, a reward model behind an address, or one that
lies here.
"""

from pathlib import Path

from limbeck.api import ChatClient
from limbeck.judges.local import LocalJudge
from limbeck.judges.nemotron import NemotronJudge
from limbeck.judges.protocol import Exchange, Judge
from limbeck.judges.reward_text import TokenCounter, estimated_tokens
from limbeck.judges.verifier import Verifier
from limbeck.recipe import Recipe
from limbeck.recipe_verdict import Judge as JudgeName

__all__ = [
    "Exchange",
    "Judge",
    "LocalJudge",
    "NemotronJudge",
    "TokenCounter",
    "Verifier",
    "estimated_tokens",
    "make_judge",
]


def make_judge(
    name: JudgeName,
    recipe: Recipe,
    store: Path,
    *,
    reward_model: Path | None = None,
    count_tokens: TokenCounter = estimated_tokens,
    client: ChatClient | None = None,
) -> Judge:
    """Return the judge called `name`, as the recipe sets it up; `store` is the file that keeps what it is told.

    The verifier needs neither; `client` is the seam for tests. `reward_model`: the folder of the one that this run
    trained, which `local` is unless the recipe names another; it may be left out as long as nothing is judged.
    """
    if name == "verifier":
        return Verifier()
    if name == "local":
        local = recipe.judges.local
        trained = None if reward_model is None else str(reward_model)
        return LocalJudge(local.model if local.is_named else trained, local, recipe.model)
    settings = recipe.judges.nemotron
    return NemotronJudge(settings.model, settings.endpoint, store, count_tokens=count_tokens, client=client)
