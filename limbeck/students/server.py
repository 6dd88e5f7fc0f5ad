"""A student on the user's own server: the same messages, the same sampling, over chat completions.

Replies are written as they finish, so that an interruption loses at most what is in flight. What the server cannot give
is counted with a reason; it never becomes an empty reply, which would be scored as wrong.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.api.answers import MOST_UNANSWERED, WORTH_ASKING_AGAIN, Answer, Answered, Failed
from limbeck.api.client import ChatClient, ChatRequest
from limbeck.api.workers import run_workers
from limbeck.console import meter
from limbeck.errors import ModelError, TeacherError
from limbeck.lm.chat import Chat
from limbeck.lm.generate import Sampling
from limbeck.lm.load import LanguageModel, load_chat, load_model
from limbeck.lm.machine import place
from limbeck.lm.replies import Replies, fitting_prompts
from limbeck.recipe import Model, Server
from limbeck.records import PromptRow, Reply
from limbeck.store import RecordStream, refuse_repeated, write_records
from limbeck.students import served
from limbeck.students.samples import finish_reason, parameters, refused_parameter


class _Wanted(NamedTuple):
    row: PromptRow
    sample_index: int

    @property
    def place(self) -> tuple[str, int]:
        """By which its reply is found."""
        return self.row.id, self.sample_index


Take = Callable[[_Wanted, Answer], None]


class _Fitting(NamedTuple):
    rows: Sequence[PromptRow]
    drops: dict[str, int]


@dataclass
class _Tally:
    """What came of the prompts that were asked in one call."""

    drops: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0
    untold_ends: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def tokens_per_second(self) -> float:
        """Of the replies whose tokens are known."""
        return self.tokens / (time.perf_counter() - self.started)

    def miss(self, failure: Failed) -> None:
        """Count a prompt without a reply."""
        reason = f"no reply: {failure.reason.replace('_', ' ')}"
        self.drops[reason] += 1
        self.unanswered += failure.reason in WORTH_ASKING_AGAIN
        if failure.detail:
            self.details.setdefault(reason, failure.detail)


class ServerStudent:
    """The model called `name`, on `server`. `folder` has its tokenizer, and its weights for what needs them.

    `client` is the seam for tests: the real client over a mock transport.
    """

    def __init__(
        self, name: str, server: Server, folder: Path | None, settings: Model, client: ChatClient | None = None
    ) -> None:
        self._name, self._server, self._folder, self._settings = name, server, folder, settings
        self._client = client or served.client_for(server)
        self._model: LanguageModel | None = None
        self._facts: dict[str, Any] = {"server": server.identity()}

    def __repr__(self) -> str:
        return f"ServerStudent({self._name!r}, {self._client!r})"

    def check(self) -> None:
        """Ask the server for its models, and see that this one is among them."""
        served.see(self._name, self._server, self._client)

    def ask(
        self,
        rows: Sequence[PromptRow],
        sampling: Sampling,
        limits: Model,
        path: Path,
        label: str,
        samples: int = 1,
        begun: Mapping[str, str] | None = None,
    ) -> Replies:
        """Ask for `samples` replies a row, at most `concurrency` at once; they stand in the order of the rows."""
        if begun:
            raise ModelError(
                f"servers.{self._name}: a reply cannot be begun for a server, which writes it from its start"
            )
        refuse_repeated([row.id for row in rows], "prompt")
        fitting, dropped = self._fitting(rows, limits)
        wanted = [_Wanted(row, index) for row in fitting for index in range(samples)]
        tally = _Tally()
        with RecordStream(path, Reply) as stream, meter(label, len(wanted), "replies") as bar:
            done: dict[tuple[str, int], Reply] = {(reply.prompt_id, reply.sample_index): reply for reply in stream.done}
            bar.skip(len(done))
            waiting = [one for one in wanted if one.place not in done]

            def take(one: _Wanted, answer: Answer) -> None:
                if isinstance(answer, Failed):
                    tally.miss(answer)
                else:
                    done[one.place] = self._reply(one, answer, sampling, tally)
                    stream.append(done[one.place])
                bar.advance(1, f"{tally.tokens_per_second:.0f} tok/s")

            if waiting:
                asyncio.run(self._ask_all(waiting, sampling, take))
        rate = tally.tokens_per_second
        self._refuse_outage(tally, len(wanted), len(done))
        replies = [done[one.place] for one in wanted if one.place in done]
        write_records(path, replies)
        self._note(tally, replies)
        return Replies(replies, dropped | tally.drops, sum(reply.num_tokens or 0 for reply in replies), rate)

    def weights(self) -> LanguageModel:
        """The model itself, on this machine; loaded once."""
        if self._folder is None:
            raise ModelError(f"the weights of the model {self._name!r} are needed, but only its server is known")
        if self._model is None:
            self._model = load_model(str(self._folder), *place(self._settings))
        return self._model

    def facts(self) -> dict[str, Any]:
        """Who was asked, an example of each failure in the server's own words, and what it left unsaid."""
        return {name: value for name, value in self._facts.items() if value}

    def _fitting(self, rows: Sequence[PromptRow], limits: Model) -> _Fitting:
        """The rows that the built-in engine would ask too; all of them where there is no tokenizer to say."""
        if self._tokens is None:
            return _Fitting(rows, {})
        prompts, dropped = fitting_prompts(self._tokens, rows, limits)
        fitting = {prompt.id for prompt in prompts}
        return _Fitting([row for row in rows if row.id in fitting], dropped)

    @cached_property
    def _tokens(self) -> Chat | None:
        return None if self._folder is None else load_chat(str(self._folder))

    async def _ask_all(self, wanted: Sequence[_Wanted], sampling: Sampling, take: Take) -> None:
        left = iter(wanted)
        async with self._client:
            await run_workers(lambda: self._work(left, sampling, take), min(self._server.concurrency, len(wanted)))

    async def _work(self, wanted: Iterator[_Wanted], sampling: Sampling, take: Take) -> None:
        for one in wanted:
            sent = parameters(sampling, one.row.id, one.sample_index)
            answer = await self._client.complete(ChatRequest(self._server.model, one.row.prompt, sent))
            if isinstance(answer, Failed) and answer.reason == "bad_request":
                self._refuse_parameter(answer.detail, sent)
            take(one, answer)

    def _refuse_parameter(self, said: str, sent: Mapping[str, Any]) -> None:
        name = refused_parameter(said, sent)
        if name is not None:
            raise TeacherError(
                f"servers.{self._name}: {self._client.base_url} does not take the parameter {name} ({said}); leave it "
                "at its default in the recipe, or sample on a server that takes it, such as vLLM"
            )

    def _refuse_outage(self, tally: _Tally, asked: int, answered: int) -> None:
        if asked and (not answered or tally.unanswered > MOST_UNANSWERED * asked):
            example = next(iter(tally.details.values()), "no reason given")
            raise TeacherError(
                f"servers.{self._name}: {sum(tally.drops.values())} of {asked} prompts got no reply from "
                f"{self._client.base_url} ({example}); what was answered is kept: run the same command again"
            )

    def _reply(self, one: _Wanted, answer: Answered, sampling: Sampling, tally: _Tally) -> Reply:
        reason = finish_reason(answer, sampling.stop)
        tally.untold_ends += reason == "stop_string" and answer.stopped_by is None
        count = answer.tokens_out or None
        if count is None and self._tokens is not None:
            count = len(self._tokens.response_ids(answer.text)) - (
                reason != "stop"
            )  # its end of turn, where it has one
        tally.tokens += count or 0
        return Reply(prompt_id=one.row.id, sample_index=one.sample_index, text=answer.text, finish_reason=reason,
                     num_tokens=count)  # fmt: skip

    def _note(self, tally: _Tally, replies: Sequence[Reply]) -> None:
        self._facts["failure_examples"] = self._facts.get("failure_examples", {}) | tally.details
        counts = {
            "replies_of_unknown_length": sum(reply.num_tokens is None for reply in replies),
            "ends_not_told_from_stop_strings": tally.untold_ends,
        }
        for name, count in counts.items():
            self._facts[name] = self._facts.get(name, 0) + count
