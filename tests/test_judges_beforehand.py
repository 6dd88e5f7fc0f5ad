"""What a reward API may cost and take, what it is asked before a run, and where its replies are kept."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck.api import ChatClient, ReplyStore
from limbeck.api.fake_server import Body, FakeServer, completion, error
from limbeck.errors import BudgetError, RecipeError, TeacherError
from limbeck.judges import AskedBeforehand, Exchange, NemotronJudge, Verifier, judge_store
from limbeck.recipe.verdict import Nemotron
from limbeck.records import Message, PromptRow, Reply, user_prompt

KEY = "nvapi-secret-1234567890"


def judge(store: Path, server: FakeServer, **settings: Any) -> NemotronJudge:
    endpoint = {"base_url": "http://fake/v1", "api_key_env": "NVIDIA_API_KEY", "max_retries": 0, "concurrency": 2}
    asked = Nemotron.model_validate({"model": "some/reward", "endpoint": endpoint} | settings)
    client = ChatClient(asked.endpoint, transport=server.transport, environ={"NVIDIA_API_KEY": KEY})
    return NemotronJudge(asked, store, client=client)


def exchange(number: int, text: str = "Four.", prompt: tuple[Message, ...] | None = None) -> Exchange:
    row = PromptRow(id=f"p{number}", prompt=prompt or user_prompt(f"What is {number}?"), source="s")
    return row, Reply(prompt_id=row.id, text=text, finish_reason="stop", num_tokens=1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "replies.sqlite"


def rewarding(_: Body) -> httpx.Response:
    return completion("reward:2.5")


def test_the_recipe_says_how_long_a_conversation_may_be(store: Path) -> None:
    server = FakeServer(rewarding)
    found = list(judge(store, server, max_tokens=30).judge([exchange(1, "word " * 50), exchange(2)]))
    assert [(each.score, each.unscored_reason) for each in found] == [(None, "over 30 tokens"), (2.5, None)]
    assert len(server.bodies) == 1


def test_a_history_of_turns_goes_out_alternating_with_the_reply_as_its_last(store: Path) -> None:
    server = FakeServer(rewarding)
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2?")]
    prompt = tuple(Message.model_validate({"role": role, "content": said}) for role, said in turns)
    assert [each.score for each in judge(store, server).judge([exchange(1, "4", prompt)])] == [2.5]
    sent = [(turn["role"], turn["content"]) for turn in server.bodies[0]["messages"]]
    assert sent == [("user", "Be brief.\n\nHi"), ("assistant", "Yes?"), ("user", "2+2?"), ("assistant", "4")]


def test_the_judges_own_budget_ends_the_asking_and_what_was_answered_is_kept(store: Path) -> None:
    server, asked = FakeServer(rewarding), [exchange(number) for number in range(110)]
    with pytest.raises(BudgetError, match=r"raise judges\.nemotron\.budget and run the same command again"):
        list(judge(store, server, budget={"tokens": 1500}).judge(asked))
    bought = len(server.bodies)
    assert 50 < bought < 110  # a reward takes 18 tokens here, and what is set aside for the next one is not spent
    assert [each.score for each in judge(store, server).judge(asked)] == [2.5] * 110
    assert len(server.bodies) == 110


def test_money_is_limited_by_the_users_own_price_and_a_paid_address_wants_a_limit(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('date = "2026-11-01"\n[models]\n"some/reward" = { input = 1, output = 2 }\n')
    endpoint = {"base_url": "https://models.example.com/v1", "api_key_env": "NVIDIA_API_KEY", "max_retries": 0}
    server = FakeServer(rewarding)
    with pytest.raises(
        RecipeError, match=r"asking 'some/reward' costs money: say with judges\.nemotron\.budget\.tokens"
    ):
        judge(store, server, endpoint=endpoint).check()
    with pytest.raises(RecipeError, match=r"judges\.nemotron\.budget\.usd: no price for 'some/reward' is known"):
        judge(store, server, endpoint=endpoint, budget={"usd": 1}).check()
    settings = Nemotron.model_validate({"model": "some/reward", "endpoint": endpoint, "budget": {"usd": 1}})
    client = ChatClient(settings.endpoint, transport=server.transport, environ={"NVIDIA_API_KEY": KEY})
    who = NemotronJudge(settings, store, prices=str(own), client=client)
    who.check()
    assert [each.score for each in who.judge([exchange(1)])] == [2.5]
    with ReplyStore(store) as opened:
        assert opened.spent().nano_dollars == 7 * 1000 + 11 * 2000


def test_one_short_reply_is_scored_beforehand_each_time_and_its_answer_kept(store: Path) -> None:
    server = FakeServer(rewarding)
    who = judge(store, server)
    assert isinstance(who, AskedBeforehand) and not isinstance(Verifier(), AskedBeforehand)
    who.preflight()
    who.preflight()
    assert [len(body["messages"]) for body in server.bodies] == [2, 2]
    assert set(server.bodies[0]) == {"model", "messages"}
    with ReplyStore(store) as opened:
        assert opened.states() == {"done": 2}


@pytest.mark.parametrize("budget", [{}, {"tokens": 5000}])
def test_a_server_that_answers_in_prose_is_refused_as_no_reward_model(store: Path, budget: dict[str, int]) -> None:
    prose = FakeServer(lambda _: completion("That is correct!\nWell done.", tokens_out=900))
    who = judge(store, prose, budget=budget)
    with pytest.raises(TeacherError, match=r"'some/reward' at http://fake/v1 answered 'That is correct! Well done\.'"):
        who.preflight()
    cut = judge(store, FakeServer(lambda _: completion("Well, I", finish_reason="length")))
    with pytest.raises(TeacherError, match="that is no reward model, whose answer is `reward:NUMBER`"):
        cut.preflight()


@pytest.mark.parametrize(
    ("status", "words"), [(401, "key"), (403, "allow"), (404, "know"), (410, "retired"), (503, "no reward for a first")]
)
def test_a_server_that_is_no_use_is_said_beforehand_without_the_key(store: Path, status: int, words: str) -> None:
    who = judge(store, FakeServer(lambda _: error(status, KEY)))
    with pytest.raises(TeacherError, match=words) as caught:
        who.preflight()
    assert str(status) in str(caught.value) and KEY not in str(caught.value)


def test_all_stages_of_a_run_keep_a_judges_replies_in_one_file_and_a_stage_elsewhere_in_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert judge_store("nemotron", run / "mine") == run / "mine" / "replies.sqlite"
    (run / "recipe.toml").touch()
    kept = run / "judges" / "nemotron.sqlite"
    assert judge_store("nemotron", run / "mine") == judge_store("nemotron", run / "evaluate" / "sft") == kept
    assert judge_store("pairwise", run / "compare" / "base") == run / "judges" / "pairwise.sqlite"
    deep = run / "a" / "b" / "c"
    assert judge_store("nemotron", deep) == deep / "replies.sqlite"
