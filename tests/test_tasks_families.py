"""Every family: its solutions are right, its slips are wrong, its scorer can tell."""

import random
import re
from functools import cache
from itertools import islice

import pytest

from limbeck.recipe.corpus import Tasks
from limbeck.records import Problem
from limbeck.tasks import FAMILIES, TRAINED, TRANSFER, check_arithmetic, extract_answer, family, gym, score, slip
from limbeck.tasks.problems import MAX_SOLUTION_CHARS, build
from limbeck.tasks.slate import MAX_LINES, Slate, places, write_solution
from limbeck.tasks.splits import base_seed

NAMES = [each.name for each in FAMILIES]
NUM_PROBLEMS = 200


@cache
def problems(name: str) -> tuple[Problem, ...]:
    kind = family(name)
    drawn = (build(kind, item) for item in gym.items(kind.dataset, kind.settings, base_seed(11, name, "sft")))
    return tuple(islice((problem for problem in drawn if problem is not None), NUM_PROBLEMS))


def slips(name: str) -> list[tuple[Problem, str | None]]:
    return [(problem, slip(problem, random.Random(at))) for at, problem in enumerate(problems(name))]


def test_the_recipes_reference_names_every_family() -> None:
    description = Tasks.model_fields["families"].description or ""
    trained, transfer = description.split("Transfer problems")
    assert set(re.findall(r"[a-z]+(?:_[a-z]+)*", trained)) >= set(TRAINED)
    assert all(name in transfer for name in TRANSFER)


def test_ten_families_and_more_are_trained_and_three_kinds_are_kept_for_transfer() -> None:
    assert len(TRAINED) >= 10
    assert "gsm_symbolic" in TRAINED
    assert set(TRANSFER) == {"products", "simple_geometry", "gsm_symbolic_held_out"}


@pytest.mark.parametrize("name", NAMES)
def test_every_worked_solution_is_short_true_and_scores_exactly_one(name: str) -> None:
    assert len(problems(name)) == NUM_PROBLEMS
    for problem in problems(name):
        *steps, last = problem.solution.splitlines()
        assert score(problem, problem.solution) == (1.0, True, True, None)
        assert steps
        assert len(steps) <= MAX_LINES
        assert last == f"#### {extract_answer(problem.solution)}"
        assert len(problem.solution) <= MAX_SOLUTION_CHARS
        assert problem.solution.isascii()
        assert check_arithmetic(problem.solution) == []


@pytest.mark.parametrize("name", NAMES)
def test_slips_have_an_answer_that_is_never_accepted(name: str) -> None:
    found = [(problem, text) for problem, text in slips(name) if text is not None]
    for problem, text in found:
        outcome = score(problem, text)
        assert outcome.parsed
        assert outcome.failure is None
        assert outcome.score < 1.0
        assert text != problem.solution
        assert extract_answer(text) != extract_answer(problem.solution)
    allowed = 0.15 if name.startswith("gsm") else 0.02
    assert len(found) >= (1 - allowed) * NUM_PROBLEMS


@pytest.mark.parametrize("name", NAMES)
def test_a_slip_is_one_false_statement_at_most_and_all_else_follows(name: str) -> None:
    # A division of both parts of a fraction, or an early stop, may leave nothing false; two slips may not happen.
    for _, text in slips(name):
        assert text is None or len(check_arithmetic(text)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_slips_differ_in_where_they_go_wrong(name: str) -> None:
    problem = max(problems(name), key=lambda each: each.solution.count("\n"))
    texts = {slip(problem, random.Random(at)) for at in range(40)}
    assert len(texts) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_is_not_solved_by_a_loose_scorer(name: str) -> None:
    for problem in problems(name)[:40]:
        answer = extract_answer(problem.solution)
        assert answer is not None
        digits = [at for at, letter in enumerate(answer) if letter.isdigit()]
        if digits:
            at = digits[-1]
            wrong = f"{answer[:at]}{(int(answer[at]) + 1) % 10}{answer[at + 1 :]}"
            assert not score(problem, f"#### {wrong}").solved


@pytest.mark.parametrize("name", NAMES)
def test_problems_survive_json_with_the_same_score_and_slip(name: str) -> None:
    for problem in problems(name)[:20]:
        again = Problem.model_validate_json(problem.model_dump_json())
        assert again == problem
        assert score(again, again.solution).solved
        assert slip(again, random.Random(5)) == slip(problem, random.Random(5))


def test_the_same_content_is_the_same_problem_whatever_its_wording() -> None:
    item = gym.Item("?", "14", {"animals": {"dog": 3, "duck": 1}})
    turned = gym.Item("!", "14", {"animals": {"duck": 1, "dog": 3}})
    assert family("leg_counting").content(item) == family("leg_counting").content(turned)
    product = gym.Item("?", "35", {"expression": "5 * 7"})
    turned = gym.Item("?", "35", {"expression": "7 * 5"})
    assert family("products").content(product) == family("basic_arithmetic").content(turned)


def test_a_solution_without_a_slip_is_the_same_code_as_one_with() -> None:
    def solver(_: object, slate: Slate) -> str:
        return str(slate.add(slate.compute(12, "*", 2), 17))

    assert write_solution(solver, {}, Slate()) == "12 * 2 = 24\n24 + 10 = 34\n34 + 7 = 41\n#### 41"
    slipped = write_solution(solver, {}, Slate(slip_at=1, rng=random.Random(0)))
    assert slipped in {
        "12 * 2 = 24\n24 + 10 = 35\n35 + 7 = 42\n#### 42",
        "12 * 2 = 24\n24 + 10 = 33\n33 + 7 = 40\n#### 40",
    }


def test_a_number_is_the_sum_of_its_places() -> None:
    assert [places(number) for number in (0, 7, 40, 47, 305)] == [[0], [7], [40], [40, 7], [300, 5]]
