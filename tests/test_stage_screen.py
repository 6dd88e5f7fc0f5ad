"""Screening: every reason by an example that only just earns it, and one beside it that does not."""

from pathlib import Path
from typing import Any

import pytest
from screening_pairs import PROBLEM, held, pair, says_four
from tiny_models import tiny_encoder

from limbeck import pipeline, tasks
from limbeck.errors import InputError, RecipeError
from limbeck.likeness import EvaluationPrompts
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Screen
from limbeck.records import Message, Pair, PromptRow, user_prompt
from limbeck.screening import HeldOut, Screening, reason_to_drop
from limbeck.stages import screen
from limbeck.store import read_records, write_records

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def reason(candidate: Pair, *held_out: PromptRow, **rules: Any) -> str | None:
    return reason_to_drop(candidate, EvaluationPrompts(held_out), Screen(**rules), says_four)


def test_a_good_pair_is_kept() -> None:
    assert reason(pair()) is None
    assert reason(pair(problem=PROBLEM, chosen="so #### 4", rejected="so #### 5")) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"chosen": " \n"}, "too short (chosen)"),
        ({"rejected": ""}, "too short (rejected)"),
        ({"chosen": " It  just\nis so."}, "equal answers"),
        ({"chosen": "x" * 281}, "length ratio"),
        ({"chosen": "I'm sorry, but I can’t help with that."}, "refusal (chosen)"),
        ({"chosen": "As an AI language model, I cannot feel."}, "refusal (chosen)"),
        ({"chosen": "I am unable to assist with this request."}, "refusal (chosen)"),
        ({"chosen": "I'm sorry, but as an AI I cannot discuss the weather."}, "refusal (chosen)"),
        ({"chosen": "I'm not able to assist with that."}, "refusal (chosen)"),
        ({"chosen": "Sorry. I can't do that."}, "refusal (chosen)"),
        ({"chosen": "I'm sorry to hear that you are upset, but I'm unable to help with this."}, "refusal (chosen)"),
        ({"chosen": "As an AI, I can't provide this, but you may ask a friend."}, "refusal (chosen)"),
        ({"chosen": "I can't continue with this conversation."}, "refusal (chosen)"),
        ({"chosen": "why is the sky  blue today? Because."}, "prompt echo (chosen)"),
        ({"rejected": "Why is the sky blue today? And tomorrow?"}, "prompt echo (rejected)"),
        ({"problem": PROBLEM, "chosen": "#### 5", "rejected": "#### 6"}, "verifier: the chosen is wrong"),
        ({"problem": PROBLEM, "chosen": "so #### 4", "rejected": "#### 4"}, "verifier: the rejected is right"),
    ],
)
def test_a_fault_is_named(changes: dict[str, Any], why: str) -> None:
    assert reason(pair(**changes)) == why


@pytest.mark.parametrize(
    "changes",
    [
        {"chosen": "x" * 280},
        {"chosen": "I'm sorry to hear that you can't sleep. Try tea."},
        {"chosen": "The premise is wrong: I cannot see a blue sky at night."},
        {"chosen": "I can't help but notice the scattering."},
        {"chosen": "Sorry, I made an error: we cannot divide 7 by 2 without a rest. The answer is 3.5."},
        {"chosen": "Sorry, I made an error, we cannot divide 7 by 2 without a rest. The answer is 3.5."},
        {"chosen": "I can't continue to the next step until 12 / 4 = 3 is done. Then 3 + 1 = 4."},
        {"chosen": "As a language model I cannot taste, but here is a recipe: boil the rice, then add salt."},
        {"rejected": "I'm sorry, but I can't help with that."},
        {"chosen": "It just IS so."},
        {"chosen": "2² = 4, as asked.", "rejected": "22 = 4, as asked."},
        {"prompt": user_prompt("Hello there!"), "chosen": "Hello there! What a day."},
        {"source": "on_policy", "rejected": "Why is the sky blue today? And tomorrow?"},
    ],
)
def test_what_only_looks_like_a_fault_is_kept(changes: dict[str, Any]) -> None:
    assert reason(pair(**changes)) is None


def test_the_first_reason_wins() -> None:
    everything = pair(problem=PROBLEM, chosen="I'm sorry, I can't help.", rejected="I'm sorry,  I can't help.")
    assert reason(everything, held("Why is the sky blue today?")) == "equal answers"


