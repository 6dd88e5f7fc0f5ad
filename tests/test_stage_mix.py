"""Mixing: a pure core under random demands, of both trainings, and the stage on files."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.likeness import prompt_identity
from limbeck.recipe import Recipe
from limbeck.recipe_pairs import Arm, Mixing, PairKind
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


def rolling(follows: Mapping[int, str | None]) -> list[Pair]:
    return [pair.model_copy(update={"placed_after": follows[n]})
            for n, pair in zip(follows, pairs("rolling", range(len(follows))), strict=True)]  # fmt: skip


def test_a_rolling_pair_stands_right_after_the_human_pair_it_was_written_from() -> None:
    there: Demand = {"human": pairs("human", range(6)), "zero_shot": pairs("zero_shot", range(2))}
    there["rolling"] = rolling(dict(enumerate(f"human/{n}" for n in (4, 0, 2))))
    train = mixed(there, Arm(human=6, zero_shot=2, rolling=3, mixing="interleave"), 0).train
    before = {second.id: first.id for first, second in pairwise(train)}
    assert {pair.id: before[pair.id] for pair in there["rolling"]} == {
        pair.id: pair.placed_after for pair in there["rolling"]
    }
    sides = "".join("h" if pair.source == "human" else "s" for pair in train)
    assert (len(sides), sides.count("h"), sides[0], "ss" in sides) == (11, 6, "h", False)


def written_along(human: list[Pair], number: int, shown: int = 5, missing: tuple[int, ...] = ()) -> list[Pair]:
    """What a teacher writes of whom every candidate but those of `missing` was accepted; the file backwards."""
    follows = [pair.id for pair in stream_order(human, 1)[2:]][shown - 1 :]  # two human pairs are held out
    made = rolling(dict(enumerate(follows[: number + len(missing)])))
    return [pair for place, pair in enumerate(made) if place not in missing][::-1]


def before_each(train: list[Pair]) -> list[tuple[str | None, str]]:
    return [(second.placed_after, first.id) for first, second in pairwise(train) if second.source == "rolling"]


def test_as_many_rolling_pairs_as_the_arms_human_pairs_have_places_for_all_have_theirs() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 16 + 2)}
    mixture = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    assert [placed for placed, _ in before_each(mixture.train)] == [first for _, first in before_each(mixture.train)]
    assert ([pair.source for pair in mixture.train].count("rolling"), mixture.rolling_elsewhere) == (16, 0)
    assert mixture.train[-1].source == "rolling"
    assert [pair.id for pair in mixture.validation[2:]] == ["rolling/17", "rolling/16"]


def test_the_next_rolling_pairs_stand_in_for_candidates_that_failed_at_every_other_position_and_are_counted() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 16 + 2, missing=(0, 7))}
    mixture = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    sides = "".join(pair.source[0] for pair in mixture.train)
    assert (sides.count("r"), "rr" in sides, mixture.rolling_elsewhere) == (16, False, 2)
    astray = [pair for pair, (placed, first) in zip(
        [pair for pair in mixture.train if pair.source == "rolling"], before_each(mixture.train), strict=True
    ) if placed != first]  # fmt: skip
    assert {pair.id for pair in astray} == {"rolling/16", "rolling/17"}  # the rest is held out


def test_rolling_pairs_whose_pair_is_not_there_are_held_out_first_and_none_with_a_place_is_an_error() -> None:
    there: Demand = {"human": pairs("human", range(5))}
    there["rolling"] = rolling({0: "human/1", 1: "gone", 2: None, 3: "human/3"})
    arm = Arm(human=3, rolling=2, mixing="interleave")
    held = mixed(there, arm, 2)
    assert {pair.id for pair in held.validation if pair.source == "rolling"} == {"rolling/1", "rolling/2"}
    there["rolling"] = rolling({0: "gone", 1: None})
    with pytest.raises(InputError, match=r"the arm 'a' interleaves rolling pairs, and not one .* follows a human pair"):
        mixed(there, arm, 0)
    assert mixed(there, arm.model_copy(update={"mixing": "append"}), 0).rolling_elsewhere == 0


def test_an_arm_without_the_pairs_that_rolling_ones_follow_holds_out_the_same_of_them() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 18)}
    one = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    alone = mix.Mixer("b", Arm(rolling=16), 2, 1, written_along=human).mix_pairs({"rolling": there["rolling"]})
    assert alone.validation == one.validation[2:]


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
    there: Demand = {"human": pairs("human", range(100), "mined" if sharing else "human")}
    for kind in found.pair_kinds():
        if kind != "human":
            prompts = "new" if kind in ("few_shot", "rolling") else "mined"
            chosen = draw(st.permutations(range(40)))[: found.accept(kind)]
            there[kind] = [pair for pair in pairs(kind, range(100), prompts) if int(pair.id.split("/")[1]) in chosen]
            there[kind] += pairs(kind, range(1000, 1000 + found.accept(kind) - len(chosen)))
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


def test_a_rolling_pair_follows_a_human_pair_among_the_demonstrations_too() -> None:
    there: Demand = {"human": pairs("human", range(3)), "rolling": rolling({0: "human/2", 1: "demo/4", 2: "gone"})}
    arm = Arm(human=3, rolling=2, trains="sft", mixing="interleave")
    mixture = taught(there, mix.Demonstrations(demonstrations(range(6)), []), arm, heldout=0)
    before = {second.id: first.id for first, second in pairwise(mixture.train)}
    assert (before["rolling/0"], before["rolling/1"]) == ("human/2", "demo/4")
    assert mixture.rolling_elsewhere == 0


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
