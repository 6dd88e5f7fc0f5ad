"""Who mines, by which rule, and whose pairs train a judge: what a recipe leaves out is chosen by what there is."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from limbeck import pipeline
from limbeck.errors import RecipeError
from limbeck.recipe import Recipe

TASKS = {"tasks": {"pool": 10, "test": 10}}
PROMPTS = {"prompts": [{"path": "p.jsonl"}]}
HUMAN = {"preferences": [{"path": "h.jsonl"}]}
JUDGING = {"judging": [{"path": "j.jsonl"}]}
OWN = {"demonstrations": [{"path": "d.jsonl"}], "evaluation": [{"path": "e.jsonl"}]}


def recipe(*corpora: dict[str, Any], arm: dict[str, int] | None = None, **sections: Any) -> Recipe:
    corpus = {name: rows for given in corpora for name, rows in given.items()}
    arms = {"a": arm or {"zero_shot": 40}}
    return Recipe.model_validate({"name": "x", "corpus": corpus, "arms": arms} | sections)


def named(model: str = "folder") -> dict[str, Any]:
    return {"local": {"model": model}}


@pytest.mark.parametrize(
    ("found", "mining", "models"),
    [
        (recipe(TASKS), ("failed", "verifier"), ()),
        (recipe(TASKS, PROMPTS, OWN), ("failed", "verifier"), ()),
        (recipe(OWN, PROMPTS), ("all", None), ("reward",)),
        (recipe(OWN, HUMAN), (None, "local"), ("reward", "reward_mine")),
        (recipe(OWN, PROMPTS, JUDGING), (None, "local"), ("reward", "reward_mine")),
        # The only judge of the result mines only where the recipe says so.
        (recipe(OWN, PROMPTS, judges=named()), ("all", None), ()),
        (recipe(OWN, HUMAN, judges=named()), ("all", None), ()),
        (recipe(OWN, PROMPTS, judges=named(), evaluate={"same_judge": True}), (None, "local"), ()),
        (recipe(OWN, PROMPTS, judges=named(), evaluate={"judges": ["nemotron"]}), (None, "local"), ()),
        (recipe(OWN, HUMAN, evaluate={"judges": ["nemotron"]}), (None, "local"), ("reward_mine",)),
        # What is said wins, and the other half follows from it.
        (recipe(OWN, HUMAN, mine={"rule": "all"}), ("all", None), ("reward",)),
        (recipe(OWN, HUMAN, mine={"rule": "gap"}), ("gap", "local"), ("reward", "reward_mine")),
        (recipe(OWN, PROMPTS, mine={"judge": "nemotron"}), (None, "nemotron"), ("reward",)),
        (recipe(TASKS, mine={"judge": "verifier"}), ("failed", "verifier"), ()),
        (recipe(OWN, HUMAN, arm={"human": 9}), ("failed", "verifier"), ("reward",)),  # nothing is mined
    ],
)
def test_what_is_left_out_follows_from_what_there_is(
    found: Recipe, mining: tuple[str | None, str | None], models: tuple[str, ...]
) -> None:
    assert found.mining() == mining
    assert found.reward_units() == models
    assert found.mined_alone() is (found.evaluate.same_judge)


@pytest.mark.parametrize(
    ("corpora", "mine", "words"),
    [
        ((OWN, PROMPTS), {"rule": "gap"}, "mine.rule 'gap' wants a reward model, and there is none before"),
        ((OWN, PROMPTS), {"judge": "local"}, "mine.judge 'local' wants a reward model, and there is none"),
        ((OWN, HUMAN), {"rule": "failed", "judge": "local"}, "mine.rule 'failed' goes with the judge 'verifier'"),
        ((OWN, HUMAN), {"rule": "all", "judge": "local"}, "mine.rule 'all' asks no judge, and mine.judge is 'local'"),
        ((OWN, HUMAN), {"judge": "pairwise"}, "'pairwise' compares two replies and scores none, so it cannot mine"),
        ((OWN, PROMPTS), {"weak_below_pass_rate": 0.5}, "goes with rule 'failed' only, and rule is 'all'"),
    ],
)
def test_what_cannot_mine_is_a_sentence(corpora: tuple[dict[str, Any], ...], mine: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        recipe(*corpora, mine=mine)
    assert words in str(refused.value)


def test_the_teacher_is_asked_for_the_judges_pairs_too_and_never_for_more_than_the_arms_get() -> None:
    many = recipe(OWN, PROMPTS, mix={"heldout_pairs": 5})
    assert many.accept("zero_shot") == 40 + 5 + 40
    few = recipe(OWN, PROMPTS, mix={"heldout_pairs": 5}, reward={"pairs": 12})
    assert few.accept("zero_shot") == 40 + 5 + 12
    # Kinds on the same prompts cost each other what is set aside of each, as they do what is held out.
    two = recipe(OWN, PROMPTS, arm={"zero_shot": 40, "revise": 6}, mix={"heldout_pairs": 5}, reward={"pairs": 20})
    assert (two.judging_pairs("zero_shot"), two.judging_pairs("revise")) == (10, 6)
    assert two.accept("zero_shot") == 40 + 2 * 5 + 10 + 6
    assert recipe(OWN, HUMAN).judging_pairs("zero_shot") == 0


def test_a_quota_that_leaves_the_judge_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"besides the 24 that are held out and the 40 that train the judge"):
        recipe(OWN, PROMPTS, teach={"accept": {"zero_shot": 70}})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            recipe(OWN, PROMPTS, arm={"random": 40, "rolling": 2}),
            "rolling pairs would be written along some",
        ),
        (
            Recipe.model_validate({"name": "x", "corpus": OWN}),
            "the judge 'local' is trained from preference pairs",
        ),
    ],
)
def test_a_judge_without_pairs_of_its_own_is_refused_before_anything_runs(found: Recipe, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        pipeline.check(found)


@pytest.mark.parametrize("kind", ["own", "divergence"])
def test_pairs_of_right_replies_are_refused_where_nobody_says_what_is_right(kind: str) -> None:
    with pytest.raises(RecipeError, match=f"an arm asks for {kind} pairs, .* only the verifier says what is right"):
        pipeline.check(recipe(OWN, JUDGING, arm={kind: 4}))


def test_divergence_pairs_that_could_never_be_made_are_refused_before_anything_runs() -> None:
    pool = {"tasks": {"pool": 100}}
    served = recipe(pool, arm={"divergence": 4}, servers={"sft": {"base_url": "http://x/v1", "model": "m"}})
    with pytest.raises(RecipeError, match=r"servers\.sft: divergence pairs need the built-in engine"):
        pipeline.check(served)
    with pytest.raises(RecipeError, match=r"branch\.max_new_tokens is 200, and a failing reply may have 1,024 tokens"):
        pipeline.check(recipe({"tasks": {"pool": 100}}, arm={"divergence": 4}, mine={"max_new_tokens": 1024}))
    pipeline.check(recipe({"tasks": {"pool": 100}}, arm={"divergence": 4}, mine={"max_new_tokens": 200}))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (recipe({"tasks": {"pool": 600}}, arm={"reference": 600}), r"600 reference pairs and 24 .*pool is 600"),
        (recipe({"tasks": {"fresh": 400}}, arm={"few_shot": 400}), r"400 few_shot pairs .*fresh is 400"),
        (recipe(OWN, JUDGING, PROMPTS, arm={"zero_shot": 40}), "'worked', which knows the solutions of problems alone"),
    ],
)  # fmt: skip
def test_arms_that_can_never_be_filled_are_refused_before_anything_runs(
    found: Recipe, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "Who?"}\n')
    with pytest.raises(RecipeError, match=words):
        pipeline.check(found)


def test_arms_that_may_be_filled_are_not_refused() -> None:
    for may in (
        recipe({"tasks": {"pool": 624}}, arm={"reference": 600}),
        recipe({"tasks": {"pool": 600}}, arm={"reference": 600}, mix={"take_fewer": True}),
        recipe({"tasks": {"pool": 600}}, PROMPTS, arm={"reference": 600}),  # prompts of the user's are mined too
        recipe({"tasks": {"fresh": 424}}, arm={"few_shot": 400}),
    ):
        pipeline.check(may)


def test_an_order_among_pairs_is_refused_where_an_sft_arm_has_nothing_to_mix_them_with() -> None:
    arm: dict[str, Any] = {"zero_shot": 10, "few_shot": 10, "trains": "sft", "mixing": "interleave"}
    with pytest.raises(ValidationError, match="mixing 'interleave' needs human pairs, or random ones"):
        recipe(TASKS, arm={**arm, "starts_from": "sft"})
    recipe(TASKS, arm=arm)  # from the base they join the demonstrations
