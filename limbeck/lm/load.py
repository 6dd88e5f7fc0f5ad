"""Models by name: a name that `limbeck pull` knows, a local folder, or a hub id, made ready for the packed engine.

Any decoder that runs transformers' attention interface loads unpatched; one whose logits are not simply its head
applied to its last hidden states is refused with a sentence, since the engine computes them that way.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from limbeck.errors import ModelError
from limbeck.lm import attention
from limbeck.lm.attention import Layout, Span
from limbeck.lm.chat import Chat, chat_of
from limbeck.lm.pull import KNOWN_MODELS, pull
from limbeck.store import atomic_folder, disk_errors

_PROBE_TOKENS = 6
# Two computations of the same bf16 logits differ by rounding; a scaled, capped or missing head differs by far more.
_PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model taken apart where the engine needs it: decoder, head, and how to talk to it."""

    name: str
    network: PreTrainedModel
    decoder: nn.Module
    head: nn.Linear
    chat: Chat

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.weight.device

    def hidden(self, input_ids: Tensor, position_ids: Tensor, layout: Layout) -> Tensor:
        """Last hidden states of one packed row: ids and positions [1, T] -> [T, H]."""
        output = self.decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False, layout=layout)
        states: Tensor = output.last_hidden_state[0]
        return states

    def save(self, folder: Path) -> None:
        """Write a folder that `AutoModelForCausalLM.from_pretrained` opens, whole or not at all."""
        with atomic_folder(folder) as temporary, disk_errors(folder):
            self.network.save_pretrained(temporary)
            self.chat.tokenizer.save_pretrained(temporary)


def model_path(name: str) -> str:
    """Resolve a model's name to what transformers loads: a cached folder, a local folder, or a hub id unchanged."""
    if name in KNOWN_MODELS:
        return str(pull(name))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} is a folder without config.json: not a saved model")
        return str(path)
    if name.startswith((".", "/", "~")) or path.suffix or name.count("/") != 1:
        known = ", ".join(sorted(KNOWN_MODELS))
        raise ModelError(f"no model {name!r}: expected a local folder, a hub id such as Qwen/Qwen2.5-0.5B, or {known}")
    return name


def load_model(name: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """Load a model and its tokenizer.

    Raises:
        ModelError: where it cannot be found or loaded, has no chat template, or computes its logits in another way.
    """
    path = model_path(name)
    transformers_logging.disable_progress_bar()  # a load takes a second; its bars would bury ours
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=attention.NAME)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the model {name} cannot be loaded: {str(error).splitlines()[0]}") from error
    network.to(device)
    network.eval()  # the packed engine trains without dropout: a reference and a policy must agree at step 0
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(f"{name} has no linear output head, so response log-probabilities cannot be computed")
    decoder = cast(nn.Module, network.get_decoder())
    model = LanguageModel(name, network, decoder, head, chat_of(tokenizer, name))
    _check_head(model)
    return model


def _check_head(model: LanguageModel) -> None:
    ids = torch.arange(1, 1 + _PROBE_TOKENS, device=model.device)[None]
    positions = torch.arange(_PROBE_TOKENS, device=model.device)[None]
    layout = Layout([Span(0, _PROBE_TOKENS)])
    with torch.no_grad():
        ours = model.head(model.hidden(ids, positions, layout)).float()
        theirs = model.network(input_ids=ids, position_ids=positions, use_cache=False, layout=layout).logits[0].float()
    scale = theirs.abs().max().clamp(min=1.0)
    difference = float((ours - theirs).abs().max() / scale)
    if not difference <= _PROBE_TOLERANCE[model.head.weight.dtype]:
        raise ModelError(
            f"{model.name} does more between its last hidden state and its logits than its head says (they differ by "
            f"{difference:.2g} of their scale); this architecture is not supported"
        )
