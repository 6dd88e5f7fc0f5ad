"""Small data sets in the hub's own schemas and layout, made from public files: what a rehearsal of the paper reads.

`python -m benchmarks.rehearsal_data --source DIR --out DIR`, where the source holds `alpaca_en_demo.json` and
`dpo_en_demo.json` of LLaMA-Factory and `hh_harmless_test.jsonl.gz` of HH-RLHF. Two folders are written, laid out as on
the hub: `smoltalk` (configuration `all`; train, test) and `ultrafeedback_binarized` (train_prefs, test_prefs). Only
short rows are taken, since a rehearsal is about stages and not about learning.
"""

import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from benchmarks.public_files import Row, command, read_source, taken
from limbeck.stages.corpus.optional import library

Turn = dict[str, str]
MOST_PROMPT_CHARACTERS, MOST_RESPONSE_CHARACTERS = 140, 90
DEMONSTRATIONS, PAIRS, TEST_ROWS = 60, 110, 24
EVERY_WITH_SYSTEM, EVERY_EQUAL = 5, 40  # some conversations of SmolTalk have a system turn; some pairs are no pairs
_SYSTEM = "You are an AI assistant that answers briefly."
_HH_TURN = re.compile(r"\n\n(Human|Assistant): ")
_ROLES = {"human": "user", "gpt": "assistant", "Human": "user", "Assistant": "assistant"}


class _Answers(NamedTuple):
    """One prompt's turns and two responses."""

    prompt: list[Turn]
    chosen: str
    rejected: str


def write_data(source: Path, out: Path) -> list[Path]:
    """Write both data sets and return their files. The same source gives the same rows.

    Raises:
        InputError: a source file is not there, or holds too few short rows.
    """
    talks = list(_smoltalk(source))
    prefs = list(_ultrafeedback(source))
    folder, feedback = out / "smoltalk" / "data" / "all", out / "ultrafeedback_binarized" / "data"
    return [
        _write(folder / "train-00000-of-00001.parquet", taken(talks, 0, DEMONSTRATIONS, "demonstrations")),
        _write(folder / "test-00000-of-00001.parquet", taken(talks, DEMONSTRATIONS, TEST_ROWS, "demonstrations")),
        _write(feedback / "train_prefs-00000-of-00001.parquet", taken(prefs, TEST_ROWS, PAIRS, "pairs")),
        _write(feedback / "test_prefs-00000-of-00001.parquet", taken(prefs, 0, TEST_ROWS, "pairs")),
    ]


def _smoltalk(source: Path) -> Iterator[Row]:
    """The hub's schema: `messages` and `source`."""
    rows = json.loads(read_source(source / "alpaca_en_demo.json"))
    for number, row in enumerate(rows):
        asked = "\n\n".join(filter(None, (row["instruction"], row["input"])))
        if len(asked) > MOST_PROMPT_CHARACTERS or not 0 < len(row["output"]) <= MOST_RESPONSE_CHARACTERS:
            continue
        turns = [_turn("user", asked), _turn("assistant", row["output"])]
        system = [_turn("system", _SYSTEM)] if number % EVERY_WITH_SYSTEM == 0 else []
        yield {"messages": [*system, *turns], "source": "alpaca-demo"}


def _ultrafeedback(source: Path) -> Iterator[Row]:
    """The hub's schema; both lists of turns hold the whole conversation, prompt included."""
    for number, found in enumerate(filter(_short, chain(_dpo_demo(source), _harmless(source)))):
        prompt = found.prompt[0]["content"]
        equal = number % EVERY_EQUAL == EVERY_EQUAL - 1
        rejected = found.chosen if equal else found.rejected
        chosen = [*found.prompt, _turn("assistant", found.chosen)]
        yield {
            "prompt": prompt,
            "prompt_id": hashlib.sha256(json.dumps(found.prompt).encode()).hexdigest(),
            "chosen": chosen,
            "rejected": [*found.prompt, _turn("assistant", rejected)],
            "messages": chosen,
            "score_chosen": 8.0,
            "score_rejected": 8.0 if equal else 5.0,
        }


def _short(found: _Answers) -> bool:
    """Whether a row is short, and one that UltraFeedback could hold: a conversation of one prompt."""
    return (
        len(found.prompt) == 1
        and found.prompt[0]["role"] == "user"
        and 0 < len(found.prompt[0]["content"]) <= MOST_PROMPT_CHARACTERS
        and all(0 < len(text) <= MOST_RESPONSE_CHARACTERS for text in (found.chosen, found.rejected))
    )


def _dpo_demo(source: Path) -> Iterator[_Answers]:
    for row in json.loads(read_source(source / "dpo_en_demo.json")):
        prompt = [_turn(_ROLES.get(turn["from"], turn["from"]), turn["value"]) for turn in row["conversations"]]
        yield _Answers(prompt, row["chosen"]["value"].strip(), row["rejected"]["value"].strip())


def _harmless(source: Path) -> Iterator[_Answers]:
    for line in gzip.decompress(read_source(source / "hh_harmless_test.jsonl.gz")).splitlines():
        row = json.loads(line)
        chosen, rejected = (_hh_turns(row[side]) for side in ("chosen", "rejected"))
        if chosen[:-1] == rejected[:-1] and chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
            yield _Answers(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])


def _hh_turns(text: str) -> list[Turn]:
    _, *parts = _HH_TURN.split(text)
    return [_turn(_ROLES[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]


def _turn(role: str, content: str) -> Turn:
    return {"content": content, "role": role}


def _write(path: Path, rows: Sequence[Row]) -> Path:
    arrow, parquet = library("pyarrow", str(path)), library("pyarrow.parquet", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the data; exit code 2 with one sentence where that cannot be."""
    return command(write_data, "benchmarks.rehearsal_data", __doc__, None, arguments)


if __name__ == "__main__":
    sys.exit(main())
