"""Memory: the estimate against what is really held, the choice that follows, activations computed again."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, ragged_demonstrations, ragged_pairs, random_ids, tiny_folder, tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from limbeck.errors import ModelError, TrainingError
from limbeck.lm.free_memory import device_memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.logps import logps
from limbeck.lm.memory import (
    Estimate,
    choose,
    estimate_memory,
    in_words,
    largest_micro_batch,
    refuse_impossible,
    saved_bytes,
    shortage,
)
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.packing import Item, pack
from limbeck.lm.recompute import layers_of, recomputing
from limbeck.recipe.training import Optimisation

CPU = torch.device("cpu")
GIB = 2**30


def rows(kind: str) -> list[Item]:
    return ragged_pairs() if kind == "pairs" else ragged_demonstrations()


# Activations computed again


def ways(model: LanguageModel) -> Iterator[tuple[bool, AbstractContextManager[None]]]:
    yield False, nullcontext()
    yield True, recomputing(model.network)


def values_and_gradients(model: LanguageModel, items: Sequence[Item]) -> list[Tensor]:
    model.network.zero_grad()
    values = logps(model, pack(items, CPU))
    (values * torch.linspace(-1, 2, len(values))).sum().backward()
    gradients = [parameter.grad for parameter in model.network.parameters()]
    assert None not in gradients
    return [values.detach(), *(gradient.clone() for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("kind", ["demonstrations", "pairs"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_computed_again_give_the_same_gradients_bit_for_bit(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", architecture))
    kept = values_and_gradients(model, rows(kind))
    with recomputing(model.network):
        again = values_and_gradients(model, rows(kind))
    assert all(torch.equal(x, y) for x, y in zip(kept, again, strict=True))


@pytest.mark.parametrize("kind", ["demonstrations", "pairs"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_computed_again_are_not_held_between_forward_and_backward(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", architecture))
    items = rows(kind)
    kept = saved_bytes(model, items)
    with recomputing(model.network):
        again = saved_bytes(model, items)
    tokens, hidden = sum(item.num_tokens for item in items), model.head.in_features
    inputs = 4 * tokens * hidden * len(layers_of(model.network))
    assert inputs <= again < min(3 * inputs, 0.4 * kept)
    assert saved_bytes(model, items) == kept


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model whose layers themselves, not only their children, drop half of their states in training mode."""
    sizes = {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.5, "attention_dropout": 0.5}
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("dropping"), "opt", **sizes))


def test_computing_again_turns_no_dropout_on(dropping: LanguageModel) -> None:
    kept = values_and_gradients(dropping, ragged_pairs())
    with recomputing(dropping.network):
        again = values_and_gradients(dropping, ragged_pairs())
    assert all(torch.equal(x, y) for x, y in zip(kept, again, strict=True))
    dropping.network.train()  # and the dropout is really there
    assert not torch.equal(values_and_gradients(dropping, ragged_pairs())[0], kept[0])
    dropping.network.eval()


def test_weights_above_frozen_ones_get_the_same_gradients(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "llama"))
    learning = [p.requires_grad_("q_proj" in name) for name, p in model.network.named_parameters()]
    found = []
    for _, way in ways(model):
        with way:
            logps(model, pack(ragged_pairs(), CPU)).sum().backward()
        found.append([p.grad.clone() for p in learning if p.grad is not None])
        model.network.zero_grad()
    assert len(found[0]) == 2
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "qwen3"))
    before = [set(vars(layer)) for layer in layers_of(model.network)]
    with pytest.raises(ValueError, match="in between"), recomputing(model.network):
        assert all(layer.training for layer in layers_of(model.network))
        assert sum(module.training for module in model.network.modules()) == len(layers_of(model.network)) == 2
        raise ValueError("in between")
    assert not any(module.training for module in model.network.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.network.modules())
    assert [set(vars(layer)) - {"gradient_checkpointing"} for layer in layers_of(model.network)] == before


# The estimate


