"""Mixing: a pure core under random demands, and the stage on files."""

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.likeness import prompt_identity
from limbeck.recipe import Recipe
from limbeck.recipe_pairs import PairKind
from limbeck.records import Pair, user_prompt
from limbeck.stages import mix
from limbeck.store import read_records, write_records

KINDS: tuple[PairKind, ...] = get_args(PairKind)


def pairs(kind: PairKind, numbers: range, prompt: str = "") -> list[Pair]:
    return [
        Pair(id=f"{kind}/{n}", prompt=user_prompt(f"{prompt or kind} {n}"), source=kind, chosen="g", rejected="b")
        for n in numbers
    ]


@st.composite
def demands(draw: st.DrawFn) -> tuple[dict[PairKind, list[Pair]], dict[PairKind, int], int]:
    """Pairs whose prompts several kinds share, counts that can be met, and how many are held out of each kind."""
    heldout = draw(st.integers(0, 4))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
    counts = {kind: draw(st.integers(1, 6)) for kind in kinds}
    most_held = heldout * len(kinds)
    there = {kind: pairs(kind, range(counts[kind] + most_held), "shared") for kind in kinds}
    return there, counts, heldout


@given(demands(), st.integers(0, 99))
def test_counts_are_exact_and_no_prompt_is_on_both_sides(
    demand: tuple[dict[PairKind, list[Pair]], dict[PairKind, int], int], seed: int
) -> None:
    there, counts, heldout = demand
    mixture = mix.mix_pairs(there, counts, heldout=heldout, seed=seed, arm="a")
    assert Counter(pair.source for pair in mixture.train) == Counter(counts)
    assert Counter(pair.source for pair in mixture.validation) == Counter(dict.fromkeys(counts, heldout))
    assert len({pair.id for pair in mixture.train}) == len(mixture.train)
    held = {prompt_identity(pair) for pair in mixture.validation}
    assert held.isdisjoint(prompt_identity(pair) for pair in mixture.train)


@given(demands())
def test_the_order_of_a_file_decides_nothing(
    demand: tuple[dict[PairKind, list[Pair]], dict[PairKind, int], int],
) -> None:
    there, counts, heldout = demand
    before = mix.mix_pairs(there, counts, heldout=heldout, seed=1, arm="a")
    backwards = {kind: rows[::-1] for kind, rows in there.items()}
    assert mix.mix_pairs(backwards, counts, heldout=heldout, seed=1, arm="a") == before


def test_every_arm_holds_out_the_same_pairs_of_a_kind_and_another_seed_others() -> None:
    there: dict[PairKind, list[Pair]] = {
        "random": pairs("random", range(50)),
        "zero_shot": pairs("zero_shot", range(50)),
    }
    one = mix.mix_pairs(there, {"random": 20}, heldout=8, seed=1, arm="one")
    two = mix.mix_pairs(there, {"random": 9, "zero_shot": 9}, heldout=8, seed=1, arm="two")
    other = mix.mix_pairs(there, {"random": 20}, heldout=8, seed=2, arm="one")
    assert one.validation == two.validation[:8]
    assert {pair.id for pair in one.validation} != {pair.id for pair in other.validation}


def test_kinds_on_the_same_prompts_hold_the_same_prompts_out() -> None:
    there: dict[PairKind, list[Pair]] = {
        "zero_shot": pairs("zero_shot", range(40), "q"),
        "on_policy": pairs("on_policy", range(40), "q"),
    }
    mixture = mix.mix_pairs(there, {"zero_shot": 32, "on_policy": 32}, heldout=8, seed=1, arm="a")
    assert len({prompt_identity(pair) for pair in mixture.validation}) == 8


def test_every_part_of_the_stream_is_mixed_alike() -> None:
    there: dict[PairKind, list[Pair]] = {
        "human": pairs("human", range(2000)),
        "few_shot": pairs("few_shot", range(1000)),
    }
    train = mix.mix_pairs(there, {"human": 2000, "few_shot": 1000}, heldout=0, seed=1, arm="a").train
    for start in range(0, 3000, 300):
        human = sum(pair.source == "human" for pair in train[start : start + 300])
        # Hypergeometric: mean 200, standard deviation 7.7; four of them.
        assert abs(human - 200) < 31


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
