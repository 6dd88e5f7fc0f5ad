"""A network and its tokenizer into a folder that older readers open rightly too: transformers 4, and what builds on it.

transformers 5 moved the base of the rotary positions, and renamed what names a tokenizer's class and its extra tokens.
What reads only the older names takes another base without a word, or refuses the tokenizer. Both forms are written:
transformers 5 reads either and makes the same of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.store import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Kinds of rotary positions that the older `rope_scaling` says with the same fields and the same meaning.
_SCALED = {"linear", "llama3", "yarn"}


def save_pretrained(network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write both into `folder`, which is there."""
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _rewrite(folder / "config.json", _older_rope)
    _rewrite(folder / "tokenizer_config.json", lambda config: _older_tokenizer(config, tokenizer.model_input_names))


def _rewrite(path: Path, older: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    values = read_json(path)
    changed = older(values)
    if changed != values:
        write_json(path, changed)


def _older_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its rotary positions under the older names as well, where these can say them exactly."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping) or rope.get("rope_theta") is None:  # none, or another for each kind of layer
        return dict(config)
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    own = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    if scaling.get("rope_type") in _SCALED:
        own["rope_scaling"] = scaling
    elif scaling != {"rope_type": "default"}:
        return dict(config)
    return {**own, **config}


def _older_tokenizer(config: Mapping[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
    """The tokenizer's config under the older names; `inputs`: what it makes for a model."""
    changed = dict(config)
    if changed.get("tokenizer_class") == "TokenizersBackend":
        changed["tokenizer_class"] = "PreTrainedTokenizerFast"
        changed.setdefault("model_input_names", list(inputs))  # its older default has one that decoders refuse
    if isinstance(changed.get("extra_special_tokens"), list):  # once a mapping of names to tokens
        changed["additional_special_tokens"] = changed.pop("extra_special_tokens")
    return changed