class Held(TorchDispatchMode):
    """Bytes of all storages that live at a time, and the most there were: what a device's allocator would count."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def gone(_: object) -> None:
            self.bytes -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.bytes += size
        self.most = max(self.most, self.bytes)


MIDDLE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8}


def equal_rows(kind: str, number: int, num_tokens: int) -> list[Item]:
    """`number` items of `num_tokens` computed tokens each, half of them in responses."""
    draw = torch.Generator().manual_seed(7)
    half, responses = num_tokens // 2, 2 if kind == "pairs" else 1
    return [
        Item(
            str(n),
            random_ids(draw, half),
            tuple(random_ids(draw, half // responses + 1) for _ in range(responses)),
        )
        for n in range(number)
    ]


@pytest.mark.parametrize(
    ("vocabulary", "kind", "dtype"),
    [
        (300, "demonstrations", torch.float32),
        (300, "pairs", torch.bfloat16),
        (20_000, "pairs", torch.float32),
        (20_000, "demonstrations", torch.bfloat16),
    ],
)
def test_the_estimate_is_near_what_a_step_really_holds(
    vocabulary: int, kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Beside the weights, measured storage by storage. What backward holds for a moment is the vague part; where
    activations are kept it is small.
    """
    model = tiny_model(tiny_folder(tmp_path / "model", **MIDDLE, vocab_size=vocabulary), dtype)
    optimizer = MasterAdamW(model.network, weight_decay=0.0)
    items = equal_rows(kind, 16, 128)
    settings = Optimisation(batch_size=16, micro_batch_tokens=2048)
    estimate = estimate_memory(model, optimizer.weights(), items, settings, free_bytes=GIB, moments_held=False)
    assert estimate.micro_batch_tokens == 2048 == sum(item.num_tokens for item in items)
    for recompute, way in ways(model):
        with way, Held() as held:
            logps(model, pack(items, CPU)).sum().backward()  # meets what stays: weights and gradients
            held.most = before = held.bytes
            logps(model, pack(items, CPU)).sum().backward()
        real = held.most - before
        guess = estimate.peak_bytes(recompute) - estimate.fixed_bytes
        assert 0.9 * real < guess < real * (1.8 if recompute else 1.25)


def test_what_stays_is_counted_from_the_real_tensors_each_storage_once(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "qwen2"))  # tied: the embedding counts once
    own = [parameter.detach() for parameter in model.network.parameters()]
    weights = sum(parameter.numel() for parameter in own)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.network.buffers())
    apart = [torch.cat([parameter.flatten() for parameter in own])]
    for masters, bytes_a_weight in ((apart, 4 + 4 + 4 + 8), (own, 4 + 4 + 8)):  # own: they are the network's weights
        for held, missing in ((True, 0), (False, 8)):
            found = estimate_memory(model, masters, ragged_pairs(), Optimisation(), free_bytes=10**9, moments_held=held)
            assert found.fixed_bytes == bytes_a_weight * weights + buffers
            assert found.available_bytes == 10**9 + found.fixed_bytes - missing * weights


def test_frozen_weights_take_no_gradient_and_leave_fewer_activations(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "llama"))
    whole = MasterAdamW(model.network, weight_decay=0.0)
    before = estimate_memory(model, whole.weights(), ragged_pairs(), Optimisation(), free_bytes=GIB, moments_held=False)
    whole.close()
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_("q_proj" in name)
    few = MasterAdamW(model.network, weight_decay=0.0)
    after = estimate_memory(model, few.weights(), ragged_pairs(), Optimisation(), free_bytes=GIB, moments_held=False)
    assert after.fixed_bytes < 0.4 * before.fixed_bytes
    assert after.kept_bytes - after.fixed_bytes < 0.9 * (before.kept_bytes - before.fixed_bytes)


def test_the_largest_micro_batch_by_hand() -> None:
    items = [Item("a", (5,) * 10, ((6,) * 11,)), Item("b", (5,) * 20, ((6,) * 31, (6,) * 11))]  # 20 and 60 tokens
    for micro_batch_tokens, batch_size, most in [(4096, 2, 120), (100, 2, 100), (50, 2, 60), (4096, 1, 60)]:
        settings = Optimisation(micro_batch_tokens=micro_batch_tokens, batch_size=batch_size)
        assert largest_micro_batch(items, settings) == most


