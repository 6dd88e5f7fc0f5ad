"""Compiled kernels: each against torch's operators or the definition in fp64; how they are built, and done without."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from limbeck.lm.kernels import TOKENS_A_PAGE, Kernels, build, kernels

DTYPES = [torch.float32, torch.bfloat16]
# Half a unit in the last place, and as much again for what is computed before the one rounding.
RELATIVE = {torch.float32: 2e-6, torch.bfloat16: 2**-8}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def angles(positions: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, size], as transformers' rotary embedding gives them."""
    frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
    turns = (positions[:, None] * frequencies).repeat(1, 2)
    return turns.cos().to(dtype), turns.sin().to(dtype)


def rotated(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """transformers' rotate_half form, in fp64, of heads [T, heads, size]."""
    first, second = states.double().chunk(2, dim=-1)
    half = torch.cat([-second, first], -1)
    return states.double() * cosines.double()[:, None] + half * sines.double()[:, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 77, 576])
def test_normalise_is_the_root_mean_square_normalisation(compiled: Kernels, size: int, dtype: torch.dtype) -> None:
    states, weight = normal(5, 3, size, dtype=dtype), normal(size, seed=1, dtype=dtype)
    exact = states.double()
    exact = weight.double() * exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    got = compiled.normalise(states, weight, 1e-5)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact, rtol=RELATIVE[dtype], atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_normalised_row_has_the_same_bits_wherever_it_stands(compiled: Kernels, dtype: torch.dtype) -> None:
    states, weight = normal(33, 77, dtype=dtype), normal(77, seed=1, dtype=dtype)
    together = compiled.normalise(states, weight, 1e-6)
    for row in range(33):  # rows of 77 numbers begin at every alignment
        assert torch.equal(compiled.normalise(states[row].clone(), weight, 1e-6), together[row])


def test_a_row_of_zeros_is_normalised_to_zeros(compiled: Kernels) -> None:
    assert not compiled.normalise(torch.zeros(2, 32), torch.ones(32), 1e-6).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_gate_is_silu_times_up_and_a_number_for_any_magnitude(
    compiled: Kernels, scale: float, dtype: torch.dtype
) -> None:
    gates, ups = normal(7, 48, dtype=dtype) * scale, normal(7, 48, seed=1, dtype=dtype)
    gates[0, :6] = torch.tensor([1e4, -1e4, 0.0, -0.0, 88.5, -88.5])
    exact = silu(gates.double()) * ups.double()
    got = compiled.gate(gates, ups)
    assert got is gates
    torch.testing.assert_close(got.double(), exact, rtol=RELATIVE[dtype], atol=1e-28)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 64, 80])
