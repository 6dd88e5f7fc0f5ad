"""The shape of a model from its configuration alone: how large it is, and networks of that shape with made-up weights.

What a step costs in time and memory depends on the shape, not on what the weights say, so a plan needs none of them.
A large network is stood for by its first layers: what is measured of them is scaled by whoever asks, who says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from limbeck.errors import ModelError
from limbeck.lm import attention
from limbeck.lm.chat import Chat
from limbeck.lm.load import LanguageModel, load_errors
from limbeck.lm.packed_model import context_of

_FILL = 0.01  # of every weight; the time of a product does not depend on it, as long as it is an ordinary number


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder. `body_weights`: of its linear layers, used once a token; `parameters`: all, tied ones once.

    `cached_numbers`: keys and values that a token leaves in the cache, over all layers.
    """

    layers: int
    hidden: int
    words: int
    parameters: int
    body_weights: int
    cached_numbers: int
    tied: bool
    context_tokens: int | None

    @property
    def head_weights(self) -> int:
        """Weights of the output head, tied or not."""
        return self.words * self.hidden


class Part(NamedTuple):
    """How much of a network stands for the whole."""

    layers: int
    words: int


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of the text model in a folder, of which nothing but `config.json` is read.

    Raises:
        ModelError: where there is none, or of no known architecture.
    """
    with load_errors(str(folder)):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder)
    return config.get_text_config()


def shape_of(config: PretrainedConfig) -> Shape:
    """Count a network that has no storage.

    Raises:
        ModelError: where it has no linear head.
    """
    network = _without_storage(config)
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(f"{type(network).__name__} has no linear output head")
    settings: Any = config
    groups = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
    size = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    linear = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear) and m is not head]
    return Shape(
        layers=settings.num_hidden_layers,
        hidden=head.in_features,
        words=head.out_features,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        body_weights=sum(linear),
        cached_numbers=2 * settings.num_hidden_layers * groups * size,
        tied=head.weight is network.get_input_embeddings().weight,
        context_tokens=context_of(config),
    )


def made_up(config: PretrainedConfig, part: Part, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A network of the first layers and words of that shape, every weight the same number."""
    network = _without_storage(_cut(config, part), dtype).to_empty(device=device)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(_FILL if tensor.is_floating_point() else 0)
    network.eval()
    network.get_input_embeddings().padding_idx = None
    return LanguageModel("a made-up model", network, network.get_decoder(), network.get_output_embeddings(), _mute())


def _without_storage(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    with torch.device("meta"), load_errors(str(config.model_type)):
        network: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention.NAME
        )
    return network


def _cut(config: PretrainedConfig, part: Part) -> PretrainedConfig:
    cut: Any = type(config).from_dict(config.to_dict())
    cut.num_hidden_layers, cut.vocab_size, cut.pad_token_id = part.layers, part.words, None
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[: part.layers]
    return cast(PretrainedConfig, cut)


def _mute() -> Chat:
    """A tokenizer for a model that has nothing to say."""
    silent = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    return Chat(silent, 0, frozenset(), ())
