"""From logits to tokens: the exact distribution, on torch's operators and on the compiled kernels alike."""

import random
from collections import Counter
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from limbeck.lm.choosing import NUCLEUS_CANDIDATES, Sampling, choose, penalised
from limbeck.lm.kernels import Kernels

LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.9, 0.5, 0.0, -0.5, -1.0, 1.9, 0.2]])
DRAWS = 8000
CUTS = [(1.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.9, 0), (1.8, 0.6, 0), (0.3, 0.95, 0)]  # temperature, top_p, top_k
CUTS += [(1.0, 1.0, 1), (1.3, 1.0, 4), (1.0, 1.0, 10), (0.8, 1.0, 99), (1.0, 0.7, 4), (1.5, 0.95, 7), (1.0, 0.01, 3)]


@pytest.fixture(params=["operators", "compiled"])
def path(request: pytest.FixtureRequest) -> Kernels | None:
    """What `choose` runs on."""
    return request.getfixturevalue("compiled") if request.param == "compiled" else None


def settings(temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, penalty: float = 1.0) -> Sampling:
    return Sampling(1, temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=penalty)


class Exact(NamedTuple):
    """Tokens that can be drawn, likeliest first, and their probabilities' running sums, of which the last is 1.

    `edge`: how far, in probability, the nucleus is from holding one token more or less.
    """

    tokens: list[int]
    cumulative: Tensor
    edge: float

    def token(self, uniform: float) -> int:
        """The first token whose running sum passes `uniform`."""
        return self.tokens[next(n for n, passed in enumerate(self.cumulative.tolist()) if passed > uniform)]

    def is_at_a_boundary(self, uniform: float) -> bool:
        """Whether rounding may decide."""
        return min(self.edge, float((self.cumulative - uniform).abs().min())) < 1e-5


def exact(logits: Tensor, temperature: float, top_p: float, top_k: int) -> Exact:
    """The definition, in fp64: temper; keep the top_k likeliest, renormalise; of those the smallest set whose mass
    reaches top_p, renormalise."""
    scaled = logits.double() / temperature
    order = sorted(range(len(scaled)), key=lambda token: (-float(scaled[token]), token))
    order = order[: top_k or None]
    left = scaled[order].softmax(-1).cumsum(0)
    size = next((n + 1 for n, mass in enumerate(left.tolist()) if mass >= top_p), len(order))
    edge = float((left[:-1] - top_p).abs().min()) if top_p < 1 and len(left) > 1 else 1.0
    return Exact(order[:size], scaled[order[:size]].softmax(-1).cumsum(0), edge)


def test_the_definition_cuts_to_top_k_first_and_then_to_the_nucleus_of_what_is_left() -> None:
    logits = torch.tensor([0.4, 0.1, 0.3, 0.2]).log()
    assert exact(logits, 1.0, 1.0, 0).tokens == [0, 2, 3, 1]
    # Of all, 0.4 + 0.3 do not reach 0.75; of the first three, which hold 0.9, they do.
    assert exact(logits, 1.0, 0.75, 0).tokens == [0, 2, 3]
    assert exact(logits, 1.0, 0.75, 3).tokens == [0, 2]
    assert exact(logits, 1.0, 0.75, 3).cumulative.tolist() == pytest.approx([4 / 7, 1.0])
    assert exact(logits, 0.5, 1.0, 2).cumulative.tolist() == pytest.approx([16 / 25, 1.0])


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), CUTS)
def test_sampling_follows_the_exact_distribution(
    path: Kernels | None, temperature: float, top_p: float, top_k: int
) -> None:
    rng = random.Random(11)
    chosen = choose(LOGITS.repeat(DRAWS, 1), [rng] * DRAWS, settings(temperature, top_p, top_k), path)
    wanted = exact(LOGITS[0], temperature, top_p, top_k)
    counts = Counter(chosen.tokens)
    assert set(counts) <= set(wanted.tokens)
    if len(wanted.tokens) > 1:
        shares = wanted.cumulative.diff(prepend=torch.zeros(1, dtype=torch.float64))
        observed = [counts[token] for token in wanted.tokens]
        assert chisquare(observed, (shares * DRAWS).tolist()).pvalue > 1e-3
    logps = LOGITS[0].log_softmax(-1)[chosen.tokens[:50]]
    assert chosen.logps[:50] == pytest.approx(logps.tolist(), abs=1e-6)


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), CUTS)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_both_paths_give_the_token_of_the_definition_for_the_same_uniform_number(
    compiled: Kernels, spread: float, temperature: float, top_p: float, top_k: int
) -> None:
    rows = 150
    logits = torch.randn(rows, 400, generator=torch.Generator().manual_seed(3)) * spread
    uniforms = [random.Random(row).random() for row in range(rows)]
    cut = settings(temperature, top_p, top_k)
    ours = [choose(logits, [random.Random(n) for n in range(rows)], cut, way) for way in (None, compiled)]
    decided = 0
    for row in range(rows):
        wanted = exact(logits[row], temperature, top_p, top_k)
        if not wanted.is_at_a_boundary(uniforms[row]):
            assert {chosen.tokens[row] for chosen in ours} == {wanted.token(uniforms[row])}, row
            decided += 1
    assert decided > 0.9 * rows
    assert ours[0].logps == pytest.approx(ours[1].logps, abs=1e-5)


