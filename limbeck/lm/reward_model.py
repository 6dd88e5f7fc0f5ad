"""Reward models from a folder: a conversation in, one number out. Loads them, checks them, scores with them.

Two forms, told apart by what the config calls its architecture:

- `...ForSequenceClassification` with exactly one label: the reward is the classifier's only logit.
- `...ForCausalLM` (NVIDIA's `-Reward-HF` kind): the reward is the logit of vocabulary id 0 at the last position of the
  templated conversation, without a generation prompt. Any other causal model has that logit too, and it means nothing
  there: nothing in a config tells them apart, so that is for whoever names the model to know.

Nothing is padded. Where a packed row gives a network's own scores, conversations are packed; any other network is
asked one conversation at a time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from limbeck.errors import ModelError
from limbeck.lm import attention
from limbeck.lm.conversations import Conversations, conversations_of
from limbeck.lm.load import load_errors, refuse_missing_weights
from limbeck.lm.memory import memory_told
from limbeck.lm.names import model_folder
from limbeck.lm.packed_model import PackedModel, context_of
from limbeck.lm.packing import under_budget
from limbeck.lm.rewards import alone, packed_rewards
from limbeck.lm.saving import save_pretrained
from limbeck.lm.trial import refuse_unknown_tokens
from limbeck.records import user_prompt
from limbeck.store import atomic_folder, disk_errors

Form = Literal["classifier", "causal"]
_LESS_AT_ONCE = "a lower judges.local.micro_batch_tokens, a lower judges.local.max_tokens"
# Two conversations of different length and worth. Packed and alone they must score the same, up to rounding.
_PROBE = (
    ("What is two plus three?", "Five."),
    (
        "How do I keep a houseplant alive?",
        "Water it when the top of the soil is dry, keep it out of the draught, and give it more light in winter.",
    ),
)
# Of a score's scale. In bf16 a network's own two kernels (sdpa, eager) were measured to differ by 0.14 of it, where the
# decoder has 30 layers; another architecture differs by about 1.
_PROBE_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.3}


@dataclass(frozen=True)
class RewardModel(PackedModel):
    """A reward model taken apart; row 0 of `head` gives the reward."""

    conversations: Conversations

    def save(self, folder: Path) -> None:
        """Write a folder that transformers' `from_pretrained` opens, chat template included, whole or not at all."""
        with atomic_folder(folder) as temporary, disk_errors(folder):
            save_pretrained(self.network, self.conversations.tokenizer, temporary)


class Loaded(NamedTuple):
    """A network as transformers made it, not yet tried."""

    name: str
    network: PreTrainedModel
    form: Form
    conversations: Conversations


@dataclass(frozen=True)
class Scorer:
    """Scores conversations; `packed` is None where the network has to be asked one at a time."""

    name: str
    network: PreTrainedModel
    form: Form
    conversations: Conversations
    packed: PackedModel | None

    def scores(self, conversations: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[float]]:
        """Yield the rewards of conversations (as ids) in their order, as many at a time as are computed at once.

        Raises:
            ModelError: where a reward is not finite.
        """
        for some in under_budget([alone("", ids) for ids in conversations], max_tokens if self.packed else 1):
            with memory_told("reward model", self.network.device, _LESS_AT_ONCE):
                if self.packed is not None:
                    found = packed_rewards(self.packed, some, max_tokens)
                else:
                    found = [_own_score(self.network, self.form, item.prompt) for item in some]
            _refuse_non_finite(self.name, found)
            yield found


def form_of(name: str, config: Any) -> Form:
    """Which form of reward model a config describes.

    Raises:
        ModelError: where it is none, or has more labels than one.
    """
    architectures = tuple(config.architectures or ())
    if any(each.endswith("ForSequenceClassification") for each in architectures):
        if config.num_labels != 1:
            raise ModelError(f"{name} is a classifier with {config.num_labels} labels; a reward model has exactly one")
        return "classifier"
    if any(each.endswith(("ForCausalLM", "LMHeadModel")) for each in architectures):
        return "causal"
    raise ModelError(
        f"{name} is no reward model: its config names the architecture {', '.join(architectures) or '(none)'}, and "
        "what can judge is a ...ForSequenceClassification with one label, or a ...ForCausalLM of the -Reward-HF kind"
    )


class Described(NamedTuple):
    """What a folder says of a reward model without its weights."""

    form: Form
    conversations: Conversations
    context_tokens: int | None


