"""Evaluation: several replies a prompt, every turn of a conversation, and somebody else's responses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from street import student, write_lines
from tiny_models import tiny_model

from limbeck import seeds
from limbeck.errors import InputError
from limbeck.lm.generate import Sampling
from limbeck.lm.replies import ask
from limbeck.manifest import StageResult
from limbeck.recipe import Evaluate, Model, Recipe
from limbeck.records import Judgement, Problem, PromptRow, Reply, user_prompt
from limbeck.stages import evaluate
from limbeck.store import read_records, write_records
from limbeck.turns import continued

CPU = Model(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("evaluate") / "base")


def recipe(limits: Model = CPU, **settings: Any) -> Recipe:
    return Recipe(
        name="x", model=limits, evaluate=Evaluate(**({"judges": ("verifier",), "max_new_tokens": 8} | settings))
    )


def problem(n: int) -> Problem:
    answer = str(n + 2)
    known = {"family": "chain_sum", "metadata": {}, "content": f"{n}+2", "solution": f"#### {answer}"}
    return Problem(question=f"{n} + 2", answer=answer, **known)


def sums(count: int, *follow_ups: str) -> list[PromptRow]:
    said = [user_prompt(f"What is {n} plus 2?") for n in range(count)]
    return [
        PromptRow(id=f"p{n}", prompt=prompt, source="own", problem=problem(n), follow_ups=follow_ups)
        for n, prompt in enumerate(said)
    ]


def run(base: Path, out: Path, rows: Sequence[PromptRow], recipe_: Recipe, **more: Path) -> StageResult:
    out.mkdir(parents=True, exist_ok=True)
    write_records(out.parent / "test.jsonl", rows)
    model = "against" if "responses" in more else "sft"
    inputs = {"test": out.parent / "test.jsonl", **({} if more else {"model": base}), **more}
    return evaluate.run(recipe_, inputs, out, model)


def replies(out: Path) -> dict[tuple[str, int], Reply]:
    return {(reply.prompt_id, reply.sample_index): reply for reply in read_records(out / "replies.jsonl", Reply)}


def test_each_prompt_gets_so_many_replies_and_judges_see_all_of_them(base: Path, tmp_path: Path) -> None:
    result = run(base, tmp_path / "out", sums(3), recipe(samples_per_prompt=3, temperature=1.0))
    found = replies(tmp_path / "out")
    assert list(found) == [(f"p{n}", index) for n in range(3) for index in range(3)]
    assert len({reply.text for reply in found.values()}) > 3
    judged = read_records(tmp_path / "out" / "judgements_verifier.jsonl", Judgement)
    assert [(j.prompt_id, j.sample_index) for j in judged] == list(found)
    assert result.counts_out == {"replies": 9}


def test_several_equal_replies_are_not_asked_for() -> None:
    with pytest.raises(
        ValidationError, match="samples_per_prompt is 2, and at temperature 0 all replies to a prompt are"
    ):
        Evaluate(samples_per_prompt=2)


def test_a_later_turn_answers_the_conversation_with_the_models_own_reply(base: Path, tmp_path: Path) -> None:
    rows = [*sums(2, "And why?", "In short?"), *sums(3)[2:]]
    run(base, tmp_path / "out", rows, recipe())
    found = replies(tmp_path / "out")
    assert [id_ for id_, _ in found] == [
        "p0", "p0/turn-2", "p0/turn-3", "p1", "p1/turn-2", "p1/turn-3", "p2",
    ]  # fmt: skip
    for row in rows[:2]:
        said = [found[row.id, 0].text, found[f"{row.id}/turn-2", 0].text]
        for turn, words in ((2, said[:1]), (3, said)):
            alone = PromptRow(id="alone", prompt=continued(row, words).prompt, source="x")
            path = tmp_path / f"{row.id}-{turn}.jsonl"
            (reply,) = ask(tiny_model(base), [alone], Sampling(max_new_tokens=8), CPU, path, "alone").replies
            assert found[f"{row.id}/turn-{turn}", 0].text == reply.text  # greedy: whatever its id
    assert not list((tmp_path / "out").glob(".replies*"))


def test_sample_i_goes_on_from_sample_i(base: Path, tmp_path: Path) -> None:
    (row,) = rows = sums(1, "And why?")
    settings = recipe(samples_per_prompt=2, temperature=1.0)
    run(base, tmp_path / "out", rows, settings)
    found = replies(tmp_path / "out")
    first, second = (found["p0", index].text for index in range(2))
    assert first != second
    for index, said in enumerate((first, second)):
        asked = continued(row, [said]).model_copy(update={"id": f"p0/turn-2/sample-{index}"})
        sampling = Sampling.of(settings.evaluate, seeds.derive(settings.seed, "evaluate"))
        path = tmp_path / f"{index}.jsonl"
        (reply,) = ask(tiny_model(base), [asked], sampling, CPU, path, "alone").replies
        assert found["p0/turn-2", index].text == reply.text


def test_a_conversation_that_outgrows_the_limit_ends_there_and_is_counted(base: Path, tmp_path: Path) -> None:
    limits = CPU.model_copy(update={"max_prompt_tokens": 60})
    result = run(base, tmp_path / "out", sums(2, "Why is that so, " * 8, "Then?"), recipe(limits))
    assert [id_ for id_, _ in replies(tmp_path / "out")] == ["p0", "p1"]
    assert result.drops == {"turn 2: prompt over 60 tokens": 2, "turn 3: no reply to the turn before": 2}


def test_the_verifier_judges_the_first_turn_alone(base: Path, tmp_path: Path) -> None:
    result = run(base, tmp_path / "out", sums(2, "And why?"), recipe())
    judged = {j.prompt_id: j for j in read_records(tmp_path / "out" / "judgements_verifier.jsonl", Judgement)}
    assert {id_ for id_, j in judged.items() if j.score is None} == {"p0/turn-2", "p1/turn-2"}
    assert result.drops == {"verifier: unscored": 2}


def test_what_an_interruption_left_of_a_later_turn_is_not_sampled_again(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path / "whole", sums(2, "And why?"), recipe())
    whole = (tmp_path / "whole" / "replies.jsonl").read_text()
    out = tmp_path / "out"
    out.mkdir()
    kept = replies(tmp_path / "whole")["p1/turn-2", 0].model_copy(
        update={"text": "kept", "prompt_id": "p1/turn-2/sample-0"}
    )
    write_records(out / ".replies_turn-2.jsonl", [kept])
    run(base, out, sums(2, "And why?"), recipe())
    found = replies(out)
    assert found["p1/turn-2", 0].text == "kept"
    assert found["p0/turn-2", 0].model_dump_json() in whole


def test_an_id_that_a_later_turn_would_have_is_refused(base: Path, tmp_path: Path) -> None:
    rows = [*sums(1, "And why?"), PromptRow(id="p0/turn-2", prompt=user_prompt("Hi"), source="own")]
    with pytest.raises(InputError, match="two prompt rows have the id 'p0/turn-2'"):
        run(base, tmp_path / "out", rows, recipe())


def test_given_responses_stand_in_a_models_place_and_are_judged(base: Path, tmp_path: Path) -> None:
    given = [
        {"prompt": "What is 1 plus 2?", "response": "#### 3"},
        {"prompt": "What is 0 plus 2?", "response": "#### 9"},
        {"prompt": "What is 1 plus 2?", "response": "#### 4"},
        {"prompt": "Who is it?", "response": "Me."},
    ]
    path = write_lines(tmp_path / "given.jsonl", given)
    result = run(base, tmp_path / "out", sums(3), recipe(), responses=path)
    judged = {j.prompt_id: j.solved for j in read_records(tmp_path / "out" / "judgements_verifier.jsonl", Judgement)}
    assert judged == {"p0": False, "p1": True}
    assert result.counts_in == {"prompts": 3, "responses": 4}
    assert result.drops == {
        "held-out prompt without a given response": 1,
        "another given response to the same prompt": 1,
        "given response to a prompt that is not held out": 1,
    }
    assert result.facts == {"ids_without_a_response": ["p2"], "lines_repeated": [3], "lines_extra": [4]}
    assert json.loads((tmp_path / "out" / "retention.json").read_text())["prompts"] == 0


def test_responses_to_other_prompts_altogether_are_an_error(base: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "given.jsonl", [{"prompt": "Who is it?", "response": "Me."}])
    with pytest.raises(InputError, match="none of its 1 prompts is one of the 3 held-out prompts"):
        run(base, tmp_path / "out", sums(3), recipe(), responses=path)
    assert not (tmp_path / "out" / "replies.jsonl").exists()
