"""Attention over spans: every path against one dense mask over the whole row, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.lm.span_attention import Plan, Span, Stretch, attend_spans, masked

SIZE = 8


def plan_of(shapes: list[tuple[int, int, int]]) -> Plan:
    """(prompt, chosen, rejected) lengths to spans as packing lays them out; a branch of length 0 has no span."""
    spans: list[Span] = []
    at = 0
    for prompt, *branches in shapes:
        start = at
        spans.append(Span(start, prompt))
        at += prompt
        for length in branches:
            if length:
                spans.append(Span(at, length, (Stretch(start, start + prompt),)))
                at += length
    return Plan(spans)


def states(plan: Plan, heads: int, groups: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Query, key, value of a row, [heads, T, size] each, laid out as a model lays them out."""
    draw = torch.Generator().manual_seed(3)
    tokens = plan.spans[-1].own.stop
    return [
        torch.randn(tokens, number, SIZE, generator=draw, dtype=torch.float64)
        .to(dtype)
        .transpose(0, 1)
        .requires_grad_()
        for number in (heads, groups, groups)
    ]


def dense(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scaling: float, window: int | None = None) -> Tensor:
    """The definition: softmax over one [T, T] mask of who sees whom, in plain operations."""
    tokens = query.shape[1]
    sequence_of: list[list[int]] = [[] for _ in range(tokens)]  # the tokens that each token's sequence begins with
    for span in plan.spans:
        before = [place for stretch in span.before for place in range(*stretch)]
        for place in range(span.own.start, span.own.stop):
            sequence_of[place] = [*before, *range(span.start, place + 1)]
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for place, sequence in enumerate(sequence_of):
        seen[place, sequence[-(window or tokens) :]] = True
    repeats = query.shape[0] // key.shape[0]
    scores = query @ key.repeat_interleave(repeats, 0).transpose(1, 2) * scaling
    chance = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return chance @ value.repeat_interleave(repeats, 0)


def agree(plan: Plan, heads: int = 4, groups: int = 2, window: int | None = None) -> None:
    results = []
    for path in (dense, attend_spans, masked):
        given_states = states(plan, heads, groups)
        out = path(*given_states, plan, 0.3, window)
        weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
        results.append([out.detach(), *torch.autograd.grad((out * weights).sum(), given_states)])
    for path_results in results[1:]:
        torch.testing.assert_close(path_results, results[0], atol=1e-10, rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=4),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
)
def test_values_and_gradients_are_those_of_the_dense_mask(
    shapes: list[tuple[int, int, int]], heads: tuple[int, int]
) -> None:
    agree(plan_of(shapes), *heads)


Node = tuple[int, list["Node"]]  # so many tokens, and the branches that go on from them
NODES: st.SearchStrategy[Node] = st.recursive(
    st.tuples(st.integers(1, 20), st.just([])),
    lambda nodes: st.tuples(st.integers(1, 20), st.lists(nodes, max_size=3)),
    max_leaves=6,
)


def plan_of_trees(trees: list[Node]) -> Plan:
    """Trees to spans, branch by branch."""
    spans: list[Span] = []

    def lay(node: Node, before: tuple[Stretch, ...]) -> None:
        start = spans[-1].own.stop if spans else 0
        spans.append(Span(start, node[0], before))
        for branch in node[1]:
            lay(branch, (*before, Stretch(start, start + node[0])))

    for tree in trees:
        lay(tree, ())
    return Plan(spans)


@settings(deadline=None, max_examples=30)
@given(st.lists(NODES, min_size=1, max_size=3), st.sampled_from([None, 1, 9, 33]))
def test_branches_of_branches_see_all_that_they_come_from(trees: list[Node], window: int | None) -> None:
    agree(plan_of_trees(trees), window=window)


@pytest.mark.parametrize("window", [1, 2, 7, 30, 31, 100])
def test_a_window_is_that_of_the_dense_mask(window: int) -> None:
    agree(plan_of([(20, 11, 3), (5, 0, 0), (30, 1, 40)]), window=window)


def test_lengths_around_the_kernels_own_blocks_agree() -> None:
    agree(plan_of([(191, 33, 64), (192, 768, 1)]))


