"""The rows of each part, made in the parent and handed to every contender: the same token ids, by construction."""

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.contract import Rows
from benchmarks.options import Options
from benchmarks.workload import Row, pair_rows, pair_shapes, random_ids, warm_up_shapes
from limbeck.errors import InputError
from limbeck.lm.names import model_folder
from limbeck.records import Message

PAIRS_A_STEP, ROWS_A_STEP = 4, 8


@cache
def folder_of(model: str) -> str:
    """Where a model lies; fetched on first use."""
    return str(model_folder(model))


def preference_rows(options: Options, number: int, batch: int = PAIRS_A_STEP) -> Rows:
    """Pairs of the documented lengths, after a warm-up batch."""
    ids = _ids(options)
    warm_up = pair_rows(warm_up_shapes(batch), ids, "warm-up")
    return Rows(warm_up, pair_rows(pair_shapes(number, options.seed), ids, "pair"))


def source_of_ids(options: Options) -> str:
    """What the token ids of preference rows are, in words."""
    return f"text of {options.data.name}" if options.data.is_file() else "random ordinary tokens"


def _ids(options: Options) -> Iterator[int]:
    tokenizer = chat(options.model).tokenizer
    if options.data.is_file():
        text = "\n".join(row["output"] for row in _read(options.data))
        return itertools.cycle(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    return random_ids(tokenizer.vocab_size, tokenizer.all_special_ids, options.seed)


def demonstration_rows(options: Options, number: int) -> Rows:
    """The file's first rows through the model's chat template; the step's worth of rows behind them warm up.

    Raises:
        InputError: where the file is missing or holds too few rows.
    """
    source = _read(options.data)
    if len(source) < number + ROWS_A_STEP:
        raise InputError(f"{options.data} holds {len(source)} rows; {number + ROWS_A_STEP} are needed")
    template = chat(options.model)
    rows = []
    for n, row in enumerate(source[: number + ROWS_A_STEP]):
        content = row["instruction"] + ("\n\n" + row["input"] if row.get("input") else "")
        prompt = template.prompt_ids([Message(role="user", content=content)])
        rows.append(Row(f"row/{n}", list(prompt), [list(template.response_ids(row["output"]))]))
    return Rows(rows[number:], rows[:number])


@cache
def chat(model: str) -> Any:
    """A model's tokenizer and how it talks, without the weights."""
    from transformers import AutoTokenizer

    from limbeck.lm.chat import chat_of

    return chat_of(AutoTokenizer.from_pretrained(folder_of(model)), model)


@cache
def _read(path: Path) -> list[dict[str, str]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give another file with --data") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON; an Alpaca file is needed, a list of instruction, input, output"
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{path} is no Alpaca file: a list of objects with instruction, input and output is needed")
    for number, row in enumerate(rows, start=1):
        if problem := _problem(row):
            raise InputError(f"{path}, row {number}: {problem}; an Alpaca row has instruction, output and maybe input")
    return rows


def _problem(row: object) -> str | None:
    """What keeps a row from being one of an Alpaca file; None where nothing does."""
    if not isinstance(row, dict):
        return "is no object"
    missing = [field for field in ("instruction", "output") if not row.get(field)]
    if missing:
        return f"{missing[0]!r} is missing or empty"
    wrong = [field for field in ("instruction", "input", "output") if not isinstance(row.get(field) or "", str)]
    return f"{wrong[0]!r} is no text" if wrong else None
