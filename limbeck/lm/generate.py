"""Sampling: prompts in, finished samples out, as an iterator.

Continuous batching over a static key/value cache: every forward pass holds one token for each active slot and, where
slots are free, whole new prompts, in one packed row; a slot whose sample ends is taken again at once. No pad token is
computed, a prompt is computed once for all samples of it, and the head runs on the last positions only.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limbeck import seeds
from limbeck.lm.attention import Cache, Decoding, Layout
from limbeck.lm.load import LanguageModel
from limbeck.lm.span_attention import Span
from limbeck.records import FinishReason

NUCLEUS_CANDIDATES = 256


@dataclass(frozen=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `slots` samples are written at once."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    slots: int = 64
    prefill_tokens: int = 2048


@dataclass(frozen=True)
class PromptIds:
    """A prompt to be continued `num_samples` times; `id` names it and, with the seed, decides its random numbers."""

    id: str
    ids: tuple[int, ...]
    num_samples: int = 1


@dataclass(frozen=True)
class Sample:
    """A finished sample: token ids (the stop token included), their log-probabilities in nats, and why it ended."""

    prompt_id: str
    sample_index: int
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    finish_reason: FinishReason


@dataclass
class _Slot:
    """A sample being written; `length` counts the positions that its cache slot holds."""

    prompt: PromptIds
    sample_index: int
    rng: random.Random
    length: int
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


def generate(model: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling) -> Iterator[Sample]:
    """Yield samples as they finish. Longest prompts first, so that the tail of the run is short.

    A sample depends on its prompt, its index and the seed; what else is in the batch shows only in rounding.
    """
    if not prompts:
        return
    waiting = deque(sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.id)))
    engine = _Engine(model, sampling, capacity=len(waiting[0].ids) + sampling.max_new_tokens)
    with torch.inference_mode():
        while waiting or engine.active:
            yield from engine.step(engine.admit(waiting))


class _Engine:
    def __init__(self, model: LanguageModel, sampling: Sampling, capacity: int) -> None:
        self.model, self.sampling = model, sampling
        self.cache = Cache(sampling.slots, capacity)
        self.active: list[_Slot] = []  # place in this list = cache slot

    def admit(self, waiting: deque[PromptIds]) -> list[PromptIds]:
        """Take waiting prompts whose samples fit the free slots, once enough are free to be worth a prefill."""
        free = self.sampling.slots - len(self.active)
        if self.active and free < max(self.sampling.slots // 8, waiting[0].num_samples if waiting else 1):
            return []
        admitted: list[PromptIds] = []
        tokens = 0
        while waiting and waiting[0].num_samples <= free:
            tokens += len(waiting[0].ids)
            if admitted and tokens > self.sampling.prefill_tokens:
                break
            free -= waiting[0].num_samples
            admitted.append(waiting.popleft())
        if not admitted and not self.active:
            raise ValueError("more samples of one prompt than slots")
        return admitted

    def step(self, admitted: Sequence[PromptIds]) -> list[Sample]:
        """One forward pass: a token for every active sample, and the first token of the admitted ones."""
        hidden = self._forward(admitted)
        logits = self.model.head(hidden).float()  # [active + admitted, V]
        num_decoding = len(self.active)
        rows = list(range(num_decoding))
        for number, prompt in enumerate(admitted):
            for sample_index in range(prompt.num_samples):
                rng = seeds.rng(self.sampling.seed, prompt.id, sample_index)
                self.active.append(_Slot(prompt, sample_index, rng, len(prompt.ids)))
                rows.append(num_decoding + number)
        tokens, logps = choose(logits, rows, self.active_rngs(), self.sampling)
        for slot, token, logp in zip(self.active, tokens, logps, strict=True):
            slot.ids.append(token)
            slot.logps.append(logp)
        return self._retire()

    def active_rngs(self) -> list[random.Random]:
        """The random numbers of each active sample."""
        return [slot.rng for slot in self.active]

    def _forward(self, admitted: Sequence[PromptIds]) -> Tensor:
        """[active + admitted, H]: the hidden states that predict the next tokens."""
        device = self.model.device
        ids = [slot.ids[-1] for slot in self.active]
        positions = [slot.length for slot in self.active]
        wanted = list(range(len(ids)))
        decoding = Decoding(self.cache, torch.tensor(positions, device=device)) if ids else None
        spans: list[Span] = []
        next_slot = len(ids)
        for prompt in admitted:
            slots = tuple(range(next_slot, next_slot + prompt.num_samples))
            spans.append(Span(len(ids), len(prompt.ids), slots=slots))
            ids += prompt.ids
            positions += range(len(prompt.ids))
            wanted.append(len(ids) - 1)
            next_slot += prompt.num_samples
        for slot in self.active:
            slot.length += 1
        layout = Layout(spans, cache=self.cache, decoding=decoding)
        hidden = self.model.hidden(
            torch.tensor(ids, device=device)[None], torch.tensor(positions, device=device)[None], layout
        )
        return hidden[torch.tensor(wanted, device=device)]

    def _retire(self) -> list[Sample]:
        finished: list[Sample] = []
        place = 0
        while place < len(self.active):
            slot = self.active[place]
            stopped = slot.ids[-1] in self.model.chat.stop_tokens
            if not stopped and len(slot.ids) < self.sampling.max_new_tokens:
                place += 1
                continue
            finished.append(
                Sample(
                    slot.prompt.id,
                    slot.sample_index,
                    tuple(slot.ids),
                    tuple(slot.logps),
                    "stop" if stopped else "length",
                )
            )
            last = self.active.pop()
            if place < len(self.active):  # the last slot moves into the gap: active slots stay contiguous
                self.cache.move(len(self.active), place, last.length)
                self.active[place] = last
        return finished


def choose(
    logits: Tensor, rows: Sequence[int], rngs: Sequence[random.Random], sampling: Sampling
) -> tuple[list[int], list[float]]:
    """Choose a token for each sample: `rows[i]` is its row of `logits` [R, V]; returns token ids and their logps.

    Log-probabilities are of the untempered model, so they do not depend on how one samples.
    """
    normaliser = torch.logsumexp(logits, dim=-1)  # [R]
    if sampling.temperature == 0:
        best = logits.argmax(dim=-1)
        logps = logits.gather(1, best[:, None])[:, 0] - normaliser
        best_list, logps_list = best.tolist(), logps.tolist()
        return [best_list[row] for row in rows], [logps_list[row] for row in rows]
    scaled = logits / sampling.temperature
    values, candidates = scaled.topk(min(NUCLEUS_CANDIDATES, logits.shape[1]), dim=-1)
    shares = (values - torch.logsumexp(scaled, dim=-1, keepdim=True)).exp()
    # One transfer a step; the draws below are made on the CPU, in fp64, which not every device has.
    probabilities, candidates = shares.cpu().double().cumsum(-1), candidates.cpu()
    tokens = []
    for row, rng in zip(rows, rngs, strict=True):
        tokens.append(_inverse_cdf(scaled[row], probabilities[row], candidates[row], rng.random(), sampling.top_p))
    chosen = torch.tensor(tokens, device=logits.device)
    picked = torch.tensor(list(rows), device=logits.device)
    logps = logits[picked].gather(1, chosen[:, None])[:, 0] - normaliser[picked]
    return tokens, logps.tolist()


def _inverse_cdf(scaled: Tensor, cumulative: Tensor, candidates: Tensor, uniform: float, top_p: float) -> int:
    """The token at which the cumulative probability of the nucleus passes `uniform` of the nucleus' mass.

    `cumulative`: of the likeliest candidates, sorted. The nucleus is the smallest set whose mass reaches `top_p`
    (Holtzman et al. 2020); where the candidates do not hold it, the whole vocabulary is sorted: exact, only slower.
    """
    # With top_p 1 the nucleus is everything and its mass 1: the candidates do, unless the number falls beyond them.
    held = float(cumulative[-1])
    if (uniform >= held if top_p == 1 else top_p > held) and len(candidates) < len(scaled):
        ordered = scaled.cpu().double().softmax(-1).sort(descending=True, stable=True)
        cumulative, candidates = ordered.values.cumsum(-1), ordered.indices
    size = min(int(torch.searchsorted(cumulative, top_p)) + 1, len(candidates))
    mass = 1.0 if top_p == 1 else float(cumulative[size - 1])
    place = int(torch.searchsorted(cumulative[:size], uniform * mass, right=True))
    return int(candidates[min(place, size - 1)].item())


def slots_for(model: LanguageModel, longest_tokens: int, budget_bytes: int = 2 << 30, most: int = 64) -> int:
    """How many cache slots of `longest_tokens` fit in `budget_bytes`, at most `most`, at least one."""
    config = model.network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * size * model.head.weight.element_size()
    return max(1, min(most, int(budget_bytes // (token_bytes * longest_tokens))))
