"""Loading: what the engine cannot follow is refused with a sentence, never computed wrongly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    ARCHITECTURES,
    CHATML,
    IM_END,
    IM_START,
    VOCABULARY,
    plain_model,
    tiny_classifier,
    tiny_folder,
    tiny_model,
    tiny_tokenizer,
)

from limbeck.errors import ModelError
from limbeck.lm.generate import PromptIds, Sampling, generate
from limbeck.lm.load import load_model
from limbeck.lm.machine import choose_device
from limbeck.lm.reward_head import with_reward_head
from limbeck.lm.reward_model import load_reward_model

CPU = torch.device("cpu")


def load(folder: Path | str) -> None:
    load_model(str(folder), CPU, torch.float32)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_ordinary_decoders_load_unpatched(architecture: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", architecture), dtype)
    assert model.head.weight.dtype == dtype
    assert not model.network.training


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.1}),
        ("gemma3_text", {"final_logit_softcapping": 3.0}),
        ("bloom", {"n_head": 4, "n_layer": 2}),  # a bias on attention, outside the interface
        ("mamba", {}),  # state that would run on from one packed sequence into the next
    ],
)
@pytest.mark.filterwarnings("ignore:.*selective_scan.*")
def test_logits_computed_in_another_way_are_refused(architecture: str, config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"computes its logits in a way of its own, .* not supported"):
        load(tiny_folder(tmp_path / "model", architecture, **config))


@pytest.mark.parametrize(
    ("architecture", "config", "said"),
    [
        ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}, "'NoneType' object"),
        ("falcon", {}, "it knows no attention but its own"),
    ],
)
def test_an_architecture_that_fails_under_the_packed_attention_is_said_to_be_unsupported(
    architecture: str, config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ModelError, match=rf"the packed engine's attention \({said}.*; this architecture is not supported"
    ):
        load(tiny_folder(tmp_path / "model", architecture, **config))


def test_memory_that_is_short_while_a_model_is_tried_is_not_its_architectures_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "model")

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(torch.nn.Linear, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        load(folder)


def test_capped_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="caps its attention logits"):
        load(tiny_folder(tmp_path / "model", "gemma2", head_dim=16))


def test_attention_with_sinks_is_refused(tmp_path: Path) -> None:
    config = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    with pytest.raises(ModelError, match="attends with learnt sinks"):
        load(tiny_folder(tmp_path / "model", "gpt_oss", **config))


def test_the_network_is_left_with_the_packed_attention(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    assert tiny_model(folder).network.config._attn_implementation == "limbeck"


def test_the_packed_attention_without_a_layout_is_causal_attention(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", "qwen3")
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        ours = tiny_model(folder).network(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(ours, plain_model(folder)(input_ids=ids, use_cache=False).logits)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder without config\.json: not a saved model"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["smollm9", "./nowhere", "/no/such/folder", "~nobody/x", "a/b/c"])
def test_an_unknown_name_says_what_names_there_are(name: str) -> None:
    with pytest.raises(ModelError, match=r"expected a local folder, a hub id such as .*, or smollm2-135m"):
        load(name)


def test_a_hub_id_that_cannot_be_fetched_is_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"the model bad--name\.\./x is no local folder and could not be fetched"):
        load("bad--name../x")


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        load(tiny_folder(tmp_path / "model", variant="no_template"))


def test_damaged_weights_or_an_unknown_architecture_are_one_sentence(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the model .* cannot be loaded: "):
        load(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "not_a_model"}))
    with pytest.raises(ModelError, match=r"the model .* cannot be loaded: "):
        load(folder)
    tiny_tokenizer().save_pretrained(folder)


def kept_weights(folder: Path, keep: Callable[[str], str | None]) -> Path:
    """The folder with its weights under other names; None: without that weight."""
    file = folder / "model.safetensors"
    named = {keep(name): weight for name, weight in load_file(file).items()}
    save_file({name: weight for name, weight in named.items() if name}, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (
            lambda name: f"_orig_mod.{name}",  # torch.compile's
            r"lacks weights of its own: lm_head\.weight, .* and 18 more; its files hold .*_orig_mod\.lm_head\.weight",
        ),
        (lambda name: None if "1.mlp.up_proj" in name else name, r"own: model\.layers\.1\.mlp\.up_proj\.weight$"),
    ],
    ids=["renamed", "left out"],
)
def test_a_model_whose_files_lack_weights_is_refused_with_their_names(
    keep: Callable[[str], str | None], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        load(kept_weights(tiny_folder(tmp_path / "model"), keep))


def test_a_classifier_without_a_head_over_words_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks weights of its own: lm_head\.weight; .*: score\.weight$"):
        load(tiny_classifier(tmp_path / "untied", "llama"))


@pytest.mark.parametrize("rows", [VOCABULARY, VOCABULARY + 1])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"], ids=["untied", "tied"])
def test_a_model_without_a_row_for_a_token_of_its_template_is_refused_with_the_way_out(
    architecture: str, rows: int, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "model", architecture, vocab_size=rows)
    with_added_token(folder, CHATML.replace(IM_END, "<|eot|>"))
    if rows == VOCABULARY:
        with pytest.raises(ModelError, match=r"writes the token 300, .* end with that of token 299: resize its embedd"):
            load(folder)
    else:
        assert tiny_model(folder).chat.end_of_turn == VOCABULARY


def test_a_name_too_many_in_the_tokenizer_that_the_template_does_not_write_is_no_fault(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    with_added_token(folder, CHATML)
    assert len(tiny_model(folder).chat.tokenizer) == VOCABULARY + 1


def test_a_reward_model_without_a_row_for_a_token_of_its_template_is_refused_too(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "model")
    with_added_token(folder, CHATML.replace(IM_END, "<|eot|>"))
    with pytest.raises(ModelError, match="writes the token 300"):
        load_reward_model(str(folder), CPU, torch.float32)
    with pytest.raises(ModelError, match="writes the token 300"):
        with_reward_head(str(folder), CPU, torch.float32, 1)


def with_added_token(folder: Path, template: str) -> None:
    """Give the saved tokenizer a token that no weights were made for."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IM_START, "<|eot|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def test_a_saved_model_stops_where_a_turn_ends_also_where_its_eos_is_another_token(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "tiny", variant="base_eos"))
    assert model.chat.end_of_turn != model.chat.tokenizer.eos_token_id
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert set(config["eos_token_id"]) == {model.chat.end_of_turn, model.chat.tokenizer.eos_token_id}


