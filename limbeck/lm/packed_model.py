"""A network taken apart where the packed engine needs it: a decoder that gives hidden states, a linear head over them.

What the head means (the words of a vocabulary, or one reward) is for whoever has the model to know.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from limbeck.lm.attention import Layout


def context_of(config: PretrainedConfig) -> int | None:
    """How many tokens a sequence may have, where a configuration says."""
    tokens: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return tokens


@dataclass(frozen=True)
class PackedModel(ABC):
    """What the engine computes and trains with; `network` holds both `decoder` and `head`."""

    name: str
    network: PreTrainedModel
    decoder: nn.Module
    head: nn.Linear

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.weight.device

    @property
    def context_tokens(self) -> int | None:
        """How many tokens a sequence may have, where the model says."""
        return context_of(self.network.config)

    def hidden(self, input_ids: Tensor, position_ids: Tensor, layout: Layout) -> Tensor:
        """Last hidden states of one packed row: ids and positions [1, T] -> [T, H]."""
        output = self.decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False, layout=layout)
        states: Tensor = output.last_hidden_state[0]
        return states

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a folder that `from_pretrained` opens, whole or not at all."""
