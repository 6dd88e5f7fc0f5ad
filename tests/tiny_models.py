"""Tiny language models with random weights and real tokenizers, built offline saved as folders; helpers of tests."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.packing import Item

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3_text")
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 300
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# chatml: turns end with eos. pad_is_eos: and padding is the same token. base_eos: eos is <|endoftext|>, but turns end
# with <|im_end|>. unlisted: the same, and the tokenizer lists <|im_start|> and <|im_end|> among no named specials.
Variant = Literal["chatml", "pad_is_eos", "base_eos", "unlisted", "no_template"]

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # far from uniform, so that greedy choices are no near-ties
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_OWN: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True, "head_dim": 16},
    "gemma3_text": {
        "tie_word_embeddings": True,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def tiny_tokenizer(variant: Variant = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges and the three ChatML special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        ["user assistant system What is two plus three? The answer is five. Let us think step by step."] * 2,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[END_OF_TEXT, IM_START, IM_END],
            show_progress=False,
        ),
    )
    named: dict[str, Any] = {
        "chatml": {"eos_token": IM_END, "pad_token": END_OF_TEXT, "additional_special_tokens": [IM_START]},
        "pad_is_eos": {"eos_token": IM_END, "pad_token": IM_END, "additional_special_tokens": [IM_START]},
        "base_eos": {"eos_token": END_OF_TEXT, "additional_special_tokens": [IM_START, IM_END]},
        "unlisted": {"eos_token": END_OF_TEXT},
        "no_template": {"eos_token": END_OF_TEXT},
    }[variant]
    template = None if variant == "no_template" else CHATML
    return PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=template, **named)


def tiny_folder(folder: Path, architecture: str = "llama", variant: Variant = "chatml", **config: Any) -> Path:
    """Save a tiny model and its tokenizer; the same arguments give the same weights."""
    torch.manual_seed(0)
    settings = AutoConfig.for_model(architecture, **(_SIZES | _OWN.get(architecture, {}) | config))
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    tiny_tokenizer(variant).save_pretrained(folder)
    return folder


def tiny_classifier(
    folder: Path, architecture: str = "qwen2", variant: Variant = "chatml", num_labels: int = 1, **config: Any
) -> Path:
    """Save a tiny sequence classifier on a decoder, with random weights, the head's included."""
    torch.manual_seed(0)
    settings = _SIZES | _OWN.get(architecture, {}) | {"num_labels": num_labels} | config
    AutoModelForSequenceClassification.from_config(AutoConfig.for_model(architecture, **settings)).save_pretrained(
        folder
    )
    tiny_tokenizer(variant).save_pretrained(folder)
    return folder


def tiny_encoder(folder: Path, labels: int = 0, reads: int = 40, **pooling: bool) -> Path:
    """Save a tiny sentence encoder with random weights, which reads 40 tokens; `pooling` as its config says.

    `labels`: a classifier with so many instead.
    """
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("bert", vocab_size=VOCABULARY, max_position_embeddings=reads, **sizes)
    if labels:
        config.num_labels = labels
    (AutoModelForSequenceClassification if labels else AutoModel).from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def tiny_model(folder: Path, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a saved model into the engine, on the CPU."""
    return load_model(str(folder), torch.device("cpu"), dtype)


def plain_model(folder: Path, attention: str = "eager") -> PreTrainedModel:
    """Load a saved model as transformers does, with its own attention."""
    network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    return network.eval()


def plain_logps(network: PreTrainedModel, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    """The slow, obvious form: one sequence alone, log-softmax over the vocabulary, one value a response token."""
    ids = torch.tensor([prompt + response])
    logits = network(input_ids=ids, use_cache=False).logits[0].float()
    everywhere = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]  # [T - 1]
    return everywhere[len(prompt) - 1 :]


def random_ids(generator: torch.Generator, length: int) -> tuple[int, ...]:
    """Ordinary token ids."""
    return tuple(torch.randint(3, VOCABULARY - 20, (length,), generator=generator).tolist())


def ragged_pairs() -> list[Item]:
    """Pairs of every awkward shape: ragged, one-token responses on either side or both, a shared first token."""
    draw = torch.Generator().manual_seed(1)
    shapes = [(9, 5, 12), (1, 1, 7), (4, 6, 1), (3, 1, 1), (17, 3, 3), (40, 20, 30)]
    items = [
        Item(f"pair/{n}", random_ids(draw, p), (random_ids(draw, c), random_ids(draw, r)))
        for n, (p, c, r) in enumerate(shapes)
    ]
    chosen, rejected = items[4].responses
    return [*items[:4], replace(items[4], responses=(chosen, (chosen[0], *rejected[1:]))), items[5]]


def alike() -> list[Item]:
    """Pairs and demonstrations that begin alike, at several depths: a template, a task, a prompt, half a response."""
    draw = torch.Generator().manual_seed(4)
    template, task, prompt, steps = (random_ids(draw, length) for length in (20, 11, 14, 10))
    own = [random_ids(draw, 1 + number % 7) for number in range(12)]
    return [
        Item("slip", template + prompt, (steps + own[0] + own[1], steps + own[2])),
        Item("other", own[3] + own[4], (own[5], own[6] + own[7])),
        Item("same prompt", template + prompt, (own[8], steps)),
        Item("task", template + task + own[9], (own[10] + own[11], own[5])),
        Item("task again", template + task + own[4], (own[1],)),
        Item("twice", template + task + own[4], (own[1],)),
        Item("template alone", template, (task, task[:-1] + own[0])),
        Item("last token", template + prompt, ((*steps, 7), (*steps, 8))),
        Item("cut", template[:15], (template[15:] + prompt,)),
    ]


def ragged_demonstrations() -> list[Item]:
    """Demonstrations of every awkward length."""
    draw = torch.Generator().manual_seed(2)
    shapes = [(5, 8), (1, 1), (12, 1), (1, 9), (30, 25), (6, 4), (7, 3)]
    return [Item(f"demo/{n}", random_ids(draw, p), (random_ids(draw, r),)) for n, (p, r) in enumerate(shapes)]
