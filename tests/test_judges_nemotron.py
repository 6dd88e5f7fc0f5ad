"""The reward API as judge, through the real client over a fake server: what is sent, read, kept and left unscored."""

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.api import ChatClient
from limbeck.api.address import NVIDIA
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import TeacherError
from limbeck.judges import Exchange, Judge, make_judge
from limbeck.judges.reward_text import TokenCounter, estimated_tokens, parse_reward, reward_messages
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Corpus, Tasks
from limbeck.recipe.verdict import Evaluate, Judges, Nemotron, NemotronEndpoint
from limbeck.records import Judgement, Message, PromptRow, Reply, user_prompt

KEY = "nvapi-secret-1234567890"
Messages = Sequence[Message]


def exchange(number: int, text: str = "Four.") -> Exchange:
    row = PromptRow(id=f"p{number}", prompt=user_prompt(f"What is {number}?"), source="s")
    return row, Reply(prompt_id=row.id, sample_index=number, text=text, finish_reason="stop", num_tokens=1)


class Bench:
    """A judge over a fake server, with one store for all its lives; `waits` are the seconds it would have slept."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "replies.sqlite"
        self.waits: list[float] = []

    def judge(
        self,
        answer: Callable[[Body], httpx.Response],
        *,
        count_tokens: TokenCounter = estimated_tokens,
        base_url: str | None = "http://fake/v1",
        key: str = KEY,
    ) -> tuple[Judge, FakeServer]:
        server = FakeServer(answer)
        reward = NemotronEndpoint(base_url=base_url, api_key_env="NVIDIA_API_KEY", max_retries=1, concurrency=2)
        recipe = Recipe(
            name="x",
            corpus=Corpus(tasks=Tasks()),
            evaluate=Evaluate(judges=("nemotron",)),
            judges=Judges(nemotron=Nemotron(endpoint=reward, model="some/reward")),
        )

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        environ = {"NVIDIA_API_KEY": key} if key else {}
        client = ChatClient(reward, provider=NVIDIA, transport=server.transport, sleep=sleep, environ=environ)
        return make_judge("nemotron", recipe, self.store, count_tokens=count_tokens, client=client), server


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def only(judge: Judge, asked: Exchange) -> Judgement:
    (found,) = judge.judge([asked])
    return found


def test_the_body_is_model_and_messages_and_the_reward_is_the_score(bench: Bench) -> None:
    judge, server = bench.judge(lambda _: completion("reward:-19.875"))
    found = only(judge, exchange(3))
    assert found == Judgement(prompt_id="p3", sample_index=3, score=-19.875)
    messages = [{"role": "user", "content": "What is 3?"}, {"role": "assistant", "content": "Four."}]
    assert server.bodies == [{"model": "some/reward", "messages": messages}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert judge.name == "nemotron"


def test_judgements_come_in_the_order_asked_whatever_the_server_says(bench: Bench) -> None:
    judge, _ = bench.judge(lambda body: completion(f"reward:{body['messages'][0]['content'][8:-1]}"))
    found = list(judge.judge([exchange(number) for number in (4, 1, 3)]))
    assert [(each.prompt_id, each.score) for each in found] == [("p4", 4.0), ("p1", 1.0), ("p3", 3.0)]


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("reward:-19.875", -19.875),
        (" reward: 3 \n", 3.0),
        ("helpfulness:1.6,reward:-2e-1,verbosity:+2.0", -0.2),
        ("helpfulness:1.6,correctness:2.0", None),
        ("reward:1,reward:2", None),
        ("reward:nan", None),
        ("reward:1e999", None),
        ("reward:", None),
        ("-19.875", None),
        ("The reward:3 of virtue", None),
        ("", None),
    ],
)
def test_a_reward_is_read_from_the_documented_form_and_from_nothing_else(text: str, reward: float | None) -> None:
    assert parse_reward(text) == reward


@given(st.floats(-1e6, 1e6))
def test_every_written_number_is_read_back(value: float) -> None:
    assert parse_reward(f"helpfulness:0.5,reward:{value!r}") == value


def test_an_answer_that_does_not_parse_is_unscored_stored_and_not_bought_again(bench: Bench) -> None:
    judge, _ = bench.judge(lambda _: completion("I like it."))
    found = only(judge, exchange(1))
    assert (found.score, found.unscored_reason) == (None, "no reward in the judge's reply")
    again, server = bench.judge(lambda _: completion("reward:1"))
    assert only(again, exchange(1)) == found
    assert server.bodies == []


def test_a_reward_that_ends_with_length_is_a_reward(bench: Bench) -> None:
    judge, _ = bench.judge(lambda _: completion("reward:-4.5", finish_reason="length"))
    assert only(judge, exchange(1)).score == -4.5


def test_equal_replies_to_a_prompt_are_asked_once_and_judged_each(bench: Bench) -> None:
    judge, server = bench.judge(lambda _: completion("reward:2"))
    row, reply = exchange(1)
    found = list(judge.judge([(row, reply), (row, reply.model_copy(update={"sample_index": 9}))]))
    assert [(each.sample_index, each.score) for each in found] == [(1, 2.0), (9, 2.0)]
    assert len(server.bodies) == 1


def test_over_4096_tokens_is_unscored_without_a_request_and_4096_is_asked(bench: Bench) -> None:
    def count(messages: Messages) -> int:
        return 4096 + (messages[-1].content == "long")

    judge, server = bench.judge(lambda _: completion("reward:2"), count_tokens=count)
    found = list(judge.judge([exchange(1, "long"), exchange(2, "short")]))
    assert [(each.score, each.unscored_reason) for each in found] == [(None, "over 4,096 tokens"), (2.0, None)]
    assert len(server.bodies) == 1


def test_an_outage_in_the_middle_is_no_result_and_the_same_asking_goes_on_from_there(bench: Bench) -> None:
    down = {f"What is {number}?" for number in range(5)}

    def answer(body: Body) -> httpx.Response:
        return error(503, "busy") if body["messages"][0]["content"] in down else completion("reward:1")

    exchanges = [exchange(number) for number in range(60)]
    with pytest.raises(TeacherError, match=r"'some/reward' at http://fake/v1 gave no answer to 5 of 60 questions"):
        list(bench.judge(answer)[0].judge(exchanges))
    judge, server = bench.judge(lambda _: completion("reward:2"))
    assert [each.score for each in judge.judge(exchanges)] == [2.0] * 5 + [1.0] * 55
    assert len(server.bodies) == 5
    down.difference_update({"What is 3?", "What is 4?"})
    few = [exchange(number, "Another.") for number in range(60)]  # 3 of 60: within 5 %
    assert sum(each.score is None for each in bench.judge(answer)[0].judge(few)) == 3


def test_a_refused_request_and_a_dead_server_are_unscored_with_the_servers_reason(bench: Bench) -> None:
    def answer(body: Body) -> httpx.Response:
        return error(400, "too long") if "1?" in body["messages"][0]["content"] else error(500, "down")

    judge, _ = bench.judge(answer)
    found = list(judge.judge([exchange(1), exchange(2)]))
    assert [each.score for each in found] == [None, None]
    assert [each.unscored_reason for each in found] == ["bad request (too long)", "server error (500: down)"]
    later, server = bench.judge(lambda _: completion("reward:7"))
    assert only(later, exchange(2)).score == 7.0
    assert len(server.bodies) == 1


def test_429_waits_as_long_as_the_server_asks_and_then_asks_again(bench: Bench) -> None:
    answers = iter([error(429, retry_after="17"), completion("reward:0")])
    judge, _ = bench.judge(lambda _: next(answers))
    assert only(judge, exchange(1)).score == 0.0
    assert bench.waits == [17.0]


@pytest.mark.parametrize(("status", "words"), [(401, "key"), (403, "allow"), (404, "know"), (410, "retired")])
def test_a_final_status_is_one_sentence_without_the_key(bench: Bench, status: int, words: str) -> None:
    judge, server = bench.judge(lambda _: error(status, KEY))
    with pytest.raises(TeacherError, match=words) as caught:
        only(judge, exchange(1))
    assert f"({status})" in str(caught.value)
    assert KEY not in str(caught.value) + repr(judge)
    assert len(server.bodies) == 1


def test_without_a_key_nvidias_own_address_is_refused_before_anything_is_sent(bench: Bench) -> None:
    judge, server = bench.judge(lambda _: completion("reward:0"), base_url=None, key="")
    with pytest.raises(TeacherError, match=r"integrate\.api\.nvidia\.com.*NVIDIA_API_KEY"):
        judge.check()
    assert server.bodies == []


def test_a_system_turn_becomes_the_beginning_of_the_first_user_turn() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye")]
    prompt = [Message.model_validate({"role": role, "content": content}) for role, content in turns]
    assert [(each.role, each.content) for each in reward_messages(prompt, "Bye.")] == [
        ("user", "Be brief.\n\nHi"),
        ("assistant", "Yes?"),
        ("user", "Bye"),
        ("assistant", "Bye."),
    ]
    assert prompt[1].content == "Hi"


def test_the_estimate_lies_above_what_is_known_of_texts() -> None:
    english = "The quick brown fox jumps over the lazy dog. "  # 10 tokens in Llama 3's vocabulary
    assert 10 * 20 < estimated_tokens(user_prompt(english * 20)) < 2 * 10 * 20
    assert estimated_tokens(user_prompt("1+2=3")) >= 5
    assert estimated_tokens(user_prompt("日本語")) >= 3
    assert estimated_tokens(()) == 0


@given(st.text(), st.text())
def test_more_text_never_counts_less(first: str, second: str) -> None:
    assert estimated_tokens(user_prompt(first + second)) >= estimated_tokens(user_prompt(first))
