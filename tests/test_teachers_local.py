"""A model on this machine as teacher: what it is asked, what is kept, what a failure looks like."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CHATML, tiny_folder, tiny_model, tiny_tokenizer

from limbeck import pipeline, teachers
from limbeck.api import Answered, Failed, ReplyStore
from limbeck.api.json_replies import ParseFailure
from limbeck.errors import LimbeckError, ModelError
from limbeck.recipe import Model, Recipe
from limbeck.recipe.pairs import Structured, Teach
from limbeck.records import Message, PromptRow, WeakPrompt, system_folded, user_prompt
from limbeck.teachers import LocalTeacher, NewPromptRow, Replied, Request, ask
from limbeck.teachers.parsing import ParsedPair, parse_pair, parse_prompt
from limbeck.teachers.rendering import new_prompt_request, zero_shot_request
from limbeck.teachers.schemas import bounded_schema

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
MUTE_SYSTEM = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
MACHINE = Model(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide(tmp_path_factory.mktemp("teacher"))


def wide(folder: Path, **config: Any) -> Path:
    """A tiny model with room for the templates."""
    return tiny_folder(folder, **({"head_dim": 16, "max_position_embeddings": 4096} | config))


def teacher(folder: Path, *, max_tokens: int = 60, seed: int = 1, structured: Structured = "auto") -> LocalTeacher:
    return LocalTeacher(str(folder), Teach(max_tokens=max_tokens, structured=structured), MACHINE, seed)


def row(number: int) -> PromptRow:
    return PromptRow(id=str(number), prompt=user_prompt(f"What is {number}?"), source="s")


def requests(number: int) -> list[Request]:
    weak = NewPromptRow(id="n", weak=(WeakPrompt(**row(0).model_dump(), failures=("no",)),))
    return [*(zero_shot_request(row(n)) for n in range(number)), *(new_prompt_request(weak, n) for n in range(number))]


def asked(who: LocalTeacher, what: list[Request], store: Path) -> list[Replied]:
    with ReplyStore(store) as opened:
        return ask(who, what, opened)


def test_every_reply_parses_or_was_cut_and_is_in_the_store(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "r.sqlite"
    whole = 0
    for seed in range(3):
        replies = asked(teacher(folder, seed=seed, max_tokens=300), requests(5), store)
        for request, reply in zip(requests(5), replies, strict=True):
            answer = reply.answer
            if isinstance(answer, Failed):
                assert (answer.reason, answer.tokens_out) == ("truncated", 300)
                continue
            whole += 1
            parsed = (parse_prompt if request.kind == "new_prompt" else parse_pair)(answer.text)
            assert isinstance(parsed, str | ParsedPair) or parsed in (
                ParseFailure("equal answers"),
                ParseFailure("empty answer"),
            )
    assert whole > 5
    with ReplyStore(store) as opened:
        assert opened.states() == {"done": 30}


def test_what_the_store_holds_is_not_written_again(folder: Path, tmp_path: Path) -> None:
    first = asked(teacher(folder), requests(3), tmp_path / "r.sqlite")
    second = teacher(folder)
    assert asked(second, requests(3), tmp_path / "r.sqlite") == first
    assert second.facts() == {}
    with ReplyStore(tmp_path / "r.sqlite") as opened:
        assert set(opened.times_sent().values()) == {1}


def test_a_reply_does_not_depend_on_what_else_is_asked(folder: Path, tmp_path: Path) -> None:
    together = asked(teacher(folder), requests(4), tmp_path / "a.sqlite")
    alone = asked(teacher(folder), requests(4)[2:3], tmp_path / "b.sqlite")
    assert alone == together[2:3]
    assert len({reply.answer.text for reply in together}) == len(together)


def test_seed_weights_template_temperature_and_schema_are_parts_of_the_key(folder: Path, tmp_path: Path) -> None:
    (request,) = requests(1)[:1]
    same = wide(tmp_path / "same")
    other = wide(tmp_path / "weights", initializer_range=0.3)
    spoken = wide(tmp_path / "template")
    (spoken / "chat_template.jinja").write_text(MUTE_SYSTEM, encoding="utf-8")
    identity = teacher(folder).identity(request)
    assert teacher(same).identity(request) == identity
    for changed in (
        teacher(folder, seed=2),
        teacher(folder, max_tokens=61),
        teacher(folder, structured="off"),
        teacher(folder, structured="json_object"),
        teacher(other),
        teacher(spoken),
    ):
        assert changed.identity(request) != identity


def test_without_a_schema_the_model_says_what_it_likes(folder: Path, tmp_path: Path) -> None:
    replies = asked(teacher(folder, structured="off"), requests(4), tmp_path / "r.sqlite")
    assert not any(reply.answer.text.startswith("{") for reply in replies)
    objects = asked(teacher(folder, structured="json_object"), requests(4), tmp_path / "o.sqlite")
    assert all(reply.answer.text.startswith("{") for reply in objects)
    assert any(
        isinstance(json.loads(reply.answer.text), dict) for reply in objects if isinstance(reply.answer, Answered)
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, MUTE_SYSTEM])
def test_where_a_template_has_no_system_turn_its_words_stand_in_the_users(template: str, tmp_path: Path) -> None:
    folder = wide(tmp_path)
    model = tiny_model(folder)
    assert model.chat.shows_system
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = tiny_model(folder)
    assert not model.chat.shows_system
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="Why?"))
    text = model.chat.tokenizer.decode(model.chat.prompt_ids(system_folded(turns)))
    assert "user\nBe brief.\n\nWhy?<|im_end|>" in text
    replies = asked(teacher(folder), requests(1), tmp_path / "r.sqlite")
    assert all(reply.answer.tokens_in > 300 for reply in replies)


def test_a_prompt_beyond_the_context_is_a_failure_of_its_own_and_one_near_its_end_is_cut(tmp_path: Path) -> None:
    tokens = len(tiny_tokenizer().encode("".join(message.content for message in requests(1)[0].messages)))
    small = wide(tmp_path / "small", max_position_embeddings=tokens // 2)
    (reply, _) = asked(teacher(small), requests(1), tmp_path / "r.sqlite")
    assert isinstance(reply.answer, Failed)
    assert reply.answer.reason == "bad_request"
    assert f"no room in the {tokens // 2} of" in reply.answer.detail
    tight = wide(tmp_path / "tight", max_position_embeddings=tokens + 40)
    answer = asked(teacher(tight, max_tokens=500), requests(1)[:1], tmp_path / "r.sqlite")[0].answer
    assert answer.tokens_in + answer.tokens_out <= tokens + 40


def test_logits_that_are_no_numbers_end_the_run_in_one_sentence_and_what_was_in_flight_can_be_asked_again(
    tmp_path: Path,
) -> None:
    folder = wide(tmp_path / "broken")
    broken = tiny_model(folder)
    with torch.no_grad():
        broken.decoder.layers[1].mlp.down_proj.weight[3] = float("nan")
    # The probe of a loading model would refuse it: the fault comes later.
    who = teacher(folder)
    who._engine._model = broken
    with pytest.raises(ModelError, match="no numbers"):
        asked(who, requests(3), tmp_path / "r.sqlite")
    with ReplyStore(tmp_path / "r.sqlite") as opened:
        assert opened.states() == {"sent": 6}
    assert len(asked(teacher(folder), requests(3), tmp_path / "r.sqlite")) == 6


# A model with random weights soon ends a reply; of so many, some are in flight whenever the run is interrupted.
_LONG = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background has it ignored
from pathlib import Path
from test_teachers_local import asked, requests, teacher
asked(teacher(Path(sys.argv[1]), max_tokens=3000, structured="off"), requests(500), Path(sys.argv[2]))
"""