def test_branches_of_one_prompt_read_it_in_one_call_and_pairs_are_not_mixed() -> None:
    calls = plan_of([(5, 3, 2), (4, 1, 0), (6, 0, 0)]).calls
    shared = [(call.queries, call.keys) for call in calls if not call.causal]
    assert shared == [(slice(5, 10), slice(0, 5)), (slice(14, 15), slice(10, 14))]
    own = [call.queries for call in calls if call.causal]
    assert own == [slice(0, 5), slice(5, 8), slice(8, 10), slice(10, 14), slice(14, 15), slice(15, 21)]
    assert all(call.queries == call.keys for call in calls if call.causal)


def test_bf16_states_are_attended_in_fp32_and_rounded_once() -> None:
    plan = plan_of([(50, 30, 20), (9, 80, 1)])
    narrow = states(plan, 4, 2, torch.bfloat16)
    out = attend_spans(*narrow, plan, 0.3)
    exact = dense(*(each.detach().double() for each in narrow), plan, 0.3)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, atol=2**-9, rtol=2**-8)
    gradients = torch.autograd.grad(out.float().sum(), narrow)
    assert [each.dtype for each in gradients] == [torch.bfloat16] * 3


def test_the_keys_of_a_variable_length_call_are_prefix_and_span_and_queries_stand_at_their_end() -> None:
    plan = plan_of([(3, 2, 1), (2, 0, 4)])
    ragged = plan.ragged(torch.device("cpu"))
    assert ragged.queries_from.tolist() == [0, 3, 5, 6, 8, 12]
    assert ragged.keys_from.tolist() == [0, 3, 8, 12, 14, 20]
    expected = [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 5], [6, 7], [6, 7, 8, 9, 10, 11]]
    assert ragged.key_index.tolist() == [place for keys in expected for place in keys]
    assert (ragged.most_queries, ragged.most_keys) == (4, 6)
    # The meaning of such a call, in plain operations: query i of n sees the first (keys - n + i + 1) of its keys.
    query, key, value = (each.detach() for each in states(plan, 4, 2))
    parts = []
    for number in range(5):
        q = query[:, ragged.queries_from[number] : ragged.queries_from[number + 1]]
        index = ragged.key_index[ragged.keys_from[number] : ragged.keys_from[number + 1]]
        k, v = (each.index_select(1, index).repeat_interleave(2, 0) for each in (key, value))
        seen = torch.ones(q.shape[1], len(index), dtype=torch.bool).tril(len(index) - q.shape[1])
        chance = (q @ k.transpose(1, 2) * 0.3).masked_fill(~seen, float("-inf")).softmax(-1)
        parts.append(chance @ v)
    torch.testing.assert_close(torch.cat(parts, 1), dense(query, key, value, plan, 0.3))


def test_the_keys_of_a_branch_of_a_branch_are_all_that_it_comes_from_in_order() -> None:
    ragged = plan_of_trees([(2, [(3, [(1, []), (2, [])]), (1, [])])]).ragged(torch.device("cpu"))
    assert ragged.queries_from.tolist() == [0, 2, 5, 6, 8, 9]
    expected = [[0, 1], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6, 7], [0, 1, 8]]
    assert ragged.key_index.tolist() == [place for keys in expected for place in keys]
    assert (ragged.most_queries, ragged.most_keys) == (3, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("window", [None, 1, 7, 40, 500])
@pytest.mark.parametrize("nested", [False, True])
def test_on_cuda_one_variable_length_call_is_the_masked_form(window: int | None, nested: bool) -> None:
    trees: list[Node] = [(20, [(9, [(11, []), (3, [(40, [])])]), (70, [])]), (5, [])]
    plan = plan_of_trees(trees) if nested else plan_of([(20, 11, 3), (5, 0, 0), (130, 1, 40), (1, 70, 0)])
    results = []
    for path in (attend_spans, masked):
        given_states = [each.detach().to("cuda", torch.bfloat16).requires_grad_() for each in states(plan, 4, 2)]
        out = path(*given_states, plan, 0.3, window)
        weights = torch.linspace(-1, 2, out.numel(), device="cuda").view(out.shape)
        gradients = torch.autograd.grad((out.float() * weights).sum(), given_states)
        results.append([each.float() for each in (out.detach(), *gradients)])
    torch.testing.assert_close(results[0], results[1], atol=0.05, rtol=0.05)
