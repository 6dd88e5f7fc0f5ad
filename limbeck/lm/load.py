"""A model in a folder, made ready for the packed engine.

Any decoder that runs transformers' attention interface loads unpatched. A loaded model is tried on a packed row: one
whose logits differ there from those it gives itself, one sequence at a time, is refused with a sentence.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from limbeck.errors import LimbeckError, ModelError
from limbeck.lm import attention
from limbeck.lm.attention import Layout
from limbeck.lm.chat import Chat, chat_of
from limbeck.lm.free_memory import is_out_of_memory
from limbeck.lm.names import model_folder
from limbeck.lm.packed_model import PackedModel, context_of
from limbeck.lm.span_attention import Span, Stretch
from limbeck.store import atomic_folder, disk_errors

# One packed row: a sequence of 6 tokens; then the same as a beginning of 2, its next token and, twice, its last 3.
_PROBE_PLACES = (0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 3, 4, 5)
_PROBE_BEGINNING, _PROBE_NEXT = Stretch(6, 8), Stretch(8, 9)
_PROBE_SPANS = (
    Span(0, 6), Span(6, 2), Span(8, 1, (_PROBE_BEGINNING,)),
    Span(9, 3, (_PROBE_BEGINNING, _PROBE_NEXT)), Span(12, 3, (_PROBE_BEGINNING, _PROBE_NEXT)),
)  # fmt: skip
_NAMES_SHOWN = 3
# Two computations of the same bf16 logits differ by rounding; another architecture differs by far more.
_PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}


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
            self.network.save_pretrained(temporary)
            self.chat.tokenizer.save_pretrained(temporary)


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
            another way.
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
    with _engine_errors(name):
        _check_engine(model)
    return model


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
            raise _without_packed_attention(name, "it knows no attention but its own") from error
        raise ModelError(f"the model {name} cannot be loaded: {_first_line(error)}") from error


@contextmanager
def _engine_errors(name: str) -> Iterator[None]:
    """Call an architecture unsupported that fails in its own code, given a packed row; memory that is short is not."""
    try:
        yield
    except LimbeckError:
        raise
    except Exception as error:  # a layer misses what another attention would have given it: errors of every kind
        if is_out_of_memory(error):
            raise
        raise _without_packed_attention(name, _first_line(error)) from error


def _without_packed_attention(name: str, reason: str) -> ModelError:
    return ModelError(f"{name} does not run under the packed engine's attention ({reason}); this architecture is not "
                      "supported")  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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


def _check_engine(model: LanguageModel) -> None:
    """Compare the logits of a packed row with those the network gives itself, under its own attention, unpacked.

    Catches whatever else a network does: logits scaled or capped after the head, attention with a bias or with learnt
    sinks, layers whose state runs on from one packed sequence into the next.
    """
    positions = torch.tensor(_PROBE_PLACES, device=model.device)[None]
    # Spread over the vocabulary: its first tokens are often untrained, and bf16 is chaos where they are.
    ids = (positions + 1) * (model.head.out_features // 8)
    with torch.no_grad():
        ours = model.head(model.hidden(ids, positions, Layout(_PROBE_SPANS))).float()
        theirs = _own_logits(model.network, ids[:, :6])[positions[0]]
    scale = theirs.abs().max().clamp(min=1.0)
    difference = float((ours - theirs).abs().max() / scale)
    if not difference <= _PROBE_TOLERANCE[model.head.weight.dtype]:
        raise ModelError(
            f"{model.name} computes its logits in a way of its own, which the packed engine does not follow (they "
            f"differ by {difference:.2g} of their scale); this architecture is not supported"
        )


def _own_logits(network: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """[1, T] -> [T, V], fp32, under the network's own attention."""
    network.set_attn_implementation("sdpa" if network._supports_sdpa else "eager")  # sdpa: the same kernels as ours
    logits: Tensor = cast(Any, network)(input_ids=input_ids, use_cache=False).logits[0].float()
    network.set_attn_implementation(attention.NAME)
    return logits