def test_rotate_is_the_rotate_half_form_in_place(compiled: Kernels, size: int, dtype: torch.dtype) -> None:
    states = normal(9, 3, size, dtype=dtype)
    turns = angles(torch.tensor([0, 1, 2, 3, 50, 999, 7, 7, 30000]), size, dtype)
    exact = rotated(states, *turns)
    compiled.rotate(states, *turns)
    torch.testing.assert_close(states.double(), exact, rtol=RELATIVE[dtype], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_store_puts_every_token_where_its_place_says_and_touches_nothing_else(
    compiled: Kernels, dtype: torch.dtype
) -> None:
    groups, size, number = 3, 16, 6
    keys, values = normal(40, groups, size, dtype=dtype), normal(40, groups, size, seed=1, dtype=dtype)
    draw = torch.Generator().manual_seed(2)
    cells = torch.randperm(number * TOKENS_A_PAGE, generator=draw)[:50]
    tokens = torch.randint(40, (50,), generator=draw)  # some of them several times
    places = torch.stack([tokens, cells // TOKENS_A_PAGE, cells % TOKENS_A_PAGE], 1).to(torch.int32).contiguous()
    key_pages = torch.full((number, groups, size, TOKENS_A_PAGE), 9.0, dtype=dtype)
    value_pages = torch.full((number, groups, TOKENS_A_PAGE, size), 9.0, dtype=dtype)
    wanted_keys, wanted_values = key_pages.clone(), value_pages.clone()
    for token, page, place in places.tolist():
        wanted_keys[page, :, :, place] = keys[token]
        wanted_values[page, :, place] = values[token]
    compiled.store(keys, values, places, key_pages, value_pages)
    assert torch.equal(key_pages, wanted_keys)
    assert torch.equal(value_pages, wanted_values)


def test_pages_of_several_layers_are_stored_to_side_by_side_and_others_left_alone(compiled: Kernels) -> None:
    keys, values = normal(16, 1, 16), normal(16, 1, 16, seed=1)
    both = torch.full((3, 2, 2, 256), 9.0)  # pages, layers, keys and values
    places = torch.tensor([[token, 2, token] for token in range(16)], dtype=torch.int32)
    key_pages, value_pages = both[:, 1, 0].view(3, 1, 16, 16), both[:, 1, 1].view(3, 1, 16, 16)
    compiled.store(keys, values, places, key_pages, value_pages)
    assert torch.equal(both[2, 1, 0].view(16, 16), keys[:, 0].T)
    assert torch.equal(both[2, 1, 1].view(16, 16), values[:, 0])
    both[2, 1] = 9.0
    assert bool((both == 9.0).all())


def test_pages_that_are_not_whole_are_refused(compiled: Kernels) -> None:
    states, places = normal(16, 1, 16), torch.zeros(1, 3, dtype=torch.int32)
    pages, turned = torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16).transpose(2, 3)
    with pytest.raises(ValueError, match="contiguous each"):
        compiled.store(states, states, places, turned, pages)
    with pytest.raises(ValueError, match="equally far apart"):
        compiled.store(states, states, places, pages, torch.zeros(2, 2, 16, 16)[:, :1])


class Batch(NamedTuple):
    """One token a row, and the keys [n, groups, size] and values of each row's earlier positions."""

    states: tuple[Tensor, Tensor, Tensor]
    positions: list[int]
    keys: list[Tensor]
    values: list[Tensor]

    def rows(self, *wanted: int) -> "Batch":
        states = (self.states[0][list(wanted)], self.states[1][list(wanted)], self.states[2][list(wanted)])
        parts = (self.positions, self.keys, self.values)
        positions, keys, values = ([part[row] for row in wanted] for part in parts)
        return Batch(states, positions, keys, values)


class Decoded(NamedTuple):
    """What `attend` returned [R, heads * size], and the new keys and values [R, groups, size] it left in the cache."""

    out: Tensor
    keys: Tensor
    values: Tensor


POSITIONS = [0, 1, 15, 16, 17, 31, 32, 100, 7]


def batch(together: int, groups: int, size: int, dtype: torch.dtype) -> Batch:
    rows = len(POSITIONS)
    heads = (together * groups, groups, groups)
    states = [normal(rows, number, size, seed=n, dtype=dtype) for n, number in enumerate(heads)]
    keys = [normal(position, groups, size, seed=10 + row, dtype=dtype) for row, position in enumerate(POSITIONS)]
    values = [normal(position, groups, size, seed=50 + row, dtype=dtype) for row, position in enumerate(POSITIONS)]
    return Batch((states[0], states[1], states[2]), POSITIONS, keys, values)


def decode(compiled: Kernels, given: Batch, scaling: float, seed: int) -> Decoded:
    """Decode with pages that lie in an order drawn from `seed`, among pages full of numbers that are not the row's."""
    rows, groups, size = given.states[1].shape
    dtype = given.states[0].dtype
    width = max(given.positions) // TOKENS_A_PAGE + 2
    number = rows * width + 3
    draw = torch.Generator().manual_seed(seed)
    tables = torch.randperm(number, generator=draw)[: rows * width].view(rows, width).to(torch.int32).contiguous()
    of_layers = normal(number, 3, 2, groups * size * TOKENS_A_PAGE, seed=seed, dtype=dtype) * 100
    key_pages = of_layers[:, 1, 0].unflatten(1, (groups, size, TOKENS_A_PAGE))
    value_pages = of_layers[:, 1, 1].unflatten(1, (groups, TOKENS_A_PAGE, size))
    for row, (keys, values) in enumerate(zip(given.keys, given.values, strict=True)):
        for place in range(len(keys)):
            page = int(tables[row, place // TOKENS_A_PAGE])
            key_pages[page, :, :, place % TOKENS_A_PAGE] = keys[place]
            value_pages[page, :, place % TOKENS_A_PAGE] = values[place]
    places = torch.tensor(given.positions, dtype=torch.int32)
    turns = angles(places, size, dtype)
    pages, inside = tables[torch.arange(rows), places // TOKENS_A_PAGE], places % TOKENS_A_PAGE
    owners = torch.arange(rows, dtype=torch.int32)
    queries, new_keys, new_values = (part.clone() for part in given.states)
    compiled.rotate(new_keys, *turns)
    where = torch.stack([owners, pages, inside], 1).contiguous()
    compiled.store(new_keys, new_values, where, key_pages, value_pages)
    compiled.rotate(queries, *turns)
    out = compiled.attend(queries, (owners, places), tables, (key_pages, value_pages), scaling)
    return Decoded(out, key_pages[pages, :, :, inside], value_pages[pages, :, inside])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("together", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [16, 64, 80, 128, 256])
def test_decode_is_attention_over_the_rows_own_positions(
    compiled: Kernels, size: int, together: int, dtype: torch.dtype
) -> None:
    given, scaling = batch(together, 2, size, dtype), size**-0.5
    turns = angles(torch.tensor(POSITIONS), size, dtype)
    got = decode(compiled, given, scaling, seed=3)
    # The cache holds the rotated key and the value; attention reads them as they are held.
    torch.testing.assert_close(got.keys.double(), rotated(given.states[1], *turns), rtol=RELATIVE[dtype], atol=1e-6)
    assert torch.equal(got.values, given.states[2])
    queries = rotated(given.states[0], *turns).to(dtype).double()
    for row in range(len(POSITIONS)):
        keys = torch.cat([given.keys[row], got.keys[row][None]]).double().repeat_interleave(together, 1)
        values = torch.cat([given.values[row], got.values[row][None]]).double().repeat_interleave(together, 1)
        chance = (torch.einsum("hd,thd->ht", queries[row], keys) * scaling).softmax(-1)
        exact = torch.einsum("ht,thd->hd", chance, values).flatten()
        torch.testing.assert_close(got.out[row].double(), exact, rtol=RELATIVE[dtype], atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("together", "size"), [(1, 16), (3, 64), (5, 80), (4, 128)])
def test_a_decoded_row_has_the_same_bits_whatever_else_is_decoded_and_wherever_its_pages_lie(
    compiled: Kernels, together: int, size: int, dtype: torch.dtype
) -> None:
    given = batch(together, 2, size, dtype)
    first = decode(compiled, given, 0.2, seed=3).out
    assert torch.equal(decode(compiled, given, 0.2, seed=4).out, first)
    order = [8, 3, 5, 0, 7, 1, 6, 2, 4]
    assert torch.equal(decode(compiled, given.rows(*order), 0.2, seed=5).out, first[order])
    for row in range(len(POSITIONS)):
        assert torch.equal(decode(compiled, given.rows(row), 0.2, seed=row).out[0], first[row])


def test_decode_holds_for_scores_far_apart(compiled: Kernels) -> None:
    given = batch(2, 2, 64, torch.float32)
    out = decode(compiled, given, 50.0, seed=1).out  # scores of several thousand
    assert out.isfinite().all()
    largest = max(float(part.abs().max()) for part in [*given.values[7:8], given.states[2]])
    assert float(out[7].abs().max()) <= largest * (1 + 1e-6)  # a mean of values is no larger than the largest


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 2**20), width=st.integers(1, 6), exponent=st.integers(-20, 20))
def test_quantise_is_off_by_half_a_unit_of_the_second_byte_and_uses_the_whole_range(
    compiled: Kernels, seed: int, width: int, exponent: int, dtype: torch.dtype
) -> None:
    states = normal(4, 16 * width, seed=seed, dtype=dtype) * 2.0**exponent
    rounded, scales = compiled.quantise(states)
    assert (rounded.dtype, rounded.shape, scales.dtype) == (torch.int8, (8, 16 * width), torch.float32)
    torch.testing.assert_close(scales * 127, states.float().abs().amax(1), rtol=1e-6, atol=0)
    units = rounded[:4].double() + rounded[4:].double() / 254
    off = (units - states.double() / scales.double()[:, None]).abs()
    assert float(off.max()) <= 1 / 508 + 3e-5  # numbers of up to 127, in fp32, are off by as much themselves
    assert rounded[:4].int().abs().amax(1).tolist() == [127] * 4
    assert int(rounded.int().abs().max()) == 127  # never -128


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_quantised_row_has_the_same_bits_wherever_it_stands(compiled: Kernels, dtype: torch.dtype) -> None:
    states = normal(9, 48, dtype=dtype)
    rounded, scales = compiled.quantise(states)
    for row in range(9):
        alone, scale = compiled.quantise(states[row : row + 1].clone())
        assert torch.equal(alone, rounded[[row, 9 + row]])
        assert torch.equal(scale[0], scales[row])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros_are_quantised_to_zeros_with_scale_zero(compiled: Kernels, dtype: torch.dtype) -> None:
    states = normal(3, 32, dtype=dtype)
    states[1] = 0
    rounded, scales = compiled.quantise(states)
    assert not rounded[[1, 4]].any()
    assert [scale == 0 for scale in scales.tolist()] == [False, True, False]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_does_not_become_one_in_8_bits(compiled: Kernels, wrong: float) -> None:
    states = normal(3, 48)
    states[1, 20] = wrong
    rounded, scales = compiled.quantise(states)
    back = compiled.dequantise(rounded.int(), (scales, torch.ones(48)), None, torch.float32)
    assert not back[1].isfinite().any()
    assert back[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biased", [False, True])
def test_dequantise_adds_both_bytes_products_multiplies_by_both_scales_and_adds_the_bias(
    compiled: Kernels, biased: bool, dtype: torch.dtype
) -> None:
    draw = torch.Generator().manual_seed(0)
    products = torch.randint(-(2**24), 2**24, (10, 37), generator=draw, dtype=torch.int32)
    rows, columns = torch.rand(5, generator=draw) * 1e-3, torch.rand(37, generator=draw) * 1e-3
    bias = normal(37) if biased else None
    exact = (products[:5].double() + products[5:].double() / 254) * rows.double()[:, None] * columns.double()
    if bias is not None:
        exact = exact + bias.double()
    got = compiled.dequantise(products, (rows, columns), bias, dtype)
    assert (got.dtype, got.shape) == (dtype, (5, 37))
    torch.testing.assert_close(got.double(), exact, rtol=RELATIVE[dtype], atol=5e-6)


def test_what_was_quantised_comes_back(compiled: Kernels) -> None:
    states = normal(6, 64)
    rounded, scales = compiled.quantise(states)
    back = compiled.dequantise(rounded.int(), (scales, torch.ones(64)), None, torch.float32)
    assert bool(((back - states).abs() <= scales[:, None] * (1 / 508 + 3e-5)).all())


def test_greedy_takes_the_likeliest_and_of_equals_the_smallest_id(compiled: Kernels) -> None:
    logits = normal(6, 1003)
    logits[0, [900, 40, 41, 1002]] = 9.0
    logits[1, [1002, 1001]] = 9.0
    logits[2] = 0.0
    logits[3] = -1e30
    logits[3, 5] = -1e29
    tokens, logps = compiled.choose(logits, logits, [0.0] * 6, 0.0, 0, 1.0)
    assert tokens == [40, 1001, 0, 5, *logits[4:].argmax(-1).tolist()]
    exact = logits.double().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert logps == pytest.approx(exact.tolist(), abs=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 15, 16, 17, 300, 49152])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logps_are_those_of_the_plain_logits(compiled: Kernels, vocabulary: int, temperature: float) -> None:
    logits, plain = normal(4, vocabulary) * 5, normal(4, vocabulary, seed=1) * 5
    tokens, logps = compiled.choose(logits, plain, [0.0, 0.3, 0.7, 0.999], temperature, 0, 1.0)
    exact = plain.double().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert logps == pytest.approx(exact.tolist(), abs=1e-5)


@pytest.mark.parametrize("place", [0, 7, 49])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 5, 0.9), (1.0, 0, 0.9)]
)
def test_logits_that_are_no_numbers_show_in_the_token_or_its_logp_and_in_no_other_row(
    compiled: Kernels, place: int, wrong: float, temperature: float, top_k: int, top_p: float
) -> None:
    logits = normal(3, 50)
    logits[1, place] = wrong
    tokens, logps = compiled.choose(logits, logits, [0.5] * 3, temperature, top_k, top_p)
    assert tokens[1] == -1 or not torch.tensor(logps[1]).isfinite()
    assert all(0 <= tokens[row] < 50 and -20 < logps[row] < 0 for row in (0, 2))


