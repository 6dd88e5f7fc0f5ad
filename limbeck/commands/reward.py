"""The commands about reward models: train one, see how far one can be trusted. Parse, call, print."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from limbeck.commands.alone import recipe_for, run_alone
from limbeck.commands.options import ModelName, Out, Seed, Set, done
from limbeck.console import literal, results, show
from limbeck.lm.names import model_folder
from limbeck.records import Estimate
from limbeck.records.verdict import JudgeCard
from limbeck.store import read_record, write_records

PairFiles = Annotated[
    list[str],
    typer.Option("--pairs", help="Preference pairs, in any format that limbeck reads; may be given again."),
]


def train(
    model: ModelName,
    pairs: PairFiles,
    out: Out = Path("out/reward"),
    check_pairs: Annotated[
        list[str] | None, typer.Option("--check-pairs", help="Pairs to measure it on besides those held out.")
    ] = None,
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """Train a reward model on pairs; measure it on other prompts'."""
    recipe = recipe_for("reward", {"seed": seed, "reward": {"base": model}}, tuple(overrides or ()))
    given = {"pairs": pairs} | ({"check_pairs": check_pairs} if check_pairs else {})
    with _as_records(given) as inputs:
        folder = run_alone(recipe, "reward", {"base": model_folder(model), **inputs}, out)
    show_card(folder / "card.json")
    done(folder / "model")


def check(
    model: Annotated[str, typer.Option("--model", help="Reward model: folder or hub id.")],
    pairs: PairFiles,
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """See how often a reward model prefers the chosen response.

    By source or subset, beside what length alone would do.
    """
    from limbeck.commands.pair_files import pairs_in
    from limbeck.judges.checking import measured_card
    from limbeck.judges.local import LocalJudge

    recipe = recipe_for("reward", {"seed": seed, "judges": {"local": {"model": model}}}, tuple(overrides or ()))
    judge = LocalJudge(model, recipe.judges.local, recipe.model)
    judge.check()
    _show(measured_card(judge, model, pairs_in(pairs), seed, recipe.evaluate.confidence))


@contextmanager
def _as_records(given: dict[str, list[str]]) -> Iterator[dict[str, Path]]:
    """The pairs of each name in a file of records, as long as the context lasts."""
    from limbeck.commands.pair_files import pairs_in

    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        inputs = {name: Path(folder) / f"{name}.jsonl" for name in given}
        for name, path in inputs.items():
            write_records(path, pairs_in(given[name]))
        yield inputs


def show_card(path: Path) -> None:
    """Print a judge's card.

    Raises:
        InputError: the file is missing or damaged.
    """
    _show(read_record(path, JudgeCard))


def _show(card: JudgeCard) -> None:
    show(f"{card.judge}: {card.about}")
    table = Table(box=box.SIMPLE)
    for place, title in enumerate(("pairs of", "right, %", "interval", "longer is chosen, %", "pairs")):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    if card.accuracy is not None:
        table.add_row(*_cells("all", card.accuracy, card.longer_is_chosen))
    for source, accuracy in card.accuracy_by_source.items():
        table.add_row(*_cells(source, accuracy, card.longer_is_chosen_by_source.get(source)))
    results.print(table)
    if card.calibration_error is not None:
        show(f"Calibration: sigmoid(margin) is off by {card.calibration_error:.3f} on average.")
        results.print(_reliability(card))
    for limit in card.limits:
        show(f"Limit: {limit}.")


def _cells(name: str, accuracy: Estimate, longer: Estimate | None) -> list[Any]:
    right, low, high = (f"{100 * share:.1f}" for share in (accuracy.estimate, accuracy.low, accuracy.high))
    beside = "" if longer is None else f"{100 * longer.estimate:.1f}"
    return [literal(name), right, f"{low} to {high}", beside, f"{accuracy.n:,}"]


def _reliability(card: JudgeCard) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("as sure as", "right", "pairs"):
        table.add_column(title, justify="right")
    for each in card.reliability:
        table.add_row(f"{each.predicted:.2f}", f"{each.observed:.2f}", f"{each.n:,}")
    return table


def add_reward_commands(app: typer.Typer, panel: str) -> None:
    """Add `limbeck reward train` and `limbeck reward check`, in a panel of the help."""
    reward = typer.Typer(help="Train a reward model, or see how far one can be trusted.")
    reward.command()(train)
    reward.command()(check)
    app.add_typer(reward, name="reward", no_args_is_help=True, rich_help_panel=panel)
