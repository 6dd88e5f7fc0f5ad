"""The fused head: its values and its own backward against log-softmax, gather and autograd."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import alike, plain_logps, plain_model, ragged_demonstrations, ragged_pairs, tiny_folder, tiny_model
from torch import Tensor, nn

from limbeck.lm.logps import CHUNK_WORDS, states_at, sum_by_sequence, target_logps, token_logps
from limbeck.lm.packing import Item, pack

CPU = torch.device("cpu")
HIDDEN = 7


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return nn.functional.linear(hidden, weight, bias).log_softmax(-1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("n", [1, 5, 700], ids="N={}".format)
@pytest.mark.parametrize(
    "words", [2, 23, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1, 2 * CHUNK_WORDS + 37], ids="V={}".format
)
def test_forward_and_backward_equal_autograd_below_at_and_over_a_chunk(words: int, n: int, biased: bool) -> None:
    draw = torch.Generator().manual_seed(n)
    values = {
        "hidden": torch.randn(n, HIDDEN, generator=draw),
        "weight": torch.randn(words, HIDDEN, generator=draw),
        **({"bias": torch.randn(words, generator=draw)} if biased else {}),
    }
    targets = torch.randint(0, words, (n,), generator=draw)
    targets[0], targets[-1] = 0, words - 1  # the ends of the vocabulary lie in the first and in the last chunk
    upstream = torch.randn(n, generator=draw) / n
    gradients = []
    outputs = []
    for function in (target_logps, plain):
        given = {name: value.clone().requires_grad_() for name, value in values.items()}
        output = function(given["hidden"], given["weight"], given.get("bias"), targets)
        output.backward(upstream)
        outputs.append(output.detach())
        gradients.append([value.grad for value in given.values()])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_still_do() -> None:
    hidden = torch.randn(4, HIDDEN, requires_grad=True)
    weight = torch.randn(23, HIDDEN)
    target_logps(hidden, weight, None, torch.tensor([0, 1, 2, 3])).sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_bf16_logps_are_normalised_in_fp32() -> None:
    # 300 equal logits: log(1/300). In bf16 the log-sum-exp alone would be off by up to 0.016.
    hidden, weight = torch.ones(3, 8, dtype=torch.bfloat16), torch.ones(300, 8, dtype=torch.bfloat16)
    values = target_logps(hidden, weight, None, torch.tensor([0, 7, 299]))
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx([-5.703782] * 3, abs=1e-5)


def test_logits_far_apart_from_chunk_to_chunk_neither_overflow_nor_vanish() -> None:
    words = 2 * CHUNK_WORDS
    logits = torch.full((words,), -200.0)
    logits[3], logits[CHUNK_WORDS + 5] = 150.0, 151.0
    values = target_logps(torch.ones(3, 1), logits[:, None], None, torch.tensor([3, CHUNK_WORDS + 5, 0]))
    # log(e^150 + e^151) = 151 + log(1 + 1/e)
    assert values.tolist() == pytest.approx([-1.3132617, -0.3132617, -351.3132617], abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"], ids=["untied", "tied", "tied_scaled"])
@pytest.mark.parametrize("rows", [ragged_demonstrations, ragged_pairs, alike])
def test_gradients_of_the_whole_model_equal_plain_autograd(
    architecture: str, rows: Callable[[], list[Item]], tmp_path: Path
) -> None:
    """Where embeddings are tied, the gradients of the input and of the output embedding add up in one weight."""
    folder = tiny_folder(tmp_path / "model", architecture)
    ours, theirs = tiny_model(folder), plain_model(folder)
    items = rows()
    row = pack(items, CPU)
    weights = torch.linspace(-1, 2, row.num_sequences)  # every sequence pulls with a weight of its own
    (sum_by_sequence(token_logps(ours, row), row) * weights).sum().backward()
    sequences = [(item.prompt, response) for item in items for response in item.responses]
    for weight, (prompt, response) in zip(weights, sequences, strict=True):
        (plain_logps(theirs, prompt, response).sum() * weight).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.network.named_parameters():
        wanted = expected[name].grad
        assert parameter.grad is not None
        assert wanted is not None
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3, msg=name)


def test_a_state_that_predicts_many_words_adds_up_their_gradients_in_one_order() -> None:
    """Enough numbers for torch to share an indexing's backward among threads, which add as they come."""
    draw = torch.Generator().manual_seed(5)
    hidden = torch.randn(40, 600, generator=draw, requires_grad=True)
    places = torch.randint(0, 40, (400,), generator=draw)
    weights = torch.randn(400, 600, generator=draw)
    found = [torch.autograd.grad((states_at(hidden, places) * weights).sum(), hidden)[0] for _ in range(20)]
    assert all(torch.equal(each, found[0]) for each in found)
    slow = torch.stack([weights[places == place].double().sum(0) for place in range(40)])
    torch.testing.assert_close(found[0].double(), slow, atol=1e-4, rtol=1e-5)


def test_a_confident_bf16_token_has_the_log_softmax_of_the_rounded_logits_and_never_more_than_0() -> None:
    # The first word's logit is 30.046875, which bf16 rounds to 30: the exact one less the rounded one is above 0.
    hidden = torch.ones(1, 2, dtype=torch.bfloat16)
    weight = torch.tensor([[30.0, 0.046875], [0.0, 0.0]], dtype=torch.bfloat16)
    value = target_logps(hidden, weight, None, torch.tensor([0]))
    rounded = nn.functional.linear(hidden, weight).float().log_softmax(-1)[:, 0]
    assert value.tolist() == pytest.approx(rounded.tolist(), abs=1e-6)
    assert float(value) <= 0
