"""Mixing: a pure core under random demands, of both trainings, and the stage on files."""

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.likeness import prompt_identity
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm, Mixing, PairKind
from limbeck.records import Demonstration, Pair, user_prompt
from limbeck.stages import mix
from limbeck.store import read_records, write_records
from limbeck.stream import stream_order

KINDS: tuple[PairKind, ...] = get_args(PairKind)
Demand = dict[PairKind, list[Pair]]


def pairs(kind: PairKind, numbers: range, prompt: str = "") -> list[Pair]:
    return [
        Pair(id=f"{kind}/{n}", prompt=user_prompt(f"{prompt or kind} {n}"), source=kind, chosen="g", rejected="b")
        for n in numbers
    ]


def mixed(there: Demand, arm: Arm, heldout: int, seed: int = 1, name: str = "a") -> mix.Mixture[Pair]:
    return mix.Mixer(name, arm, heldout, seed).mix_pairs(there)


@st.composite
def demands(draw: st.DrawFn) -> tuple[Demand, Arm, int]:
    """Pairs whose prompts several kinds share, an arm that can be filled with them, how many of each are held out."""
    heldout = draw(st.integers(0, 4))
    mixing: Mixing = draw(st.sampled_from(get_args(Mixing)))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
    if mixing != "uniform":
        kinds = list(dict.fromkeys([draw(st.sampled_from(("human", "random"))), "zero_shot", *kinds]))
    if mixing == "interleave":  # where rolling pairs stand is looked at below, and in test_ground_stream.py
        kinds = [kind for kind in kinds if kind != "rolling"]
    counts: dict[str, Any] = {kind: draw(st.integers(1, 6)) for kind in kinds}
    most_held = heldout * len(kinds)
    there = {kind: pairs(kind, range(counts[kind] + most_held), "shared") for kind in kinds}
    share = draw(st.integers(1, 99)) / 100 if mixing == "ratio" else 0.5
    arm = Arm(**counts, mixing=mixing, synthetic_share=share)
    return there, arm, heldout


@given(demands(), st.integers(0, 99))
def test_counts_are_exact_and_no_prompt_is_on_both_sides(demand: tuple[Demand, Arm, int], seed: int) -> None:
    there, arm, heldout = demand
    mixture = mixed(there, arm, heldout, seed)
    counts = arm.counts()
    trained = [*mixture.first, *mixture.train]
    assert Counter(pair.source for pair in trained) == Counter(counts)
    assert Counter(pair.source for pair in mixture.validation) == Counter(dict.fromkeys(counts, heldout))
    assert len({pair.id for pair in trained}) == len(trained)
    held = {prompt_identity(pair) for pair in mixture.validation}
    assert held.isdisjoint(prompt_identity(pair) for pair in trained)
    assert mixture.drops == {}


@given(demands())
def test_the_order_of_a_file_decides_nothing(demand: tuple[Demand, Arm, int]) -> None:
    there, arm, heldout = demand
    backwards = {kind: rows[::-1] for kind, rows in there.items()}
    assert mixed(backwards, arm, heldout) == mixed(there, arm, heldout)


@given(demands())
def test_human_and_synthetic_pairs_come_as_the_mixing_says(demand: tuple[Demand, Arm, int]) -> None:
    there, arm, heldout = demand
    mixture = mixed(there, arm, heldout)
    sides = "".join("h" if pair.source == arm.stream_kind else "s" for pair in mixture.train)
    human, synthetic = sides.count("h"), sides.count("s")
    if arm.mixing == "append":
        assert sides == "h" * human + "s" * synthetic
    elif arm.mixing == "sequential":
        assert (human, {pair.source for pair in mixture.first}) == (0, {arm.stream_kind})
        assert [pair for pair in mixture.validation if pair.source == arm.stream_kind] == mixture.first_validation
    elif arm.mixing == "ratio":
        both = len(sides.rstrip(sides[-1]))  # where the rest of one side may begin
        for end in range(both):
            assert abs(sides[:end].count("s") - arm.synthetic_share * end) <= 0.5 + 1e-9
    elif arm.mixing == "interleave":
        both = min(human, synthetic)
        assert sides == "hs" * both + "h" * (human - both) + "s" * (synthetic - both)


def test_every_arm_holds_out_the_same_pairs_of_a_kind_and_another_seed_others() -> None:
    there: Demand = {"random": pairs("random", range(50)), "zero_shot": pairs("zero_shot", range(50))}
    one = mixed(there, Arm(random=20), 8)
    two = mixed(there, Arm(random=9, zero_shot=9, mixing="append"), 8, name="two")
    other = mixed(there, Arm(random=20), 8, seed=2)
    assert one.validation == two.validation[:8]
    assert {pair.id for pair in one.validation} != {pair.id for pair in other.validation}


