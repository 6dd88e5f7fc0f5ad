"""A pairwise judge for `FakeServer`: it reads the two replies out of the question and prefers one by a rule.

server = FakeServer(FakeJudge(first_wins))   # one that goes by the place alone
"""

import json
import re
from collections.abc import Callable

import httpx

from limbeck.api.fake_server import Body, completion

_SHOWN = re.compile(r"<reply_([ab])>(.*?)</reply_[ab]>", re.DOTALL)
Rule = Callable[[str, str], str]


class FakeJudge:
    """Answers each question with the verdict of `rule` on replies A and B. `asked`: what it was shown."""

    def __init__(self, rule: Rule) -> None:
        self.asked: list[tuple[str, str]] = []
        self._rule = rule

    def __call__(self, body: Body) -> httpx.Response:
        """The completion for a request's body."""
        question = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
        shown = {name: json.loads(text) for name, text in _SHOWN.findall(question)}
        self.asked.append((shown["a"], shown["b"]))
        return completion(json.dumps({"reason": "By a rule.", "better": self._rule(shown["a"], shown["b"])}))


def first_wins(_a: str, _b: str) -> str:
    """The reply that is shown first, whatever it says: pure position bias."""
    return "A"


def longer_wins(a: str, b: str) -> str:
    """The longer reply, wherever it stands; of equally long ones neither."""
    return "tie" if len(a) == len(b) else ("A" if len(a) > len(b) else "B")