def test_tensors_that_are_not_contiguous_are_refused(compiled: Kernels) -> None:
    wide, ones = normal(4, 64)[:, ::2], torch.ones(32)
    with pytest.raises(ValueError, match="contiguous"):
        compiled.normalise(wide, ones, 1e-6)
    with pytest.raises(ValueError, match="contiguous"):
        compiled.gate(normal(4, 32), wide)
    with pytest.raises(ValueError, match="contiguous"):
        compiled.quantise(wide)
    with pytest.raises(ValueError, match="contiguous"):
        compiled.rotate(normal(2, 4, 16).transpose(0, 1), *angles(torch.arange(4), 16, torch.float32))
    with pytest.raises(ValueError, match="contiguous"):
        compiled.choose(wide, wide.contiguous(), [0.0] * 4, 0.0, 0, 1.0)


def compiler(folder: Path, *lines: str) -> Path:
    """A compiler that notes each call in `calls`, tells its version, and else does what `lines` of shell say."""
    script = folder / "c++"
    begin = ["#!/bin/sh", f'echo "$*" >> "{folder}/calls"', '[ "$1" = --version ] && echo 1.0 && exit 0']
    script.write_text("\n".join([*begin, 'while [ "$1" != -o ]; do shift; done', *lines, ""]))
    script.chmod(0o755)
    return script


