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
_ROWS_SORTED = 32  # whole rows at once: of 150,000 words each takes megabytes in fp64


@dataclass(frozen=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `slots` samples are written at once, 0: as many as suit the device.

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
    slots: int = 0
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
    number = min(max(NUCLEUS_CANDIDATES, sampling.top_k), scaled.shape[1])
    candidates = _likeliest(scaled, number)
    values = scaled.gather(1, candidates)
    shares = (values - torch.logsumexp(scaled, dim=-1, keepdim=True)).exp()
    # One transfer a step; the draws below are made on the CPU, in fp64, which not every device has.
    cumulative, candidates = shares.cpu().double().cumsum(-1), candidates.cpu()
    if sampling.top_k:
        cumulative, candidates = cumulative[:, : sampling.top_k].contiguous(), candidates[:, : sampling.top_k]
    drawn = torch.tensor(uniforms, dtype=torch.float64)
    tokens = _inverse_cdf(cumulative, candidates, drawn, sampling)
    if not sampling.top_k and number < scaled.shape[1]:
        # With top_p 1 the nucleus is everything and its mass 1: the candidates do, unless the number falls beyond them.
        held = cumulative[:, -1]
        beyond = drawn >= held if sampling.top_p == 1 else held < sampling.top_p
        for rows in beyond.nonzero()[:, 0].split(_ROWS_SORTED):
            tokens[rows] = _inverse_cdf(*_in_order(scaled[rows.to(scaled.device)]), drawn[rows], sampling)
    found: list[int] = tokens.tolist()
    return found


def _in_order(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Running sums of the probabilities of all tokens of some rows [R, V], likeliest first, and their ids."""
    wide = scaled if scaled.is_cuda else scaled.cpu()  # not every device has fp64; the CPU sorts on one thread
    ordered = wide.double().softmax(-1).sort(descending=True, stable=True)
    return ordered.values.cpu().cumsum(-1), ordered.indices.cpu()


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


def _inverse_cdf(cumulative: Tensor, candidates: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """The tokens [R] at which the running sums of each nucleus pass `uniforms` [R] of its mass.

    `cumulative` [R, C]: of the likeliest candidates, sorted. The nucleus is the smallest set whose mass reaches `top_p`
    (Holtzman et al. 2020).
    """
    rows, most = cumulative.shape
    whole = cumulative[:, -1:] if sampling.top_k else cumulative.new_ones(rows, 1)  # what top-k leaves
    size = (torch.searchsorted(cumulative, sampling.top_p * whole) + 1).clamp(max=most)  # [R, 1], as all below
    end = cumulative.gather(1, size - 1)
    mass = whole if sampling.top_p == 1 else end
    place = torch.searchsorted(cumulative, uniforms[:, None] * mass, right=True)
    last = torch.searchsorted(cumulative, end)  # what comes later has no share
    return candidates.gather(1, torch.minimum(place, torch.minimum(last, size - 1)))[:, 0]