def test_arms_that_differ_in_nothing_but_mixing_have_each_side_in_one_order() -> None:
    there: Demand = {"human": pairs("human", range(30)), "few_shot": pairs("few_shot", range(30))}
    settings = Arm(human=20, few_shot=9)
    found = {}
    for mixing in ("append", "ratio", "interleave", "sequential"):
        mixture = mixed(there, settings.model_copy(update={"mixing": mixing}), 4, name=mixing)
        rows = [*mixture.first, *mixture.train]
        found[mixing] = tuple(tuple(pair.id for pair in rows if pair.source == kind) for kind in ("human", "few_shot"))
    assert len(set(found.values())) == 1
    human = [pair.id for pair in stream_order(there["human"], 1)]
    assert list(found["append"][0]) == human[4:24]  # the order that a teacher writes rolling pairs along


def test_kinds_on_the_same_prompts_hold_the_same_prompts_out() -> None:
    there: Demand = {"zero_shot": pairs("zero_shot", range(40), "q"), "on_policy": pairs("on_policy", range(40), "q")}
    mixture = mixed(there, Arm(zero_shot=32, on_policy=32), 8)
    assert len({prompt_identity(pair) for pair in mixture.validation}) == 8


def test_every_part_of_the_stream_is_mixed_alike() -> None:
    there: Demand = {"human": pairs("human", range(2000)), "few_shot": pairs("few_shot", range(1000))}
    train = mixed(there, Arm(human=2000, few_shot=1000), 0).train
    for start in range(0, 3000, 300):
        human = sum(pair.source == "human" for pair in train[start : start + 300])
        # Hypergeometric: mean 200, standard deviation 7.7; four of them.
        assert abs(human - 200) < 31


@st.composite
def accepted(draw: st.DrawFn) -> tuple[Demand, Recipe]:
    """A recipe, and of each kind just as many pairs as it says screening must keep, on prompts that kinds share."""
    sharing = draw(st.booleans())
    kinds: list[PairKind] = draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
    arms = draw(st.lists(st.fixed_dictionaries({kind: st.integers(0, 5) for kind in kinds}), min_size=1, max_size=3))
    arms = [arm for arm in arms if any(arm.values())] or [dict.fromkeys(kinds, 1)]
    if {"human", "rolling"} <= set(kinds):  # rolling pairs go along one stream, so all arms have one of one kind
        arms = [arm | {"human": arm["human"] or 1} for arm in arms]
    found = Recipe.model_validate(
        {
            "name": "r",
            "corpus": {"preferences": [{"path": "p"}], "prompts": [] if sharing else [{"path": "q"}]},
            "arms": {f"a{number}": arm for number, arm in enumerate(arms)},
            "mix": {"heldout_pairs": draw(st.integers(0, 4))},
        }
    )
    there: Demand = {}
    for kind in found.pair_kinds():
        # Along the order in which pairs are held out, each kind begins elsewhere: they hold out each other's prompts.
        begin, number = draw(st.integers(0, 12)), 50 if kind == "human" else found.accept(kind)
        prompts = "new" if kind in ("few_shot", "rolling") else "mined" if kind != "human" or sharing else "human"
        there[kind] = stream_order(pairs(kind, range(100), prompts), 1)[begin : begin + number]
    return there, found


@given(accepted())
def test_what_the_recipe_says_must_be_kept_fills_every_arm_whatever_prompts_kinds_share(
    case: tuple[Demand, Recipe],
) -> None:
    there, found = case
    for name, arm in found.arms.items():
        mixture = mixed(there, arm, found.mix.heldout_pairs, name=name)
        assert Counter(pair.source for pair in mixture.train) == Counter(arm.counts())


# Arms that train by SFT


def demonstrations(numbers: range, name: str = "demo", prompt: str = "") -> list[Demonstration]:
    return [
        Demonstration(id=f"{name}/{n}", prompt=user_prompt(f"{prompt or name} {n}"), source=name, response=f"r{n}")
        for n in numbers
    ]


def taught(there: Demand, own: mix.Demonstrations, arm: Arm, heldout: int = 1) -> mix.Mixture[Demonstration]:
    return mix.Mixer("a", arm, heldout, seed=1).mix_demonstrations(there, own)