@given(
    seed=st.integers(0, 2**20),
    vocabulary=st.integers(1, 40),
    spread=st.sampled_from([0.1, 1.0, 8.0, 60.0]),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 5.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    top_k=st.integers(0, 45),
)
def test_both_paths_agree_for_any_vocabulary_and_any_cut(
    compiled: Kernels, seed: int, vocabulary: int, spread: float, temperature: float, top_p: float, top_k: int
) -> None:
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread
    wanted, uniform = exact(logits[0], temperature, top_p, top_k), random.Random(seed).random()
    for way in (None, compiled):
        token = choose(logits, [random.Random(seed)], settings(temperature, top_p, top_k), way).tokens[0]
        assert token in range(vocabulary)
        assert token == wanted.token(uniform) or wanted.is_at_a_boundary(uniform)


@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.5, 0), (0.9, 0), (1.0, 3), (1.0, 9), (0.8, 9)])
def test_of_equal_logits_the_smaller_id_goes_first(path: Kernels | None, top_p: float, top_k: int) -> None:
    # Logits of a bf16 model are full of ties; a cut may fall between equals.
    draw = torch.Generator().manual_seed(8)
    logits = torch.randint(-1, 2, (40, 600), generator=draw).float()
    uniforms = [random.Random(row).random() for row in range(40)]
    chosen = choose(logits, [random.Random(row) for row in range(40)], settings(1.0, top_p, top_k), path)
    for row in range(40):
        wanted = exact(logits[row], 1.0, top_p, top_k)
        assert chosen.tokens[row] == wanted.token(uniforms[row]) or wanted.is_at_a_boundary(uniforms[row])


@pytest.mark.parametrize("top_p", [0.2, 0.9, 1.0])
def test_a_nucleus_wider_than_the_candidates_is_found_exactly(path: Kernels | None, top_p: float) -> None:
    logits = torch.randn(1, 2 * NUCLEUS_CANDIDATES + 77, generator=torch.Generator().manual_seed(5)) * 0.1
    wanted = exact(logits[0], 1.0, top_p, 0)
    assert (len(wanted.tokens) > NUCLEUS_CANDIDATES) == (top_p > 0.5)
    chosen = choose(logits.repeat(300, 1), [random.Random(n) for n in range(300)], settings(1.0, top_p), path)
    uniforms = [random.Random(n).random() for n in range(300)]
    for token, uniform in zip(chosen.tokens, uniforms, strict=True):
        assert token == wanted.token(uniform) or wanted.is_at_a_boundary(uniform)


def test_top_k_may_be_larger_than_the_nucleus_candidates(path: Kernels | None) -> None:
    top_k = NUCLEUS_CANDIDATES + 100
    logits = torch.randn(1, 900, generator=torch.Generator().manual_seed(6)) * 0.1
    wanted = exact(logits[0], 1.0, 1.0, top_k)
    chosen = choose(logits.repeat(1500, 1), [random.Random(n) for n in range(1500)], settings(1.0, 1.0, top_k), path)
    assert set(chosen.tokens) <= set(wanted.tokens)
    assert set(chosen.tokens) & set(wanted.tokens[NUCLEUS_CANDIDATES:])


