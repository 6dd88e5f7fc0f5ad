"""The commands that run one stage alone, on the user's own files. Parse, call, print."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from limbeck.commands.alone import (
    MODEL,
    own_file,
    pairs_input,
    parse_share,
    prompts_input,
    recipe_for,
    rehearse_alone,
    run_alone,
)
from limbeck.commands.audit import audit
from limbeck.commands.evaluate import evaluate
from limbeck.commands.options import AskedName, Data, ModelName, Out, Seed, Set, asked_model, done, only_tasks
from limbeck.errors import RecipeError
from limbeck.lm.names import model_folder
from limbeck.recipe.pairs import MadeKind
from limbeck.records import WeakPrompt
from limbeck.units.pairs import embedder_folder, local_teachers, own_templates

PairsFile = Annotated[Path, typer.Option("--pairs", help="Preference pairs, in any format that limbeck reads.")]


def sft(model: ModelName, data: Data, out: Out = Path("out/sft"), seed: Seed = 1, overrides: Set = None) -> None:
    """Fine-tune a model on demonstrations (loss on the response only)."""
    settings = {"seed": seed, "corpus": {"demonstrations": [{"path": path} for path in data]}}
    recipe = recipe_for("sft", settings, tuple(overrides or ()))
    corpus = Path("corpus")
    inputs = {
        "base": model_folder(model),
        "demonstrations": corpus / "demonstrations.jsonl",
        "validation": corpus / "demonstrations_validation.jsonl",
    }
    done(run_alone(recipe, "sft", inputs, out) / "model")


def mine(
    model: AskedName = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts, in any format that limbeck reads.")] = None,
    tasks: Annotated[int, typer.Option(min=0, help="Or so many built-in problems.")] = 0,
    out: Out = Path("out/mine"),
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """Find the prompts a model fails; the failing replies are kept."""
    if (prompts is None) == (tasks == 0):
        raise RecipeError("limbeck mine: give either --prompts FILE or --tasks NUMBER")
    data: dict[str, Any] = {"seed": seed, "mine": {}}
    if prompts is None:
        data["corpus"] = {"tasks": only_tasks("pool", tasks)}
        inputs = {"pool": Path("corpus/pool.jsonl")}
    else:
        inputs = prompts_input(data, prompts, "pool")
    recipe = recipe_for("mine", data, tuple(overrides or ()))
    done(run_alone(recipe, "mine", {**asked_model("student", model, recipe), **inputs}, out, MODEL))


def teach(
    weak: Annotated[Path, typer.Option(help="Weak prompts: weak.jsonl of `limbeck mine`, or any file of prompts.")],
    teacher: Annotated[str, typer.Option(help="`worked`, `openai:MODEL`, or `local:MODEL`, a model on this machine.")],
    count: Annotated[int, typer.Option(min=1, help="How many pairs.")],
    kind: Annotated[
        str,
        typer.Option(
            help="zero_shot, random, few_shot, revise, on_policy, own, reference or contrast; divergence and "
            "rolling need a whole run. `worked` makes no few_shot (alone), revise or contrast pairs; contrast needs "
            "--set teach.contrast_with=MODEL."
        ),
    ] = "zero_shot",
    base_url: Annotated[str | None, typer.Option(help="Of an OpenAI-compatible server.")] = None,
    out: Out = Path("out/teach"),
    seed: Seed = 1,
    overrides: Set = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: print what would be asked, and what it may cost.")
    ] = False,
) -> None:
    """Have a teacher write preference pairs about weak prompts."""
    if kind not in get_args(MadeKind):
        raise RecipeError(f"limbeck teach --kind {kind!r}: a teacher writes {', '.join(get_args(MadeKind))}")
    data: dict[str, Any] = {
        "seed": seed,
        "teach": {"teacher": teacher, "endpoint": {"base_url": base_url} if base_url else {}},
        "mix": {"heldout_pairs": 0},
        "arms": {"taught": {kind: count}},
    }
    given = prompts_input(data, weak, "weak", WeakPrompt)
    recipe = recipe_for("teach", data, tuple(overrides or ()))
    inputs = {**given, "random": given["weak"], **own_templates(recipe), **local_teachers(recipe)}
    inputs |= embedder_folder(recipe)
    if dry_run:
        from limbeck.commands.summary import show_rehearsal

        show_rehearsal(rehearse_alone(recipe, inputs, out), recipe.teach)
        return
    done(run_alone(recipe, "teach", inputs, out))


def screen(pairs: PairsFile, out: Out = Path("out/screen"), seed: Seed = 1, overrides: Set = None) -> None:
    """Drop pairs that are not worth training on, each with its reason."""
    data: dict[str, Any] = {"seed": seed}
    inputs = pairs_input(data, pairs, "human")
    recipe = recipe_for("screen", data, tuple(overrides or ()))
    done(run_alone(recipe, "screen", inputs | own_templates(recipe) | embedder_folder(recipe), out))


def mix(
    pairs: Annotated[list[str], typer.Argument(metavar="KIND=FILE:COUNT...", help="For instance human=a.jsonl:400.")],
    out: Out = Path("out/mix"),
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """Mix kinds of pairs into one stream, some held out to validate.

    How they are mixed: `--set arms.mixed.mixing=interleave` (uniform, append, sequential, ratio).
    """
    shares = [parse_share(text) for text in pairs]
    counts = {kind: count for kind, _, count in shares}
    if len(counts) < len(shares):
        raise RecipeError("limbeck mix: one file for each kind; join the files of a kind first")
    data = {"seed": seed, "arms": {"mixed": counts}}
    recipe = recipe_for("mix", data, tuple(overrides or ()))
    done(run_alone(recipe, "mix", {kind: path for kind, path, _ in shares}, out, "mixed"))


def dpo(
    model: ModelName,
    pairs: PairsFile,
    reference: Annotated[str | None, typer.Option(help="Model to stay near; by default the one trained.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Pairs of limbeck's own to pick a checkpoint by.")] = None,
    out: Out = Path("out/dpo"),
    seed: Seed = 1,
    overrides: Set = None,
) -> None:
    """Train a model on preference pairs."""
    data: dict[str, Any] = {"seed": seed}
    inputs = pairs_input(data, pairs, "pairs")
    if validation is not None:
        inputs["validation"] = own_file(validation)
    recipe = recipe_for("dpo", data, tuple(overrides or ()))
    if recipe.dpo.reference == "base":
        raise RecipeError("limbeck dpo: dpo.reference 'base' names a model of a whole run; here, name the model to "
                          "stay near with --reference MODEL")  # fmt: skip
    policy = model_folder(model)
    inputs |= {"policy": policy, "reference": model_folder(reference) if reference else policy}
    done(run_alone(recipe, "dpo", inputs, out, "pairs") / "model")


def add_stage_commands(app: typer.Typer) -> None:
    """Add one command a stage, in the order of the pipeline."""
    for command in (sft, mine, teach, screen, mix, audit, dpo, evaluate):
        app.command(rich_help_panel="One stage alone, on your own files")(command)
