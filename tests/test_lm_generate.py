"""Sampling: greedy equals transformers' own, the exact distribution otherwise, whatever shares the batch."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from scipy.stats import chisquare
from tiny_models import ARCHITECTURES, plain_logps, plain_model, random_ids, tiny_folder, tiny_model
from transformers import PreTrainedModel

from limbeck.lm.generate import NUCLEUS_CANDIDATES, PromptIds, Sample, Sampling, choose, generate, slots_for
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


def test_samples_of_a_prompt_differ_and_share_one_prefill(model: LanguageModel) -> None:
    lengths: list[int] = []
    hook = model.decoder.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    (prompt,) = [replace(p, num_samples=6) for p in prompts() if len(p.ids) == 40]
    got = sample_all(model, [prompt], Sampling(max_new_tokens=10, temperature=1.0, slots=6))
    hook.remove()
    assert lengths[0] == 40  # not 6 * 40
    assert lengths[1] <= 6
    assert sorted(index for _, index in got) == list(range(6))
    assert len({sample.ids for sample in got.values()}) == 6


def test_no_token_is_computed_for_an_empty_or_finished_slot(model: LanguageModel) -> None:
    lengths: list[int] = []
    hook = model.decoder.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    asked = prompts()
    got = sample_all(model, asked, Sampling(max_new_tokens=9, slots=4))
    hook.remove()
    # The first token of a sample comes from its prompt's pass; each later one is a token of its own.
    assert sum(lengths) == sum(LENGTHS) + sum(len(sample.ids) - 1 for sample in got.values())


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


def test_no_prompt_gives_no_sample_and_too_many_samples_of_one_prompt_are_an_error(model: LanguageModel) -> None:
    assert list(generate(model, [], Sampling(max_new_tokens=5))) == []
    with pytest.raises(ValueError, match="more samples of one prompt than slots"):
        list(generate(model, prompts(num_samples=3), Sampling(max_new_tokens=5, slots=2)))


LOGITS = torch.tensor([[2.0, 1.5, 1.0, 0.9, 0.5, 0.0, -0.5, -1.0, 1.9, 0.2]])
DRAWS = 8000


def exact(logits: torch.Tensor, temperature: float, top_p: float) -> list[float]:
    """The definition: temper, keep the smallest set of likeliest tokens whose mass reaches `top_p`, renormalise."""
    probabilities = (logits.double() / temperature).softmax(-1)
    kept: list[int] = []
    for token in sorted(range(len(probabilities)), key=lambda token: -float(probabilities[token])):
        if sum(float(probabilities[t]) for t in kept) >= top_p:
            break
        kept.append(token)
    mass = sum(float(probabilities[t]) for t in kept)
    return [float(p) / mass if token in kept else 0.0 for token, p in enumerate(probabilities)]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.9), (1.8, 0.6), (0.3, 0.95)])
def test_sampling_follows_the_exact_distribution(temperature: float, top_p: float) -> None:
    settings = Sampling(max_new_tokens=1, temperature=temperature, top_p=top_p)
    rng = random.Random(11)
    tokens, logps = choose(LOGITS, [0] * DRAWS, [rng] * DRAWS, settings)
    wanted = exact(LOGITS[0], temperature, top_p)
    counts = Counter(tokens)
    support = [token for token, p in enumerate(wanted) if p]
    assert set(counts) <= set(support)
    if len(support) > 1:
        observed = [counts[token] for token in support]
        assert chisquare(observed, [wanted[token] * DRAWS for token in support]).pvalue > 1e-3
    assert logps[:50] == pytest.approx([float(LOGITS[0].log_softmax(-1)[token]) for token in tokens[:50]], abs=1e-6)


@pytest.mark.parametrize("top_p", [0.2, 0.9, 1.0])
def test_a_nucleus_wider_than_the_candidates_is_found_by_sorting_everything(top_p: float) -> None:
    logits = torch.randn(1, 2 * NUCLEUS_CANDIDATES + 77, generator=torch.Generator().manual_seed(5)) * 0.1
    probabilities = logits[0].double().softmax(-1)
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    size = next(n + 1 for n, mass in enumerate(ordered.cumsum(0)) if float(mass) >= top_p - 1e-12)
    assert (size > NUCLEUS_CANDIDATES) == (top_p > 0.5)
    cumulative = (ordered[:size] / ordered[:size].sum()).cumsum(0)
    settings = Sampling(max_new_tokens=1, temperature=1.0, top_p=top_p)
    got, _ = choose(logits, [0] * 300, [random.Random(n) for n in range(300)], settings)
    uniforms = [random.Random(n).random() for n in range(300)]
    slow = [int(tokens[next(n for n, mass in enumerate(cumulative) if float(mass) > u)]) for u in uniforms]
    assert got == slow


def test_greedy_takes_the_likeliest_token_and_draws_nothing() -> None:
    rng = random.Random(1)
    tokens, logps = choose(LOGITS, [0, 0], [rng, rng], Sampling(max_new_tokens=1))
    assert tokens == [0, 0]
    assert logps == pytest.approx([float(LOGITS[0].log_softmax(-1)[0])] * 2)
    assert rng.random() == random.Random(1).random()


def test_slots_fit_the_memory_and_are_at_least_one_and_at_most_what_is_asked(model: LanguageModel) -> None:
    token_bytes = 2 * 2 * 2 * 8 * 4  # keys and values, layers, key/value heads, head size, fp32
    assert slots_for(model, 100, budget_bytes=7 * 100 * token_bytes) == 7
    assert slots_for(model, 100, budget_bytes=7 * 100 * token_bytes - 1) == 6
    assert slots_for(model, 100, budget_bytes=1) == 1
    assert slots_for(model, 100) == 64
    assert slots_for(model, 100, most=5) == 5


def test_samples_that_outgrow_a_sliding_window_are_those_of_transformers(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "windowed", "gemma3_text", sliding_window=16)
    model, plain = tiny_model(folder), plain_model(folder)
    prompts = [PromptIds("short", (5, 9, 11)), PromptIds("long", tuple(range(20, 50)))]
    for sample in generate(model, prompts, Sampling(max_new_tokens=30, slots=2)):
        prompt = next(prompt.ids for prompt in prompts if prompt.id == sample.prompt_id)
        expected = plain.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt) :]
        assert sample.ids == tuple(expected.tolist()[: len(sample.ids)])
        assert len(prompt) + len(sample.ids) > 16