def resident(what: str) -> int:
    """Bytes of this process that lie in memory: now (`VmRSS:`), or the most there were (`VmHWM:`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def peak_rss(folder: Path, gradient_checkpointing: str) -> None:
    """In a process of its own: train two steps, print the estimate and by how much the process grew, in bytes."""
    from limbeck.lm.objectives import SftObjective
    from limbeck.lm.train import Trainer
    from limbeck.recipe import Sft

    torch.set_num_threads(1)
    settings = Sft(micro_batch_tokens=4096, batch_size=32, max_steps=2, gradient_checkpointing=gradient_checkpointing)
    model = tiny_model(folder)
    small = [Item("x", (5, 6), ((7, 8),))]
    logps(model, pack(small, CPU)).sum().backward()  # kernels and threads are there
    model.network.zero_grad()
    before = resident("VmRSS:")
    trainer = Trainer(
        model, SftObjective(equal_rows("demonstrations", 64, 128), [], settings, 1), settings, folder, "x"
    )
    trainer.run()
    grown = resident("VmHWM:") - before
    estimate = trainer.estimate
    assert estimate is not None
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    sys.stdout.write(f"{grown} {estimate.peak_bytes(trainer.progress.recompute is True) - 4 * weights}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("gradient_checkpointing", ["off", "on"])
def test_a_process_that_trains_grows_by_about_what_was_estimated(gradient_checkpointing: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", **MIDDLE)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "import test_lm_memory as t\nfrom pathlib import Path\nt.peak_rss(Path(sys.argv[1]), sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), gradient_checkpointing], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown, estimated = (int(number) for number in done.stdout.split())
    assert grown / 1.8 < estimated < grown * 1.4


# The choice


def estimate(kept: float, recomputed: float | None, available: float = 10.0) -> Estimate:
    """Peaks in GiB."""
    again = None if recomputed is None else round(recomputed * GIB)
    return Estimate(2048, round(1.0 * GIB), round(kept * GIB), again, round(available * GIB))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("choice"), "llama"))


@pytest.mark.parametrize(
    ("setting", "kept", "recomputed", "chosen"),
    [
        ("auto", 8.4, 3.0, False),  # 85 % of 10 GiB is 8.5
        ("auto", 8.6, 3.0, True),
        ("auto", 30.0, 20.0, True),
        ("auto", 30.0, None, False),
        ("on", 2.0, 1.5, True),
        ("off", 30.0, 3.0, False),
    ],
)
def test_activations_are_computed_again_only_where_memory_demands_it_or_the_recipe_does(
    setting: Any, kept: float, recomputed: float | None, chosen: bool, model: LanguageModel
) -> None:
    assert choose(estimate(kept, recomputed), Optimisation(gradient_checkpointing=setting), model) is chosen


def test_a_network_that_cannot_compute_again_says_so(model: LanguageModel) -> None:
    with pytest.raises(
        ModelError, match="has no layers whose activations can be computed again; leave out gradient_ch"
    ):
        choose(estimate(2.0, None), Optimisation(gradient_checkpointing="on"), model)


def test_the_line_says_what_is_needed_what_is_there_and_what_follows() -> None:
    assert in_words("DPO human", estimate(5.1, 2.0, 22.4), False) == (
        "DPO human: about 5.1 GiB of 22 GiB at 2,048 tokens a micro-batch; activations are kept"
    )
    assert in_words("SFT", estimate(5.1, 0.05, 4.0), True) == (
        "SFT: about 51 MiB of 4.0 GiB at 2,048 tokens a micro-batch; activations are computed again (gradient "
        "checkpointing)"
    )


def test_a_warning_names_what_would_help_and_only_where_it_does_not_fit(model: LanguageModel) -> None:
    assert shortage("SFT", estimate(8.4, 3.0), False, model) is None
    assert shortage("SFT", estimate(30.0, 8.4), True, model) is None
    start = "SFT: this may not fit in memory and be stopped by the system; what would help: "
    assert shortage("SFT", estimate(30.0, 9.0), True, model) == start + "a lower micro_batch_tokens, LoRA, bf16"
    off = shortage("SFT", estimate(30.0, 9.0), False, model)
    assert off == start + "gradient_checkpointing, a lower micro_batch_tokens, LoRA, bf16"


def test_what_cannot_fit_into_an_empty_machine_is_refused_before_anything_is_allocated() -> None:
    sizes = {"hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 160, "num_attention_heads": 128}
    with torch.device("meta"):
        giant = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes))
    with pytest.raises(
        TrainingError, match=r"SFT: weights, gradients and optimizer alone take \d+ GiB, and there are "
    ):
        refuse_impossible(giant, device_memory(CPU), "SFT")
    giant.requires_grad_(False)
    weights = sum(parameter.numel() for parameter in giant.parameters())
    refuse_impossible(giant, device_memory(CPU)._replace(total=4 * weights), "SFT")
    next(giant.parameters()).requires_grad_(True)
    with pytest.raises(TrainingError):
        refuse_impossible(giant, device_memory(CPU)._replace(total=4 * weights), "SFT")


def test_a_probe_of_memory_leaves_nothing_behind(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model"))
    seen: list[weakref.ref[Tensor]] = []

    def remember(_: nn.Module, __: object, output: Tensor) -> None:
        seen.append(weakref.ref(output))

    hook = model.decoder.layers[0].mlp.act_fn.register_forward_hook(remember)
    saved_bytes(model, [Item("probe", (5, 6, 7), ((8, 9),))])
    hook.remove()
    gc.collect()
    assert len(seen) == 1
    assert seen[0]() is None
