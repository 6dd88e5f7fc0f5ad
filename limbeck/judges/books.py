"""Where a judge's replies and its books lie: one file a run, for all its stages and rounds, as its budget is."""

from pathlib import Path

from limbeck.api.reply_store import FILE_NAME
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
