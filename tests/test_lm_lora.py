"""LoRA: adapters alone learn, what is saved is their sum with the weights, and a first step equals the base."""

import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_lm_train import ALWAYS, SETTINGS, KilledError, Wrapped, points, same, sft, weights_of
from tiny_models import plain_logps, plain_model, ragged_demonstrations, ragged_pairs, tiny_folder, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.errors import ModelError, RecipeError
from limbeck.lm.load import LanguageModel
from limbeck.lm.lora import Adapters, attach, check_installed
from limbeck.lm.objectives import DpoObjective, SftObjective, pair_logps
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.train import Trainer
from limbeck.recipe import Recipe
from limbeck.recipe.training import Dpo, Lora, Sft

RANK_4 = Lora(rank=4, alpha=8)
ARCHITECTURES = ("llama", "qwen2")  # with a head of its own; with a tied one, and biases
IDS = torch.arange(20, 32)[None]
Named = dict[str, Tensor]
# peft asks transformers for a property by its old name
opening_with_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("lora") / "base", request.param)


def attached(model: LanguageModel, settings: Lora = RANK_4, seed: int = 1) -> Adapters:
    adapters = attach(model, settings, seed)
    assert adapters is not None
    return adapters


def adapter_weights(network: torch.nn.Module) -> Named:
    """Copies of the adapters' weights, as peft's files name them."""
    return {
        f"base_model.model.{name.replace('.default', '')}": weight.detach().clone()
        for name, weight in network.named_parameters()
        if "lora_" in name
    }


def base_weights(network: torch.nn.Module) -> Named:
    """Copies of all other weights, as the network without adapters names them."""
    return {
        name.replace(".base_layer", ""): weight.detach().clone()
        for name, weight in network.named_parameters()
        if "lora_" not in name
    }


