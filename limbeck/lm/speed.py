"""How fast this machine trains, scores and samples with a model of a given shape: a probe of some seconds, kept.

The engine itself is timed, on a network of the shape with made-up weights; where that is large, on its first layers and
words, and scaled by the weights that a token meets. Kept by machine and shape, so that a plan asks once.
"""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PretrainedConfig

from limbeck.lm.choosing import Sampling
from limbeck.lm.free_memory import device_memory
from limbeck.lm.generate import generate, usual_slots
from limbeck.lm.load import LanguageModel
from limbeck.lm.logps import token_logps
from limbeck.lm.machine import describe, matmul_flops_per_second
from limbeck.lm.memory import probe_item
from limbeck.lm.packing import pack
from limbeck.lm.samples import PromptIds, Tally
from limbeck.lm.shape import Part, Shape, made_up, shape_of
from limbeck.store import digest_path, read_json, write_json

_ROW_SECONDS = 0.5  # one row forward and backward takes about as long
_LEAST_TOKENS, _MOST_TOKENS = 64, 2048
_MOST_BYTES = 700_000_000  # of a network that is made for the probe
_LEAST_LAYERS, _LEAST_WORDS = 2, 32_768
_EXPECTED_SHARE = 0.4  # of the matrix-product rate; decides how much is timed, and no figure
_KEPT_SECONDS = 86_400  # a machine may have been busy when it was timed
_TOP_K = 50
_WRITTEN, _WRITTEN_CUDA = 2, 64  # tokens of a reply, beside its first; CUDA records steps, which a few do not repay
_REPEATS = 2


class Speed(NamedTuple):
    """Tokens a second: trained (forward and backward), scored (forward), sampled (`slots` samples at once).

    `part`: the layers and words that were timed of the shape's.
    """

    trained: float
    scored: float
    sampled: float
    slots: int
    part: Part


def speed_of(config: PretrainedConfig, device: torch.device, dtype: torch.dtype, cache: Path) -> Speed:
    """Measure, or read what was measured before on such a machine for such a shape; `cache`: the file that keeps it."""
    known: dict[str, Any] = read_json(cache) if cache.is_file() else {}
    key = _key(config, device, dtype)
    if key not in known or time.time() - known[key]["at"] > _KEPT_SECONDS:
        known[key] = {"at": round(time.time()), "speed": _measure(config, device, dtype)._asdict()}
        with suppress(OSError):  # a cache that cannot be kept ends nothing
            write_json(cache, known)
    found = known[key]["speed"]
    return Speed(**found | {"part": Part(*found["part"])})


def part_to_time(shape: Shape, flops_per_second: float, width: int) -> Part:
    """How much of a network is timed: all of it where that is small and quick, else its first layers and words. Pure.

    `width`: bytes of a weight.
    """
    most = min(_MOST_BYTES / width, _ROW_SECONDS * _EXPECTED_SHARE * flops_per_second / (6 * _LEAST_TOKENS))
    if shape.body_weights + shape.head_weights <= most:
        return Part(shape.layers, shape.words)
    words = shape.words if shape.head_weights <= most / 2 else min(shape.words, _LEAST_WORDS)
    layers = int((most - words * shape.hidden) * shape.layers / shape.body_weights)
    return Part(min(max(layers, min(_LEAST_LAYERS, shape.layers)), shape.layers), words)


def share_timed(shape: Shape, part: Part) -> float:
    """The share of a token's work that the timed part does: by weights of linear layers and head. Pure."""
    timed = shape.body_weights * part.layers / shape.layers + part.words * shape.hidden
    return timed / (shape.body_weights + shape.head_weights)


def _measure(config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> Speed:
    shape = shape_of(config)
    flops = matmul_flops_per_second(dtype, device)
    part = part_to_time(shape, flops, dtype.itemsize)
    model = made_up(config, part, device, dtype)
    weights = share_timed(shape, part) * (shape.body_weights + shape.head_weights)
    tokens = int(_ROW_SECONDS * _EXPECTED_SHARE * flops / (6 * weights))
    tokens = min(max(tokens, _LEAST_TOKENS), _MOST_TOKENS, shape.context_tokens or _MOST_TOKENS)
    share = share_timed(shape, part)
    for number in (_LEAST_TOKENS, tokens):  # the first calls prepare kernels, and memory of that size
        _seconds(model, number, backward=True)
    trained = tokens / _seconds(model, tokens, backward=True)
    scored = tokens / _seconds(model, tokens, backward=False)
    model.network.zero_grad()
    slots = _slots(shape, device, dtype)
    return Speed(share * trained, share * scored, share * _sampled(model, slots), slots, part)


def _slots(shape: Shape, device: torch.device, dtype: torch.dtype) -> int:
    room = device_memory(device).free // 2 // (shape.cached_numbers * dtype.itemsize * 512)
    return int(max(1, min(usual_slots(device), room)))


def _seconds(model: LanguageModel, tokens: int, *, backward: bool) -> float:
    row = pack([probe_item(model, tokens, 2)], model.device)
    _wait(model)
    started = time.perf_counter()
    with torch.set_grad_enabled(backward):
        values = token_logps(model, row).sum()
        if backward:
            torch.autograd.backward(values)
    float(values.detach())
    _wait(model)
    return time.perf_counter() - started


def _sampled(model: LanguageModel, slots: int) -> float:
    """Tokens a second, from the difference between long and short replies: what begins a run is in both."""
    written = _WRITTEN_CUDA if model.device.type == "cuda" else _WRITTEN
    _sampling_seconds(model, slots, 1)  # the first call prepares kernels, and tries numbers of rows
    short, long = (min(_sampling_seconds(model, slots, number) for _ in range(_REPEATS)) for number in (1, 1 + written))
    return slots * written / _beyond(short, long)


def _beyond(short: float, long: float) -> float:
    """Seconds that the long takes beyond the short; all of its own where the machine was too busy to tell."""
    return long - short if long > short else long


def _sampling_seconds(model: LanguageModel, slots: int, number: int) -> float:
    prompts = [PromptIds(str(place), (1, 2)) for place in range(slots)]
    # Made-up weights find all words alike: without top-k nearly every draw would sort the whole vocabulary.
    sampling = Sampling(number, temperature=1.0, top_k=_TOP_K, slots=slots, ignore_end_of_turn=True)
    started = time.perf_counter()
    for _ in generate(model, prompts, sampling, Tally()):
        pass
    return time.perf_counter() - started


def _wait(model: LanguageModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _key(config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> str:
    shaped = json.dumps(config.to_dict(), sort_keys=True, default=str)
    code = digest_path(Path(__file__))
    parts = [shaped, describe(device, dtype), str(torch.__version__), code]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