@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_an_sft_arm_mixes_chosen_responses_into_the_demonstrations(mixing: Mixing) -> None:
    there: Demand = {"human": pairs("human", range(4)), "zero_shot": pairs("zero_shot", range(5))}
    own = mix.Demonstrations(demonstrations(range(7)), demonstrations(range(2), "validation"))
    arm = Arm(human=2, zero_shot=3, trains="sft", mixing=mixing, synthetic_share=0.25 if mixing == "ratio" else 0.5)
    mixture = taught(there, own, arm)
    rows = [*mixture.first, *mixture.train]
    assert Counter(row.source for row in rows) == {"demo": 7, "human": 2, "zero_shot": 3}
    assert {row.response for row in rows if row.source == "zero_shot"} == {"g"}
    assert [row.source for row in mixture.validation] == ["validation"] * 2 + ["human", "zero_shot"]
    sides = "".join("s" if row.source == "zero_shot" else "h" for row in mixture.train)
    wanted = {"append": "h" * 9 + "sss", "sequential": "sss", "interleave": "hshshs" + "h" * 6, "ratio": "hshh" * 3}
    assert sides == wanted.get(mixing, sides)
    if mixing == "sequential":
        assert [row.source for row in mixture.first_validation] == ["validation", "validation", "human"]
    files = {kind: list(reversed(found)) for kind, found in there.items()}
    assert taught(files, mix.Demonstrations(own.train[::-1], own.validation), arm) == mixture


def test_no_prompt_is_on_both_sides_of_an_sft_arm() -> None:
    there: Demand = {"zero_shot": pairs("zero_shot", range(6), "q")}
    own = mix.Demonstrations(demonstrations(range(6), prompt="q"), demonstrations(range(3), "validation", "q"))
    mixture = taught(there, own, Arm(zero_shot=1, trains="sft"), heldout=2)
    held = {prompt_identity(row) for row in mixture.validation}
    assert held.isdisjoint(prompt_identity(row) for row in mixture.train)
    kept = sum(row.source == "demo" for row in mixture.train)
    assert mixture.drops == {mix.HELD_OUT: 6 - kept}


def recipe() -> Recipe:
    arms = {"mixed": {"random": 5, "zero_shot": 3}}
    return Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "arms": arms, "mix": {"heldout_pairs": 2}})


def test_an_arm_is_written_as_a_training_and_a_validation_file(tmp_path: Path) -> None:
    inputs = {kind: tmp_path / f"{kind}.in" for kind in ("random", "zero_shot")}
    write_records(inputs["random"], pairs("random", range(9)))
    write_records(inputs["zero_shot"], pairs("zero_shot", range(9)))
    result = mix.run(recipe(), inputs, tmp_path / "out", "mixed")
    assert result.counts_out == {"train": 8, "validation": 4}
    assert len(read_records(tmp_path / "out" / "train.jsonl", Pair)) == 8
    assert len(read_records(tmp_path / "out" / "validation.jsonl", Pair)) == 4


def test_too_few_pairs_name_arm_kind_number_and_remedy(tmp_path: Path) -> None:
    inputs = {kind: tmp_path / f"{kind}.in" for kind in ("random", "zero_shot")}
    write_records(inputs["random"], pairs("random", range(9)))
    write_records(inputs["zero_shot"], pairs("zero_shot", range(4)))
    with pytest.raises(InputError) as caught:
        mix.run(recipe(), inputs, tmp_path / "out", "mixed")
    for words in ("'mixed'", "3 zero_shot pairs", "only 4", "arms.mixed.zero_shot to 2", "corpus.tasks.pool"):
        assert words in str(caught.value)


def test_an_id_that_two_pairs_share_is_refused_by_name(tmp_path: Path) -> None:
    inputs = {kind: tmp_path / f"{kind}.in" for kind in ("random", "zero_shot")}
    write_records(inputs["random"], pairs("random", range(9)))
    write_records(inputs["zero_shot"], [*pairs("zero_shot", range(9)), *pairs("random", range(8, 9))])
    with pytest.raises(InputError, match="two pair rows have the id 'random/8'"):
        mix.run(recipe(), inputs, tmp_path / "out", "mixed")


def test_a_missing_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="asks for random pairs"):
        mix.run(recipe(), {}, tmp_path / "out", "mixed")


def test_an_sft_arm_without_demonstrations_says_what_to_do(tmp_path: Path) -> None:
    arms = {"taught": {"zero_shot": 1, "trains": "sft"}}
    with pytest.raises(InputError, match=r"'taught' trains by SFT.*whole run.*set arms.taught.trains to \"dpo\""):
        mix.run(Recipe.model_validate({"name": "r", "arms": arms}), {"zero_shot": tmp_path / "x"}, tmp_path, "taught")


