"""The command that writes, or checks, a leaderboard's file. Parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from limbeck.commands.alone import recipe_for
from limbeck.commands.options import Seed, Set, new_file
from limbeck.console import say, show
from limbeck.errors import RecipeError


def submit(
    source: Annotated[
        str | None,
        typer.Argument(metavar="MODEL_OR_REPLIES", help="Model (folder, hub id, known name), or a file of responses, "
                       "`prompt` and `response` a line, in any order."),
    ] = None,
    *,
    prompts: Annotated[Path, typer.Option(help="The leaderboard's prompts: JSON Lines with a `prompt` each.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the file.")] = Path("submission.jsonl"),
    check: Annotated[
        Path | None, typer.Option("--check", help="Write nothing: check this file against the prompts.")
    ] = None,
    seed: Seed = 1,
    overrides: Set = None,
) -> None:  # fmt: skip
    """Write a leaderboard's file, or check one.

    One response a prompt, in the order and with the exact text of the prompts.
    """
    from limbeck.commands import submission
    from limbeck.lm.names import model_folder

    if (source is None) == (check is None):
        raise RecipeError("limbeck submit: give either a model or a file of responses, or --check FILE")
    asked = submission.read_prompts(prompts.expanduser())
    if check is not None:
        show(f"{check}: {submission.check(check.expanduser(), asked, prompts)} responses, as the prompts ask for them")
        return
    given, out = Path(source or "").expanduser(), new_file(out)
    submission.see_place(out, [prompts.expanduser(), given])
    if given.is_file():
        found = submission.responses_of_file(given, asked, prompts)
    else:
        recipe = recipe_for("evaluate", {"seed": seed}, tuple(overrides or ()))
        found = submission.responses_of_model(model_folder(source or ""), asked, recipe, out, prompts)
    submission.write_submission(out, asked, found.texts, prompts)
    if found.extra:
        say(f"{len(found.extra)} responses of {given} are to other prompts and left out, the first in line "
            f"{found.extra[0]}")  # fmt: skip
    if found.num_cut:
        say(f"{found.num_cut} of {len(asked)} responses were cut at evaluate.max_new_tokens; raise it with --set")
    show(str(out.resolve()))