def compilations(folder: Path) -> int:
    return sum("-o" in line for line in (folder / "calls").read_text().splitlines())


def test_what_is_built_is_kept_and_not_compiled_again(tmp_path: Path) -> None:
    script = compiler(tmp_path, 'echo built > "$2"')
    first = build(str(script), tmp_path / "kept")
    assert first.read_text() == "built\n"
    assert build(str(script), tmp_path / "kept") == first
    assert compilations(tmp_path) == 1
    assert list((tmp_path / "kept").iterdir()) == [first]
    script.write_text(script.read_text().replace("1.0", "1.1"))  # another version of the compiler: another file
    assert build(str(script), tmp_path / "kept") != first
    assert compilations(tmp_path) == 2


def test_a_compiler_that_fails_is_an_error_in_its_words_and_leaves_no_file(tmp_path: Path) -> None:
    script = compiler(tmp_path, 'echo half > "$2"', "echo no such flag >&2", "exit 3")
    with pytest.raises(subprocess.CalledProcessError) as raised:
        build(str(script), tmp_path / "kept")
    assert raised.value.stderr == "no such flag\n"
    assert list((tmp_path / "kept").iterdir()) == []


def test_kernels_that_are_off_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_KERNELS", "off")
    assert kernels.__wrapped__() is None


def test_without_a_compiler_there_are_no_kernels_and_a_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LIMBECK_KERNELS", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.__wrapped__() is None
    assert "there is no C++ compiler" in " ".join("".join(capfd.readouterr()).split())


@pytest.mark.parametrize("lines", [("echo no such flag >&2", "exit 3"), ('echo no library > "$2"',)])
def test_a_compiler_that_does_not_work_means_no_kernels_and_a_sentence(
    lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LIMBECK_KERNELS", raising=False)
    monkeypatch.setenv("CXX", str(compiler(tmp_path, *lines)))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    assert kernels.__wrapped__() is None
    assert "sampling runs on torch's operators, slower" in " ".join("".join(capfd.readouterr()).split())
