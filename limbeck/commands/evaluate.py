"""The command that evaluates one model, or replies, on own prompts or on other people's tests. Parse, call, print."""

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.commands import suites
from limbeck.commands.alone import MODEL, own_file, prompts_input, recipe_for, run_alone
from limbeck.commands.evaluated import judges_of, show_judgements, show_win_rate
from limbeck.commands.options import AskedName, Out, Seed, Set, done, only_tasks
from limbeck.errors import InputError, RecipeError
from limbeck.lm.names import model_folder
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST

PAIRWISE = "pairwise"


def evaluate(
    model: AskedName = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts, in any format that limbeck reads.")] = None,
    tasks: Annotated[int, typer.Option(min=0, help="Or so many built-in problems.")] = 0,
    judge: Annotated[
        str, typer.Option(help="verifier (problems with an exact answer), nemotron or local.")
    ] = "verifier",
    *,
    replies: Annotated[
        Path | None,
        typer.Option(help="Replies that are there, in place of a model: `prompt` and `response` a line; several lines "
                     "of a prompt are samples."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Somebody's responses to the prompts, `prompt` and `response` a line, to win against."),
    ] = None,
    ties: Annotated[str, typer.Option(help="What a tie is in the win rate: half, or loss (the paper's).")] = "half",
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", metavar="NAME=PATH", help="A test file instead: gsm8k, mt_bench or pairs (prompt, "
                     "chosen, rejected: RewardBench's form); may be given again."),
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(metavar="TASK,...", help="Tasks of lm-evaluation-harness instead (extra `harness`)."),
    ] = None,
    out: Out = Path("out/evaluate"),
    seed: Seed = 1,
    overrides: Set = None,
) -> None:  # fmt: skip
    """Sample a reply a prompt, or take those given; a judge scores them."""
    settings = suites.Settings(model, replies, judge, out, seed, tuple(overrides or ()))
    if judge == PAIRWISE:
        raise RecipeError("--judge pairwise compares two replies, and this is one model's: name verifier, nemotron or "
                          "local; in a run, evaluate.judges takes pairwise too")  # fmt: skip
    _see_replies(settings, harness)
    if suite or harness:
        if prompts is not None or tasks or against is not None or ties != "half":
            raise RecipeError("limbeck evaluate: --suite and --harness bring their own prompts; leave out --prompts, "
                              "--tasks, --against and --ties")  # fmt: skip
        _other_peoples(suite or [], harness, settings)
        return
    if (prompts is None) == (tasks == 0):
        raise RecipeError("limbeck evaluate: give either --prompts FILE or --tasks NUMBER")
    data: dict[str, Any] = {"seed": seed, "evaluate": {"judges": [judge], "ties": ties}}
    if against is not None:
        data["evaluate"]["against"] = str(against)
    if prompts is None:
        data["corpus"] = {"tasks": only_tasks("test", tasks)}
        inputs = {"test": Path("corpus/test.jsonl")}
    else:
        inputs = prompts_input(data, prompts, "test")
    _judge(settings, recipe_for("evaluate", data, settings.overrides), inputs)


def _see_replies(settings: suites.Settings, harness: str | None) -> None:
    """Refuse what does not go with a file of replies, and a file that is not there."""
    if settings.replies is None:
        return
    for option, given in {"--model": settings.model, "--harness": harness}.items():
        if given is not None:
            raise suites.beside_replies(option)
    if not settings.replies.expanduser().is_file():
        raise InputError(f"--replies: {settings.replies} is no file; name one with `prompt` and `response` a line")


def _judge(settings: suites.Settings, recipe: Recipe, inputs: dict[str, Path]) -> None:
    """Evaluate on own prompts or built-in problems, and print."""
    judges = judges_of(recipe)
    theirs = recipe.evaluate.against  # of --against, or of --set
    given = {} if theirs is None else {**inputs, "responses": own_file(Path(theirs))}
    asks_model = settings.replies is None
    asked = {**settings.judged(recipe), **inputs}
    if given:  # first: a mistake in the file shows before anything is sampled
        run_alone(recipe, "evaluate", given, settings.out, AGAINST, asks_model=asks_model)
    folder = run_alone(recipe, "evaluate", asked, settings.out, MODEL, asks_model=asks_model)
    for name in judges:
        show_judgements(folder / f"judgements_{name}.jsonl", recipe.evaluate.confidence)
        if given:
            show_win_rate(folder, folder.parent / AGAINST, name, recipe)
    done(folder)


def _other_peoples(words: list[str], harness: str | None, settings: suites.Settings) -> None:
    found, recipe = suites.parse_suites(words), recipe_for("evaluate", {"seed": settings.seed}, settings.overrides)
    if recipe.evaluate.against is not None:
        raise RecipeError("limbeck evaluate: evaluate.against goes with --prompts or --tasks; --suite and --harness "
                          "bring their own prompts")  # fmt: skip
    if harness is None:
        suites.run_suites(found, settings)
        return
    from limbeck.commands.harness import check_installed, run_harness

    check_installed()
    if settings.model is None:
        raise RecipeError("limbeck evaluate --harness: it needs the model's folder; give --model")
    suites.run_suites(found, settings)
    done(run_harness(harness, model_folder(settings.model), settings.out, recipe))
