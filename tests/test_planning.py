"""What a run would take: the arithmetic, against values derived by hand. Against a run: test_planning_run.py."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from limbeck.api.prices import Price
from limbeck.lm import speed
from limbeck.lm.shape import Part, Shape
from limbeck.lm.speed import Speed, part_to_time, share_timed
from limbeck.planning.asking import Asked, judge_requests, over_budget
from limbeck.planning.lengths import ByCharacters, Lengths, lengths_of
from limbeck.planning.machine import Machine
from limbeck.planning.pairs import Texts
from limbeck.planning.ranges import ZERO, Range, exact, mean_of, total
from limbeck.planning.show import amount, count, duration
from limbeck.planning.tables import Table, tables_in, tables_of
from limbeck.planning.work import Work, Works, steps_of, trained_rows, training, validations
from limbeck.recipe import Model, Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.recipe.pairs import Budget
from limbeck.recipe.training import Optimisation, Sft
from limbeck.records import Demonstration, Message, Pair, PromptRow, user_prompt
from limbeck.store import write_records
from limbeck.units.unit import Unit


class Letters:
    """A tokenizer of one letter a token."""

    exact = True

    def prompt(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) for message in messages)

    def response(self, text: str) -> int:
        return len(text)


def lengths(prompt: float, response: float, rejected: float = 0) -> Lengths:
    return Lengths(exact(prompt), exact(response), exact(rejected), int(prompt), int(prompt + response), 1.0, 0.0, 9)


def recipe(**sections: object) -> Recipe:
    return parse_recipe({"name": "planned", **sections}, where="a test")


def dpo_unit(arm: str, reference: str = "sft/model") -> Unit:
    return Unit(f"dpo/{arm}", {"reference": Path(reference)}, {}, argument=arm)


numbers = st.floats(0, 1e6)
ranges = st.tuples(numbers, numbers, numbers).map(lambda three: Range(*sorted(three)))


@given(ranges, ranges)
def test_bounds_of_sums_and_products_keep_their_order(one: Range, other: Range) -> None:
    for made in (one + other, one * other, one.capped(5), one.per(other + exact(1))):
        assert made.low <= made.likely <= made.high


def test_a_mean_of_ranges_is_weighted_bound_by_bound() -> None:
    assert mean_of([(1, Range(0, 2, 4)), (3, Range(4, 6, 8))]) == Range(3, 5, 7)
    assert mean_of([]) == ZERO
    assert total([exact(1), Range(1, 2, 3)]) == Range(2, 3, 4)


def test_time_at_an_uncertain_rate_is_longest_at_the_lowest() -> None:
    assert exact(100).per(Range(10, 20, 50)) == Range(2, 5, 10)


def test_a_run_of_two_epochs_of_ten_rows_by_four_takes_five_steps_of_twenty_rows() -> None:
    settings = Optimisation(epochs=2, batch_size=4)
    assert (steps_of(settings, 10), trained_rows(settings, 10)) == (5, 20)


def test_max_steps_bounds_what_is_trained_on() -> None:
    settings = Optimisation(epochs=2, batch_size=4, max_steps=3)
    assert (steps_of(settings, 10), trained_rows(settings, 10)) == (3, 12)


@pytest.mark.parametrize(("steps", "looks"), [(5, 4), (6, 4), (7, 5), (1, 2)])
def test_held_out_rows_are_looked_at_before_every_second_step_and_at_the_end(steps: int, looks: int) -> None:
    assert validations(Optimisation(validate_every_steps=2), steps) == looks


def test_training_tokens_are_rows_seen_times_their_length_and_validations_are_scored() -> None:
    work = training(Sft(epochs=2, batch_size=4, validate_every_steps=5), exact(10), exact(30), exact(7))
    assert (work.steps, work.trained, work.scored) == (exact(5), exact(600), exact(14))


def test_patience_may_end_a_run_after_so_many_validations_and_not_before() -> None:
    settings = Sft(epochs=10, batch_size=1, validate_every_steps=5, patience=2)
    work = training(settings, exact(10), exact(3), ZERO)
    assert work.steps == Range(10, 100, 100)
    assert work.trained == Range(30, 300, 300)


def test_lengths_are_means_of_the_rows_within_the_limits() -> None:
    rows = [
        Demonstration(id=str(size), prompt=user_prompt("p" * size), source="own", response="r" * 2 * size)
        for size in (1, 3, 20)
    ]
    found = lengths_of(Table(exact(3), tuple(rows)), Letters(), Model(max_prompt_tokens=10))
    assert (found.prompt, found.response) == (exact(2), exact(4))
    assert (found.longest_prompt, found.longest, found.fit) == (3, 9, 2 / 3)


def test_a_response_that_fits_only_without_its_end_of_turn_does_not_fit() -> None:
    row = Demonstration(id="1", prompt=user_prompt("p"), source="own", response="r" * 5)
    assert lengths_of(Table(exact(1), (row,)), Letters(), Model(max_response_tokens=5)).seen == 0
    assert lengths_of(Table(exact(1), (row,)), Letters(), Model(max_response_tokens=6)).seen == 1


def test_a_sample_of_many_rows_leaves_two_standard_errors_and_no_rows_an_assumption() -> None:
    rows = tuple(PromptRow(id=str(n), prompt=user_prompt("p" * n), source="own") for n in (1, 3))
    found = lengths_of(Table(exact(100), rows), Letters(), Model())
    assert found.prompt == Range(0, 2, 4)  # a standard deviation of 1.41, over the root of 2, twice
    unseen = lengths_of(Table(exact(100)), Letters(), Model())
    assert unseen.seen == 0
    assert unseen.prompt.high > 5 * unseen.prompt.low


def test_without_a_tokenizer_four_characters_are_a_token_give_or_take() -> None:
    row = Pair(id="1", prompt=user_prompt("p"), source="human", chosen="c" * 400, rejected="r" * 40)
    found = lengths_of(Table(exact(1), (row,)), ByCharacters(), Model())
    assert found.response == Range(75, 100, 135)
    assert found.rejected.likely == 10


def test_a_pair_is_computed_with_its_prompt_once() -> None:
    texts = Texts(recipe(), {"human": lengths(10, 20, 5), "pool": lengths(1, 1)})
    assert texts.pair("human").computed == exact(35)


def test_a_replys_bounds_end_at_the_limit_of_new_tokens() -> None:
    texts = Texts(recipe(), {"pool": lengths(10, 20), "demonstrations": lengths(1, 1)})
    assert texts.student(30) == Range(10, 20, 30)
    assert texts.student(8) == Range(8, 8, 8)


@pytest.fixture
def two_arms() -> Works:
    arms = {"few": {"human": 8}, "more": {"human": 12, "zero_shot": 4}}
    planned = recipe(arms=arms, mix={"heldout_pairs": 2}, dpo={"epochs": 1, "batch_size": 4})
    tables = {name: lengths(10, 20, 20) for name in ("human", "pool", "fresh", "demonstrations", "test")}
    return Works(planned, dict.fromkeys(tables, exact(100)), tables)


def test_pairs_that_an_earlier_arm_had_scored_by_the_same_reference_are_not_scored_again(two_arms: Works) -> None:
    few, more = two_arms.of(dpo_unit("few")), two_arms.of(dpo_unit("more"))
    # 50 tokens a pair. Two validations of the held-out pairs, then the reference: 8 and 2; then only what is new.
    assert few.scored == exact(2 * 2 * 50 + 10 * 50)
    assert more.scored == exact(2 * 4 * 50 + (4 + 6) * 50)
    assert (few.trained, more.trained) == (exact(400), exact(800))
    assert (few.steps, more.steps) == (exact(2), exact(4))


def test_another_reference_scores_everything_anew(two_arms: Works) -> None:
    two_arms.of(dpo_unit("few"))
    assert two_arms.of(dpo_unit("more", "base")).scored == exact(2 * 4 * 50 + (14 + 6) * 50)


def test_the_sft_models_held_out_pairs_are_scored_already(two_arms: Works) -> None:
    for arm in ("few", "more"):
        two_arms.of(dpo_unit(arm))
    asked = {name: Unit(f"heldout_pairs/{name}", {"model": Path(f"{name}/model")}, {}) for name in ("sft", "few")}
    assert two_arms.of(asked["sft"]).scored == ZERO
    assert two_arms.of(asked["few"]).scored == exact(4 * 50)


def test_pairs_scored_by_their_steps_are_scored_again_as_whole_responses(two_arms: Works) -> None:
    steps = two_arms.recipe.model_copy(update={"dpo": two_arms.recipe.dpo.model_copy(update={"scope": "step"})})
    works = Works(steps, two_arms.rows, two_arms.measured)
    assert works.of(dpo_unit("few")).scored == exact(2 * 2 * 50 + 10 * 50)
    sft = Unit("heldout_pairs/sft", {"model": Path("sft/model")}, {})
    assert works.of(sft).scored == exact(4 * 50)


def test_problems_are_answered_at_every_validation(two_arms: Works) -> None:
    asking = two_arms.recipe.dpo.model_copy(update={"validate_problems": 5})
    works = Works(two_arms.recipe.model_copy(update={"dpo": asking}), two_arms.rows, two_arms.measured)
    plain, found = two_arms.of(dpo_unit("few")), works.of(dpo_unit("few"))
    assert plain.sampled == ZERO
    # Two validations of five problems: their prompts of 10 tokens are scored, their replies of about 20 sampled.
    assert found.sampled.likely == 2 * 5 * 20
    assert found.scored.likely == plain.scored.likely + 2 * 5 * 10
    assert (found.trained, found.steps) == (plain.trained, plain.steps)


def test_models_judged_on_validation_problems_are_asked_these_and_not_the_test(two_arms: Works) -> None:
    evaluate = Unit("validate/few", {}, {}, argument="few")
    on = two_arms.recipe.evaluate.model_copy(update={"on": "validation"})
    asked = {"test": exact(1000), "transfer": exact(200), "validation": exact(30), "chat_heldout": ZERO}
    measured = {**two_arms.measured, "validation": lengths(15, 4)}
    works = Works(two_arms.recipe.model_copy(update={"evaluate": on}), {**two_arms.rows, **asked}, measured)
    found = works.of(evaluate)
    assert (works.judged_prompts(), found.rows) == (exact(30), exact(30))
    assert (found.scored.likely, found.sampled.likely) == (30 * 15, 30 * 4)
    assert Works(two_arms.recipe, {**two_arms.rows, **asked}, measured).judged_prompts() == exact(1200)


def test_a_prompt_is_computed_once_for_all_of_its_samples(two_arms: Works) -> None:
    mine = two_arms.recipe.mine.model_copy(update={"samples_per_prompt": 4, "max_prompts": 50, "temperature": 1.0})
    found = Works(two_arms.recipe.model_copy(update={"mine": mine}), two_arms.rows, two_arms.measured).of(
        Unit("mine", {}, {})
    )
    assert (found.rows, found.scored) == (exact(4 * 50), exact(50 * 10))
    assert found.sampled.likely == 4 * 50 * 20


def test_follow_ups_are_replied_to_and_judged_but_compared_at_their_first_turn(two_arms: Works) -> None:
    rows = [PromptRow(id=str(n), prompt=user_prompt("p" * 10), source="own", follow_ups=("q",) * n) for n in (0, 2)]
    talks = lengths_of(Table(exact(2), tuple(rows)), Letters(), Model())
    assert (talks.turns, lengths_of(Table(exact(2)), Letters(), Model()).turns) == (2, 1)
    asked = {"test": exact(30), "transfer": exact(8), "chat_heldout": ZERO}
    judged = two_arms.recipe.model_copy(
        update={"evaluate": two_arms.recipe.evaluate.model_copy(update={"judges": ("nemotron", "pairwise")})}
    )
    works = Works(judged, {**two_arms.rows, **asked}, {**two_arms.measured, "test": talks})
    assert works.of(Unit("evaluate/few", {}, {}, argument="few")).rows == exact(2 * 30 + 8)
    requests = {one.stage: one.requests.likely for one in judge_requests(judged, works, {"evaluate": 3, "compare": 1})}
    assert requests == {"evaluate": 3 * (2 * 30 + 8), "compare": 2 * (30 + 8)}


def test_a_plan_reads_the_validation_problems_of_a_recipe_and_of_a_run(tmp_path: Path) -> None:
    tables = tables_of(recipe(corpus={"tasks": {"validation": 7, "test": 3}}))
    assert tables["validation"].rows == exact(7)
    write_records(tmp_path / "validation.jsonl", tables["validation"].samples[:5])
    assert tables_in(tmp_path)["validation"].rows == exact(5)


def test_a_sequential_arm_trains_on_human_pairs_first_and_on_the_synthetic_then() -> None:
    arms = {"apart": {"human": 8, "zero_shot": 4, "mixing": "sequential"}}
    planned = recipe(arms=arms, mix={"heldout_pairs": 0}, dpo={"epochs": 1, "batch_size": 1})
    tables = {name: lengths(1, 1, 1) for name in ("human", "pool", "fresh", "demonstrations")}
    works = Works(planned, dict.fromkeys(tables, exact(100)), tables)
    first = Unit("dpo_first/apart", {"reference": Path("sft/model")}, {}, argument="apart")
    assert works.of(first).steps == exact(8)
    assert works.of(dpo_unit("apart")).steps == exact(4)


def test_demonstrations_that_nobody_counted_leave_sft_unknown() -> None:
    tables = {name: lengths(1, 1) for name in ("demonstrations", "demonstrations_validation", "chat_train")}
    works = Works(recipe(), dict.fromkeys(tables), tables)
    assert works.of(Unit("sft", {}, {})).unknown == "demonstrations"


def test_chat_replies_that_may_be_cut_off_leave_the_steps_of_sft_open(two_arms: Works) -> None:
    tables = {name: lengths(10, 20) for name in ("demonstrations", "demonstrations_validation", "chat_train", "pool")}
    rows = {"demonstrations": exact(8), "demonstrations_validation": exact(0), "chat_train": exact(8)}
    planned = recipe(sft={"epochs": 1, "batch_size": 4}, corpus={"chat": {"train": 8, "heldout": 1}})
    assert Works(planned, rows, tables).of(Unit("sft", {}, {})).steps == Range(2, 4, 4)
    assert Works(planned, rows, tables, chat_is_known=True).of(Unit("sft", {}, {})).steps == exact(4)


def test_a_local_source_is_counted_and_one_on_the_hub_is_taken_at_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"prompt": "How?", "response": "So."}\n' * 100)
    here, there = {"path": str(file)}, {"path": "owner/somewhere", "limit": 50}
    tables = tables_of(recipe(corpus={"demonstrations": [here], "evaluation": [there]}))
    assert tables["demonstrations"].rows == exact(98)  # less 2 % for validation
    assert tables["demonstrations_validation"].rows == exact(2)
    assert (tables["test"].rows, tables["test"].samples) == (exact(50), ())
    assert "owner/somewhere" in tables.unread[0]
    unknown = tables_of(recipe(corpus={"demonstrations": [here, {"path": "owner/somewhere"}]}))
    assert unknown["demonstrations"].rows is None


def test_a_price_is_likely_and_at_most_and_a_budget_that_may_not_last_is_named() -> None:
    price = Price(input=2, output=10)
    asked = Asked("teach", "openai:m", "pairs", "teach.budget", exact(2), exact(1e6), Range(0, 1e5, 1e6), price,
                  Budget(usd=5))  # fmt: skip
    assert asked.dollars == Range(2, 3, 12)
    assert "teach.budget.usd = 5 may not be enough in the worst case" in str(over_budget([asked]))
    tight = Asked(**vars(asked) | {"budget": Budget(tokens=1_000_000)})
    assert "likely not to be enough" in str(over_budget([tight]))
    enough = Asked(**vars(asked) | {"budget": Budget(usd=12)})
    assert over_budget([enough]) is None
    assert "may not be enough" in str(over_budget([enough, enough]))  # kinds share it


SHAPE = Shape(10, 100, 1000, 1_200_000, 1_000_000, 40, tied=False, context_tokens=None)


def test_a_small_network_is_timed_whole_and_a_large_one_by_its_first_layers() -> None:
    assert part_to_time(SHAPE, 1e12, 4) == Part(10, 1000)
    assert share_timed(SHAPE, Part(10, 1000)) == 1
    large = Shape(**vars(SHAPE) | {"body_weights": 10**10})
    assert part_to_time(large, 1e12, 4).layers == 2
    # Two of ten layers, and the head whole: (200,000 + 100,000) of 1,100,000 weights.
    assert share_timed(SHAPE, Part(2, 1000)) == pytest.approx(3 / 11)


def test_seconds_are_tokens_over_the_rates_and_a_servers_samples_cost_none() -> None:
    machine = Machine("a machine", speed=Speed(100, 300, 50, 96, Part(2, 10)), layers=2)
    work = Work(trained=exact(950), scored=exact(2850), sampled=exact(400))
    needed = machine.seconds(work, recomputed=False)
    assert needed is not None
    assert needed.likely == pytest.approx(10 + 10 + 10)
    elsewhere = machine.seconds(work, recomputed=False, samples_here=False)
    assert elsewhere is not None
    assert elsewhere.likely == pytest.approx(20)
    assert Machine("a machine").seconds(work, recomputed=False) is None
    assert Machine("a machine").seconds(Work(), recomputed=False) == ZERO


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (ZERO, ""), (None, "?"), (exact(947), "947"), (exact(12_000), "12k"), (exact(12_345), "~12k"),
        (Range(1.2e6, 2e6, 3.4e6), "1.2-3.4M"), (Range(96_000, 2e5, 1.4e6), "96k-1.4M"), (Range(95, 98, 100), "~98"),
    ],
)  # fmt: skip
def test_figures_say_no_more_than_is_known(value: Range | None, shown: str) -> None:
    assert amount(value) == shown


def test_durations_and_counts_read_as_they_are_said() -> None:
    assert duration(Range(600, 900, 1_500)) == "10-25 min"
    assert duration(Range(0, 0.1, 0.5)) == "< 1 s"
    assert (count(exact(18_375)), count(Range(48, 50, 54)), count(None)) == ("18,375", "48-54", "")


def test_a_cache_of_speeds_that_cannot_be_written_ends_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Speed(100, 300, 50, 96, Part(2, 10))
    monkeypatch.setattr(speed, "_measure", lambda *_: measured)
    (tmp_path / "file").write_text("")
    found = speed.speed_of(LlamaConfig(), torch.device("cpu"), torch.float32, tmp_path / "file" / "speeds.json")
    assert found == measured