def test_an_interrupt_ends_the_run_and_its_thread_at_once(tmp_path: Path) -> None:
    folder, store = wide(tmp_path / "endless", variant="base_eos"), tmp_path / "r.sqlite"
    command = [sys.executable, "-c", _LONG, str(folder), str(store)]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if store.exists():
                with ReplyStore(store) as opened:
                    if opened.states().get("sent"):
                        break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    with ReplyStore(store) as opened:
        assert opened.states()["sent"] > 0


def test_a_teacher_that_is_not_there_or_cannot_talk_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    mute = tiny_folder(tmp_path / "mute", variant="no_template")
    for name, sentence in {
        str(tmp_path): "without config.json",
        "nobody": "no model 'nobody'",
        str(mute): "chat templ",
    }.items():
        with pytest.raises(LimbeckError, match=sentence):
            LocalTeacher(name, Teach(), MACHINE, 1).check()
    teacher(wide(tmp_path / "good")).check()


def test_the_recipe_names_a_local_teacher(folder: Path) -> None:
    recipe = Recipe.model_validate({"name": "r", "teach": {"teacher": f"local:{folder}"}})
    chosen = teachers.teacher_for(recipe)
    assert isinstance(chosen, LocalTeacher)
    assert (chosen.name, chosen.invents_prompts) == (f"local:{folder.name}", True)


@pytest.mark.parametrize("model", ["/home/me/models/mine", "~/mine/", "models/of/mine", "./mine"])
def test_where_a_teacher_lies_on_this_machine_is_not_in_its_name(model: str) -> None:
    assert LocalTeacher(model, Teach(), MACHINE, 1).name == "local:mine"


def test_a_teacher_known_by_its_name_keeps_it() -> None:
    names = ["smollm2-135m", "Qwen/Qwen2.5-0.5B"]
    assert [LocalTeacher(name, Teach(), MACHINE, 1).name for name in names] == [f"local:{name}" for name in names]


def test_teaching_reads_a_teacher_that_lies_here_so_that_another_in_its_place_makes_it_stale(folder: Path) -> None:
    def inputs(teacher: str) -> set[Path]:
        value = {"name": "r", "corpus": {"tasks": {}}, "arms": {"a": {"zero_shot": 1}}, "teach": {"teacher": teacher}}
        (unit,) = [u for u in pipeline.units(Recipe.model_validate(value), Path("base")) if u.name == "teach"]
        return {path for name, path in unit.inputs.items() if name == "teacher"}

    assert inputs(f"local:{folder}") == {folder.resolve()}
    assert inputs("local:smollm2-135m") == inputs("worked") == set()


def test_schemas_say_what_parsing_reads() -> None:
    pair, prompt = bounded_schema("zero_shot"), bounded_schema("new_prompt")
    assert pair is not None and prompt is not None
    assert pair == bounded_schema("few_shot")
    assert (pair["required"], prompt["required"]) == (["preferred", "dispreferred"], ["prompt"])
    assert not isinstance(parse_pair(json.dumps({key: key for key in pair["properties"]})), ParseFailure)
    assert not isinstance(parse_prompt(json.dumps({key: key for key in prompt["properties"]})), ParseFailure)
