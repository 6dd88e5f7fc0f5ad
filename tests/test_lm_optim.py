"""fp32 masters under bf16 weights, gradients in fp32, decay on matrices only, clipping, refusal of non-finite norms."""

import pytest
import torch
from torch import nn

from limbeck.lm.optim import MasterAdamW
from limbeck.lm.schedule import clip_scale


class Line(nn.Module):
    """One matrix and one vector, both ones."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 3, dtype=dtype))
        self.vector = nn.Parameter(torch.ones(3, dtype=dtype))

    def push(self, matrix: float, vector: float) -> None:
        """Backward of a loss whose gradient is `matrix` and `vector` everywhere."""
        ((self.matrix * matrix).sum() + (self.vector * vector).sum()).backward()


def step(optimizer: MasterAdamW, learning_rate: float, max_grad_norm: float) -> float:
    """As the trainer does it: read the norm, refuse one that is not finite, clip, update; returns the norm."""
    norm = float(optimizer.grad_norm())
    if norm < float("inf"):
        optimizer.step(learning_rate, clip_scale(norm, max_grad_norm))
    return norm


def test_updates_far_below_bf16_resolution_add_up_until_they_show() -> None:
    network = Line(torch.bfloat16)
    optimizer = MasterAdamW(network, weight_decay=0.0)
    seen = []
    for _ in range(100):
        network.push(1.0, 1.0)
        step(optimizer, 1e-4, 1e9)  # Adam under a constant gradient moves by the learning rate
        seen.append(network.matrix[0, 0].item())
    assert seen[:9] == [1.0] * 9  # bf16 has no number between 1 - 2^-8 and 1: the change is there, but does not show
    assert seen[-1] == pytest.approx(0.99, abs=2**-8)
    assert network.matrix.dtype == torch.bfloat16
    assert optimizer.weights()[0][0].item() == pytest.approx(0.99, abs=1e-5)


def test_micro_batch_gradients_add_up_in_fp32_under_bf16_weights() -> None:
    network = Line(torch.bfloat16)
    optimizer = MasterAdamW(network, weight_decay=0.0)
    network.push(0.0, 1.0)
    for _ in range(64):
        network.push(0.0, 2.0**-10)  # in bf16, 1 + 2^-10 is 1
    assert step(optimizer, 0.0, 1e9) == pytest.approx(3**0.5 * (1 + 64 * 2.0**-10), rel=1e-6)


def test_decay_acts_on_matrices_only() -> None:
    network = Line()
    optimizer = MasterAdamW(network, weight_decay=0.1)
    network.push(0.0, 0.0)
    step(optimizer, 0.5, 1.0)
    assert network.matrix.flatten().tolist() == pytest.approx([1 - 0.5 * 0.1] * 6)
    assert network.vector.tolist() == [1.0] * 3


def test_steps_equal_those_of_torch_adamw_with_its_clipping() -> None:
    torch.manual_seed(3)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = MasterAdamW(ours, weight_decay=0.2)
    slow = torch.optim.AdamW(
        [{"params": [theirs.weight], "weight_decay": 0.2}, {"params": [theirs.bias], "weight_decay": 0.0}]
    )
    for number in range(6):
        batch, rate = torch.randn(5, 4), 0.1 / (number + 1)
        (ours(batch) ** 2).sum().backward()
        slow.zero_grad()
        (theirs(batch) ** 2).sum().backward()
        norm = float(nn.utils.clip_grad_norm_(theirs.parameters(), 2.0))
        for group in slow.param_groups:
            group["lr"] = rate
        slow.step()
        assert step(optimizer, rate, 2.0) == pytest.approx(norm, rel=1e-5)
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


def test_gradients_are_scaled_down_to_the_norm_and_never_up() -> None:
    network = Line()
    optimizer = MasterAdamW(network, weight_decay=0.0, betas=(0.0, 0.0))
    network.push(3.0, 0.0)
    assert step(optimizer, 0.0, 1.0) == pytest.approx(3.0 * 6**0.5)
    first_moment = optimizer.state_dict()["adamw"]
    assert isinstance(first_moment, dict)
    assert float(first_moment["state"][0]["exp_avg"].norm()) == pytest.approx(1.0)
    network.push(0.01, 0.0)
    step(optimizer, 0.0, 1.0)
    again = optimizer.state_dict()["adamw"]
    assert isinstance(again, dict)
    assert float(again["state"][0]["exp_avg"].norm()) == pytest.approx(0.01 * 6**0.5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_norm_that_is_not_finite_leaves_weights_and_state_untouched(bad: float) -> None:
    network = Line()
    optimizer = MasterAdamW(network, weight_decay=0.1)
    network.push(bad, 1.0)
    assert not step(optimizer, 0.5, 1.0) < float("inf")
    assert network.matrix.tolist() == [[1.0] * 3] * 2
    assert network.vector.tolist() == [1.0] * 3
    optimizer.zero_grad()
    network.push(1.0, 1.0)
    assert step(optimizer, 0.5, 1.0) == pytest.approx(3.0)


def test_tied_weights_are_one_weight_that_gets_both_gradients() -> None:
    network = nn.ModuleDict({"first": nn.Linear(2, 2, bias=False), "second": nn.Linear(2, 2, bias=False)})
    network["second"].weight = network["first"].weight
    optimizer = MasterAdamW(network, weight_decay=0.0)
    assert [len(group) for group in optimizer.weights()] == [4]
    (2 * network["first"].weight.sum() + 3 * network["second"].weight.sum()).backward()
    assert step(optimizer, 0.0, 1e9) == pytest.approx(5.0 * 2)


def test_frozen_weights_are_left_out_and_a_closed_optimizer_gives_the_gradients_back() -> None:
    network = Line()
    network.vector.requires_grad_(False)
    optimizer = MasterAdamW(network, weight_decay=0.0)
    assert [len(group) for group in optimizer.weights()] == [6]
    (network.matrix * network.vector).sum().backward()
    assert network.matrix.grad is None
    optimizer.close()
    (network.matrix * network.vector).sum().backward()
    assert network.matrix.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stopped_optimizer_keeps_the_weights_and_nothing_else(dtype: torch.dtype) -> None:
    network = nn.Linear(4, 3).to(dtype)
    optimizer = MasterAdamW(network, weight_decay=0.0)
    network(torch.ones(2, 4, dtype=dtype)).float().sum().backward()
    optimizer.step(0.1, 1.0)
    moved = [weight.clone() for weight in network.parameters()]
    held = [tensor.untyped_storage().nbytes() for tensor in optimizer.weights()]
    optimizer.stop()
    adamw = optimizer.state_dict()["adamw"]
    assert isinstance(adamw, dict)
    assert adamw["state"] == {}
    assert [tensor.untyped_storage().nbytes() for tensor in optimizer.weights()] == held
    best = [weights + 1 for weights in optimizer.weights()]
    optimizer.set_weights(best)
    optimizer.close()
    for weight, before in zip(network.parameters(), moved, strict=True):
        torch.testing.assert_close(weight.detach().float(), before.float() + 1, atol=0.02, rtol=0.02)
        assert weight.untyped_storage().nbytes() == weight.numel() * weight.element_size()  # its own again


def ends_of_bf16_training(change: float) -> list[torch.Tensor]:
    """The weights that two equal trainings leave, whose masters moved by `change` from ones."""
    ends = []
    for _ in range(2):
        network = nn.Linear(64, 64, bias=False).to(torch.bfloat16)
        with torch.no_grad():
            network.weight.fill_(1.0)
        optimizer = MasterAdamW(network, weight_decay=0.0)
        optimizer.set_weights([weights + change for weights in optimizer.weights()])
        optimizer.close()
        ends.append(network.weight.detach().clone())
    return ends


def test_what_is_too_small_for_the_nearest_bf16_number_is_left_in_the_weights_on_average() -> None:
    one, again = ends_of_bf16_training(2.0**-10)  # of 1 + 2^-10 the nearest bf16 number is 1
    assert torch.equal(one, again)
    assert set(one.flatten().tolist()) == {1.0, 1.0078125}
    assert float(one.float().mean() - 1) == pytest.approx(2.0**-10, rel=0.15)  # 4,096 weights: deviation 0.04 of it


def test_bf16_weights_that_did_not_move_end_as_they_began() -> None:
    assert set(ends_of_bf16_training(0.0)[0].flatten().tolist()) == {1.0}