def test_a_sequential_arm_writes_what_each_of_its_runs_trains_on(tmp_path: Path) -> None:
    inputs = {kind: tmp_path / f"{kind}.in" for kind in ("random", "zero_shot")}
    write_records(inputs["random"], pairs("random", range(9)))
    write_records(inputs["zero_shot"], pairs("zero_shot", range(9)))
    settings = recipe().model_copy(update={"arms": {"mixed": Arm(random=5, zero_shot=3, mixing="sequential")}})
    result = mix.run(settings, inputs, tmp_path / "out", "mixed")
    assert result.counts_out == {"train": 3, "validation": 4, "first": 5, "first_validation": 2}
    for name, sources in {"first": {"random"}, "train": {"zero_shot"}, "validation": {"random", "zero_shot"}}.items():
        assert {pair.source for pair in read_records(tmp_path / "out" / f"{name}.jsonl", Pair)} == sources


def test_where_fewer_pairs_will_do_all_there_are_are_taken_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "own.jsonl", pairs("own", range(10)))
    write_records(tmp_path / "human.jsonl", pairs("human", range(10)))
    data = {"name": "x", "arms": {"a": {"own": 9, "human": 4}}, "mix": {"heldout_pairs": 2}}
    inputs = {"own": tmp_path / "own.jsonl", "human": tmp_path / "human.jsonl"}
    with pytest.raises(InputError, match=r"lower arms\.a\.own to 8 \(mix\.take_fewer = true does\)"):
        mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
    data["mix"] = {"heldout_pairs": 2, "take_fewer": True}
    result = mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
    assert result.facts["train_by_kind"] == {"human": 4, "own": 8}
    assert result.counts_out == {"train": 12, "validation": 4}
    assert "arm a: 8 own pairs instead of 9: there are no more" in capsys.readouterr().err
    data["mix"] = {"heldout_pairs": 10, "take_fewer": True}  # none would be left to train on
    with pytest.raises(InputError, match=r"\(0 are left to train on\): lower mix\.heldout_pairs, or give more"):
        mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")


def test_where_fewer_pairs_will_do_none_of_a_kind_will_but_not_none_for_one_of_two_runs(tmp_path: Path) -> None:
    write_records(tmp_path / "random.jsonl", pairs("random", range(10)))
    write_records(tmp_path / "few_shot.jsonl", [])
    inputs = {kind: tmp_path / f"{kind}.jsonl" for kind in ("random", "few_shot")}
    data = {"name": "x", "arms": {"a": {"random": 4, "few_shot": 4}}, "mix": {"heldout_pairs": 2, "take_fewer": True}}
    for mixing in ("uniform", "append", "ratio", "interleave"):
        data["arms"]["a"]["mixing"] = mixing
        result = mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
        assert result.facts["train_by_kind"] == {"random": 4, "few_shot": 0}
        assert result.counts_out == {"train": 4, "validation": 2}
    data["arms"]["a"]["mixing"] = "sequential"
    with pytest.raises(InputError, match=r"asks for 4 few_shot pairs.*only 0 \(0 are left to train on\)"):
        mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")


def test_where_fewer_pairs_will_do_a_kind_whose_pairs_are_all_held_out_is_not_done_without(tmp_path: Path) -> None:
    data = {"name": "x", "arms": {"a": {"zero_shot": 40, "few_shot": 40}}, "mix": {"take_fewer": True}}
    inputs = {kind: tmp_path / f"{kind}.jsonl" for kind in ("zero_shot", "few_shot")}
    write_records(inputs["zero_shot"], pairs("zero_shot", range(50)))
    write_records(inputs["few_shot"], pairs("few_shot", range(20)))  # 24 are held out
    with pytest.raises(InputError, match=r"only 20 \(0 are left to train on\): lower mix\.heldout_pairs, or raise"):
        mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
    write_records(inputs["few_shot"], pairs("few_shot", range(25)))
    result = mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
    assert result.facts["train_by_kind"] == {"zero_shot": 26, "few_shot": 1}


def test_where_one_of_two_runs_has_no_pair_it_is_the_missing_kind_that_the_error_names(tmp_path: Path) -> None:
    arm = {"random": 10, "few_shot": 4, "mixing": "sequential"}
    data = {"name": "x", "arms": {"a": arm}, "mix": {"heldout_pairs": 2, "take_fewer": True}}
    inputs = {kind: tmp_path / f"{kind}.jsonl" for kind in ("random", "few_shot")}
    write_records(inputs["random"], pairs("random", range(10)))  # fewer than asked for, too
    write_records(inputs["few_shot"], [])
    with pytest.raises(InputError, match=r"asks for 4 few_shot pairs"):
        mix.run(Recipe.model_validate(data), inputs, tmp_path / "out", "a")