def test_one_row_is_chosen_as_it_is_among_others(path: Kernels | None) -> None:
    logits = torch.randn(20, 700, generator=torch.Generator().manual_seed(1))
    cut = settings(1.2, 0.97, 40)
    together = choose(logits, [random.Random(row) for row in range(20)], cut, path)
    alone = [choose(logits[row : row + 1], [random.Random(row)], cut, path) for row in range(20)]
    assert together.tokens == [chosen.tokens[0] for chosen in alone]
    assert together.logps == pytest.approx([chosen.logps[0] for chosen in alone], abs=1e-6)


def test_greedy_takes_the_likeliest_token_whatever_the_cuts_and_draws_nothing(path: Kernels | None) -> None:
    rng = random.Random(1)
    chosen = choose(LOGITS.repeat(2, 1), [rng, rng], settings(0.0, 0.5, 3), path)
    assert chosen.tokens == [0, 0]
    assert chosen.logps == pytest.approx([float(LOGITS[0].log_softmax(-1)[0])] * 2)
    assert rng.random() == random.Random(1).random()


def test_a_draw_takes_one_uniform_number_a_row(path: Kernels | None) -> None:
    rng = random.Random(1)
    choose(LOGITS.repeat(3, 1), [rng] * 3, settings(1.0, 0.9, 5), path)
    other = random.Random(1)
    assert [other.random() for _ in range(4)][-1] == rng.random()


@pytest.mark.parametrize("penalty", [0.8, 1.0, 1.3, 5.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(2))
    ids = torch.randint(30, (5, 12), generator=torch.Generator().manual_seed(3))  # prompt and response, with repeats
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    before = logits.clone()
    assert torch.equal(penalised(logits, [row.unique() for row in ids], penalty), expected)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"), [(0.0, 1.0, 0), (1.0, 1.0, 0), (0.7, 0.9, 0), (1.0, 0.9, 8)]
)
def test_penalised_tokens_are_chosen_from_transformers_logits_and_logps_are_of_the_models_own(
    path: Kernels | None, temperature: float, top_p: float, top_k: int
) -> None:
    rows = 60
    logits = torch.randn(rows, 30, generator=torch.Generator().manual_seed(2)) * 2
    ids = [torch.randint(30, (1, 1 + row % 9), generator=torch.Generator().manual_seed(row)) for row in range(rows)]
    processor = RepetitionPenaltyLogitsProcessor(1.4)
    penalised_rows = [processor(ids[row], logits[row : row + 1].clone())[0] for row in range(rows)]
    rngs = [random.Random(row) for row in range(rows)]
    seen = [row[0].unique() for row in ids]
    chosen = choose(logits, rngs, settings(temperature, top_p, top_k, 1.4), path, seen)
    for row, token in enumerate(chosen.tokens):
        if temperature == 0:
            assert token == int(penalised_rows[row].argmax())
            continue
        wanted, uniform = exact(penalised_rows[row], temperature, top_p, top_k), random.Random(row).random()
        assert token == wanted.token(uniform) or wanted.is_at_a_boundary(uniform)
    plain = choose(logits, [random.Random(row) for row in range(rows)], settings(temperature, top_p, top_k), path)
    assert plain.tokens != chosen.tokens
    own = logits.double().log_softmax(-1).gather(1, torch.tensor(chosen.tokens)[:, None])[:, 0]
    assert chosen.logps == pytest.approx(own.tolist(), abs=1e-5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("cut", [settings(0.0), settings(1.0), settings(0.7, 0.9, 5), settings(1.0, 0.9)])
def test_logits_that_are_no_numbers_show_in_the_token_or_its_logp_and_in_no_other_row(
    path: Kernels | None, wrong: float, cut: Sampling
) -> None:
    logits = LOGITS.repeat(3, 1)
    logits[1, 4] = wrong
    chosen = choose(logits, [random.Random(n) for n in range(3)], cut, path)
    assert chosen.tokens[1] == -1 or not torch.tensor(chosen.logps[1]).isfinite()
    assert all(chosen.tokens[row] >= 0 and -9 < chosen.logps[row] < 0 for row in (0, 2))
