"""A reward model behind a chat-completions address (NVIDIA's Nemotron reward models): a score for a conversation.

Scores do not compare across prompts (NVIDIA says so): only differences on the same prompt mean something. Every reply
of the server is stored before it is read. Knows no rule by which rewards become a verdict.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from limbeck.api import Answer, Answered, Call, ChatClient, ChatRequest, Failed, ReplyStore, ask_all, reply_key
from limbeck.api.asking import Send
from limbeck.console import meter
from limbeck.judges.protocol import Exchange, unscored
from limbeck.judges.reward_text import TokenCounter, estimated_tokens, parse_reward, reward_messages
from limbeck.recipe_pairs import Endpoint
from limbeck.records import Judgement, Reply

NVIDIA_URL = "https://integrate.api.nvidia.com/v1"
MAX_TOKENS = 4096  # of the whole conversation (the model's card)
OVER_LONG = "over 4,096 tokens"
NO_REWARD = "no reward in the judge's reply"


class NemotronJudge:
    """`nemotron`: asks `model` at `endpoint`, through the reply store at `store`.

    `count_tokens` says how long a conversation is; `client` is the seam for tests: the real client over a mock
    transport.
    """

    name = "nemotron"

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        store: Path,
        *,
        count_tokens: TokenCounter = estimated_tokens,
        client: ChatClient | None = None,
    ) -> None:
        self._model = model
        self._concurrency = endpoint.concurrency
        self._store = store
        self._count_tokens = count_tokens
        self._client = client or ChatClient(endpoint, default_base_url=NVIDIA_URL)

    def __repr__(self) -> str:
        return f"NemotronJudge(model={self._model!r}, client={self._client!r})"

    def check(self) -> None:
        """Raise `TeacherError` where key or address cannot be used."""
        self._client.check()

    def judge(self, exchanges: Sequence[Exchange]) -> Iterator[Judgement]:
        """Ask for every reward that is not stored, then yield the judgements; over-long conversations are not sent."""
        calls = [self._call(each) for each in exchanges]
        # One call a key: equal replies to a prompt have one reward, and pay for one.
        unique = list({call.key: call for call in calls if call is not None}.values())
        with ReplyStore(self._store) as store, meter("rewards", len(unique), "replies") as progress:

            def count(_key: str, from_store: bool) -> None:
                (progress.skip if from_store else progress.advance)(1)

            answers = ask_all(unique, self._session, store, concurrency=self._concurrency, on_answer=count)
        for (_, reply), call in zip(exchanges, calls, strict=True):
            yield unscored(reply, OVER_LONG) if call is None else judgement(reply, answers[call.key])

    def _call(self, exchange: Exchange) -> Call[ChatRequest] | None:
        """The call for one reply; None where the conversation is over-long."""
        row, reply = exchange
        messages = reward_messages(row.prompt, reply.text)
        if self._count_tokens(messages) > MAX_TOKENS:
            return None
        request = ChatRequest(self._model, messages)
        identity = {"kind": "reward", "endpoint": self._client.base_url, **request.body()}
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
    return unscored(reply, _why(answer))


def _why(failed: Failed) -> str:
    said = f" ({failed.detail})" if failed.detail else ""
    return f"{failed.reason.replace('_', ' ')}{said}"
