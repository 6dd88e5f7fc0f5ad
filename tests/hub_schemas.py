"""Rows in the schemas of the data sets that the paper names, and files laid out as on the hub; helpers of tests."""

from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]
WORDS = ("rivers", "bread", "clocks", "gardens", "music", "maps", "winter", "bridges", "letters", "glass", "ships",
         "stones", "paper", "horses", "tea")  # fmt: skip
# What is on the hub and is of no use: chosen and rejected are equal, and a response is empty.
EQUAL, EMPTY = 7, 11


def turn(role: str, content: str) -> dict[str, str]:
    return {"content": content, "role": role}


def smoltalk_rows(count: int) -> list[Row]:
    """`messages` and `source`: some begin with a system turn, some go on for several turns."""
    rows = []
    for number in range(count):
        word, other = WORDS[number % 15], WORDS[(number * 7 + number // 15 + 1) % 15]
        turns = [turn("user", f"What are {word} {number}?"), turn("assistant", f"They are {other}, {number} of them.")]
        if number % 3 == 0:
            turns = [turn("system", "You answer in one line."), *turns]
        if number % 4 == 0:
            turns += [turn("user", f"And {other}?"), turn("assistant", f"Like {word}.")]
        rows.append({"messages": turns, "source": "smol-magpie-ultra" if number % 2 else "systemchats-30k"})
    return rows


def ultrafeedback_rows(count: int, about: str = "pairs") -> list[Row]:
    """The conversation whole in every list; row EQUAL is no pair and row EMPTY has no chosen response."""
    rows = []
    for number in range(count):
        word, other = WORDS[number % 15], WORDS[(number * 7 + number // 15 + 1) % 15]
        asked = turn("user", f"Tell me of {word} and {other} for {about} {number}.")
        good = "" if number == EMPTY else f"Of {word}, {number}: they come before {other}."
        chosen = [asked, turn("assistant", good)]
        rejected = chosen if number == EQUAL else [asked, turn("assistant", f"{other.capitalize()}, {number}.")]
        rows.append(
            {
                "prompt": asked["content"],
                "prompt_id": f"{number:064x}",
                "chosen": chosen,
                "rejected": rejected,
                "messages": chosen,
                "score_chosen": 8.5,
                "score_rejected": 8.5 if number == EQUAL else 6.0,
            }
        )
    return rows


def write_parquet(path: Path, rows: list[Row]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    return path


def write_hub_folders(folder: Path, *, demonstrations: int = 30, pairs: int = 90, test: int = 8) -> None:
    """`smoltalk` and `ultrafeedback_binarized` under `folder`, as a checkout of the hub's repositories has them."""
    talk, feedback = folder / "smoltalk" / "data" / "all", folder / "ultrafeedback_binarized" / "data"
    write_parquet(talk / "train-00000-of-00001.parquet", smoltalk_rows(demonstrations))
    write_parquet(talk / "test-00000-of-00001.parquet", smoltalk_rows(3))
    write_parquet(folder / "smoltalk" / "data" / "everyday" / "train-00000-of-00001.parquet", smoltalk_rows(2))
    for split in ("prefs", "sft", "gen"):
        write_parquet(feedback / f"train_{split}-00000-of-00001.parquet", ultrafeedback_rows(pairs))
        write_parquet(feedback / f"test_{split}-00000-of-00001.parquet", ultrafeedback_rows(test, f"{split} tests"))
