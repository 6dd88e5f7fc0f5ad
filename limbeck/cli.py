"""The command line: parse, call, print. Every command is a few lines; the work is elsewhere.

Exit codes: 0 done, 2 something the user can put right (one sentence on standard error), 130 interrupted.
"""

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from limbeck import conductor
from limbeck.commands.compare import compare
from limbeck.commands.options import new_file
from limbeck.commands.pairs import add_pair_commands
from limbeck.commands.plan import plan
from limbeck.commands.reward import add_reward_commands
from limbeck.commands.runs import carry_out, plan_run, write_report
from limbeck.commands.stages import add_stage_commands
from limbeck.commands.submit import submit
from limbeck.commands.summary import show_alarms, show_standings
from limbeck.console import console, say, show
from limbeck.containers import granted_cores
from limbeck.errors import LimbeckError, RunFolderError
from limbeck.lm.names import model_folder
from limbeck.recipe.file import load_recipe, packaged_recipe
from limbeck.run_folder import recipe_of
from limbeck.store import write_text

INTERRUPTED = 130  # 128 + SIGINT, as shells count
app = typer.Typer(
    name="limbeck",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field of the recipe.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/NAME of the recipe.")]
Plan = Annotated[
    bool, typer.Option("--plan", help="Only say what it takes: stages, tokens, memory, hours, money; spend nothing.")
]
_WHOLE_RUN = "A whole run"
_VERDICTS = "Judges and verdicts"
RunFolder = Annotated[Path, typer.Argument(help="Run folder, for instance runs/demo.")]


def _say_version(*, asked: bool) -> None:
    if asked:
        show(f"limbeck {importlib.metadata.version('limbeck')}")
        raise typer.Exit


@app.callback()
def limbeck(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and stop.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Distil reasoning into small conversational language models."""


@app.command(rich_help_panel=_WHOLE_RUN)
def demo(
    seed: Annotated[int, typer.Option(help="Every random choice derives from it.")] = 1,
    overrides: Set = None,
    out: Out = None,
    *,
    plan: Plan = False,
) -> None:
    """Run the whole pipeline on this machine: no key, no GPU, no hub."""
    recipe = load_recipe(packaged_recipe("demo"), (f"seed={seed}", *(overrides or ())))
    name = recipe.name if recipe.seed == 1 else f"{recipe.name}-seed{recipe.seed}"
    (plan_run if plan else carry_out)(recipe, out or Path("runs") / name, None)


@app.command(rich_help_panel=_WHOLE_RUN)
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the recipe.")] = Path("recipe.toml"),
    *,
    own_prompts: Annotated[
        bool,
        typer.Option("--own-prompts", help="For own prompts, with teacher and judge on this machine."),
    ] = False,
) -> None:
    """Write a commented recipe for your own model and data."""
    if path.exists():
        raise RunFolderError(f"{path} exists already; give another name or remove it")
    write_text(path, packaged_recipe("own-prompts" if own_prompts else "starter").read_text(encoding="utf-8"))
    show(f"{path} is written. Edit it, then: limbeck run {path}")


@app.command(rich_help_panel=_WHOLE_RUN)
def pull(name: Annotated[str, typer.Argument(help="A known model, for instance smollm2-135m.")]) -> None:
    """Fetch a small model once; offline ever after."""
    from limbeck.lm.pull import pull as pull_model

    show(str(pull_model(name)))


@app.command(rich_help_panel=_WHOLE_RUN)
def run(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (TOML).")],
    overrides: Set = None,
    out: Out = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    *,
    plan: Plan = False,
) -> None:
    """Carry a recipe out; what is fresh is skipped, the rest resumed.

    Without --out in runs/NAME, and with --set seed=N in runs/NAME-seedN.
    """
    recipe = load_recipe(recipe_path, tuple(overrides or ()))
    # A seed of the command line has a folder of its own: in the recipe's, it would train over what is there.
    seeded = any(override.partition("=")[0].strip() == "seed" for override in overrides or ())
    own = f"-seed{recipe.seed}" if seeded else ""
    (plan_run if plan else carry_out)(recipe, out or Path("runs") / f"{recipe.name}{own}", until)


@app.command(rich_help_panel=_WHOLE_RUN)
def status(folder: RunFolder) -> None:
    """Say what is fresh, what is stale and why, and every alarm."""
    recipe = recipe_of(folder)
    standings = list(conductor.standings(recipe, model_folder(recipe.model.student), folder))
    show_standings(standings)
    show_alarms(folder, standings)


@app.command(rich_help_panel=_WHOLE_RUN)
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folder, for instance runs/demo.")],
    compare: Annotated[bool, typer.Option("--compare", help="Set two runs or more side by side on one page.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where --compare writes its page; by default comparison.html beside the first run."),
    ] = None,
) -> None:
    """Write a run's report anew, or set several runs on one page."""
    from limbeck.stages import report as pages

    if compare:
        page = new_file(out) if out else folders[0].resolve().parent / "comparison.html"
        pages.compare({folder: recipe_of(folder) for folder in folders}, page)
    elif len(folders) > 1 or out:
        raise RunFolderError("a report is of one run and lies in its folder; add --compare to set runs side by side")
    else:
        page = write_report(folders[0])
    show(str(page.resolve()))


@app.command(rich_help_panel=_WHOLE_RUN)
def chat(
    folder: RunFolder,
    model: Annotated[
        str | None, typer.Option(help="Arm or round-K to talk to; by default the last round's, or the first arm.")
    ] = None,
    before: Annotated[str, typer.Option(help="Model to set beside it: base, sft, another arm or round-K.")] = "base",
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0 is greedy.")] = 0.0,
) -> None:
    """Talk to the result, side by side with the model before."""
    from limbeck.commands.talk import talk

    recipe = recipe_of(folder)
    talk(recipe, model_folder(recipe.model.student), folder, model, before, temperature)


add_stage_commands(app)
add_pair_commands(app)
for command in (plan, compare, submit):
    app.command(rich_help_panel=_VERDICTS)(command)
add_reward_commands(app, _VERDICTS)


def _end(sentence: str, exit_code: int) -> NoReturn:
    say(f"limbeck: {sentence}", style="red" if console.is_terminal else "")
    sys.exit(exit_code)


def main() -> None:
    """Entry point: one sentence and an exit code for everything a user can put right."""
    # A level set on its logger would be lost: the library sets its own when it is imported, from this variable.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Before torch and our kernels are loaded: each brings an OpenMP of its own, which reads this then and never again.
    if (cores := granted_cores()) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    try:
        app()
    except LimbeckError as error:
        _end(str(error), error.exit_code)
    except BrokenPipeError:  # whoever read the output has gone
        raise
    except (OSError, UnicodeError) as error:  # of a path that was given: too long, behind a file, not to be written
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _end(f"{place}{reason}", LimbeckError.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns Ctrl-C into exit code 130, and says nothing
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        say("limbeck: interrupted; what was finished is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
