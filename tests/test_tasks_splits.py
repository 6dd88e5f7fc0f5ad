"""Splits: disjoint by content, fixed by the seed, the same in every process."""

import hashlib
import random
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import RecipeError
from limbeck.records import Problem, PromptRow
from limbeck.tasks import FAMILIES, SPLITS, TRAINED, TRANSFER, draw_splits, gym, slip
from limbeck.tasks.gsm import HELD_OUT_TEMPLATES
from limbeck.tasks.splits import SEED_STRIDE, base_seed, divide

SMALL = {"test": 22, "transfer": 15, "validation": 22, "sft": 44, "pool": 44, "fresh": 22}
Result = TypeVar("Result")
TRAINING = ("sft", "pool", "fresh")


def fingerprint(state: int) -> tuple[str, str]:
    """Run in a process of its own: the hash of everything that is drawn, and the process's way of hashing text."""
    warnings.simplefilter("error")
    random.seed(state)
    rows = [row for part in draw_splits(SMALL, seed=5).values() for row in part]
    slips = [slip(task(row), random.Random(1)) for row in rows]
    text = "".join(row.model_dump_json() for row in rows) + repr(slips)
    return hashlib.sha256(text.encode()).hexdigest(), str(hash("limbeck"))


def heavy_modules() -> list[str]:
    """Run in a process of its own, which imports this file."""
    return [name for name in ("reasoning_gym", "torch", "transformers") if name in sys.modules]


def elsewhere(function: Callable[..., Result], *arguments: object) -> Result:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def task(row: PromptRow) -> Problem:
    assert row.problem is not None
    return row.problem


@given(st.integers(-(10**12), 10**12))
@settings(max_examples=8, deadline=None)
def test_no_content_occurs_twice_in_any_split(seed: int) -> None:
    drawn = draw_splits(SMALL, seed=seed)
    assert {split: len(rows) for split, rows in drawn.items()} == SMALL
    contents = [task(row).content for rows in drawn.values() for row in rows]
    assert len(set(contents)) == len(contents)
    ids = [row.id for rows in drawn.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_evaluation_splits_do_not_move_when_training_splits_grow() -> None:
    alone = draw_splits({"test": 33, "transfer": 15, "validation": 22}, seed=2)
    with_training = draw_splits(
        {"fresh": 50, "sft": 330, "test": 33, "pool": 200, "transfer": 15, "validation": 22}, seed=2
    )
    assert {split: with_training[split] for split in alone} == alone


def test_training_refuses_what_another_family_asks_in_an_evaluation_split() -> None:
    drawn = draw_splits({"transfer": 600, "sft": 900}, ["basic_arithmetic", "chain_sum", "gcd"], seed=1)
    products = {task(row).content for row in drawn["transfer"] if task(row).family == "products"}
    assert len(products) == 200
    assert products.isdisjoint(task(row).content for row in drawn["sft"])


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=3, unique=True))
def test_seeds_lie_a_million_apart_for_all_families_splits_and_user_seeds(users: list[int]) -> None:
    bases = sorted(base_seed(user, each.name, split) for user in users for each in FAMILIES for split in SPLITS)
    assert bases[0] >= 0  # Random(-5) is Random(5)
    assert all(b - a >= SEED_STRIDE for a, b in pairwise(bases))
    assert gym.MAX_DRAWS <= SEED_STRIDE == 10**6


def test_rows_are_the_same_in_every_process_whatever_the_hash_seed_and_the_global_random_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    drawn, hashed = elsewhere(fingerprint, 1)
    monkeypatch.setenv("PYTHONHASHSEED", "4242")
    drawn_again, hashed_again = elsewhere(fingerprint, 2)
    assert drawn == drawn_again
    assert hashed != hashed_again


def test_drawing_leaves_the_global_random_state_alone() -> None:
    random.seed(3)
    before = random.getstate()
    draw_splits({"sft": 22})
    assert random.getstate() == before


def test_another_seed_draws_other_problems() -> None:
    first, second = ({task(row).content for row in draw_splits({"test": 55}, seed=seed)["test"]} for seed in (1, 2))
    assert len(first & second) < 10


def test_transfer_families_and_held_out_templates_never_occur_elsewhere() -> None:
    drawn = draw_splits({**SMALL, "sft": 440, "transfer": 60}, seed=4)
    for split, rows in drawn.items():
        families = {task(row).family for row in rows}
        assert families == set(TRANSFER if split == "transfer" else TRAINED)
        templates = {task(row).metadata["template"] for row in rows if "gsm" in task(row).family}
        assert templates
        assert (templates <= HELD_OUT_TEMPLATES) is (split == "transfer")
        assert not (split in TRAINING and templates & HELD_OUT_TEMPLATES)


def test_a_row_is_a_prompt_with_its_problem_and_its_solution() -> None:
    row = min(draw_splits({"test": 22})["test"], key=lambda each: each.id)
    assert row.id == "test/basic_arithmetic/0"
    assert row.source == "tasks"
    assert row.topic == "basic_arithmetic"
    assert [message.content for message in row.prompt] == [task(row).question]
    assert row.reference_response == task(row).solution


def test_rows_are_divided_evenly() -> None:
    rows = draw_splits({"sft": 12}, ["chain_sum", "gcd"])["sft"]
    assert [sum(task(row).family == name for row in rows) for name in ("chain_sum", "gcd")] == [6, 6]
    assert divide(10, 3) == [3, 3, 4]
    assert divide(0, 2) == [0, 0]
    assert sum(divide(1_000_003, 11)) == 1_000_003


def test_rows_of_a_split_are_shuffled() -> None:
    families = [task(row).family for row in draw_splits({"sft": 110})["sft"]]
    assert sum(a != b for a, b in pairwise(families)) > 60


def test_running_out_of_contents_names_the_family_and_what_to_change() -> None:
    with pytest.raises(RecipeError, match=r"'products'.*'transfer'.*of 1000 found.*fewer rows"):
        draw_splits({"transfer": 3000})


@pytest.mark.parametrize(
    ("counts", "arguments", "message"),
    [
        ({"test": 5}, {"families": ["products"]}, "kept for the transfer split"),
        ({"test": 5}, {"families": ["sudoku"]}, "no task family 'sudoku'"),
        ({"test": 5}, {"families": []}, "at least one"),
        ({"test": 5}, {"families": ["gcd", "gcd"]}, "once each"),
        ({"exam": 5}, {}, "no task split 'exam'.*validation"),
        ({"test": -1}, {}, "zero or more"),
    ],
)
def test_impossible_requests_are_refused_with_a_sentence(counts: dict, arguments: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        draw_splits(counts, **arguments)


def test_importing_the_room_does_not_import_the_generators() -> None:
    assert elsewhere(heavy_modules) == []


def test_three_thousand_rows_take_seconds() -> None:
    counts = {"test": 300, "transfer": 300, "validation": 200, "sft": 800, "pool": 800, "fresh": 600}
    start = time.perf_counter()
    assert sum(len(rows) for rows in draw_splits(counts, seed=9).values()) == 3000
    assert time.perf_counter() - start < 15
