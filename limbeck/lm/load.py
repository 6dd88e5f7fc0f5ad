"""A model in a folder, made ready for the packed engine.

Any decoder that runs transformers' attention interface loads unpatched. A loaded model is tried (trial.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from limbeck.errors import LimbeckError, ModelError, first_line
from limbeck.lm import attention
from limbeck.lm.chat import Chat, chat_of
from limbeck.lm.names import model_folder
from limbeck.lm.packed_model import PackedModel, context_of
from limbeck.lm.saving import save_pretrained
from limbeck.lm.trial import refuse_unknown_tokens, try_packed, without_packed_attention
from limbeck.records import Message
from limbeck.store import atomic_folder, disk_errors

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LanguageModel(PackedModel):
    """A causal language model taken apart where the engine needs it, and how to talk to it."""

    chat: Chat

    def save(self, folder: Path) -> None:
        """Write a folder that `AutoModelForCausalLM.from_pretrained` opens, whole or not at all.

        Its generation config stops where sampling here does, so that any server that loads it does too.
        """
        if self.network.generation_config is not None:
            self.network.generation_config = _saveable(self.network.generation_config, self.chat)
        with atomic_folder(folder) as temporary, disk_errors(folder):
            save_pretrained(self.network, self.chat.tokenizer, temporary)


def _saveable(config: GenerationConfig, chat: Chat) -> GenerationConfig:
    """The config with all that stops this chat's replies; of one that transformers will not save, its tokens alone."""
    config.eos_token_id = sorted(chat.stop_tokens)
    try:
        config.validate(strict=True)
    except ValueError:
        pad = config.pad_token_id
        return GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=pad if pad is not None and pad >= 0 else None,
        )
    return config


def load_model(name: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """Load a model and its tokenizer.

    Raises:
        ModelError: where it cannot be found or loaded, lacks weights, has no chat template, or computes its logits in
            another way; or where its weights have no row for a token of its chat template.
    """
    path = model_folder(name)
    transformers_logging.disable_progress_bar()  # a load takes a second; its bars would bury ours
    with load_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(path)
        kind: Any = AutoModelForCausalLM
        network, info = kind.from_pretrained(
            path, dtype=dtype, attn_implementation=attention.NAME, output_loading_info=True
        )
    refuse_missing_weights(name, info)
    if device.type == "cuda":
        # Its plan depends on the shape of the whole batch, and is made anew for each: a sample would depend on its
        # neighbours, and each step of decoding wait for a plan. The other kernels know neither.
        torch.backends.cuda.enable_cudnn_sdp(False)
    network.to(device)
    network.eval()  # the packed engine trains without dropout: a reference and a policy must agree at step 0
    # Nothing is padded here: the pad token is often the end of turn, and its embedding learns like any other.
    network.get_input_embeddings().padding_idx = None
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(f"{name} has no linear output head, so response log-probabilities cannot be computed")
    decoder = cast(nn.Module, network.get_decoder())
    if decoder is network:
        raise ModelError(f"{name} has no decoder apart from its head; this architecture is not supported")
    chat = chat_of(tokenizer, name, context_of(network.config))
    chat = replace(chat, stop_tokens=chat.stop_tokens | _own_ends(network.generation_config, head.out_features))
    model = LanguageModel(name, network, decoder, head, chat)
    refuse_unknown_tokens(name, _words(chat), min(network.get_input_embeddings().num_embeddings, head.out_features))
    try_packed(model)
    return model


def _words(chat: Chat) -> tuple[int, ...]:
    """The tokens of every kind of turn."""
    roles: tuple[Literal["system", "user", "assistant"], ...] = ("system", "user", "assistant", "user")
    return (*chat.prompt_ids([Message(role=role, content="Hello") for role in roles]), *chat.response_ids("Hello"))


def _own_ends(config: GenerationConfig | None, vocabulary: int) -> set[int]:
    """The tokens at which the model's authors end a reply, where its head has them."""
    ends = config.eos_token_id if config is not None else None
    return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None and 0 <= end < vocabulary}


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer alone, without its weights.

    Raises:
        ModelError: where it cannot be found or loaded.
    """
    path = model_folder(name)
    with load_errors(name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer


def load_chat(name: str) -> Chat:
    """How to talk to a model, without its weights.

    Raises:
        ModelError: where it cannot be found or loaded, or has no chat template.
    """
    tokenizer = load_tokenizer(name)
    with load_errors(name):
        config = AutoConfig.from_pretrained(model_folder(name))
    return chat_of(tokenizer, name, context_of(config))


@contextmanager
def load_errors(name: str) -> Iterator[None]:
    """Turn what a library raises for a folder that it cannot load into one sentence that names the model."""
    try:
        yield
    except LimbeckError:
        raise
    except Exception as error:  # damaged files end in errors of every kind: a wrong type, a size, a header too large
        if isinstance(error, KeyError) and error.args == (attention.NAME,):  # what it looks its own attention up by
            raise without_packed_attention(name, "it knows no attention but its own") from error
        raise ModelError(f"the model {name} cannot be loaded: {first_line(error)}") from error


def refuse_missing_weights(name: str, info: Mapping[str, Any], unused: str | None = None) -> None:
    """See that every weight came from the model's files; `unused`: how names begin of those that nobody asks for.

    transformers draws a missing weight at random and goes on.

    Raises:
        ModelError: where one is missing.
    """
    missing = sorted(key for key in info["missing_keys"] if unused is None or not key.startswith(unused))
    if not missing:
        return
    others = sorted(info["unexpected_keys"])
    instead = f"; its files hold others, which the architecture has not: {_some(others)}" if others else ""
    raise ModelError(f"{name} lacks weights of its own: {_some(missing)}{instead}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
