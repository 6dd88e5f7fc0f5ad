"""What `recipes/chat.toml` reads, from public files: who learns from what, who judges by what, and no row in two parts.

`python -m experiments.chat_data --source DIR --out chat-data`, where the source holds `alpaca_en_demo.json` and
`dpo_en_demo.json` of LLaMA-Factory and `hh_harmless_test.jsonl.gz` of HH-RLHF. Rows stay as they are published; only
short ones are taken. The pairs of `dpo_en_demo` are written by models: those with one prompt are what a teacher could
have written for the arms (`recorded_teacher.py` hands them out), those of several turns are the judge's.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.public_files import Row, command, read_source, taken
from limbeck.seeds import rng
from limbeck.store import write_text

DRAWN_BY = 1  # whatever the recipe's seed: other seeds train and sample otherwise, on the same parts
MOST_HUMAN_CHARACTERS = 500  # of a whole HH conversation with its answer: 120 tokens
MOST_AI_CHARACTERS = 2000  # 450 tokens
ALPACA_OUTPUT_CHARACTERS = range(60, 800)
HUMAN_PAIRS, JUDGING_PAIRS, ASKED_OF_EACH, DEMONSTRATIONS = 190, 240, 60, 160


def write_data(source: Path, out: Path) -> list[Path]:
    """Write the parts and return their files. The same source gives the same rows.

    Raises:
        InputError: a source file is not there, or holds too few short rows.
    """
    human = _shuffled(_human(source), "human")
    alpaca = _shuffled(_alpaca(source), "alpaca")
    ai = _shuffled(_ai(source), "ai")
    judged, several = HUMAN_PAIRS + JUDGING_PAIRS, [row for row in ai if len(row["conversations"]) > 1]
    asked = [*map(_prompt_of_pair, taken(human, judged, ASKED_OF_EACH, "human pairs")),
             *map(_prompt_of_alpaca, taken(alpaca, DEMONSTRATIONS, ASKED_OF_EACH, "instructions"))]  # fmt: skip
    recorded = [_recorded(row) for row in ai if len(row["conversations"]) == 1]
    return [
        _write(out / "demonstrations.jsonl", taken(alpaca, 0, DEMONSTRATIONS, "instructions")),
        _write(out / "human.jsonl", taken(human, 0, HUMAN_PAIRS, "human pairs")),
        _write(out / "judging.jsonl", taken(human, HUMAN_PAIRS, JUDGING_PAIRS, "human pairs")),
        _write(out / "judging_ai.jsonl", several),
        _write(out / "evaluation.jsonl", asked),
        _write(out / "recorded.jsonl", recorded),
        _write(out / "prompts.jsonl", [{"prompt": row["prompt"], "response": row["preferred"]} for row in recorded]),
    ]


def _human(source: Path) -> list[Row]:
    lines = gzip.decompress(read_source(source / "hh_harmless_test.jsonl.gz")).splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if max(len(row["chosen"]), len(row["rejected"])) <= MOST_HUMAN_CHARACTERS]


def _alpaca(source: Path) -> list[Row]:
    rows = json.loads(read_source(source / "alpaca_en_demo.json"))
    return [row for row in rows if len(row["output"]) in ALPACA_OUTPUT_CHARACTERS and not row["input"]]


def _ai(source: Path) -> list[Row]:
    rows = json.loads(read_source(source / "dpo_en_demo.json"))
    return [row for row in rows if _ai_characters(row) <= MOST_AI_CHARACTERS]


def _ai_characters(row: Row) -> int:
    asked = sum(len(turn["value"]) for turn in row["conversations"])
    return asked + max(len(row[side]["value"]) for side in ("chosen", "rejected"))


def _recorded(row: Row) -> Row:
    return {
        "prompt": row["conversations"][0]["value"],
        "preferred": row["chosen"]["value"].strip(),
        "dispreferred": row["rejected"]["value"].strip(),
    }


def _prompt_of_pair(row: Row) -> Row:
    """An HH conversation without its last answer, as it stands."""
    text = row["chosen"]
    return {"prompt": text[: text.rindex("\n\nAssistant:")] + "\n\nAssistant:"}


def _prompt_of_alpaca(row: Row) -> Row:
    return {"prompt": row["instruction"]}


def _shuffled(rows: list[Row], name: str) -> list[Row]:
    rng(DRAWN_BY, "chat_data", name).shuffle(rows)
    return rows


def _write(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the data; exit code 2 with one sentence where that cannot be."""
    return command(write_data, "experiments.chat_data", __doc__, Path("chat-data"), arguments)


if __name__ == "__main__":
    sys.exit(main())
