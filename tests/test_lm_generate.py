"""Sampling: greedy equals transformers' own, the exact distribution otherwise, whatever shares the batch."""

import copy
import errno
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from tiny_models import ARCHITECTURES, plain_logps, plain_model, random_ids, tiny_folder, tiny_model
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from limbeck.errors import ModelError
from limbeck.lm.free_memory import Memory
from limbeck.lm.fused_runner import FusedRunner, can_be_fused
from limbeck.lm.general_runner import GeneralRunner
from limbeck.lm.generate import PromptIds, Sample, Sampling, Tally, generate, slots_for, within_memory
from limbeck.lm.kernels import Kernels, kernels
from limbeck.lm.load import LanguageModel
from limbeck.lm.products import own_products
from limbeck.lm.row_counts import RowCounts
from limbeck.lm.runner import Prefill

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
    if request.param == "general":
        return model
    assert can_be_fused(fusable, request.getfixturevalue("compiled"))
    return fusable


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


def families() -> list[PromptIds]:
    """Prompts of which some begin alike, for pages of sixteen tokens to be shared, and some are long."""
    draw = torch.Generator().manual_seed(9)
    common = random_ids(draw, 40)
    alike = [common + random_ids(draw, length) for length in (1, 9, 30)] + [common, common[:20] + random_ids(draw, 50)]
    return [*prompts(2), *(PromptIds(f"alike/{number}", ids, 2) for number, ids in enumerate(alike))]


@pytest.mark.parametrize("slots", [16, 40, 64])
@pytest.mark.parametrize("prefill_tokens", [30, 1024])
def test_with_one_number_of_slots_logps_are_the_same_bits_whatever_else_is_asked_for(
    any_model: LanguageModel, slots: int, prefill_tokens: int
) -> None:
    asked = families()
    settings = Sampling(20, temperature=0.9, top_p=0.9, seed=2, slots=slots, prefill_tokens=prefill_tokens)
    together = sample_all(any_model, asked, settings)
    assert sample_all(any_model, asked[::-1], settings) == together
    for some in (asked[:1], asked[3:5], asked[-4:-2], [replace(asked[-1], num_samples=1)]):
        assert sample_all(any_model, some, settings).items() <= together.items()


@pytest.fixture
def multiplies_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor gives the same integers; one without the instructions only takes longer."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)


@pytest.mark.usefixtures("multiplies_bytes")
def test_int8_samples_are_the_same_bits_whatever_else_is_asked_for(fusable: LanguageModel, compiled: Kernels) -> None:
    asked = families()
    settings = Sampling(20, temperature=0.9, seed=2, slots=40, prefill_tokens=30, weights="int8")
    together = sample_all(fusable, asked, settings)
    assert sample_all(fusable, asked[::-1], settings) == together
    assert sample_all(fusable, asked[-2:], settings).items() <= together.items()


