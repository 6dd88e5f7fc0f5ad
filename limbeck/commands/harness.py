"""EleutherAI's lm-evaluation-harness on a model folder: its tasks, its figures, kept with the versions they are of.

An extra (`pip install 'limbeck[harness]'`). Conversations are put through the model's own chat template, since what is
trained here is a chat model; the kept configuration says so.
"""

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.console import show
from limbeck.errors import InputError, RecipeError
from limbeck.recipe import Recipe
from limbeck.store import write_json

RESULTS = "harness/results.json"
_VERSIONS = ("limbeck", "lm-eval", "transformers", "torch", "datasets")


def check_installed() -> None:
    """See that the harness is there.

    Raises:
        RecipeError: naming what to install.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise RecipeError("limbeck evaluate --harness needs the library 'lm-eval': pip install 'limbeck[harness]'")


def run_harness(words: str, model: Path, out: Path, recipe: Recipe) -> Path:
    """Run the tasks named in `words`, separated by commas (each a name, or a YAML file of a task), and keep the result.

    Returns the file of results, which replaces an earlier one whole.

    Raises:
        RecipeError: where the harness is not installed or has no such task.
        InputError: where a task's data cannot be had.
    """
    check_installed()
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable

    from limbeck.lm.machine import place

    named = [word.strip() for word in words.split(",") if word.strip()]
    files = [Path(word).expanduser() for word in named if word.endswith((".yaml", ".yml"))]
    manager = TaskManager(include_path=sorted({str(file.resolve().parent) for file in files}) or None)
    tasks = [_task_name(word) for word in named]
    _see_tasks(tasks, manager.all_tasks)
    device, dtype = place(recipe.model)
    arguments = {"pretrained": str(model), "dtype": str(dtype).removeprefix("torch.")}
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), recipe.seed)
    try:
        found = simple_evaluate(
            model="hf",
            model_args=arguments,
            tasks=tasks,
            device=str(device),
            task_manager=manager,
            apply_chat_template=True,
            log_samples=False,
            **seeds,
        )
    except OSError as error:  # what `datasets` raises where neither network nor cache has a task's data
        raise InputError(f"--harness {words}: its data cannot be had ({error})") from error
    path = out.expanduser() / RESULTS
    plain = json.loads(json.dumps(found, default=handle_non_serializable))
    write_json(path, _finite({"library_versions": _versions(), **plain}))
    show_results(plain)
    return path


def _task_name(word: str) -> str:
    """The name of a task, or the one that its file gives it."""
    if not word.endswith((".yaml", ".yml")):
        return word
    path = Path(word).expanduser()
    if not path.is_file():
        raise InputError(f"--harness: {word} does not exist")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, colon, value = line.partition(":")
        if key == "task" and colon:
            return value.strip().strip("'\"")
    raise InputError(f"--harness: {word} names no task (a line `task: NAME`)")


def _see_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    if not tasks:
        raise RecipeError("--harness: expected names of tasks, separated by commas")
    unknown = [task for task in tasks if task not in set(known)]
    if unknown:
        raise RecipeError(f"--harness: the harness has no task {unknown[0]!r}; `lm_eval ls tasks` lists them")


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _VERSIONS}


def _finite(value: Any) -> Any:
    """JSON has no NaN, by which the harness says "no standard error"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def show_results(found: Mapping[str, Any]) -> None:
    """Print every task's figures, as the harness names them."""
    for task, figures in found["results"].items():
        errors = {name: value for name, value in figures.items() if "_stderr" in name}
        for name, value in figures.items():
            if isinstance(value, float) and name not in errors:
                metric, _, filtering = name.partition(",")
                error = errors.get(f"{metric}_stderr,{filtering}")
                spread = f" (standard error {error:.4f})" if isinstance(error, float) else ""
                show(f"{task}: {metric} {value:.4f}{spread}")