def unsettle(network: torch.nn.Module) -> None:
    """Give every B a value, as training would."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=draw))


def logits(network: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(input_ids=IDS, use_cache=False).logits
    return found


def test_a_new_adapter_changes_no_logit_and_no_weight(folder: Path) -> None:
    model = tiny_model(folder)
    before, weights = logits(model.network), base_weights(model.network)
    attached(model)
    assert torch.equal(logits(model.network), before)
    after = base_weights(model.network)
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "apo_zero"])
def test_against_a_reference_scored_with_the_base_weights_the_first_margin_is_exactly_0(
    folder: Path, loss: str
) -> None:
    pairs = ragged_pairs()
    reference = pair_logps(tiny_model(folder), pairs, 75)
    model = tiny_model(folder)
    attached(model)
    settings = Dpo.model_validate({"loss": loss, "micro_batch_tokens": 75, "nll_weight": 0})
    with torch.no_grad():
        values = DpoObjective(pairs, pairs, reference, settings).validate(model)
    assert values["margin"] == values["chosen_logps_change"] == values["rejected_logps_change"] == 0.0
    assert values["loss"] == pytest.approx({"sigmoid": 0.6931472, "ipo": 25.0, "apo_zero": 1.0}[loss])


@opening_with_peft
def test_gradients_are_those_of_pefts_own_forward_under_transformers_attention(folder: Path) -> None:
    rows = ragged_demonstrations()
    model = tiny_model(folder)
    adapters = attached(model)
    unsettle(model.network)
    saved = folder.parent / "unsettled"
    adapters.save(saved)
    for part in SftObjective(rows, [], Sft(micro_batch_tokens=60), seed=1).losses(model, rows):
        part.loss.backward()
    plain = PeftModel.from_pretrained(plain_model(folder), saved, is_trainable=True)
    slow = -torch.cat([plain_logps(plain, row.prompt, row.responses[0]) for row in rows]).mean()
    slow.backward()
    wanted = {name.removeprefix("base_model.model."): p.grad for name, p in plain.named_parameters()}
    for name, weight in model.network.named_parameters():
        gradient = wanted[name]
        if "lora_" not in name:
            assert weight.grad is None, name
            continue
        assert weight.grad is not None
        assert gradient is not None
        scale = float(gradient.abs().max())
        torch.testing.assert_close(weight.grad, gradient, atol=1e-4 * scale, rtol=1e-3, msg=name)


def test_masters_are_kept_of_adapters_only(folder: Path) -> None:
    model = tiny_model(folder)
    attached(model)
    masters = MasterAdamW(model.network, weight_decay=0.0).weights()
    assert sum(master.numel() for master in masters) == sum(w.numel() for w in adapter_weights(model.network).values())


def test_training_moves_every_adapter_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder)
    attached(model)
    adapters, rest = adapter_weights(model.network), base_weights(model.network)
    Trainer(model, SftObjective(ragged_demonstrations(), [], SETTINGS, 5), SETTINGS, tmp_path, "SFT").run()
    after = adapter_weights(model.network)
    assert [name for name, weight in adapters.items() if torch.equal(after[name], weight)] == []
    after = base_weights(model.network)
    assert [name for name, weight in rest.items() if not torch.equal(after[name], weight)] == []


def test_adapters_learn(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder)
    attached(model, Lora())
    rows = ragged_demonstrations()
    settings = SETTINGS.model_copy(update={"epochs": 40.0, "learning_rate": 0.02})
    Trainer(model, SftObjective(rows, rows, settings, seed=5), settings, tmp_path, "SFT").run()
    losses = [values["loss"] for _, split, values in points(tmp_path) if split == "validation"]
    assert min(losses) < 0.7 * losses[0]


@opening_with_peft
def test_the_saved_model_and_the_adapters_on_the_base_both_give_the_trained_logits(
    folder: Path, tmp_path: Path
) -> None:
    model = tiny_model(folder)
    adapters = attached(model)
    trainer = Trainer(model, sft(), SETTINGS, tmp_path, "SFT")
    trainer.run()
    trained = logits(model.network)
    assert float((trained - logits(tiny_model(folder).network)).abs().max()) > 0.1
    adapters.save(tmp_path / "adapter")
    adapters.merge()
    model.save(tmp_path / "model")
    merged = plain_model(tmp_path / "model", "sdpa")
    assert [name for name, _ in merged.named_parameters()] == [n for n, _ in plain_model(folder).named_parameters()]
    torch.testing.assert_close(logits(merged), trained, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(model.network), trained, atol=1e-4, rtol=1e-4)
    on_base = PeftModel.from_pretrained(plain_model(folder, "sdpa"), tmp_path / "adapter")
    torch.testing.assert_close(logits(on_base), trained, atol=1e-4, rtol=1e-4)


def test_a_merged_bf16_weight_lies_beside_the_fp32_sum_and_is_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    ends = []
    for _ in range(2):
        model = tiny_model(folder, torch.bfloat16)
        before = base_weights(model.network)
        adapters = attached(model)
        unsettle(model.network)
        assert {weight.dtype for weight in adapter_weights(model.network).values()} == {torch.bfloat16}
        adapters.save(tmp_path / "adapter")
        adapters.merge()
        ends.append(weights_of(model))
    assert same(*ends)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    changed = set()
    for name, weight in model.network.named_parameters():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in saved:
            a, b = (saved[f"{stem}.lora_{part}.weight"].float() for part in "AB")
            exact = before[name].float() + 2.0 * (b @ a)  # alpha / rank = 8 / 4
            assert float(((weight.float() - exact).abs() / exact.abs()).max()) < 2**-7  # one step of bf16
            changed.add(name.split(".")[-2])
        else:
            assert torch.equal(weight, before[name])
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_what_is_too_small_for_the_nearest_bf16_number_is_merged_on_average(folder: Path) -> None:
    model = tiny_model(folder, torch.bfloat16)
    adapters = attached(model, Lora(rank=1, alpha=1, target_modules=("up_proj",)))
    layers = [module for name, module in model.network.named_modules() if name.endswith("up_proj")]
    with torch.no_grad():
        for layer in layers:
            layer.get_base_layer().weight.fill_(1.0)
            layer.lora_A["default"].weight.fill_(0.03125)
            layer.lora_B["default"].weight.fill_(0.03125)
    adapters.merge()
    merged = torch.cat([w.detach().flatten() for n, w in model.network.named_parameters() if "up_proj" in n]).float()
    # 1 + 2^-10, of which the nearest bf16 number is 1: one weight in 8 becomes 1 + 2^-7 instead.
    assert set(merged.tolist()) == {1.0, 1.0078125}
    assert float(merged.mean() - 1) == pytest.approx(2**-10, rel=0.15)  # 4,096 weights: deviation 0.04 of it


def test_adapters_that_have_learnt_nothing_are_merged_into_the_base_bit_for_bit(folder: Path) -> None:
    model = tiny_model(folder, torch.bfloat16)
    before = weights_of(model)
    attached(model).merge()
    assert same(weights_of(model), before)


@pytest.mark.parametrize(("saved_at", "killed_at"), [(1, 3), (5, 6), (8, 9)])
def test_a_killed_run_resumes_to_the_uninterrupted_one_bit_for_bit(
    folder: Path, tmp_path: Path, saved_at: int, killed_at: int
) -> None:
    def die(step: int) -> None:
        if step == saved_at:
            trainer.save()
        if step == killed_at:
            raise KilledError

    def fresh() -> LanguageModel:
        model = tiny_model(folder)
        attached(model)
        return model

    trainer = Trainer(fresh(), Wrapped(sft(), before=die), SETTINGS, tmp_path / "killed", "SFT")
    with pytest.raises(KilledError):
        trainer.run()
    ends = []
    for name in ("killed", "whole"):
        model = fresh()
        Trainer(model, sft(), SETTINGS, tmp_path / name, "SFT").run()
        ends.append((weights_of(model), points(tmp_path / name)))
    assert same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_a_checkpoint_decides_the_adapters_and_not_the_seed(folder: Path, tmp_path: Path) -> None:
    ends = []
    for seed in (1, 2):
        model = tiny_model(folder)
        attached(model, seed=seed)
        settings = ALWAYS.model_copy(update={"max_steps": 3})
        Trainer(model, SftObjective(ragged_demonstrations(), [], settings, 5), settings, tmp_path, "SFT").run()
        ends.append(weights_of(model))
    assert same(*ends)


def test_the_seed_decides_the_adapters_and_nothing_else_that_is_random_moves(folder: Path) -> None:
    drawn: list[Named] = []
    for seed in (1, 1, 2):
        model = tiny_model(folder)
        torch.manual_seed(100 + len(drawn))
        before = torch.random.get_rng_state()
        attached(model, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        drawn.append(adapter_weights(model.network))
    assert all(torch.equal(drawn[1][name], weight) for name, weight in drawn[0].items())
    assert [n for n, weight in drawn[0].items() if "lora_A" in n and torch.equal(drawn[2][n], weight)] == []


def test_equal_adapters_are_saved_as_equal_files_that_name_no_path(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        attached(tiny_model(folder), Lora(target_modules=("v_proj", "q_proj", "up_proj"))).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    text = (tmp_path / "one" / "adapter_config.json").read_text()
    assert str(folder) not in text
    assert text.index("q_proj") < text.index("up_proj") < text.index("v_proj")


def test_only_the_named_layers_get_adapters(folder: Path) -> None:
    model = tiny_model(folder)
    attached(model, Lora(rank=2, target_modules=("q_proj", "layers.1.mlp.up_proj")))
    layers = {name.partition(".lora_")[0].partition("layers.")[2] for name in adapter_weights(model.network)}
    assert layers == {"0.self_attn.q_proj", "1.self_attn.q_proj", "1.mlp.up_proj"}


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (("q_proj", "lm_head"), "'lm_head' is the head or the embeddings of .*, which cannot carry adapters; choose "
         "among down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj$"),
        (("embed_tokens",), "'embed_tokens' is the head or the embeddings"),
        (("model.embed_tokens",), "'model.embed_tokens' is the head or the embeddings"),
        (("c_attn",), "has no linear layer 'c_attn'; it has down_proj, gate_proj"),
        (("norm",), "has no linear layer 'norm'"),
        (("proj",), "has no linear layer 'proj'"),
        (("all-linear", "q_proj"), "has no linear layer 'all-linear'"),
    ],
)  # fmt: skip
def test_what_cannot_carry_an_adapter_is_refused_in_a_sentence(
    folder: Path, targets: tuple[str, ...], problem: str
) -> None:
    model = tiny_model(folder)
    with pytest.raises(ModelError, match=problem):
        attach(model, Lora(target_modules=targets), 1)
    assert adapter_weights(model.network) == {}


def test_a_model_without_linear_layers_is_refused_in_a_sentence(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "gpt2", "gpt2"))
    with pytest.raises(ModelError, match="has no linear layer but its head; leave lora out"):
        attach(model, Lora(), 1)


def test_no_settings_attach_nothing(folder: Path) -> None:
    model = tiny_model(folder)
    assert attach(model, None, 1) is None
    assert all(weight.requires_grad for weight in model.network.parameters())


@pytest.mark.parametrize("section", ["sft", "dpo"])
def test_without_peft_one_sentence_says_what_to_install(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate({"name": "x", section: {"lora": {}}})
    check_installed(recipe)
    monkeypatch.setitem(sys.modules, "peft", None)  # as if it were not there
    check_installed(Recipe(name="x"))
    with pytest.raises(
        RecipeError, match=rf"^{section}\.lora needs the library 'peft': pip install 'limbeck\[lora\]'$"
    ):
        check_installed(recipe)
