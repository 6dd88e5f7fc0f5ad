"""A reward model behind a chat-completions address (NVIDIA's Nemotron reward models): a score for a conversation.

Scores do not compare across prompts (NVIDIA says so): only differences on the same prompt mean something. Every reply
of the server is stored before it is read. Knows no rule by which rewards become a verdict.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from limbeck.api import Answer, Answered, Call, ChatClient, ChatRequest, Failed, ReplyStore, ask_all, reply_key
from limbeck.api.address import NVIDIA
from limbeck.api.asking import OnAnswer, Send, ignore
from limbeck.api.budget import Budget
from limbeck.api.costs import Terms, budget_of
from limbeck.console import meter
from limbeck.errors import TeacherError
from limbeck.judges.protocol import Exchange, failure_words, over_long, refuse_outage, unscored
from limbeck.judges.reward_text import TokenCounter, estimated_tokens, parse_reward, reward_messages
from limbeck.recipe.verdict import Nemotron
from limbeck.records import Judgement, Message, PromptRow, Reply, user_prompt
from limbeck.untrusted import one_line

REPLY_TOKENS = 256  # set aside for a reward: its few numbers take twenty, an older sibling's forty
SHOWN_CHARACTERS = 80
NO_REWARD = "no reward in the judge's reply"


_HELLO: Exchange = (
    PromptRow(id="preflight", prompt=user_prompt("What is 2 + 2?"), source="preflight"),
    Reply(prompt_id="preflight", text="2 + 2 = 4.", finish_reason="stop", num_tokens=None),
)


class NemotronJudge:
    """`nemotron`: asks as `settings` say, through the reply store at `store`. `prices`: the user's own list of them.

    `count_tokens` says how long a conversation is; `client` is the seam for tests: the real client over a mock
    transport.
    """

    name = "nemotron"

    def __init__(
        self,
        settings: Nemotron,
        store: Path,
        *,
        prices: str | None = None,
        count_tokens: TokenCounter = estimated_tokens,
        client: ChatClient | None = None,
    ) -> None:
        self._settings, self._model = settings, settings.model
        self._store = store
        self._prices = prices
        self._count_tokens = count_tokens
        self._client = client or ChatClient(settings.endpoint, provider=NVIDIA)

    def __repr__(self) -> str:
        return f"NemotronJudge(model={self._model!r}, client={self._client!r})"

    def check(self) -> None:
        """Raise `TeacherError` where key or address cannot be used, `RecipeError` where it may cost anything."""
        self._client.check()
        _ = self._budget

    def preflight(self) -> None:
        """Have one short reply scored; asked anew each time, for what it shows is whether the judge answers now.

        Raises:
            TeacherError: no reward comes back.
            BudgetError: the budget is used up.
        """
        with ReplyStore(self._store) as store:
            call = self._question(_HELLO, sum(store.states().values()))
            answer = self._ask([call], store, ignore)[call.key]
        if judgement(_HELLO[1], answer).score is not None:
            return
        asked = f"{self._model!r} at {self._client.base_url}"
        if isinstance(answer, Failed) and answer.reason != "truncated":
            raise TeacherError(f"{asked} gives no reward for a first, short reply: {failure_words(answer)}")
        raise TeacherError(
            f"{asked} answered {one_line(answer.text, SHOWN_CHARACTERS)!r} where a reward was asked for: that is no "
            "reward model, whose answer is `reward:NUMBER`; set judges.nemotron.model, or judge with `pairwise`"
        )

    @cached_property
    def _budget(self) -> Budget:
        terms = Terms("judges.nemotron.budget", self._settings.budget, self._settings.endpoint, self._prices)
        return budget_of(self._model, terms, self._client.wants_budget)

    def judge(self, exchanges: Sequence[Exchange]) -> Iterator[Judgement]:
        """Ask for every reward that is not stored, then yield the judgements; over-long conversations are not sent."""
        calls = [self._call(each) for each in exchanges]
        # One call a key: equal replies to a prompt have one reward, and pay for one.
        unique = list({call.key: call for call in calls if call is not None}.values())
        with ReplyStore(self._store) as store, meter("rewards", len(unique), "replies") as progress:

            def count(_key: str, from_store: bool) -> None:
                (progress.skip if from_store else progress.advance)(1)

            answers = self._ask(unique, store, count)
        refuse_outage(answers.values(), f"{self._model!r} at {self._client.base_url}")
        for (_, reply), call in zip(exchanges, calls, strict=True):
            yield unscored(reply, self._over_long) if call is None else judgement(reply, answers[call.key])

    @property
    def _over_long(self) -> str:
        return over_long(self._settings.max_tokens)

    def _ask(self, calls: Sequence[Call[ChatRequest]], store: ReplyStore, on_answer: OnAnswer) -> dict[str, Answer]:
        concurrency = self._settings.endpoint.concurrency
        return ask_all(calls, self._session, store, concurrency=concurrency, on_answer=on_answer, budget=self._budget)

    def _call(self, exchange: Exchange) -> Call[ChatRequest] | None:
        """The call for one reply; None where the conversation is over-long."""
        row, reply = exchange
        messages = reward_messages(row.prompt, reply.text)
        return None if self._count_tokens(messages) > self._settings.max_tokens else self._made(messages, {})

    def _question(self, exchange: Exchange, number: int) -> Call[ChatRequest]:
        row, reply = exchange
        return self._made(reward_messages(row.prompt, reply.text), {"preflight": number})

    def _made(self, messages: tuple[Message, ...], more: Mapping[str, int]) -> Call[ChatRequest]:
        request = ChatRequest(self._model, messages, self._settings.endpoint.extra, reply_tokens=REPLY_TOKENS)
        identity = {"kind": "reward", "endpoint": self._client.base_url, **request.body(), **more}
        return Call(reply_key(identity), "reward", json.dumps(identity, sort_keys=True), request)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Send[ChatRequest]]:
        async with self._client as client:
            yield client.complete


def judgement(reply: Reply, answer: Answer) -> Judgement:
    """Read one stored answer. Some servers end a reward with `length`, which the client calls truncated."""
    if isinstance(answer, Answered) or answer.reason == "truncated":
        score = parse_reward(answer.text)
        if score is None:
            return unscored(reply, NO_REWARD)
        return Judgement(prompt_id=reply.prompt_id, sample_index=reply.sample_index, score=score)
    return unscored(reply, failure_words(answer))