@pytest.mark.parametrize(
    ("named", "own"),
    [(9, {9}), ([9, 40], {9, 40}), ([40, 9, VOCABULARY, -1], {9, 40})],
    ids=["one", "several", "no tokens among them"],
)
def test_a_models_own_end_tokens_are_added_to_the_templates_and_kept_when_it_is_saved(
    named: int | list[int], own: set[int], tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "tiny", variant="base_eos")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    model = tiny_model(folder)
    assert model.chat.stop_tokens == {model.chat.end_of_turn, model.chat.tokenizer.eos_token_id} | own
    assert model.chat.end_of_turn == tiny_tokenizer().convert_tokens_to_ids(IM_END)
    model.save(tmp_path / "saved")
    assert tiny_model(tmp_path / "saved").chat.stop_tokens == model.chat.stop_tokens


def test_a_sample_ends_at_a_token_that_the_models_generation_config_alone_calls_an_end(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "tiny")
    asked = [PromptIds("a", tuple(range(10, 20)))]
    (whole,) = generate(tiny_model(folder), asked, Sampling(12))
    end = whole.ids[5]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [end]}))
    (sample,) = generate(tiny_model(folder), asked, Sampling(12))
    assert sample.ids == whole.ids[: whole.ids.index(end) + 1]
    assert (whole.finish_reason, sample.finish_reason) == ("length", "stop")


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ModelError, match=f"no '{missing}' device"):
        choose_device(missing)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.6, "top_p": 0.9}, {"pad_token_id": -1}, {"do_sample": True, "temperature": 0.6}]
)
def test_a_model_whose_generation_config_contradicts_itself_can_be_saved_after_training(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "tiny")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7, **settings}))
    model = tiny_model(folder)
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert config["eos_token_id"] == sorted(model.chat.stop_tokens) == sorted({7, model.chat.end_of_turn})
    assert config.get("temperature") == (0.6 if "do_sample" in settings else None)  # what is sound is kept
    load_model(str(tmp_path / "saved"), torch.device("cpu"), torch.float32)


def test_a_gpu_that_this_torch_has_no_kernels_for_is_passed_over_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*sizes: int, device: str) -> torch.Tensor:
        raise RuntimeError(f"CUDA error: no kernel image is available for execution on the {device} device\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "ones", refuse)
    assert choose_device("auto") == torch.device("cpu")
    told = " ".join(capsys.readouterr().err.split())
    assert "there is a cuda device, and this torch cannot use it (CUDA error: no kernel image" in told
    assert "more" not in told


@pytest.mark.parametrize("reason", ["CUDA out of memory. Tried", "CUDA error: all CUDA-capable devices are busy"])
def test_a_gpu_that_somebody_else_holds_is_not_passed_over(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*sizes: int, device: str) -> torch.Tensor:
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", refuse)
    with pytest.raises(ModelError, match="cuda device cannot be used now"):
        choose_device("auto")
