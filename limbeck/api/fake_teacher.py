"""A teacher and a reward model for `FakeServer`: good JSON about what is shown, and `reward:-x`. For rehearsals.

with FakeServer(FakeTeacher()).listen() as url:
    ...   # teach.endpoint.base_url and judges.nemotron.endpoint.base_url

By hand: `python -m limbeck.api.fake_teacher --port 8765`; the base URL is printed. All that is written follows from
what is asked: the same request gets the same reply, another run the same pairs. It knows nothing, and teaches nothing.
"""

import argparse
import hashlib
import json
import random
import re
import sys
import threading
from typing import Any

import httpx

from limbeck.api.fake_server import Body, FakeServer, completion

_SHOWN = re.compile(r"<([a-z_]+)>(.*?)</\1>", re.DOTALL)
_KEYS_IN_WORDS = re.compile(r'"(\w+)": "\.\.\."')  # how limbeck's templates show the object they want
_WORD = re.compile(r"[A-Za-z]{4,}")
_LOWEST_REWARD, _STEPS_A_UNIT = -40, 16  # bf16 rewards of this size come in sixteenths
_WORDS_TO_CHOOSE_FROM = ("rivers", "bread", "clocks", "gardens", "music", "maps", "winter", "bridges")


class FakeTeacher:
    """Answers one request's body. A conversation that ends with the assistant is scored, any other is answered.

    An object with the fields that the request's schema asks for, or its words; else plain text.
    """

    def __call__(self, body: Body) -> httpx.Response:
        """The completion for a request's body."""
        last = body["messages"][-1]
        dice = random.Random(hashlib.sha256(json.dumps(body["messages"]).encode()).digest())
        if last["role"] == "assistant":
            return completion(reward_of(last["content"]))
        fields = fields_asked(body)
        topic = _topic(body, dice)
        if not fields:
            return completion(_answer(topic))
        return completion(json.dumps({field: _text(field, topic) for field in fields}))


def reward_of(response: str) -> str:
    """A reward between -40 and 0 in sixteenths, by the response's letters alone."""
    drawn = int.from_bytes(hashlib.sha256(response.encode()).digest()[:4], "big")
    return f"reward:{_LOWEST_REWARD + drawn % (-_LOWEST_REWARD * _STEPS_A_UNIT) / _STEPS_A_UNIT}"


def fields_asked(body: Body) -> tuple[str, ...]:
    """The fields of the object that a request wants, by its schema, else by its words; none for plain text."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return tuple(wanted["json_schema"]["schema"]["properties"])
    words = "\n".join(turn["content"] for turn in body["messages"] if turn["role"] == "system")
    return tuple(dict.fromkeys(_KEYS_IN_WORDS.findall(words)))


def _topic(body: Body, dice: random.Random) -> list[str]:
    """Five words of what was shown, so that replies differ as the requests do."""
    asked = "\n".join(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    shown = " ".join(text for _, text in _SHOWN.findall(asked)) or asked
    words = sorted({word.casefold() for word in _WORD.findall(shown)})
    return dice.sample([*words, *_WORDS_TO_CHOOSE_FROM], 5)


def _text(field: str, topic: list[str]) -> str:
    if field == "prompt":
        return _question(topic)
    return f"It has to do with {topic[0]}, more or less." if field == "dispreferred" else _answer(topic)


def _question(topic: list[str]) -> str:
    a, b, c, d, e = topic
    return f"Somebody who knows {a} asks about {b}. Which of {c} and {d} would you name first, and why not {e}?"


def _answer(topic: list[str]) -> str:
    a, b, c, d, e = topic
    return f"First come {a} and {b}, since {d} rests on them. So the answer is {c}, and {e} can be left out."


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m limbeck.api.fake_teacher", description=__doc__)
    parser.add_argument("--port", type=int, default=8765, help="port of this machine (8765, as in the rehearsal)")
    chosen: Any = parser.parse_args(arguments)
    with FakeServer(FakeTeacher()).listen(chosen.port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
