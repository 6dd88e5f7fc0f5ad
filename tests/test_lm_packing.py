"""Packed and prefix-shared rows: the same numbers as one sequence at a time, and nobody sees anybody else."""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import (
    ARCHITECTURES,
    alike,
    plain_logps,
    plain_model,
    ragged_demonstrations,
    ragged_pairs,
    tiny_folder,
    tiny_model,
)
from transformers import PreTrainedModel

from limbeck.lm.load import LanguageModel
from limbeck.lm.logps import logps, token_logps
from limbeck.lm.packing import Item, PackedRow, neighbours, pack, under_budget
from limbeck.lm.sharing import LEAST_SHARED
from limbeck.lm.span_attention import Span, Stretch

CPU = torch.device("cpu")


class Both(NamedTuple):
    """The same weights twice: in the engine, and as transformers loads them."""

    ours: LanguageModel
    plain: PreTrainedModel
    plain_sdpa: PreTrainedModel


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tiny_folder(tmp_path_factory.mktemp(request.param), request.param)
    return Both(tiny_model(folder), plain_model(folder), plain_model(folder, "sdpa"))


@torch.no_grad()
def packed(model: LanguageModel, items: list[Item]) -> list[float]:
    values: list[float] = logps(model, pack(items, CPU)).tolist()
    return values


@torch.no_grad()
def one_at_a_time(network: PreTrainedModel, items: list[Item]) -> list[float]:
    return [float(plain_logps(network, item.prompt, r).sum()) for item in items for r in item.responses]


def test_prefix_shared_pairs_have_the_logps_of_single_sequences(both: Both) -> None:
    items = ragged_pairs()
    got = packed(both.ours, items)
    assert got == pytest.approx(one_at_a_time(both.plain, items), abs=1e-4)
    assert got == pytest.approx(one_at_a_time(both.plain_sdpa, items), abs=1e-4)


def test_packed_demonstrations_have_the_logps_of_single_sequences(both: Both) -> None:
    items = ragged_demonstrations()
    assert packed(both.ours, items) == pytest.approx(one_at_a_time(both.plain, items), abs=1e-4)


def test_sequences_that_begin_alike_have_the_logps_of_single_sequences(both: Both) -> None:
    items = alike()
    tokens = pack(items, CPU).input_ids.shape[1]
    assert tokens < 0.6 * sum(item.num_tokens for item in items)  # of 385: something is shared
    for order in (items, items[::-1], neighbours(items)):
        assert packed(both.ours, order) == pytest.approx(one_at_a_time(both.plain, order), abs=1e-4)


def test_logps_do_not_depend_on_what_shares_the_row(both: Both) -> None:
    items = ragged_pairs() + ragged_demonstrations()
    apart = [value for item in items for value in packed(both.ours, [item])]
    assert packed(both.ours, items) == pytest.approx(apart, abs=1e-4)
    assert packed(both.ours, items[::-1])[-2:] == pytest.approx(apart[:2], abs=1e-4)


def change(ids: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*ids[:place], ids[place] % 200 + 5, *ids[place + 1 :])


@torch.no_grad()
def test_no_token_sees_another_pair_or_the_other_branch(both: Both) -> None:
    items = ragged_pairs()
    row = pack(items, CPU)
    before = token_logps(both.ours, row)
    touched = 4
    prompt, (chosen, rejected) = items[touched].prompt, items[touched].responses
    first = 2 * touched  # sequence of the chosen response; the rejected one is the next
    cases: list[tuple[Item, set[int]]] = [
        (replace(items[touched], prompt=change(prompt, 2)), {first, first + 1}),
        (replace(items[touched], responses=(change(chosen, 0), rejected)), {first}),
        (replace(items[touched], responses=(chosen, change(rejected, 1))), {first + 1}),
    ]
    for item, may_change in cases:
        after = token_logps(both.ours, pack([*items[:touched], item, *items[touched + 1 :]], CPU))
        moved = set(row.owner[(after - before).abs() > 1e-6].tolist())
        assert moved == may_change


def tokens_by_sequence(row: PackedRow) -> list[set[int]]:
    """For each sequence, the places in the packed row of its computed tokens, as its last prediction sees them."""
    owned: list[set[int]] = []
    for sequence in range(row.num_sequences):
        last = int(row.predict_at[row.owner == sequence][-1])
        (span,) = (span for span in row.layout.spans if span.start <= last < span.start + span.length)
        before = {place for stretch in span.before for place in range(*stretch)}
        owned.append(before | set(range(span.start, last + 1)))
    return owned


