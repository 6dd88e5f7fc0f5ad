"""A teacher that hands out recorded pairs, where there is none to ask: `{"prompt", "preferred", "dispreferred"}` rows.

`python -m experiments.recorded_teacher --pairs chat-data/recorded.jsonl` serves on the port that `recipes/chat.toml`
names. A prompt that was recorded gets its own pair; who asks for a new prompt gets, of a few recorded ones drawn by the
request, the one that shares most words with what is shown. So a rolling pair is of what comes before it in the stream
as nearly as a choice among finished pairs can be, and was not written for it.
"""

import argparse
import hashlib
import json
import random
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.api.fake_teacher import fields_asked
from limbeck.errors import InputError, LimbeckError
from limbeck.store import read_json_lines

SIDES = ("preferred", "dispreferred")
DRAWN = 4  # recorded prompts among which the likest is taken; more, and few prompts are said again and again
_PROMPT = re.compile(r"<prompt>(.*?)</prompt>", re.DOTALL)
_SHOWN = re.compile(r"<context_prompt>(.*?)</context_prompt>", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]{4,}")


class RecordedTeacher:
    """Answers one request's body from `pairs`, the answers by prompt; 404 for a prompt that was not recorded."""

    def __init__(self, pairs: Mapping[str, Mapping[str, str]]) -> None:
        self._pairs = pairs

    def __call__(self, body: Body) -> httpx.Response:
        """The completion for a request's body."""
        asked = body["messages"][-1]["content"]
        if "prompt" in fields_asked(body):
            return completion(json.dumps({"prompt": self._likest(asked)}))
        found = _PROMPT.search(asked)
        prompt = json.loads(found[1]) if found else None  # a list, where it has several turns
        if not isinstance(prompt, str) or prompt not in self._pairs:
            return error(404, "no pair is recorded for this prompt")
        return completion(json.dumps(self._pairs[prompt]))

    def _likest(self, asked: str) -> str:
        dice = random.Random(hashlib.sha256(asked.encode()).digest())
        shown = _words(" ".join(_SHOWN.findall(asked)))
        drawn = dice.sample(sorted(self._pairs), min(DRAWN, len(self._pairs)))
        return max(drawn, key=lambda prompt: len(shown & _words(prompt)))


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def read_pairs(path: Path) -> dict[str, dict[str, str]]:
    """The answers by prompt.

    Raises:
        InputError: the file is not there, or a line is no such row.
    """
    pairs = {}
    for number, row in read_json_lines(path):
        if not all(isinstance(row.get(field), str) for field in ("prompt", *SIDES)):
            raise InputError(f"{path}, line {number}: expected texts as prompt, {' and '.join(SIDES)}")
        pairs[row["prompt"]] = {side: row[side] for side in SIDES}
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; exit code 2 with one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m experiments.recorded_teacher", description=__doc__)
    parser.add_argument("--pairs", type=Path, default=Path("chat-data/recorded.jsonl"))
    parser.add_argument("--port", type=int, default=8767, help="port of this machine (8767, as in the recipe)")
    chosen = parser.parse_args(arguments)
    try:
        with FakeServer(RecordedTeacher(read_pairs(chosen.pairs))).listen(chosen.port) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            threading.Event().wait()
    except LimbeckError as problem:
        sys.stderr.write(f"{problem}\n")
    except OSError as problem:  # the port is taken
        sys.stderr.write(f"port {chosen.port}: {problem.strerror}\n")
    return LimbeckError.exit_code


if __name__ == "__main__":
    sys.exit(main())