def describe_reward_model(name: str) -> Described:
    """See what reward model `name` is, and how it is put conversations to, without loading its weights.

    Raises:
        ModelError: where it cannot be found, is no reward model, or has no chat template.
    """
    path = model_folder(name)
    with load_errors(name):
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    form = form_of(name, config)
    passes_over = config.get_text_config().pad_token_id if form == "classifier" else None
    return Described(form, conversations_of(tokenizer, name, passes_over), context_of(config))


def load_reward_model(name: str, device: torch.device, dtype: torch.dtype) -> Scorer:
    """Load a reward model.

    Raises:
        ModelError: where it cannot be found or loaded, is no reward model, has no chat template, or gives two different
            conversations the same score.
    """
    form, conversations, _ = describe_reward_model(name)
    transformers_logging.disable_progress_bar()
    kind: Any = AutoModelForSequenceClassification if form == "classifier" else AutoModelForCausalLM
    with load_errors(name):
        network, info = kind.from_pretrained(model_folder(name), dtype=dtype, output_loading_info=True)
    refuse_missing_weights(name, info)
    network.to(device)
    network.eval()
    return scorer_of(Loaded(name, network, form, conversations))


def scorer_of(loaded: Loaded) -> Scorer:
    """See that the network tells two conversations apart, and how it can be asked.

    Raises:
        ModelError: where it gives both the same score, or one that is not finite.
    """
    own = _own_scores(loaded)
    if own[0] == own[1]:
        raise ModelError(
            f"{loaded.name} gives two different conversations the same score ({own[0]:g}): its head has learnt "
            "nothing, or reads where both are alike; it cannot judge"
        )
    return Scorer(*loaded, taken_apart(loaded))


def taken_apart(loaded: Loaded) -> RewardModel | None:
    """The network under the packed attention; None, and as it was, where packing would change its scores."""
    network = loaded.network
    head = getattr(network, "score", None) if loaded.form == "classifier" else network.get_output_embeddings()
    decoder = network.base_model if loaded.form == "classifier" else cast(nn.Module, network.get_decoder())
    if not isinstance(head, nn.Linear) or decoder is network:
        return None
    model = RewardModel(loaded.name, network, decoder, head, loaded.conversations)
    own, probes = _own_scores(loaded), _probes(loaded.conversations)
    before = network.config._attn_implementation
    try:
        network.set_attn_implementation(attention.NAME)
        found = packed_rewards(model, [alone("", ids) for ids in probes], sum(map(len, probes)))
    except (ModelError, TypeError, ValueError):  # an attention of its own, or a decoder that takes no layout
        found = [math.nan] * len(own)
    if all(_alike(mine, theirs, model) for mine, theirs in zip(found, own, strict=True)):
        return model
    network.set_attn_implementation(before)
    return None


def _probes(conversations: Conversations) -> list[tuple[int, ...]]:
    return [conversations.ids(user_prompt(asked), said) for asked, said in _PROBE]


def _own_scores(loaded: Loaded) -> list[float]:
    probes, embeddings = _probes(loaded.conversations), loaded.network.get_input_embeddings()
    if isinstance(embeddings, nn.Embedding):
        refuse_unknown_tokens(loaded.name, [token for ids in probes for token in ids], embeddings.num_embeddings)
    found = [_own_score(loaded.network, loaded.form, ids) for ids in probes]
    _refuse_non_finite(loaded.name, found)
    return found


def _alike(mine: float, theirs: float, model: RewardModel) -> bool:
    # The final norm makes a state's entries about 1: a reward has about the size of the head's norm.
    scale = max(abs(theirs), float(model.head.weight.detach()[0].float().norm()))
    return abs(mine - theirs) <= _PROBE_TOLERANCE[model.head.weight.dtype] * scale  # not, where one is NaN


@torch.no_grad()
def _own_score(network: PreTrainedModel, form: Form, ids: Sequence[int]) -> float:
    """The slow, obvious form: one conversation alone, by the network's own forward pass."""
    input_ids = torch.tensor([list(ids)], device=network.device)
    logits = cast(Any, network)(input_ids=input_ids).logits  # [1, 1], or [1, T, V]
    return float(logits[0, 0] if form == "classifier" else logits[0, -1, 0])


def _refuse_non_finite(name: str, scores: Sequence[float]) -> None:
    for score in scores:
        if not math.isfinite(score):
            raise ModelError(f'{name} gives a conversation the score {score}; model.dtype = "fp32" usually cures it')