def test_a_sequences_gradient_reaches_its_own_tokens_and_is_exactly_zero_elsewhere(both: Both) -> None:
    items = ragged_pairs() + ragged_demonstrations() + alike()
    row = pack(items, CPU)
    embedded: list[torch.Tensor] = []
    hook = both.ours.network.get_input_embeddings().register_forward_hook(
        lambda _module, _ids, states: embedded.append(states)
    )
    values = logps(both.ours, row)
    hook.remove()
    for sequence, own in enumerate(tokens_by_sequence(row)):
        (gradient,) = torch.autograd.grad(values[sequence], embedded[0], retain_graph=True)  # [1, T, H]
        assert set(gradient[0].abs().amax(-1).nonzero()[:, 0].tolist()) == own


@torch.no_grad()
def test_no_token_sees_a_later_one(both: Both) -> None:
    item = ragged_pairs()[5]
    row = pack([item], CPU)
    before = token_logps(both.ours, row)
    place = 10
    changed = replace(item, responses=(change(item.responses[0], place), item.responses[1]))
    after = token_logps(both.ours, pack([changed], CPU))
    moved = ((after - before).abs() > 1e-6).nonzero()[:, 0].tolist()
    assert min(moved) == place
    assert max(moved) < len(item.responses[0])


@torch.no_grad()
def test_the_prompts_last_state_predicts_the_first_token_of_both_branches(both: Both) -> None:
    for item in ragged_pairs():
        row = pack([item], CPU)
        values = token_logps(both.ours, row)
        after_prompt = both.plain(input_ids=torch.tensor([item.prompt])).logits[0, -1].log_softmax(-1)
        for sequence, response in enumerate(item.responses):
            first = values[row.owner == sequence][0]
            assert float(first) == pytest.approx(float(after_prompt[response[0]]), abs=1e-4)


def test_a_pair_is_laid_out_prompt_chosen_rejected_with_positions_that_restart() -> None:
    row = pack([Item("a", (10, 11, 12), ((20, 21, 22), (30, 31))), Item("b", (13,), ((23,), (33, 34)))], CPU)
    assert row.ids == ("a", "b")
    assert row.input_ids.tolist() == [[10, 11, 12, 20, 21, 30, 13, 33]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1]]
    assert row.targets.tolist() == [20, 21, 22, 30, 31, 23, 33, 34]
    assert row.predict_at.tolist() == [2, 3, 4, 2, 5, 6, 6, 7]
    assert row.owner.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert row.num_sequences == 4


def test_a_demonstration_is_one_causal_span() -> None:
    row = pack([Item("a", (10, 11), ((20, 21, 22),))], CPU)
    assert row.input_ids.tolist() == [[10, 11, 20, 21]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3]]
    assert row.predict_at.tolist() == [1, 2, 3]
    assert row.layout.spans == [Span(0, 4)]


def test_what_begins_alike_is_laid_out_once_with_its_branches_behind_it() -> None:
    template, task = tuple(range(100, 110)), tuple(range(200, 208))
    items = [
        Item("a", (*template, *task, 1), ((20, 21),)),
        Item("b", (*template, 2), ((30,), (31, 32, 33))),
        Item("c", (*template, *task, 3, 4), ((40, 41, 42),)),
    ]
    row = pack(items, CPU)
    assert row.input_ids.tolist() == [[*template, *task, 1, 20, 3, 4, 40, 41, 2, 31, 32]]
    assert row.position_ids.tolist() == [[*range(18), 18, 19, 18, 19, 20, 21, 10, 11, 12]]
    first, second = Stretch(0, 10), Stretch(10, 18)
    assert row.layout.spans == [
        Span(0, 10), Span(10, 8, (first,)), Span(18, 2, (first, second)), Span(20, 4, (first, second)),
        Span(24, 1, (first,)), Span(25, 2, (first, Stretch(24, 25))),
    ]  # fmt: skip
    assert row.targets.tolist() == [20, 21, 30, 31, 32, 33, 40, 41, 42]
    assert row.predict_at.tolist() == [18, 19, 24, 24, 25, 26, 21, 22, 23]
    assert row.owner.tolist() == [0, 0, 1, 2, 2, 2, 3, 3, 3]


def test_what_responses_begin_with_alike_meets_the_vocabulary_once() -> None:
    steps = tuple(range(20, 30))
    row = pack([Item("a", (10, 11), ((*steps, 1, 2), (*steps, 3))), Item("b", (12,), ((20, 21),))], CPU)
    assert row.distinct.tolist() == [*range(12), 22, 23, 24]  # from where they part, and the other item
    assert row.same_as.tolist() == [*range(12), *range(10), 12, 13, 14]
    assert row.predict_at[row.distinct][row.same_as].tolist() == row.predict_at.tolist()
    assert row.targets[row.distinct][row.same_as].tolist() == row.targets.tolist()


