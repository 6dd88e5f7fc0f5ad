"""Sampling: greedy equals transformers' own, the exact distribution otherwise, whatever shares the batch."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_models import ARCHITECTURES, plain_logps, plain_model, random_ids, tiny_folder, tiny_model
from transformers import PreTrainedModel

from limbeck.errors import ModelError
from limbeck.lm.fused_runner import can_be_fused
from limbeck.lm.generate import PromptIds, Sample, Sampling, Tally, generate, slots_for
from limbeck.lm.kernels import kernels
from limbeck.lm.load import LanguageModel

LENGTHS = (3, 11, 1, 40, 7, 7)


class Both(NamedTuple):
    ours: LanguageModel
    plain: PreTrainedModel


def prompts(num_samples: int = 1) -> list[PromptIds]:
    draw = torch.Generator().manual_seed(4)
    return [PromptIds(f"p/{n}", random_ids(draw, length), num_samples) for n, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tiny_folder(tmp_path_factory.mktemp(request.param), request.param)
    return Both(tiny_model(folder), plain_model(folder))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def fusable(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("fusable"), head_dim=16))


@pytest.fixture(scope="module", params=["general", "fused"])
def any_model(request: pytest.FixtureRequest, model: LanguageModel, fusable: LanguageModel) -> LanguageModel:
    return fusable if request.param == "fused" else model


def stopping_at(model: LanguageModel, *tokens: int) -> LanguageModel:
    return replace(model, chat=replace(model.chat, stop_tokens=frozenset(tokens)))


def by_key(samples: list[Sample]) -> dict[tuple[str, int], Sample]:
    return {(sample.prompt_id, sample.sample_index): sample for sample in samples}


def sample_all(model: LanguageModel, asked: list[PromptIds], sampling: Sampling) -> dict[tuple[str, int], Sample]:
    return by_key(list(generate(model, asked, sampling)))


def transformers_greedy(network: Any, prompt: PromptIds, stop: int, most: int) -> tuple[int, ...]:
    ids = torch.tensor([prompt.ids])
    out = network.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=stop,
        pad_token_id=0,
    )
    return tuple(out[0, len(prompt.ids) :].tolist())


def test_greedy_equals_transformers_token_for_token_for_any_number_of_slots(both: Both) -> None:
    asked = prompts()
    stop = transformers_greedy(both.plain, asked[1], 299, 9)[6]  # a token that greedy decoding does reach
    expected = {(p.id, 0): transformers_greedy(both.plain, p, stop, 14) for p in asked}
    ended = {key for key, ids in expected.items() if ids[-1] == stop}
    assert 0 < len(ended) < len(asked)
    model = stopping_at(both.ours, stop)
    for slots in (1, 2, 8):
        got = sample_all(model, asked, Sampling(max_new_tokens=14, slots=slots, prefill_tokens=30))
        assert {key: sample.ids for key, sample in got.items()} == expected
        assert {key for key, sample in got.items() if sample.finish_reason == "stop"} == ended


def test_logps_are_the_teacher_forced_ones_of_the_untempered_model(both: Both) -> None:
    asked = prompts()
    got = sample_all(both.ours, asked, Sampling(max_new_tokens=12, temperature=1.7, top_p=0.9, slots=4))
    with torch.no_grad():
        for prompt in asked:
            sample = got[prompt.id, 0]
            slow = plain_logps(both.plain, prompt.ids, sample.ids)
            assert list(sample.logps) == pytest.approx(slow.tolist(), abs=1e-4)


def test_the_same_seed_gives_the_same_samples_whatever_else_is_in_the_batch(model: LanguageModel) -> None:
    asked = prompts(num_samples=2)
    settings = Sampling(max_new_tokens=10, temperature=1.0, top_p=0.95, seed=7, slots=5)
    together = sample_all(model, asked, settings)
    assert together == sample_all(model, asked, settings)
    ids = {key: sample.ids for key, sample in together.items()}
    for slots in (2, 12):
        again = sample_all(model, asked[::-1], replace(settings, slots=slots))
        assert {key: sample.ids for key, sample in again.items()} == ids
    for prompt in asked[:2]:
        alone = sample_all(model, [prompt], settings)
        assert {key: sample.ids for key, sample in alone.items()} == {k: v for k, v in ids.items() if k[0] == prompt.id}
    other = sample_all(model, asked, replace(settings, seed=8))
    assert sum(other[key].ids == ids[key] for key in ids) <= 1


def test_samples_of_a_prompt_differ_and_share_one_prefill(any_model: LanguageModel) -> None:
    (prompt,) = [replace(p, num_samples=6) for p in prompts() if len(p.ids) == 40]
    tally = Tally()
    samples = list(generate(any_model, [prompt], Sampling(max_new_tokens=10, temperature=1.0, slots=6), tally))
    assert tally.useful_rows == 39 + sum(
        len(sample.ids) for sample in samples
    )  # not 6 * 39; the last token is a step's
    assert sorted(sample.sample_index for sample in samples) == list(range(6))
    assert len({sample.ids for sample in samples}) == 6


def test_every_row_that_is_computed_is_a_prompts_or_a_samples_but_for_rounding_up(any_model: LanguageModel) -> None:
    tally = Tally()
    samples = list(generate(any_model, prompts(), Sampling(max_new_tokens=9, slots=4), tally))
    assert tally.useful_rows == sum(length - 1 for length in LENGTHS) + sum(len(sample.ids) for sample in samples)
    passes = tally.steps + len(LENGTHS)  # at most: a prefill for each prompt
    assert tally.useful_rows <= tally.computed_rows <= tally.useful_rows + 16 * passes


def test_more_samples_of_a_prompt_than_slots_are_the_same_samples(any_model: LanguageModel) -> None:
    asked = prompts(num_samples=5)
    settings = Sampling(max_new_tokens=6, temperature=1.0, slots=32)
    narrow = sample_all(any_model, asked, replace(settings, slots=2))
    assert {k: s.ids for k, s in narrow.items()} == {
        k: s.ids for k, s in sample_all(any_model, asked, settings).items()
    }


def test_with_one_number_of_slots_logps_are_the_same_bits_whatever_else_is_asked_for(any_model: LanguageModel) -> None:
    asked = prompts(num_samples=3)
    settings = Sampling(max_new_tokens=20, temperature=0.9, top_p=0.9, seed=2, slots=16)
    together = sample_all(any_model, asked, settings)
    assert sample_all(any_model, asked[::-1], settings) == together
    for prompt in asked:
        assert sample_all(any_model, [prompt], settings).items() <= together.items()
    one = replace(asked[3], num_samples=1)
    assert sample_all(any_model, [one], settings)[one.id, 0] == together[one.id, 0]


def test_compiled_and_torchs_own_operators_write_the_same(
    fusable: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels() is None:
        pytest.skip("no C++ compiler")
    asked = prompts(num_samples=2)
    settings = Sampling(max_new_tokens=20, temperature=0.8, top_p=0.9, slots=8)
    compiled = sample_all(fusable, asked, settings)
    monkeypatch.setenv("LIMBECK_KERNELS", "off")
    kernels.cache_clear()
    plain = sample_all(fusable, asked, settings)
    kernels.cache_clear()
    assert {key: sample.ids for key, sample in compiled.items()} == {key: sample.ids for key, sample in plain.items()}
    for key, sample in compiled.items():
        assert sample.logps == pytest.approx(plain[key].logps, abs=1e-4)


def test_a_network_that_is_not_what_it_looks_like_is_run_as_it_is(fusable: LanguageModel) -> None:
    compiled = kernels()
    if compiled is None:
        pytest.skip("no C++ compiler")
    assert can_be_fused(fusable, compiled)
    other = copy.deepcopy(fusable)
    handle = other.decoder.layers[1].mlp.register_forward_hook(lambda _, __, out: 2 * out)
    assert not can_be_fused(other, compiled)
    handle.remove()
    assert can_be_fused(other, compiled)


def test_a_model_of_odd_sizes_is_not_fused(tmp_path: Path) -> None:
    compiled = kernels()
    if compiled is None:
        pytest.skip("no C++ compiler")
    for name, sizes in {
        "hidden": {"hidden_size": 40},
        "inner": {"intermediate_size": 40},
        "head": {"head_dim": 24},
    }.items():
        assert not can_be_fused(tiny_model(tiny_folder(tmp_path / name, **({"head_dim": 16} | sizes))), compiled)


def test_int8_weights_write_nearly_the_same_and_are_refused_where_they_cannot_be_had(
    fusable: LanguageModel, model: LanguageModel
) -> None:
    if kernels() is None:
        pytest.skip("no C++ compiler")
    asked = prompts()
    own = sample_all(fusable, asked, Sampling(max_new_tokens=1, slots=16))
    rounded = sample_all(fusable, asked, Sampling(max_new_tokens=1, slots=16, weights="int8"))
    assert [rounded[key].logps[0] for key in own] == pytest.approx([own[key].logps[0] for key in own], abs=0.2)
    assert any(rounded[key].logps != own[key].logps for key in own)
    with pytest.raises(ModelError, match="int8"):
        list(generate(model, asked, Sampling(max_new_tokens=1, weights="int8")))  # its heads are too small


def test_a_stop_string_ends_a_sample_and_is_not_in_the_text(any_model: LanguageModel) -> None:
    (prompt,) = prompts()[:1]
    settings = Sampling(max_new_tokens=30, temperature=1.0, seed=3)
    free = sample_all(any_model, [prompt], settings)[prompt.id, 0]
    stop = free.text[8:11]
    assert len(stop) == 3
    got = sample_all(any_model, [prompt], replace(settings, stop=("never there", stop)))[prompt.id, 0]
    assert got.finish_reason == "stop_string"
    assert got.text == free.text[: free.text.index(stop)]
    assert got.ids == free.ids[: len(got.ids)]
    assert stop not in any_model.chat.text(got.ids[:-1])
    assert stop in any_model.chat.text(got.ids)


def test_a_prompts_own_limit_counts_and_the_end_of_turn_can_be_ignored(model: LanguageModel) -> None:
    first, second = prompts()[:2]
    stop = sample_all(stopping_at(model, 299), [first], Sampling(max_new_tokens=8))[first.id, 0].ids[2]
    asked = [replace(first, max_new_tokens=5), second]
    got = sample_all(stopping_at(model, stop), asked, Sampling(max_new_tokens=7, ignore_end_of_turn=True))
    assert [len(got[prompt.id, 0].ids) for prompt in asked] == [5, 7]


def test_repetition_is_penalised_as_transformers_does(model: LanguageModel, tmp_path: Path) -> None:
    plain = plain_model(tiny_folder(tmp_path / "llama"))
    for prompt in prompts():
        ids = torch.tensor([prompt.ids])
        theirs = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            repetition_penalty=1.6,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(prompt.ids) :]
        settings = Sampling(max_new_tokens=12, repetition_penalty=1.6, ignore_end_of_turn=True)
        ours = sample_all(model, [prompt], settings)
        assert ours[prompt.id, 0].ids == tuple(theirs.tolist())


def test_where_memory_runs_out_half_the_slots_go_on_and_no_sample_is_lost(
    model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = prompts(num_samples=2)
    settings = Sampling(max_new_tokens=7, temperature=1.0, slots=8)
    whole = sample_all(model, asked, settings)
    rows: list[int] = []

    def out_of_memory(_: object, given: tuple[torch.Tensor, ...]) -> None:
        rows.append(len(given[0]))
        if len(given[0]) > 4 and len(rows) > 9:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    handle = model.head.register_forward_pre_hook(out_of_memory)
    tally = Tally()
    samples = list(generate(model, asked, settings, tally))
    handle.remove()
    assert tally.halvings == 1
    assert "going on with 4 samples at once" in capsys.readouterr().err
    assert len(samples) == len(whole)  # none twice
    assert {key: sample.ids for key, sample in by_key(samples).items()} == {k: s.ids for k, s in whole.items()}


def test_memory_too_small_for_one_sample_is_one_sentence(model: LanguageModel) -> None:
    def out_of_memory(_: object, __: object) -> None:
        raise MemoryError

    handle = model.head.register_forward_pre_hook(out_of_memory)
    with pytest.raises(ModelError, match="too small to write a single sample"):
        list(generate(model, prompts(), Sampling(max_new_tokens=3, slots=4)))
    handle.remove()


def test_logits_that_are_no_numbers_end_the_run_with_the_prompt(any_model: LanguageModel) -> None:
    broken = copy.deepcopy(any_model)
    with torch.no_grad():
        broken.head.weight[7] = float("nan")
    with pytest.raises(ModelError, match=r"no numbers, on prompt p/"):
        list(generate(broken, prompts(), Sampling(max_new_tokens=3)))


def test_gradients_are_not_switched_off_while_the_caller_has_its_turn(model: LanguageModel) -> None:
    for _ in generate(model, prompts(), Sampling(max_new_tokens=3)):
        assert not torch.is_inference_mode_enabled()


def test_a_stop_token_ends_a_sample_and_is_in_the_ids_but_not_in_the_text(model: LanguageModel) -> None:
    (prompt,) = prompts()[:1]
    free = sample_all(stopping_at(model, 299), [prompt], Sampling(max_new_tokens=8))[prompt.id, 0]
    assert free.finish_reason == "length"
    assert len(free.ids) == 8
    stop = free.ids[5]
    stopped = sample_all(stopping_at(model, stop, 299), [prompt], Sampling(max_new_tokens=8))[prompt.id, 0]
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1]
    assert stopped.finish_reason == "stop"
    chat = stopping_at(model, stop).chat
    assert chat.text(stopped.ids) == chat.text(stopped.ids[:-1]) == chat.tokenizer.decode(stopped.ids[:-1])


def test_a_stop_at_the_last_allowed_token_is_a_stop(model: LanguageModel) -> None:
    (prompt,) = prompts()[:1]
    stop = sample_all(stopping_at(model, 299), [prompt], Sampling(max_new_tokens=1))[prompt.id, 0].ids[0]
    got = sample_all(stopping_at(model, stop), [prompt], Sampling(max_new_tokens=1))[prompt.id, 0]
    assert (got.ids, got.finish_reason) == ((stop,), "stop")


def test_no_prompt_gives_no_sample(model: LanguageModel) -> None:
    assert list(generate(model, [], Sampling(max_new_tokens=5))) == []


def test_slots_fit_the_memory_and_are_at_least_one_and_at_most_what_is_asked(model: LanguageModel) -> None:
    token_bytes = 2 * 2 * 2 * 8 * 4  # keys and values, layers, key/value heads, head size, fp32
    assert slots_for(model, 100, 64, budget_bytes=7 * 100 * token_bytes) == 7
    assert slots_for(model, 100, 64, budget_bytes=7 * 100 * token_bytes - 1) == 6
    assert slots_for(model, 100, 64, budget_bytes=1) == 1
    assert slots_for(model, 100, 64) == 64
    assert slots_for(model, 100, 5) == 5


def test_samples_that_outgrow_a_sliding_window_are_those_of_transformers(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "windowed", "gemma3_text", sliding_window=16)
    model, plain = tiny_model(folder), plain_model(folder)
    prompts = [PromptIds("short", (5, 9, 11)), PromptIds("long", tuple(range(20, 50)))]
    for sample in generate(model, prompts, Sampling(max_new_tokens=30, slots=2)):
        prompt = next(prompt.ids for prompt in prompts if prompt.id == sample.prompt_id)
        expected = plain.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt) :]
        assert sample.ids == tuple(expected.tolist()[: len(sample.ids)])
        assert len(prompt) + len(sample.ids) > 16
