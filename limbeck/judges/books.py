"""Where a judge's replies and its books lie: one file a run, for all its stages and rounds, as its budget is."""

from pathlib import Path
from typing import NamedTuple

from limbeck.api.prices import NANO
from limbeck.api.reply_store import FILE_NAME, ReplyStore
from limbeck.round_folders import whole_run

_RUN = "recipe.toml"  # what a run folder holds
_DEPTH = 2  # a stage's folder is `mine` or `evaluate/MODEL`
FOLDER = "judges"


def judge_store(name: str, out: Path) -> Path:
    """The file that keeps what the judge `name` said, for the stage that writes into `out`.

    A reply that two models gave to a prompt is so paid for once. A stage outside a run keeps its own.
    """
    run = next((folder for folder in list(out.parents)[:_DEPTH] if (folder / _RUN).is_file()), None)
    return out / FILE_NAME if run is None else run_store(name, run)


def run_store(name: str, run: Path) -> Path:
    """The same, for the run in the folder `run`, or of which that is a round."""
    return whole_run(run) / FOLDER / f"{name}.sqlite"


class Paid(NamedTuple):
    """What a judge's replies cost so far, lost requests included; `usd` is None where no price was known."""

    tokens: int
    usd: float | None


def paid(name: str, run: Path) -> Paid | None:
    """What the judge `name` cost in a run, resumed runs together; None where it was asked nothing there.

    Raises:
        RunFolderError: the books cannot be read.
    """
    path = run_store(name, run)
    if not path.is_file():
        return None
    with ReplyStore(path) as store:
        spent = store.spent()
    if not spent.tokens:
        return None
    return Paid(spent.tokens, spent.nano_dollars / NANO if spent.nano_dollars else None)
