"""Guided decoding: whatever the weights say, a reply keeps to its schema or was cut, and depends on nothing else."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, Variant, plain_logps, plain_model, random_ids, tiny_folder, tiny_model

from limbeck.errors import ModelError
from limbeck.lm.choosing import Sampling, choose
from limbeck.lm.generate import PromptIds, Sample, generate
from limbeck.lm.guided import Grammar, Guide, guide_for
from limbeck.lm.kernels import Kernels
from limbeck.lm.load import LanguageModel

STRING = {"type": "string", "minLength": 1, "maxLength": 12}
SCHEMA = {
    "type": "object",
    "properties": {"preferred": STRING, "dispreferred": STRING},
    "required": ["preferred", "dispreferred"],
    "additionalProperties": False,
}
PAIR = json.dumps(SCHEMA)
CUTS = [(0, 1, 0), (1, 1, 0), (3, 0.9, 0), (2, 1, 7), (5, 0.5, 40)]  # temperature, top_p, top_k


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("llama"), head_dim=16))


def asked(number: int, schema: str | None = PAIR) -> list[PromptIds]:
    draw = torch.Generator().manual_seed(4)
    return [PromptIds(f"p/{n}", random_ids(draw, 3 + 5 * n), schema=schema) for n in range(number)]


def sample_all(model: LanguageModel, prompts: list[PromptIds], sampling: Sampling) -> dict[str, Sample]:
    return {sample.prompt_id: sample for sample in generate(model, prompts, sampling)}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.0, 0.7, 1.0, 5.0]), top_k=st.sampled_from([0, 3]))
def test_a_guided_reply_is_what_the_schema_says_or_was_cut(
    model: LanguageModel, seed: int, temperature: float, top_k: int
) -> None:
    sampling = Sampling(90, temperature=temperature, seed=seed, top_k=top_k, repetition_penalty=1.3)
    for sample in generate(model, asked(6), sampling):
        assert sample.finish_reason in ("stop", "length")
        if sample.finish_reason == "stop":
            reply = json.loads(sample.text)
            assert list(reply) == ["preferred", "dispreferred"]
            assert all(1 <= len(value) <= 12 for value in reply.values())
        else:
            assert len(sample.ids) == 90


def test_most_replies_of_a_random_model_end_where_strings_are_bounded(model: LanguageModel) -> None:
    samples = sample_all(model, asked(20), Sampling(150, temperature=1.0)).values()
    assert sum(sample.finish_reason == "stop" for sample in samples) >= 15


def test_guided_samples_are_the_same_bits_whatever_is_written_beside_them(model: LanguageModel) -> None:
    sampling = Sampling(60, temperature=1.0, seed=3, slots=16)
    guided, free = asked(6), [replace(prompt, id=f"free/{prompt.id}") for prompt in asked(6, schema=None)]
    together = sample_all(model, [*guided, *free], sampling)
    assert sample_all(model, guided[2:3], sampling) == {"p/2": together["p/2"]}
    assert sample_all(model, free[::-1], sampling) == {prompt.id: together[prompt.id] for prompt in free}
    assert sample_all(model, guided[::-1], sampling).items() <= together.items()


def test_log_probabilities_of_guided_tokens_are_the_models_own(model: LanguageModel, tmp_path: Path) -> None:
    plain = plain_model(tiny_folder(tmp_path / "llama", head_dim=16))
    for prompt in asked(3):
        sample = sample_all(model, [prompt], Sampling(30, temperature=1.0))[prompt.id]
        with torch.no_grad():
            slow = plain_logps(plain, prompt.ids, sample.ids)
        assert list(sample.logps) == pytest.approx(slow.tolist(), abs=1e-4)


@pytest.mark.parametrize("variant", ["chatml", "pad_is_eos", "base_eos", "unlisted"])
def test_a_whole_reply_can_only_be_followed_by_a_token_that_ends_the_turn(variant: Variant, tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path, variant=variant))
    guide = guide_for(model)
    grammar = guide.begin(PAIR)
    for token in model.chat.tokenizer.encode('{"preferred": "a", "dispreferred": "b"', add_special_tokens=False):
        assert grammar.consume_token(token)
        assert not allowed_ids(guide, grammar) & model.chat.stop_tokens
    (brace,) = model.chat.tokenizer.encode("}", add_special_tokens=False)
    assert grammar.consume_token(brace)
    assert allowed_ids(guide, grammar) == model.chat.stop_tokens


def allowed_ids(guide: Guide, grammar: Grammar) -> set[int]:
    """The set bits, one at a time."""
    words = guide.allowed([grammar])[0].tolist()
    return {token for token in range(VOCABULARY) if (words[token // 32] >> token % 32) & 1}


@pytest.mark.parametrize("path", ["operators", "compiled"])
@pytest.mark.parametrize(("temperature", "top_p", "top_k"), CUTS)
def test_only_allowed_tokens_are_chosen_in_the_proportions_they_had(
    path: str, temperature: float, top_p: float, top_k: int, request: pytest.FixtureRequest
) -> None:
    compiled: Kernels | None = request.getfixturevalue("compiled") if path == "compiled" else None
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 333, generator=generator) * 4  # no multiple of the 32 bits of a word
    may = torch.rand(40, 333, generator=generator) < 0.02
    may[:, 5] = True
    bits = torch.zeros(40, 11, dtype=torch.int64)
    for row, token in may.nonzero().tolist():
        bits[row, token // 32] |= 1 << token % 32
    allowed = (bits - ((bits >> 31) << 32)).to(torch.int32)
    sampling = Sampling(1, temperature=temperature, top_p=top_p, top_k=top_k)
    chosen = choose(logits, rngs(40), sampling, compiled, (), allowed)
    for row in range(40):
        left = may[row].nonzero()[:, 0]
        alone = choose(logits[row : row + 1, left], rngs(40)[row : row + 1], sampling)
        assert chosen.tokens[row] == left[alone.tokens[0]]
    expected = logits.log_softmax(-1)[torch.arange(40), chosen.tokens]
    assert chosen.logps == pytest.approx(expected.tolist(), abs=1e-4)


def rngs(number: int) -> list[random.Random]:
    return [random.Random(row) for row in range(number)]


class _Last(random.Random):
    """Draws the largest number below one."""

    def random(self) -> float:
        return 1 - 2**-53


@pytest.mark.parametrize("path", ["operators", "compiled"])
def test_not_even_the_last_draw_is_a_forbidden_token(path: str, request: pytest.FixtureRequest) -> None:
    compiled: Kernels | None = request.getfixturevalue("compiled") if path == "compiled" else None
    logits = torch.randn(200, 320, generator=torch.Generator().manual_seed(2))
    allowed = torch.zeros(200, 10, dtype=torch.int32)
    allowed[:, 3] = 0b1011 << 7
    for top_k in (0, 8):
        chosen = choose(logits, [_Last()] * 200, Sampling(1, 1.0, top_k=top_k), compiled, (), allowed)
        assert set(chosen.tokens) <= {103, 104, 106}


def test_a_schema_that_no_grammar_can_say_is_one_sentence(model: LanguageModel) -> None:
    odd = json.dumps({"type": "string", "minLength": 5, "maxLength": 2})
    with pytest.raises(ModelError, match="cannot guide replies of"):
        list(generate(model, asked(1, schema=odd), Sampling(5)))
