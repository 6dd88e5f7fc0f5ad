"""A reward head on any base model that transformers knows as a sequence classifier, ready to be trained.

What is saved is that classifier, with one label: `AutoModelForSequenceClassification.from_pretrained` opens it.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from limbeck import seeds
from limbeck.errors import ModelError
from limbeck.lm.conversations import conversations_of
from limbeck.lm.load import load_errors
from limbeck.lm.names import model_folder
from limbeck.lm.reward_model import Loaded, RewardModel, taken_apart
from limbeck.records import user_prompt

_HEAD = "score.weight"


def with_reward_head(name: str, device: torch.device, dtype: torch.dtype, seed: int) -> RewardModel:
    """Load a base model with a linear head of one output and no bias; a reward model keeps the head that it has.

    A new head is drawn with standard deviation 1 / sqrt(H + 1) (Stiennon et al. 2020, "Learning to summarize from human
    feedback": their code's), so that the first rewards are about 1 in size; the same seed gives the same head.

    Raises:
        ModelError: where it cannot be found or loaded, has no chat template, or does not go with the packed engine.
    """
    path = model_folder(name)
    transformers_logging.disable_progress_bar()
    with load_errors(name):
        config = AutoConfig.from_pretrained(path)
    _refuse_other_labels(name, config)
    config.num_labels = 1
    with load_errors(name):
        kind: Any = AutoModelForSequenceClassification
        network, info = kind.from_pretrained(path, config=config, dtype=dtype, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    missing = set(info["missing_keys"])
    head: Any = getattr(network, "score", None)
    if not isinstance(head, nn.Linear) or cast(Any, head).bias is not None or missing - {_HEAD}:
        raise ModelError(f"{name} takes no linear reward head over its last token; this architecture is not supported")
    network.to(device)
    network.eval()  # as all training here: without dropout
    network.get_input_embeddings().padding_idx = None
    if missing:
        _draw(head, seed)
    conversations = conversations_of(tokenizer, name, None)
    network.config.pad_token_id = tokenizer.pad_token_id = _padding(
        tokenizer, network.config.pad_token_id, conversations.ids(user_prompt("Hello"), "Hi.")
    )
    model = taken_apart(Loaded(name, network, "classifier", conversations))
    if model is None:
        raise ModelError(f"{name} computes in a way of its own, which the packed engine does not follow; this "
                         "architecture is not supported")  # fmt: skip
    return model


def check_reward_base(name: str) -> None:
    """See, without its weights, that a model may get a reward head.

    Raises:
        ModelError: where it cannot be found, or classifies into more labels than one.
    """
    path = model_folder(name)
    with load_errors(name):
        config = AutoConfig.from_pretrained(path)
    _refuse_other_labels(name, config)


def _refuse_other_labels(name: str, config: Any) -> None:
    classifies = any(each.endswith("ForSequenceClassification") for each in config.architectures or ())
    if classifies and config.num_labels != 1:
        raise ModelError(
            f"{name} is a classifier with {config.num_labels} labels; a reward head goes on a base or chat model, or "
            "on a reward model, which has one label"
        )


def _draw(head: nn.Linear, seed: int) -> None:
    generator = torch.Generator().manual_seed(seeds.derive(seed, "reward head"))
    weights = torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5
    with torch.no_grad():
        head.weight.copy_(weights)


def _padding(tokenizer: PreTrainedTokenizerBase, configured: int | None, conversation: Sequence[int]) -> int | None:
    """The token to pad with: not the one that ends a conversation, since a score is read at the last token that is no
    padding. Of what the model has, its own first.
    """
    known = (tokenizer.pad_token_id, configured, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    marked = (id_ for id_, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special)
    for token in (*known, *marked):
        if isinstance(token, int) and token != conversation[-1]:
            return token
    return None
