"""Fields of one's own in every request (`extra` of an endpoint): what may be one, where it goes, what it decides."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.api import ChatClient, ReplyStore
from limbeck.api.fake_judge import FakeJudge, first_wins
from limbeck.api.fake_server import FakeServer, completion
from limbeck.errors import RecipeError
from limbeck.judges import Matchup, make_judge, make_pairwise
from limbeck.pipeline import units
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, parse_recipe, write_recipe
from limbeck.records import PromptRow, Reply, user_prompt
from limbeck.teachers import OpenAITeacher, ask
from limbeck.teachers.rendering import zero_shot_request

EXTRA = {"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False}, "stop_token_ids": [1, 2]}
ROW = PromptRow(id="1", prompt=user_prompt("What is 2?"), source="s")


def recipe(extra: Any, section: str = "teach", **more: Any) -> Recipe:
    server = {"endpoint": {"base_url": "http://fake/v1", "max_retries": 0, "extra": extra}}
    sections = {
        "teach": {"teach": {"teacher": "openai:m", **server, **more}},
        "nemotron": {"judges": {"nemotron": server}},
        "pairwise": {"judges": {"pairwise": {"model": "openai:m", **server}}},
    }
    rest = {"corpus": {"tasks": {}}, "arms": {"a": {"zero_shot": 8}},
            "evaluate": {"judges": ["verifier", "nemotron", "pairwise"]}}  # fmt: skip
    return parse_recipe({"name": "r", **rest, **sections[section]}, where="r.toml")


def reply(text: str) -> Reply:
    return Reply(prompt_id="1", text=text, finish_reason="stop", num_tokens=1)


@pytest.mark.parametrize("name", ["model", "messages", "temperature", "max_tokens", "max_completion_tokens", "n",
                                  "response_format", "stream", "tools", "tool_choice", "functions", "function_call",
                                  "modalities", "audio", "models", "plugins", "service_tier", "web_search_options",
                                  "search_parameters", "enable_search", "web_search", "route", "fallbacks", "prompt",
                                  "input", "echo", "extra_headers", "extra_body", "extra_query",
                                  "Service-Tier", "maxTokens", "TOOLS", "webSearch", "extra-Body"])  # fmt: skip
def test_a_field_that_limbeck_decides_itself_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"^r\.toml: teach\.endpoint\.extra: must not name '{name}', which limbeck"):
        recipe({"top_p": 0.9, name: 1})


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"api_key": "topsecret"}, "api_key"),
        ({"headers": {"Authorization": "topsecret"}}, "Authorization"),
        ({"x": [{"hf_token": "fine"}, {"access_token": "topsecret"}]}, "access_token"),
        *(
            ({"headers": [{name: "topsecret"}]}, name)
            for name in (
                "api-key",
                "x-api-key",
                "apiKey",
                "access_key",
                "X-Private-Key",
                "Ocp-Apim-Subscription-Key",
                "AWS_SECRET_ACCESS_KEY",
                "client_secret",
                "session-token",
                "Credentials",
                "api_keys",
                "KEY",
            )
        ),
        ({"user": "sk-proj-topsecret-0123"}, "user"),
        ({"user": ["Bearer topsecret"]}, "user"),
    ],
)
def test_what_looks_like_a_key_is_refused_unseen(extra: dict[str, Any], name: str) -> None:
    with pytest.raises(RecipeError, match=f"extra: holds in '{name}' what looks like a key: put it") as caught:
        recipe(extra)
    assert "topsecret" not in str(caught.value)


NONE_SENT = (
    r"\.extra has fields for requests to a server, and 'local:x' runs on this machine, without one; leave it out"
)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"teach": {"teacher": "local:x", "endpoint": {"extra": EXTRA}}}, "teach: endpoint"),
        ({"teach": {"contrast_with": "local:x", "contrast_endpoint": {"extra": EXTRA}}}, "teach: contrast_endpoint"),
        ({"teach": {"contrast_with": "local:x", "endpoint": {"extra": EXTRA}}}, "teach: endpoint"),
        ({"judges": {"pairwise": {"model": "local:x", "endpoint": {"extra": EXTRA}}}}, r"judges\.pairwise: endpoint"),
    ],
)
def test_fields_that_nobody_is_sent_are_refused(sections: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError, match=rf"^r\.toml: {field}{NONE_SENT}"):
        parse_recipe({"name": "r", "arms": {"a": {"contrast": 8}}, "corpus": {"tasks": {}}, **sections}, where="r.toml")


def test_fields_for_the_one_of_two_teachers_that_has_a_server_are_taken() -> None:
    for one, other in (("openai:m", "local:x"), ("local:x", "openai:m")):
        settings = {"teacher": one, "contrast_with": other, "endpoint": {"extra": EXTRA}}
        assert parse_recipe({"name": "r", "teach": settings}, where="r.toml").teach.endpoint.extra == EXTRA


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(RecipeError, match=r"teach\.endpoint\.extra\.top_p"):
        recipe({"top_p": value})


def test_a_written_recipe_keeps_them_and_an_override_adds_one(tmp_path: Path) -> None:
    fields = EXTRA | {"prompt_cache_key": "mine", "min_tokens": 1, "eos_token": "</s>", "provider": {"sort": "price"}}
    write_recipe(tmp_path / "r.toml", recipe(fields))
    assert load_recipe(tmp_path / "r.toml") == recipe(fields)
    more = load_recipe(tmp_path / "r.toml", ("teach.endpoint.extra.reasoning_effort=low",))
    assert more.teach.endpoint.extra == fields | {"reasoning_effort": "low"}


def teacher(extra: dict[str, Any], server: FakeServer) -> OpenAITeacher:
    settings = recipe(extra).teach
    return OpenAITeacher("m", settings, ChatClient(settings.endpoint, transport=server.transport, environ={}))


def test_a_teacher_sends_them_and_a_reply_to_others_is_another(tmp_path: Path) -> None:
    server, request = FakeServer(lambda _: completion("{}")), zero_shot_request(ROW)
    with ReplyStore(tmp_path / "r.sqlite") as store:
        keys = [ask(teacher(extra, server), [request], store)[0].key for extra in (EXTRA, {}, EXTRA, {"top_p": 0.8})]
    assert (len(set(keys)), keys[0], len(server.bodies)) == (3, keys[2], 3)
    assert server.bodies[0] == server.bodies[1] | EXTRA
    assert server.bodies[0]["temperature"] == 0.7


def test_a_request_in_a_batch_has_them_too() -> None:
    batching = OpenAITeacher("m", recipe(EXTRA, batch=True).teach).batching()
    assert batching is not None
    body = batching.request(zero_shot_request(ROW)).body()
    assert {name: body[name] for name in EXTRA} == EXTRA


def test_judges_send_them_and_a_verdict_or_reward_to_others_is_another(tmp_path: Path) -> None:
    fake = FakeServer(lambda body: completion("reward:1.5") if len(body["messages"]) == 2 else completion("no"))
    pairs = FakeServer(FakeJudge(first_wins))
    for extra in (EXTRA, {}, EXTRA):
        asked = recipe(extra, "nemotron")
        client = ChatClient(asked.judges.nemotron.endpoint, transport=fake.transport, environ={})
        judge = make_judge("nemotron", asked, tmp_path / "n.sqlite", client=client)
        assert [found.score for found in judge.judge([(ROW, reply("4"))])] == [1.5]
        asked = recipe(extra, "pairwise")
        client = ChatClient(asked.judges.pairwise.endpoint, transport=pairs.transport, environ={})
        pairwise = make_pairwise(asked, tmp_path / "p.sqlite", client=client)
        assert len(list(pairwise.compare([Matchup(ROW, reply("4"), reply("5"))]))) == 1
    assert fake.bodies[0] == fake.bodies[1] | EXTRA
    assert pairs.bodies[0] == pairs.bodies[2] | EXTRA
    assert (len(fake.bodies), len(pairs.bodies)) == (2, 4)


@pytest.mark.parametrize(
    ("section", "stage"), [("teach", "teach"), ("nemotron", "evaluate/a"), ("pairwise", "compare")]
)
def test_other_fields_make_what_was_asked_with_them_stale(section: str, stage: str) -> None:
    before, after = (units(recipe(extra, section), Path("/base")) for extra in ({}, {"top_p": 0.9}))
    changed = {old.name for old, new in zip(before, after, strict=True) if old.part != new.part}
    assert any(name.startswith(stage) for name in changed)
    assert "sft" not in changed
