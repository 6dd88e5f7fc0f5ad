"""The command that evaluates one model on the user's own prompts. Parse, call, print."""

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.alone import MODEL, prompts_input, recipe_for, run_alone
from limbeck.cli_options import AskedName, Out, Seed, Set, asked_model, done, only_tasks
from limbeck.errors import RecipeError


def evaluate(
    model: AskedName = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts, in any format that limbeck reads.")] = None,
    tasks: Annotated[int, typer.Option(min=0, help="Or so many built-in problems.")] = 0,
    judge: Annotated[str, typer.Option(help="verifier (built-in problems) or nemotron.")] = "verifier",
    out: Out = Path("out/evaluate"),
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """Sample one reply a prompt and let a judge score it."""
    from limbeck.summary import show_judgements

    if (prompts is None) == (tasks == 0):
        raise RecipeError("limbeck evaluate: give either --prompts FILE or --tasks NUMBER")
    data: dict[str, Any] = {"seed": seed, "evaluate": {"judges": [judge]}}
    if prompts is None:
        data["corpus"] = {"tasks": only_tasks("test", tasks)}
        inputs = {"test": Path("corpus/test.jsonl")}
    else:
        inputs = {"test": prompts_input(data, prompts, "test")["test"]}
    recipe = recipe_for("evaluate", data, tuple(overrides or ()))
    folder = run_alone(recipe, "evaluate", {**asked_model("model", model, recipe), **inputs}, out, MODEL)
    show_judgements(folder / f"judgements_{judge}.jsonl", recipe.evaluate.confidence)
    done(folder)
