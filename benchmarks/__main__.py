"""`python -m benchmarks run` measures; `python -m benchmarks table` writes the results into docs/performance.md."""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import dpo, gpu, logps, sampling, sft, sweep, teacher
from benchmarks.options import QUICK, Options
from benchmarks.results import RESULTS, load
from benchmarks.table import tables, write_document
from limbeck.console import say
from limbeck.errors import InputError, LimbeckError

PARTS = {
    "dpo": dpo.measure,
    "sft": sft.measure,
    "logps": logps.measure,
    "sweep": sweep.measure,
    "gpu": gpu.measure,
    "sampling": sampling.measure,
    "teacher": teacher.measure,
}
# Without a name: training, on a machine without a GPU. Sampling wants vLLM's environment, and an hour of its own;
# asking a teacher, the environment of the `openai` package.
DEFAULT_PARTS = ("dpo", "sft", "logps", "sweep")


def main(arguments: Sequence[str]) -> int:
    """Run one part or several; exit code 2 with one sentence where that cannot be."""
    try:
        return _main(arguments)
    except LimbeckError as error:
        say(str(error), "red")
        return error.exit_code


def _main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.command == "table":
        write_document()
        return 0
    if find_spec("trl") is None or find_spec("matplotlib") is None:
        raise LimbeckError("trl or matplotlib is not installed; `make bench` installs what the benchmarks compare with")
    given = {key: value for key, value in vars(chosen).items() if value is not None}
    named = set(Options.__dataclass_fields__) - {"vllm_python", "openai_python"}
    fields = {key: value for key, value in given.items() if key in named}
    if "repeats" in given:
        fields["sampling_repeats"] = given["repeats"]
    base = QUICK if chosen.quick else Options()
    options = replace(base, **fields, vllm_python=vllm_python(given), openai_python=openai_python(given))
    with tempfile.TemporaryDirectory(prefix="limbeck-bench-") as folder:
        for part in parts_to_run(given.get("what"), options.data, "data" in given):
            say(f"{part}:")
            PARTS[part](options, Path(folder) / part)
            if options.results == RESULTS:
                write_document()  # after each part: the document and the results cannot drift apart
    sys.stdout.write(tables(load(options.results)))
    return 0


def parts_to_run(named: Sequence[str] | None, data: Path, data_named: bool) -> list[str]:
    """The parts that are named, or all that need no GPU; SFT only where there is data, or somebody asks for it.

    Raises:
        InputError: where SFT or the file of data is asked for, and the file is not there.
    """
    parts = list(named or DEFAULT_PARTS)
    if data.is_file() or not ("sft" in parts or data_named):
        return parts
    if named or data_named:
        raise InputError(f"there is no file {data}; name an Alpaca file with --data (docs/performance.md says which)")
    say(f"sft: left out, since there is no file {data}; name an Alpaca file with --data")
    return [part for part in parts if part != "sft"]


def vllm_python(given: Mapping[str, Any]) -> Path | None:
    """The interpreter that vLLM is installed for; None where none is named.

    Raises:
        InputError: where there is no such file.
    """
    return _interpreter(given, "vllm", "vLLM")


def openai_python(given: Mapping[str, Any]) -> Path | None:
    """The interpreter that the `openai` package is installed for; None where none is named.

    Raises:
        InputError: where there is no such file.
    """
    return _interpreter(given, "openai", "the `openai` package")


def _interpreter(given: Mapping[str, Any], name: str, what: str) -> Path | None:
    variable = f"LIMBECK_{name.upper()}_PYTHON"
    named = given.get(f"{name}_python") or os.environ.get(variable)
    if not named:
        return None
    path = Path(named).absolute()
    if not path.is_file():
        raise InputError(
            f"there is no interpreter {path}; --{name}-python or {variable} names the `python` of "
            f"the environment that {what} is installed in"
        )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="write results.json into docs/performance.md")
    run = commands.add_parser("run", help="measure; progress on stderr, tables on stdout")
    run.add_argument("--what", nargs="+", choices=PARTS, help="parts to run; without it, those of training")
    run.add_argument("--pairs", type=int, help="preference pairs (64)")
    run.add_argument("--sft-rows", type=int, help="demonstrations (128)")
    run.add_argument("--epochs", type=int, help="epochs of DPO (2)")
    run.add_argument("--repeats", type=int, help="turns of each contender (3; sampling: 1)")
    run.add_argument("--trial-rows", type=int, help="pairs in one trial of TRL's settings (8)")
    run.add_argument("--prompts", type=int, help="prompts to sample from (512)")
    run.add_argument("--max-new-tokens", type=int, help="limit of a reply (200)")
    run.add_argument("--slots", type=int, help="samples that limbeck writes at once (96)")
    run.add_argument("--trial-prompts", type=int, help="prompts in one trial of others' samplers (128)")
    run.add_argument("--device", choices=("cpu", "cuda"), help="where sampling runs (cpu)")
    run.add_argument("--vllm-python", help="interpreter that has vLLM; without it, LIMBECK_VLLM_PYTHON, or no vLLM")
    run.add_argument("--requests", type=int, help="requests to a teacher's server (10000)")
    run.add_argument("--in-flight", type=int, help="of them at once (256)")
    run.add_argument("--openai-python", help="interpreter that has `openai`, or LIMBECK_OPENAI_PYTHON")
    run.add_argument("--model", help="name, folder or hub id (smollm2-135m)")
    run.add_argument("--data", type=Path, help="Alpaca file for SFT")
    run.add_argument("--results", type=Path, help="file of results")
    run.add_argument("--seed", type=int)
    run.add_argument("--quick", action="store_true", default=None, help="several minutes; results.quick.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
