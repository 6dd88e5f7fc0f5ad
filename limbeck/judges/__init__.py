"""Judges: who says how good a reply is. A conversation in, a score or a reasoned *unscored* out (`protocol.py`).

Reading order: `protocol` (what a judge is), `verifier` (exact: built-in problems, and numbers of files like GSM8K's),
`nemotron` (a reward model behind an address) and `reward_text` (what travels), `local` (a reward model that lies here),
`pairwise` (a chat model that compares two replies, in both orders), `pairwise_text` (its template, and how its reply is
read) and `chat_models` (which chat model that is), `books` (where what was paid for is kept). `pairwise` scores no
reply by itself: `make_judge` knows it not, `make_pairwise` makes it, and the stage `compare` asks it.
"""

from pathlib import Path

from limbeck.api import ChatClient
from limbeck.errors import RecipeError
from limbeck.judges.books import judge_store, run_store
from limbeck.judges.chat_models import chat_model_for
from limbeck.judges.local import LocalJudge
from limbeck.judges.nemotron import NemotronJudge
from limbeck.judges.pairwise import Matchup, PairwiseJudge
from limbeck.judges.protocol import AskedBeforehand, Exchange, Judge
from limbeck.judges.reward_text import TokenCounter, estimated_tokens
from limbeck.judges.verifier import Verifier
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import Judge as JudgeName

__all__ = [
    "AskedBeforehand",
    "Exchange",
    "Judge",
    "LocalJudge",
    "Matchup",
    "NemotronJudge",
    "PairwiseJudge",
    "TokenCounter",
    "Verifier",
    "check_judge",
    "estimated_tokens",
    "judge_store",
    "make_judge",
    "make_pairwise",
    "preflight",
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

    Raises:
        RecipeError: for `pairwise`, which compares and does not score.
    """
    if name == "verifier":
        return Verifier()
    if name == "local":
        local = recipe.judges.local
        trained = None if reward_model is None else str(reward_model)
        return LocalJudge(local.model if local.is_named else trained, local, recipe.model)
    if name == "pairwise":
        raise RecipeError("the judge 'pairwise' compares two replies and scores none: it is for evaluate.judges only")
    return NemotronJudge(
        recipe.judges.nemotron, store, prices=recipe.teach.prices, count_tokens=count_tokens, client=client
    )


def make_pairwise(recipe: Recipe, store: Path, *, client: ChatClient | None = None) -> PairwiseJudge:
    """Return the judge that compares; `client` is the seam for tests.

    Raises:
        RecipeError: where `judges.pairwise.model` names no chat model.
    """
    return PairwiseJudge(chat_model_for(recipe, client), store)


def check_judge(name: JudgeName, recipe: Recipe) -> None:
    """See that the judge called `name` can be asked, as far as that shows without asking.

    Raises:
        RecipeError: its model or its budget is missing; TeacherError: its key or address is.
    """
    nowhere = Path()  # a check keeps nothing
    (make_pairwise(recipe, nowhere) if name == "pairwise" else make_judge(name, recipe, nowhere)).check()


def preflight(name: JudgeName, recipe: Recipe, run: Path) -> None:
    """Ask a judge that is elsewhere one tiny thing; what it says is kept in the books of the run in the folder `run`.

    Raises:
        TeacherError: it gives no usable answer.
        BudgetError: its budget is used up.
    """
    store = run_store(name, run)
    judge = make_pairwise(recipe, store) if name == "pairwise" else make_judge(name, recipe, store)
    if isinstance(judge, AskedBeforehand):
        judge.preflight()
