"""The embedded teacher: worked solutions and plausible slips, in the same strict JSON as a model's. No key, no network.

It answers from the row, never from the rendered messages: preferred is the problem's worked solution, dispreferred
the same solution with a slip in it. It invents no prompts: a new prompt is the fresh problem it was handed. It edits no
replies: a solution of its own is no minimal correction of somebody else's words, so `revise` it does not answer.
"""

import importlib.metadata
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from limbeck import tasks
from limbeck.api.answers import Answer, Answered, Failed
from limbeck.api.asking import Send
from limbeck.api.budget import UNLIMITED, Account
from limbeck.records import PromptRow
from limbeck.seeds import rng
from limbeck.teachers.protocol import NewPromptRow, Request


class WorkedTeacher:
    """Answers verifiable problems. The same seed and row give the same answer, in whatever order they are asked."""

    name = "worked"
    concurrency = 1
    invents_prompts = False
    budget = UNLIMITED

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __repr__(self) -> str:
        return f"WorkedTeacher(seed={self._seed})"

    def check(self) -> None:
        """Always available."""

    def facts(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def identity(self, request: Request) -> Mapping[str, Any]:
        """The row, not the messages, decides the reply; so do the versions of what draws problems and slips."""
        row = request.row.fresh if isinstance(request.row, NewPromptRow) else request.row
        return {
            "teacher": self.name,
            "seed": self._seed,
            "limbeck": importlib.metadata.version("limbeck"),
            "row": row.id if row else None,
            "problem": row.problem.model_dump(mode="json") if row and row.problem else None,
        }

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send[Request]]:
        """Yield the function that answers; there is nothing to open."""

        async def send(request: Request, _account: Account) -> Answer:
            return self.answer(request)

        yield send

    def answer(self, request: Request) -> Answer:
        """Answer one request: strict JSON (`plain`: the solution), or the failures `no_problem` and `no_slip`."""
        if isinstance(request.row, NewPromptRow):
            return _new_prompt(request.row.fresh)
        problem = request.row.problem
        if problem is None:
            return Failed(reason="no_problem", detail="the prompt has no worked solution")
        if request.kind == "revise":
            return Failed(reason="no_problem", detail="the worked teacher cannot correct another's reply")
        if request.kind == "plain":
            return Answered(text=problem.solution)
        slipped = tasks.slip(problem, rng(self._seed, "worked", request.row.id, request.sample_index))
        if slipped is None:
            return Failed(reason="no_slip", detail=f"no plausible mistake is known for {problem.family}")
        return _reply({"preferred": problem.solution, "dispreferred": slipped})


def _new_prompt(fresh: PromptRow | None) -> Answer:
    if fresh is None or fresh.problem is None:
        return Failed(reason="no_problem", detail="no fresh problem was left to hand out")
    return _reply({"prompt": fresh.problem.question})


def _reply(value: Mapping[str, str]) -> Answered:
    return Answered(text=json.dumps(value, ensure_ascii=False))
