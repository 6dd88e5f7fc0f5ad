"""Other people's test files, one after the other: each evaluated in a folder of its own, and what came of it shown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.commands.alone import MODEL, own_file, pairs_input, prompts_input, recipe_for, run_alone
from limbeck.commands.evaluated import judges_of, show_failures, show_judgements, show_pairs
from limbeck.commands.options import asked_model, done
from limbeck.console import show
from limbeck.errors import InputError, RecipeError
from limbeck.recipe import Recipe


def beside_replies(what: str) -> RecipeError:
    """What to say of something that needs a model, where replies are given."""
    return RecipeError("limbeck evaluate: --replies FILE judges replies that are there and no model is asked; leave "
                       f"out {what}")  # fmt: skip


class Settings(NamedTuple):
    """What all suites of a command share. `replies`: a file of them, judged in place of a model's."""

    model: str | None
    replies: Path | None
    judge: str
    out: Path
    seed: int
    overrides: tuple[str, ...]

    def judged(self, recipe: Recipe) -> dict[str, Path]:
        """The input whose replies are judged: a model to ask, or a file of replies.

        Raises:
            RecipeError: where there is no model and no file, or a server beside the file.
        """
        if self.replies is None:
            return asked_model("model", self.model, recipe)
        if recipe.servers:
            raise beside_replies(f"servers.{next(iter(recipe.servers))}")
        return {"responses": own_file(self.replies)}


class Suite(NamedTuple):
    """A file and how it is evaluated."""

    name: str
    path: Path

    @property
    def folder(self) -> str:
        """Its folder below the command's."""
        return f"{self.name}_{self.path.name.partition('.')[0]}"


def parse_suites(words: Sequence[str]) -> list[Suite]:
    """Read `NAME=PATH`, each.

    Raises:
        RecipeError: where one is anything else, names no suite there is, or two would share a folder.
        InputError: where a file is missing.
    """
    found: list[Suite] = []
    for word in words:
        name, equals, path = word.partition("=")
        if not (equals and path and name in SUITES):
            raise RecipeError(f"--suite {word!r}: expected NAME=PATH, with NAME one of {', '.join(SUITES)}")
        suite = Suite(name, Path(path).expanduser())
        if not suite.path.is_file():
            raise InputError(f"--suite {name}: {path} does not exist")
        if suite.folder in {other.folder for other in found}:
            raise RecipeError(
                f"--suite {word!r}: two files of that name; rename one, or evaluate it with another --out"
            )
        found.append(suite)
    return found


def run_suites(suites: Sequence[Suite], settings: Settings) -> None:
    """Evaluate a model on each suite and print how it did.

    Raises:
        RecipeError: before anything is asked, where a suite cannot be judged so.
    """
    for suite in suites:
        if suite.name == "mt_bench" and settings.judge == "verifier":
            raise RecipeError("--suite mt_bench: its prompts have no exact answer; give --judge nemotron or local")
        if suite.name == "pairs" and settings.replies is not None:
            raise RecipeError("--suite pairs asks for log-probabilities, which replies do not have; give --model in "
                              "place of --replies")  # fmt: skip
        if suite.name == "pairs" and settings.model is None:
            raise RecipeError("--suite pairs: log-probabilities need the model's weights; give --model")
    for suite in suites:
        show(f"{suite.name} ({suite.path})")
        done(SUITES[suite.name](suite, settings))


class _Asked(NamedTuple):
    """Where replies and judgements lie, and the terms on which they were made."""

    folder: Path
    recipe: Recipe


def _ask(suite: Suite, settings: Settings, judge: str) -> _Asked:
    """Sample, unless replies are given, judge and print."""
    data: dict[str, Any] = {"seed": settings.seed, "evaluate": {"judges": [judge]}}
    inputs = prompts_input(data, suite.path, "test")
    recipe = recipe_for("evaluate", data, settings.overrides)
    judges = judges_of(recipe)
    asked: Mapping[str, Path] = {**settings.judged(recipe), **inputs}
    place, asks_model = settings.out / suite.folder, settings.replies is None
    folder = run_alone(recipe, "evaluate", asked, place, MODEL, asks_model=asks_model)
    for name in judges:
        show_judgements(folder / f"judgements_{name}.jsonl", recipe.evaluate.confidence)
    return _Asked(folder, recipe)


def _gsm8k(suite: Suite, settings: Settings) -> Path:
    folder, recipe = _ask(suite, settings, "verifier")
    if "verifier" in recipe.judged_by():
        show_failures(folder, "verifier", recipe.evaluate.confidence)
    return folder


def _mt_bench(suite: Suite, settings: Settings) -> Path:
    return _ask(suite, settings, settings.judge).folder


def _pairs(suite: Suite, settings: Settings) -> Path:
    data: dict[str, Any] = {"seed": settings.seed}
    pairs = pairs_input(data, suite.path, "heldout_pairs/file")
    recipe = recipe_for("evaluate", data, settings.overrides)
    inputs = {**asked_model("model", settings.model, recipe), **pairs}
    folder = run_alone(recipe, "heldout_pairs", inputs, settings.out / suite.folder, MODEL)
    show_pairs(folder / "pair_logps.jsonl", recipe.evaluate.confidence)
    return folder


SUITES: dict[str, Callable[[Suite, Settings], Path]] = {"gsm8k": _gsm8k, "mt_bench": _mt_bench, "pairs": _pairs}
