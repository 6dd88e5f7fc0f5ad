"""A loaded model is tried before anything is computed with it: on its own tokens, and on a packed row.

One whose logits differ there from those it gives itself, one sequence at a time, is refused with a sentence.
Start reading at: `try_packed`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.errors import LimbeckError, ModelError, first_line
from limbeck.lm import attention
from limbeck.lm.attention import Layout
from limbeck.lm.free_memory import is_out_of_memory
from limbeck.lm.packed_model import PackedModel
from limbeck.lm.span_attention import Span, Stretch

# One packed row: a sequence of 6 tokens; then the same as a beginning of 2, its next token and, twice, its last 3.
_PROBE_PLACES = (0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 3, 4, 5)
_PROBE_BEGINNING, _PROBE_NEXT = Stretch(6, 8), Stretch(8, 9)
_PROBE_SPANS = (
    Span(0, 6), Span(6, 2), Span(8, 1, (_PROBE_BEGINNING,)),
    Span(9, 3, (_PROBE_BEGINNING, _PROBE_NEXT)), Span(12, 3, (_PROBE_BEGINNING, _PROBE_NEXT)),
)  # fmt: skip
# Two computations of the same bf16 logits differ by rounding; another architecture differs by far more.
_PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}


def refuse_unknown_tokens(name: str, ids: Sequence[int], rows: int) -> None:
    """See that a model has a row of weights for each token of a conversation.

    What else its tokenizer knows is not asked: some have a name too many, which nothing writes.

    Raises:
        ModelError: where it has none for one: looking it up would fail, or its loss be silently wrong.
    """
    if max(ids) >= rows:
        raise ModelError(f"the chat template of {name} writes the token {max(ids)}, and its weights end with that of "
                         f"token {rows - 1}: resize its embeddings to its tokenizer (resize_token_embeddings), and "
                         "save it again")  # fmt: skip


def try_packed(model: PackedModel) -> None:
    """Compare the logits of a packed row with those the network gives itself, under its own attention, unpacked.

    Catches whatever else a network does: logits scaled or capped after the head, attention with a bias or with learnt
    sinks, layers whose state runs on from one packed sequence into the next.

    Raises:
        ModelError: where they differ, or the network fails under the packed attention.
    """
    with _engine_errors(model.name):
        difference = _difference(model)
    if not difference <= _PROBE_TOLERANCE[model.head.weight.dtype]:
        raise ModelError(
            f"{model.name} computes its logits in a way of its own, which the packed engine does not follow (they "
            f"differ by {difference:.2g} of their scale); this architecture is not supported"
        )


def _difference(model: PackedModel) -> float:
    """The largest between the packed row's logits and the network's own, in parts of their scale."""
    positions = torch.tensor(_PROBE_PLACES, device=model.device)[None]
    # Spread over the vocabulary: its first tokens are often untrained, and bf16 is chaos where they are.
    ids = (positions + 1) * (model.head.out_features // 8)
    with torch.no_grad():
        ours = model.head(model.hidden(ids, positions, Layout(_PROBE_SPANS))).float()
        theirs = _own_logits(model.network, ids[:, :6])[positions[0]]
    scale = theirs.abs().max().clamp(min=1.0)
    return float((ours - theirs).abs().max() / scale)


def _own_logits(network: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """[1, T] -> [T, V], fp32, under the network's own attention."""
    network.set_attn_implementation("sdpa" if network._supports_sdpa else "eager")  # sdpa: the same kernels as ours
    logits: Tensor = cast(Any, network)(input_ids=input_ids, use_cache=False).logits[0].float()
    network.set_attn_implementation(attention.NAME)
    return logits


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
        raise without_packed_attention(name, first_line(error)) from error


def without_packed_attention(name: str, reason: str) -> ModelError:
    """The refusal of an architecture that fails in its own code."""
    return ModelError(f"{name} does not run under the packed engine's attention ({reason}); this architecture is not "
                      "supported")  # fmt: skip