def test_prompts_that_begin_alike_are_computed_once(fusable: LanguageModel, compiled: Kernels) -> None:
    asked = [PromptIds(str(number), (*range(50, 98), number)) for number in range(5)]  # 48 tokens: three pages
    tally = Tally()
    list(generate(fusable, asked, Sampling(max_new_tokens=1), tally))
    assert tally.useful_rows == 48 + len(asked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_each_architecture_that_is_fused_writes_what_its_own_modules_write(
    architecture: str, dtype: torch.dtype, tmp_path: Path, compiled: Kernels
) -> None:
    folder = tiny_folder(tmp_path / architecture, architecture, head_dim=16, sliding_window=None)
    model = tiny_model(folder, dtype)
    with torch.no_grad():  # biases are born as zeros
        for name, parameter in model.network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
    assert can_be_fused(model, compiled)
    runners = [FusedRunner(model, compiled, own_products, 16, 80), GeneralRunner(model, 16, 80)]
    begun = [Prefill(prompt.ids[:-1], (slot,)) for slot, prompt in enumerate(prompts()) if len(prompt.ids) > 1]
    with torch.inference_mode():
        for runner in runners:
            runner.prefill(begun, RowCounts([], 64))
        ids, positions = [prompt.ids[-1] for prompt in prompts()], [length - 1 for length in LENGTHS]
        for step in range(20):  # over the end of a page
            fused, general = (runner.decode(ids, positions, 16)[: len(ids)] for runner in runners)
            torch.testing.assert_close(fused, general, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.25)
            ids, positions = [10 + step] * len(ids), [position + 1 for position in positions]


def test_models_whose_attention_or_angles_need_more_are_not_fused(tmp_path: Path, compiled: Kernels) -> None:
    windowed = tiny_folder(tmp_path / "mistral", "mistral", head_dim=16, sliding_window=16)
    assert not can_be_fused(tiny_model(windowed), compiled)
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    restless = tiny_folder(tmp_path / "dynamic", "llama", head_dim=16, rope_parameters=scaling)
    assert not can_be_fused(tiny_model(restless), compiled)


def test_compiled_and_torchs_own_operators_write_the_same(
    fusable: LanguageModel, compiled: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts(num_samples=2)
    settings = Sampling(max_new_tokens=20, temperature=0.8, top_p=0.9, slots=8)
    fast = sample_all(fusable, asked, settings)
    monkeypatch.setenv("LIMBECK_KERNELS", "off")
    kernels.cache_clear()
    try:
        plain = sample_all(fusable, asked, settings)
    finally:
        kernels.cache_clear()
    assert {key: sample.ids for key, sample in fast.items()} == {key: sample.ids for key, sample in plain.items()}
    for key, sample in fast.items():
        assert sample.logps == pytest.approx(plain[key].logps, abs=1e-4)


def test_a_network_that_is_not_what_it_looks_like_is_run_as_it_is(fusable: LanguageModel, compiled: Kernels) -> None:
    assert can_be_fused(fusable, compiled)
    other = copy.deepcopy(fusable)
    handle = other.decoder.layers[1].mlp.register_forward_hook(lambda _, __, out: 2 * out)
    assert not can_be_fused(other, compiled)
    handle.remove()
    assert can_be_fused(other, compiled)


def test_a_model_of_odd_sizes_is_not_fused(tmp_path: Path, compiled: Kernels) -> None:
    for name, sizes in {
        "hidden": {"hidden_size": 40},
        "inner": {"intermediate_size": 40},
        "head": {"head_dim": 24},
    }.items():
        assert not can_be_fused(tiny_model(tiny_folder(tmp_path / name, **({"head_dim": 16} | sizes))), compiled)


@pytest.mark.usefixtures("multiplies_bytes")
def test_int8_weights_write_nearly_the_same_and_are_refused_where_they_cannot_be_had(
    fusable: LanguageModel, model: LanguageModel, compiled: Kernels
) -> None:
    asked = prompts()
    own = sample_all(fusable, asked, Sampling(max_new_tokens=1, slots=16))
    rounded = sample_all(fusable, asked, Sampling(max_new_tokens=1, slots=16, weights="int8"))
    assert [rounded[key].logps[0] for key in own] == pytest.approx([own[key].logps[0] for key in own], abs=0.2)
    assert any(rounded[key].logps != own[key].logps for key in own)
    with pytest.raises(ModelError, match="int8"):
        list(generate(model, asked, Sampling(max_new_tokens=1, weights="int8")))  # its heads are too small


@pytest.mark.usefixtures("multiplies_bytes")
def test_automatic_weights_are_rounded_where_that_can_be_done_and_the_models_own_elsewhere(
    fusable: LanguageModel, model: LanguageModel, compiled: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(by: LanguageModel, weights: Literal["own", "int8", "auto"]) -> dict[tuple[str, int], Sample]:
        return sample_all(by, prompts(), Sampling(max_new_tokens=1, slots=16, weights=weights))

    assert written(fusable, "auto") == written(fusable, "int8")
    assert written(model, "auto") == written(model, "own")  # its heads are too small
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert written(fusable, "auto") == written(fusable, "own") != {}
    with pytest.raises(ModelError, match="VNNI"):
        written(fusable, "int8")


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


def test_the_first_of_several_stop_strings_wins_also_at_the_last_token_and_across_tokens(model: LanguageModel) -> None:
    tokenizer = model.chat.tokenizer
    said = tuple(tokenizer.encode("What? \u00e9t\u00e9 is five.", add_special_tokens=False))
    assert len(tokenizer.encode("\u00e9", add_special_tokens=False)) > 1  # a letter of two tokens
    whole = len(said)
    for stops, text in {
        ("five", "\u00e9"): "What? ",
        ("is", "t\u00e9 is"): "What? \u00e9",
        (".",): "What? \u00e9t\u00e9 is five",
    }.items():
        sample = written(model, said, Sampling(max_new_tokens=whole, stop=stops))
        assert (sample.text, sample.finish_reason) == (text, "stop_string")
    assert written(model, said, Sampling(max_new_tokens=whole, stop=("six",))).finish_reason == "length"


def test_a_stop_string_is_found_behind_letters_that_a_byte_fallback_tokenizer_writes_in_bytes(
    model: LanguageModel,
) -> None:
    tokenizer = byte_fallback_tokenizer()
    said = tuple(tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in "日本語\n\nまた".encode()]))
    assert "\n" not in str(tokenizer.decode(said[5:11]))  # begins inside a letter: of the whole run nothing is read
    chat = replace(model.chat, tokenizer=tokenizer, stop_tokens=frozenset())
    sample = written(replace(model, chat=chat), said, Sampling(max_new_tokens=len(said), stop=("\n\n",)))
    assert (sample.text, sample.finish_reason, len(sample.ids)) == ("日本語", "stop_string", 11)


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """One such as Llama 2's, with no word of its own: every byte is a token, the line break too."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    core = Tokenizer(BPE({word: id_ for id_, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def written(model: LanguageModel, said: tuple[int, ...], sampling: Sampling) -> Sample:
    """The sample of a model that says just this, whatever it is asked."""
    step = 0

    def say(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        nonlocal step
        out = torch.zeros_like(logits)
        out[:, said[min(step, len(said) - 1)]] = 9
        step += 1
        return out

    handle = model.head.register_forward_hook(say)
    try:
        (sample,) = generate(model, prompts()[:1], sampling)
    finally:
        handle.remove()
    return sample


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


NO_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_half_the_slots_go_on_and_no_sample_is_lost(
    model: LanguageModel, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    asked = prompts(num_samples=4)
    settings = Sampling(max_new_tokens=7, temperature=1.0, slots=32)
    whole = sample_all(model, asked, settings)
    rows: list[int] = []

    def out_of_memory(_: object, given: tuple[torch.Tensor, ...]) -> None:
        rows.append(len(given[0]))
        if len(given[0]) > 16 and len(rows) > 3:
            raise error

    handle = model.head.register_forward_pre_hook(out_of_memory)
    tally = Tally()
    try:
        samples = list(generate(model, asked, settings, tally))
    finally:
        handle.remove()
    assert tally.halvings == 1
    assert "going on with 16 samples at once" in capsys.readouterr().err
    assert len(samples) == len(whole)  # none twice
    assert {key: sample.ids for key, sample in by_key(samples).items()} == {k: s.ids for k, s in whole.items()}


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "disk full")])
def test_other_errors_are_not_taken_for_want_of_memory(model: LanguageModel, error: Exception) -> None:
    def fail(_: object, __: object) -> None:
        raise error

    handle = model.head.register_forward_pre_hook(fail)
    try:
        with pytest.raises(type(error), match=r"match|full"):
            list(generate(model, prompts(), Sampling(max_new_tokens=3)))
    finally:
        handle.remove()


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
    assert slots_for(model, 100, 64, budget_bytes=1 << 40) == 64


@pytest.mark.parametrize(("room", "slots"), [(100, 64), (63, 48), (17, 16), (16, 16), (15, 15), (6, 6), (0, 1)])
def test_fewer_slots_than_asked_are_no_more_than_memory_holds_when_they_are_rounded_up(
    room: int, slots: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest, reserved = 10 + 90, 5000
    sample_bytes = longest * 2 * 2 * 2 * 8 * 4  # keys and values, layers, key/value heads, head size, fp32
    free = Memory(2 * room * sample_bytes + reserved, 1 << 40)
    monkeypatch.setattr("limbeck.lm.generate.device_memory", lambda _: free)
    prompt = PromptIds("p", tuple(range(10)))
    assert within_memory(model, [prompt], Sampling(max_new_tokens=90, slots=64), reserved).slots == slots


def test_room_is_kept_for_no_token_that_lies_beyond_the_models_context(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_bytes = 512 * 2 * 2 * 2 * 8 * 4  # its context; keys and values, layers, key/value heads, head size, fp32
    monkeypatch.setattr("limbeck.lm.generate.device_memory", lambda _: Memory(2 * 16 * sample_bytes, 1 << 40))
    prompt = PromptIds("p", tuple(range(10)))
    assert within_memory(model, [prompt], Sampling(max_new_tokens=8192, slots=64)).slots == 16


def test_samples_that_outgrow_a_sliding_window_are_those_of_transformers(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "windowed", "gemma3_text", sliding_window=16)
    model, plain = tiny_model(folder), plain_model(folder)
    prompts = [PromptIds("short", (5, 9, 11)), PromptIds("long", tuple(range(20, 50)))]
    for sample in generate(model, prompts, Sampling(max_new_tokens=30, slots=2)):
        prompt = next(prompt.ids for prompt in prompts if prompt.id == sample.prompt_id)
        expected = plain.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt) :]
        assert sample.ids == tuple(expected.tolist()[: len(sample.ids)])
        assert len(prompt) + len(sample.ids) > 16
