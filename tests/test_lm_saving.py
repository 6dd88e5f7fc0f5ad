"""Saved models: what transformers 4 reads of them is there, and transformers 5 makes the same of it as without."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_classifier, tiny_folder, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from limbeck.lm.reward_head import with_reward_head

DEFAULT = {"rope_type": "default", "rope_theta": 1e6}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 128}
LINEAR = {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}


def read(path: Path) -> dict[str, Any]:
    """A JSON file's object."""
    values: dict[str, Any] = json.loads(path.read_text())
    return values


@pytest.mark.parametrize("rope", [DEFAULT, LLAMA3, YARN, LINEAR], ids=lambda rope: str(rope["rope_type"]))
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_base_and_scaling_of_positions_are_saved_under_their_older_names_too_and_mean_the_same(
    architecture: str, rope: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "tiny", architecture, rope_parameters=rope)
    tiny_model(folder).save(tmp_path / "saved")
    saved = read(tmp_path / "saved" / "config.json")
    assert (saved["rope_parameters"], saved["rope_theta"]) == (rope, rope["rope_theta"])
    rest = {key: value for key, value in rope.items() if key != "rope_theta"}
    assert saved.get("rope_scaling") == (None if rope is DEFAULT else rest)
    before, after = (AutoConfig.from_pretrained(path).to_dict() for path in (folder, tmp_path / "saved"))
    del before["_name_or_path"], after["_name_or_path"]
    assert before == after
    ids = torch.arange(3, 203)[None]
    logits = [AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (folder, tmp_path / "saved")]
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("gemma3_text", {}),
        ("llama", {"rope_parameters": {**YARN, "rope_type": "dynamic"}}),
    ],
    ids=["another base for each kind of layer", "a kind of scaling that is not known to be the same"],
)
def test_positions_that_the_older_names_cannot_say_for_certain_are_saved_as_they_were(
    architecture: str, config: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "tiny", architecture, **config)
    tiny_model(folder).save(tmp_path / "saved")
    assert read(tmp_path / "saved" / "config.json").keys().isdisjoint({"rope_theta", "rope_scaling"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_tokenizer_has_a_class_and_extra_tokens_that_transformers_4_knows_and_reads_the_same(
    architecture: str, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "tiny", architecture)
    tiny_model(folder).save(tmp_path / "saved")
    saved = read(tmp_path / "saved" / "tokenizer_config.json")
    assert saved["tokenizer_class"] in {"PreTrainedTokenizerFast", "Qwen2Tokenizer"}
    assert "extra_special_tokens" not in saved
    assert saved["additional_special_tokens"] == ["<|im_start|>"]
    before, after = (AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path / "saved"))
    assert type(before) is type(after)
    if saved["tokenizer_class"] == "PreTrainedTokenizerFast":  # of which transformers 4 expects token_type_ids as well
        assert saved["model_input_names"] == ["input_ids", "attention_mask"]
    assert before.model_input_names == after.model_input_names
    assert before.special_tokens_map == after.special_tokens_map
    assert (before.all_special_ids, before.chat_template) == (after.all_special_ids, after.chat_template)
    text = "<|im_start|>user\nWhat is two plus three?<|im_end|>\n"
    assert before(text) == after(text)
    ids = before(text)["input_ids"]
    assert before.decode(ids, skip_special_tokens=True) == after.decode(ids, skip_special_tokens=True)


def test_a_reward_model_is_saved_in_both_forms_too(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "tiny", rope_parameters=DEFAULT)
    with_reward_head(str(folder), torch.device("cpu"), torch.float32, 1).save(tmp_path / "saved")
    saved = read(tmp_path / "saved" / "config.json")
    assert (saved["rope_theta"], saved["rope_parameters"]) == (1e6, DEFAULT)
    assert "extra_special_tokens" not in read(tmp_path / "saved" / "tokenizer_config.json")
