"""From logits to tokens: greedy, or drawn from the tempered distribution cut to its likeliest tokens.

The order of the cuts is top-k, then the nucleus (top-p) of what is left. A draw is one uniform number a token, turned
into a token by the inverse of the cumulative distribution from the likeliest token on; ties go to the smaller id.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from limbeck.lm.kernels import Kernels
from limbeck.lm.machine import on_device
from limbeck.recipe.fields import Sampled

NUCLEUS_CANDIDATES = 256


@dataclass(frozen=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `slots` samples are written at once.

    `top_k` 0: all tokens. `repetition_penalty`: Keskar et al. 2019, over prompt and response. `stop`: strings that end
    a sample. `ignore_end_of_turn`: write on to `max_new_tokens`, for measurements. `weights` "int8": rounded to
    8 bits (products.py), on a CPU; "auto": so where that can be done.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    slots: int = 96
    prefill_tokens: int = 1024
    ignore_end_of_turn: bool = False
    weights: Literal["own", "int8", "auto"] = "own"

    @staticmethod
    def of(settings: Sampled, seed: int) -> "Sampling":
        """What a section of the recipe says, with a seed."""
        return Sampling(**settings.model_dump(include=set(Sampled.model_fields)), seed=seed)


class Chosen(NamedTuple):
    """A token id for each sample, and its log-probability in nats under the untempered model."""

    tokens: list[int]
    logps: list[float]


def penalised(logits: Tensor, seen: Sequence[Tensor], penalty: float) -> Tensor:
    """Logits [R, V] with those of the tokens in `seen[row]` divided by `penalty` where positive, else multiplied.

    Keskar et al. 2019 (CTRL), section 4.1, in the form that leaves the order of negative logits right.
    """
    if penalty == 1:
        return logits
    lengths = torch.tensor([len(ids) for ids in seen], device=logits.device)
    rows = torch.arange(len(seen), device=logits.device).repeat_interleave(lengths)
    ids = torch.cat(list(seen)).to(logits.device)
    values = logits[rows, ids]
    out = logits.clone()
    out[rows, ids] = torch.where(values > 0, values / penalty, values * penalty)
    return out


def choose(
    logits: Tensor,
    rngs: Sequence[random.Random],
    sampling: Sampling,
    kernels: Kernels | None = None,
    seen: Sequence[Tensor] = (),
    allowed: Tensor | None = None,
) -> Chosen:
    """Choose a token for each row of `logits` [R, V], fp32; `seen[row]`: ids that the repetition penalty is for.

    `allowed` [R, V / 32] int32: a bit for each token that may be chosen, the lowest first; log-probabilities are those
    among all tokens.

    A row whose logits are not numbers gives the token -1 or a log-probability that is not a number.
    """
    judged = penalised(logits, seen, sampling.repetition_penalty)
    if allowed is not None:
        judged = _only(judged, allowed) if kernels is None else kernels.only(judged, allowed)
    uniforms = [rng.random() for rng in rngs] if sampling.temperature else [0.0] * len(rngs)
    if kernels is not None:
        return Chosen(*kernels.choose(judged, logits, uniforms, sampling.temperature, sampling.top_k, sampling.top_p))
    if sampling.temperature == 0:
        tokens = judged.argmax(dim=-1)
    else:
        tokens = torch.tensor(_draw(judged / sampling.temperature, uniforms, sampling), device=logits.device)
    logps = logits.gather(1, tokens[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)
    return Chosen(tokens.tolist(), logps.tolist())


def _only(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits [R, V], minus infinity where the bit of `allowed` [R, V / 32] int32 is not set."""
    bits = on_device(allowed, logits.device)[:, :, None] >> torch.arange(32, dtype=torch.int32, device=logits.device)
    set_ = (bits & 1).bool().flatten(1)[:, : logits.shape[1]]  # [R, V / 32, 32] -> [R, V]
    return logits.masked_fill(~set_, -torch.inf)


def _draw(scaled: Tensor, uniforms: Sequence[float], sampling: Sampling) -> list[int]:
    """One token a row of tempered logits [R, V]."""
    top_k = sampling.top_k or scaled.shape[1]
    number = min(max(NUCLEUS_CANDIDATES, sampling.top_k), scaled.shape[1])
    candidates = _likeliest(scaled, number)
    values = scaled.gather(1, candidates)
    shares = (values - torch.logsumexp(scaled, dim=-1, keepdim=True)).exp()
    # One transfer a step; the draws below are made on the CPU, in fp64, which not every device has.
    probabilities, candidates = shares.cpu().double().cumsum(-1), candidates.cpu()
    return [
        _inverse_cdf(scaled[row], probabilities[row][:top_k], candidates[row], uniform, sampling)
        for row, uniform in enumerate(uniforms)
    ]


def _likeliest(scaled: Tensor, number: int) -> Tensor:
    """The likeliest ids [R, number], in order; of equals the smaller, and they first, which `topk` leaves open."""
    values, ids = scaled.topk(number, dim=-1)
    last = values[:, -1:]
    rows, tied = (scaled == last).nonzero(as_tuple=True)  # ids rise within a row
    starts = torch.searchsorted(rows, torch.arange(len(scaled), device=rows.device))
    places = (values > last).sum(-1)[rows] + torch.arange(len(rows), device=rows.device) - starts[rows]
    kept = places < number
    ids[rows[kept], places[kept]] = tied[kept]
    ids = ids.sort(dim=-1).values
    return ids.gather(1, scaled.gather(1, ids).sort(dim=-1, descending=True, stable=True).indices)


def _inverse_cdf(scaled: Tensor, cumulative: Tensor, candidates: Tensor, uniform: float, sampling: Sampling) -> int:
    """The token at which the cumulative probability of the nucleus passes `uniform` of the nucleus' mass.

    `cumulative`: of the likeliest candidates, sorted. The nucleus is the smallest set whose mass reaches `top_p`
    (Holtzman et al. 2020); where the candidates do not hold it, the whole vocabulary is sorted: exact, only slower.
    """
    top_p = sampling.top_p
    whole = float(cumulative[-1]) if sampling.top_k else 1.0  # what top-k leaves
    held = float(cumulative[-1])
    # With top_p 1 the nucleus is everything and its mass 1: the candidates do, unless the number falls beyond them.
    beyond = uniform >= held if top_p == 1 else top_p > held
    if not sampling.top_k and beyond and len(candidates) < len(scaled):
        wide = scaled if scaled.is_cuda else scaled.cpu()  # not every device has fp64; the CPU sorts on one thread
        ordered = wide.double().softmax(-1).sort(descending=True, stable=True)
        cumulative, candidates = ordered.values.cpu().cumsum(-1), ordered.indices.cpu()
    size = min(int(torch.searchsorted(cumulative, top_p * whole)) + 1, len(cumulative))
    mass = whole if top_p == 1 else float(cumulative[size - 1])
    place = int(torch.searchsorted(cumulative[:size], uniform * mass, right=True))
    last = int(torch.searchsorted(cumulative[:size], cumulative[size - 1]))  # what comes later has no share
    return int(candidates[min(place, last, size - 1)].item())
