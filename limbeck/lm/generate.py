"""Sampling: prompts in, finished samples out, as an iterator.

A sample depends on its prompt, its index and the seed. With one number of slots, its bits do not depend on what else is
asked for, nor in which order (docs/decisions/0011). The loop is engine.py's.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from limbeck.console import say
from limbeck.errors import ModelError
from limbeck.lm.choosing import Sampling
from limbeck.lm.engine import Engine, Task
from limbeck.lm.free_memory import device_memory, is_out_of_memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.row_counts import STEP
from limbeck.lm.runners import rounds_weights
from limbeck.lm.samples import Arriving, PromptIds, Sample, Tally

# Samples at once, where nobody says how many: a step of many takes a GPU hardly longer.
_SLOTS, _SLOTS_CUDA = 96, 512
__all__ = [
    "PromptIds",
    "Sample",
    "Sampling",
    "Tally",
    "generate",
    "slots_for",
    "usual_slots",
    "wanted_slots",
    "within_memory",
]


def generate(
    model: LanguageModel,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    tally: Tally | None = None,
    arriving: Arriving | None = None,
) -> Iterator[Sample]:
    """Yield samples as they finish; those that may become longest begin first, so that the tail of the run is short.

    What is `arriving` meanwhile joins, until nothing is left to write. Where memory runs out the slots are halved, in a
    sentence, and what was in flight begins again.

    Raises:
        ModelError: where logits are not numbers, memory is too small for a single sample, or a prompt has a schema that
        cannot be kept to (guided.py).
    """
    tally = Tally() if tally is None else tally
    done: set[tuple[str, int]] = set()
    slots = wanted_slots(model, sampling)
    asked = list(prompts)

    def arrive(capacity: int) -> deque[Task]:
        come = arriving(capacity) if arriving else ()
        if come:
            asked[:] = [*(prompt for prompt in asked if not done.issuperset(_keys(prompt))), *come]
            done.difference_update(*map(_keys, come))
        return _tasks(come, sampling, slots, set(), model.context_tokens)

    while tasks := _tasks(asked, sampling, slots, done, model.context_tokens):
        try:
            for sample in Engine(model, sampling, slots, tasks, tally, arrive if arriving else None).run():
                done.add((sample.prompt_id, sample.sample_index))
                yield sample
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            if slots == 1:
                raise ModelError(f"memory is too small to write a single sample with {model.name}") from error
            slots //= 2
            tally.halvings += 1
            say(f"memory ran out while sampling; going on with {slots} samples at once", "yellow")


def _keys(prompt: PromptIds) -> list[tuple[str, int]]:
    return [(prompt.id, index) for index in range(prompt.num_samples)]


def _tasks(
    prompts: Sequence[PromptIds], sampling: Sampling, slots: int, done: set[tuple[str, int]], context: int | None
) -> deque[Task]:
    """What is still to be written, in the order in which it begins; no task has more samples than there are slots, and
    no sample goes beyond the model's context.
    """
    tasks = []
    for prompt in prompts:
        most = sampling.max_new_tokens if prompt.max_new_tokens is None else prompt.max_new_tokens
        if context is not None:
            most = max(1, min(most, context - len(prompt.ids)))
        left = [index for index in range(prompt.num_samples) if (prompt.id, index) not in done]
        tasks += [Task(prompt, tuple(left[n : n + slots]), most) for n in range(0, len(left), slots)]
    return deque(sorted(tasks, key=lambda task: -task.most))


def usual_slots(device: torch.device) -> int:
    """How many samples are written at once where nobody says."""
    return _SLOTS_CUDA if device.type == "cuda" else _SLOTS


def wanted_slots(model: LanguageModel, sampling: Sampling) -> int:
    """How many samples are to be written at once, memory allowing."""
    return sampling.slots or usual_slots(model.device)


def slots_for(model: LanguageModel, longest_tokens: int, most: int, budget_bytes: int) -> int:
    """How many samples of `longest_tokens` have room for keys and values in `budget_bytes`: from one to `most`."""
    config = model.network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * size * model.head.weight.element_size()
    return max(1, min(most, int(budget_bytes // (token_bytes * longest_tokens))))


def within_memory(
    model: LanguageModel,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    reserved_bytes: int = 0,
    last_slots: int | None = None,
) -> Sampling:
    """The sampling with as many slots, of those it has, as half of the free memory holds; says where that is fewer, or
    fewer than the last time.

    `reserved_bytes`: of what is free now, for what will be there when samples are written.
    """
    longest = max((len(prompt.ids) for prompt in prompts), default=0) + sampling.max_new_tokens
    if model.context_tokens is not None:
        longest = min(longest, model.context_tokens)
    # Weights in 8 bits are a second copy, a byte each.
    rounded = model.network.num_parameters() if rounds_weights(model, sampling) else 0
    budget_bytes = (device_memory(model.device).free - rounded - reserved_bytes) // 2
    wanted = wanted_slots(model, sampling)
    slots = slots_for(model, longest, wanted, budget_bytes)
    if STEP < slots < wanted:
        slots -= slots % STEP  # else they would be rounded up, as fewer are on a CPU, where room is not taken at once
    if slots < (wanted if last_slots is None else last_slots):
        say(f"  memory allows {slots} samples at once, of {longest} tokens at most")
    return replace(sampling, slots=slots)