def test_beginnings_of_fewer_tokens_are_not_worth_a_branch() -> None:
    for shared, rows in ((LEAST_SHARED - 1, 2), (LEAST_SHARED, 3)):
        begin = tuple(range(50, 50 + shared))
        items = [Item(str(at), (*begin, *range(100 * at, 100 * at + 9)), ((5, 6),)) for at in (1, 2)]
        assert len(pack(items, CPU).layout.spans) == rows


TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=30).map(tuple)


@given(st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=2).map(tuple)), min_size=1, max_size=9))
def test_a_row_holds_every_sequence_and_each_token_at_its_place(
    drawn: list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]],
) -> None:
    items = [Item(str(number), prompt, responses) for number, (prompt, responses) in enumerate(drawn)]
    row = pack(items, CPU)
    ids, positions = row.input_ids[0].tolist(), row.position_ids[0].tolist()
    sequences = [(item.prompt, response) for item in items for response in item.responses]
    covered = [place for span in row.layout.spans for place in range(span.start, span.start + span.length)]
    assert covered == list(range(len(ids)))
    assert all(span.length for span in row.layout.spans)
    for sequence, (prompt, response) in enumerate(sequences):
        for at, place in enumerate(row.predict_at[row.owner == sequence].tolist()):
            (span,) = (span for span in row.layout.spans if span.start <= place < span.start + span.length)
            seen = [each for part in span.seen[:-1] for each in range(part.start, part.stop)]
            seen += range(span.start, place + 1)
            assert [ids[each] for each in seen] == [*prompt, *response[:at]]
            assert [positions[each] for each in seen] == list(range(len(seen)))
        assert row.targets[row.owner == sequence].tolist() == list(response)
    assert len(ids) <= sum(item.num_tokens for item in items)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12), st.integers(1, 40))
def test_budgeted_runs_keep_every_item_in_order_and_within_the_budget(
    shapes: list[tuple[int, int]], budget: int
) -> None:
    items = [Item(str(n), (5,) * prompt, ((6,) * response,)) for n, (prompt, response) in enumerate(shapes)]
    runs = list(under_budget(items, budget))
    assert [item for run in runs for item in run] == items
    assert all(len(run) == 1 or sum(item.num_tokens for item in run) <= budget for run in runs)
    for run, following in pairwise(runs):  # no run could have taken one more
        assert sum(item.num_tokens for item in run) + following[0].num_tokens > budget


def test_an_item_counts_the_tokens_that_its_row_computes_but_for_what_its_responses_begin_with_alike() -> None:
    for item in ragged_pairs() + ragged_demonstrations():
        row = pack([item], CPU)
        shared = 1 if item.id == "pair/4" else 0
        assert (item.num_tokens - shared, item.num_targets) == (row.input_ids.shape[1], len(row.targets))


class Windowed(NamedTuple):
    """A model with a window of 16 in the engine and as transformers loads it, and the same weights without a window."""

    ours: LanguageModel
    plain: PreTrainedModel
    unwindowed: PreTrainedModel


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Windowed:
    folder = tiny_folder(tmp_path_factory.mktemp("windowed"), "gemma3_text", sliding_window=16)
    wide = tiny_folder(tmp_path_factory.mktemp("unwindowed"), "gemma3_text", sliding_window=512)
    return Windowed(tiny_model(folder), plain_model(folder), plain_model(wide))


@torch.no_grad()
def test_rows_that_outgrow_a_sliding_window_have_the_logps_of_single_sequences(windowed: Windowed) -> None:
    items = [
        Item("fits", (5,) * 10, ((6,) * 7, (7, 8) * 3)),  # 10 + 6 computed tokens in the longest branch: the window
        Item("one too long", tuple(range(20, 30)), ((6, 9) * 4, (7,) * 3)),
        Item("prompt too long", tuple(range(20, 60)), ((6, 9, 11) * 8, (7,))),
        Item("demonstration", tuple(range(30, 50)), ((8, 10, 12) * 9,)),
    ]
    assert packed(windowed.ours, items) == pytest.approx(one_at_a_time(windowed.plain, items), abs=1e-4)
    assert packed(windowed.ours, items) != pytest.approx(one_at_a_time(windowed.unwindowed, items), abs=1e-2)