def test_tasks_are_compared_with_the_evaluation_by_content_and_not_by_their_wording() -> None:
    wording = f"{LONG} What is 2+2?"
    candidate = pair(prompt=user_prompt(wording), problem=PROBLEM, chosen="so #### 4")
    other = PROBLEM.model_copy(update={"content": "3+3"})
    assert reason(candidate, held("quite another text", PROBLEM)) == "overlap with evaluation: same problem"
    assert reason(candidate, held(f"{LONG} What is 3+3?", other)) is None
    assert reason(pair(prompt=user_prompt(wording)), held(f"{LONG} What is 3+3?", other)) is None


def test_free_text_overlaps_by_its_whole_or_by_thirteen_words_in_a_row() -> None:
    assert reason(pair(), held("why is the SKY  blue today?")) == "overlap with evaluation: same prompt"
    thirteen, twelve = " ".join(LONG.split()[:13]), " ".join(LONG.split()[:12])
    assert reason(pair(prompt=user_prompt(f"{thirteen} x")), held(f"y, {LONG}")) is not None
    assert reason(pair(prompt=user_prompt(f"{twelve} x")), held(f"y, {LONG}")) is None


def test_a_system_turn_does_not_hide_an_evaluation_prompt() -> None:
    prompt = (Message(role="system", content="Be brief."), *user_prompt("Why is the sky blue today?"))
    assert reason(pair(prompt=prompt), held("Why is the sky blue today?")) == "overlap with evaluation: same prompt"


def test_a_duplicate_gives_way_to_the_first_good_pair_not_to_a_dropped_one() -> None:
    rows = [pair(id="bad", chosen=""), pair(id="good"), pair(id="second")]
    screening = Screening(Screen(), HeldOut(EvaluationPrompts([]), Screen()), says_four)
    assert list(map(screening.reason, rows)) == ["too short (chosen)", None, "duplicate prompt"]


def test_disagreement_is_kept_where_the_recipe_says_so() -> None:
    assert reason(pair(problem=PROBLEM, chosen="#### 5"), on_verifier_disagreement="keep") is None


def test_kept_and_dropped_add_up_in_files_and_in_the_result(tmp_path: Path) -> None:
    row = tasks.draw_splits({"pool": 1, "test": 1}, seed=1)
    task, test = row["pool"][0], row["test"][0]
    assert task.problem is not None
    right, wrong = task.problem.solution, "I guess.\n#### no"
    base = {"prompt": task.prompt, "problem": task.problem, "source": "zero_shot"}
    leak = {"prompt": test.prompt, "problem": test.problem, "source": "zero_shot"}
    rows = [
        Pair.model_validate({**base, "id": "a", "chosen": wrong, "rejected": right}),
        Pair.model_validate({**base, "id": "b", "chosen": right, "rejected": wrong}),
        Pair.model_validate({**leak, "id": "c", "chosen": "yes it is", "rejected": "no it is not"}),
    ]
    names = ("zero_shot", "human", "evaluation_test", "evaluation_chat_heldout")
    inputs = {name: tmp_path / f"{name}.in" for name in names}
    write_records(inputs["zero_shot"], rows)
    write_records(inputs["human"], [pair(id="h"), pair(id="i", prompt=user_prompt("How are you?"))])
    write_records(inputs["evaluation_chat_heldout"], [held("how are YOU?")])
    write_records(inputs["evaluation_test"], [test])
    recipe = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}})
    result = screen.run(recipe, inputs, tmp_path / "out")
    dropped = read_records(tmp_path / "out" / "dropped.jsonl", screen.DroppedPair)
    assert [kept.id for kept in read_records(tmp_path / "out" / "zero_shot.jsonl", Pair)] == ["b"]
    assert [kept.id for kept in read_records(tmp_path / "out" / "human.jsonl", Pair)] == ["h"]
    assert [(drop.id, drop.kind, drop.reason) for drop in dropped] == [
        ("a", "zero_shot", "verifier: the chosen is wrong"),
        ("c", "zero_shot", "overlap with evaluation: same problem"),
        ("i", "human", "overlap with evaluation: same prompt"),
    ]
    assert (result.counts_in, result.counts_out) == ({"zero_shot": 3, "human": 2}, {"zero_shot": 1, "human": 1})
    assert sum(result.drops.values()) == 3


