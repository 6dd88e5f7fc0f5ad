"""Where the files of a further round lie: its own in `RUN/rounds/K`, what all rounds share in `RUN`.

Paths are those that a run of one round has, relative to the folder of the round or of the run. Knows no stage.
"""

from pathlib import Path

ROUNDS = "rounds"
_RUN = "recipe.toml"  # what a run folder holds
_SHARED = ("corpus", "retain", "reward", "reward_mine")
_DRAWN_ANEW = ("pool", "fresh")
_ASKED_ONCE = ("base", "against")  # models that no round changes


def round_folder(run: Path, number: int) -> Path:
    """The folder of a round of the run in `run`: the first is the run itself."""
    return run if number == 1 else run / ROUNDS / str(number)


def whole_run(folder: Path) -> Path:
    """The run that a folder is a round of; of any other folder, that folder."""
    run = folder.parent.parent
    return run if folder.parent.name == ROUNDS and (run / _RUN).is_file() else folder


def drawn_anew(name: str, number: int) -> str:
    """What the rows of `pool` or `fresh` are called that the corpus has for a round."""
    return name if number == 1 else f"{name}_round_{number}"


def lies_at(path: str, number: int, trained: str) -> str:
    """`place_in_round` of a path that is a text."""
    return place_in_round(Path(path), number, trained).as_posix()


def place_in_round(path: Path, number: int, trained: str) -> Path:
    """Where what a run calls `path` lies, seen from the folder of a round; `trained` is the unit whose model goes on.

    `sft` is the last round's model, with what was said of it. In the first round everything is where it is called.
    """
    if number == 1 or path.is_absolute():
        return path
    run = Path("../..")
    last = run if number == 2 else Path("..") / str(number - 1)
    first, name = path.parts[0], path.parts[1] if len(path.parts) > 1 else ""
    if first == "corpus" and (stem := name.removesuffix(".jsonl")) in _DRAWN_ANEW:
        return run / "corpus" / f"{drawn_anew(stem, number)}.jsonl"
    if first in _SHARED or (first == "evaluate" and name in _ASKED_ONCE):
        return run / path
    if first == "evaluate" and name == "sft":
        return last.joinpath("evaluate", Path(trained).name, *path.parts[2:])
    return last.joinpath(trained, *path.parts[1:]) if first == "sft" else path