def test_swaps_and_pairs_without_a_margin_are_counted_by_kind_and_swaps_marked_in_the_file(tmp_path: Path) -> None:
    task = tasks.draw_splits({"pool": 1}, seed=1)["pool"][0]
    assert task.problem is not None
    wrong, right = "I guess.\n#### no", task.problem.solution
    row = Pair.model_validate({**pair().model_dump(), "prompt": task.prompt, "problem": task.problem})
    files = {
        "zero_shot": [row.model_copy(update={"chosen": wrong, "rejected": right})],
        "revise": [
            row.model_copy(update={"chosen": right, "rejected": wrong, "scores": {"margin": 9.0}}),
            pair(id="q"),
        ],
    }
    for kind, rows in files.items():
        write_records(tmp_path / kind, rows)
    settings = {"on_verifier_disagreement": "swap", "margin_band": [0, 2]}
    recipe = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "screen": settings})
    result = screen.run(recipe, {kind: tmp_path / kind for kind in files}, tmp_path / "out")
    (kept,) = read_records(tmp_path / "out" / "zero_shot.jsonl", Pair)
    assert (kept.swapped, kept.chosen, kept.rejected) == (True, right, wrong)
    assert result.drops == {"revise: margin too large": 1}
    assert result.facts["swapped"] == {"zero_shot": 1, "revise": 0}
    assert result.facts["kept_without_margin"] == {"zero_shot": 1, "revise": 1}


def test_a_named_encoder_is_loaded_and_an_absent_one_refused(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "encoder")
    # To random weights nearly everything is alike, so the second prompt is the first one's near-duplicate.
    rows = [pair(id="a"), pair(id="b", prompt=user_prompt("How do planes fly?"))]
    write_records(tmp_path / "pairs", [row.model_copy(update={"source": "few_shot"}) for row in rows])
    data: dict[str, Any] = {"name": "r", "corpus": {"tasks": {}}}
    inputs = {"few_shot": tmp_path / "pairs", "embedder": encoder}
    recipe = Recipe.model_validate({**data, "screen": {"embedder": str(encoder), "max_prompt_cosine": 0.01}})
    assert screen.run(recipe, inputs, tmp_path / "out").drops == {"few_shot: near-duplicate prompt: meaning": 1}
    absent = Recipe.model_validate({**data, "screen": {"embedder": str(tmp_path / "absent")}})
    with pytest.raises(RecipeError, match="sentence encoder"):
        screen.run(absent, {"zero_shot": tmp_path / "pairs"}, tmp_path / "out2")


def test_a_run_checks_its_encoder_before_anything_is_spent_and_that_folder_is_an_input(tmp_path: Path) -> None:
    data: dict[str, Any] = {"name": "r", "corpus": {"tasks": {}}, "arms": {"a": {"random": 8}}}
    plain = Recipe.model_validate(data)
    named = Recipe.model_validate({**data, "screen": {"embedder": str(tmp_path / "absent")}})
    pipeline.check(plain)
    with pytest.raises(RecipeError, match=r"screen\.embedder"):
        pipeline.check(named)
    inputs = {
        recipe.screen.embedder: next(unit for unit in pipeline.units(recipe, tmp_path) if unit.name == "screen").inputs
        for recipe in (plain, named)
    }
    assert "embedder" not in inputs["none"]
    assert inputs[str(tmp_path / "absent")]["embedder"] == tmp_path / "absent"


def test_a_teacher_that_repeats_the_users_own_template_is_found_and_that_folder_is_an_input(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    sentence = "Write as a gardener would who has all afternoon to explain how things grow."
    system = f'{sentence} Reply in JSON with the keys "preferred" and "dispreferred".'
    (own / "zero_shot.txt").write_text(
        f"=== system ===\n{system}\n=== user ===\n<task_text>{{{{prompt}}}}</task_text>\n"
    )
    rows = [
        pair(id="a", chosen=sentence),
        pair(id="b", chosen="<task_text>Because.", prompt=user_prompt("And at night?")),
    ]
    write_records(tmp_path / "pairs", rows)
    data: dict[str, Any] = {"name": "r", "corpus": {"tasks": {}}, "arms": {"a": {"random": 8}}}
    recipe = Recipe.model_validate({**data, "teach": {"templates": str(own)}})
    inputs = {"zero_shot": tmp_path / "pairs", "templates": own}
    assert screen.run(recipe, inputs, tmp_path / "out").drops == {"zero_shot: template echo (chosen)": 2}
    without = screen.run(recipe, {"zero_shot": tmp_path / "pairs"}, tmp_path / "out2")
    assert (without.drops, without.counts_in) == ({}, {"zero_shot": 2})
    unit = next(unit for unit in pipeline.units(recipe, tmp_path) if unit.name == "screen")
    assert unit.inputs["templates"] == own
    (own / "zero_shot.txt").write_text("no turns")
    with pytest.raises(InputError, match=r"zero_shot\.txt"):
        screen.run(recipe, inputs, tmp_path / "out3")
