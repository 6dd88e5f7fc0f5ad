"""Ask a model: prompt rows in, reply records out, written to a file as they finish so that a kill loses little."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from limbeck.console import meter
from limbeck.errors import ModelError
from limbeck.lm.chat import Chat
from limbeck.lm.generate import PromptIds, Sample, Sampling, generate, within_memory
from limbeck.lm.items import REFUSED
from limbeck.lm.load import LanguageModel
from limbeck.recipe import Model
from limbeck.records import PromptRow, Reply
from limbeck.store import RecordStream, refuse_repeated, write_records


@dataclass(frozen=True)
class Replies:
    """Replies in the order of the rows, and drops by reason; `tokens` are those known to have been sampled, and
    `tokens_per_second` is of this call alone.
    """

    replies: list[Reply]
    drops: dict[str, int]
    tokens: int
    tokens_per_second: float


def ask(
    model: LanguageModel,
    rows: Sequence[PromptRow],
    sampling: Sampling,
    limits: Model,
    path: Path,
    label: str,
    samples: int = 1,
    begun: Mapping[str, str] | None = None,
) -> Replies:
    """Sample `samples` replies a row into `path`; those that an interrupted call left there are not sampled again.

    The replies to a row stand together, by index; what their prompts have in common is computed once.

    Rows whose prompt is over the limit, or that the template refuses, get no reply and are counted. `begun`: by the id
    of every row, what its replies begin with: they go on from there, hold it, and have that much less to write;
    `num_tokens` counts what was written.

    Raises:
        InputError: where two rows have one id, so that their replies could not be told apart.
    """
    started, tokens = time.perf_counter(), 0
    refuse_repeated([row.id for row in rows], "prompt")
    fitting, drops = fitting_prompts(model.chat, rows, limits)
    if begun:
        fitting = [_begin(prompt, begun[prompt.id], model.chat, sampling) for prompt in fitting]
    places = [(prompt.id, index) for prompt in fitting for index in range(samples)]
    with RecordStream(path, Reply) as stream, meter(label, len(places), "replies") as bar:
        done: dict[tuple[str, int], Reply] = {(reply.prompt_id, reply.sample_index): reply for reply in stream.done}
        bar.skip(len(done))
        waiting = [
            replace(prompt, num_samples=samples)
            for prompt in fitting
            if any((prompt.id, index) not in done for index in range(samples))
        ]
        for sample in generate(model, waiting, within_memory(model, waiting, sampling)):
            if (sample.prompt_id, sample.sample_index) in done:
                continue  # of a prompt of which an interrupted call had sampled a part
            reply = Reply(
                prompt_id=sample.prompt_id,
                sample_index=sample.sample_index,
                text=_whole(begun[sample.prompt_id], sample, model.chat) if begun else sample.text,
                finish_reason=sample.finish_reason,
                num_tokens=len(sample.ids),
            )
            stream.append(reply)
            done[reply.prompt_id, reply.sample_index] = reply
            tokens += len(sample.ids)
            bar.advance(1, f"{tokens / (time.perf_counter() - started):.0f} tok/s")
    replies = [done[place] for place in places]
    write_records(path, replies)
    rate = tokens / (time.perf_counter() - started)
    return Replies(replies, drops, sum(reply.num_tokens or 0 for reply in replies), rate)


def _begin(prompt: PromptIds, text: str, chat: Chat, sampling: Sampling) -> PromptIds:
    """The prompt with a beginning of the reply, which has that many tokens less left to write, but one at least."""
    ids = chat.response_ids(text)[:-1]  # without the end of turn
    return replace(prompt, ids=(*prompt.ids, *ids), max_new_tokens=max(sampling.max_new_tokens - len(ids), 1))


def _whole(text: str, sample: Sample, chat: Chat) -> str:
    """The reply with its beginning. What some tokenizers decode alone, they decode without the space before it."""
    ids = chat.response_ids(text)[:-1]
    before, whole = chat.text(ids), chat.text((*ids, *sample.ids))
    if sample.finish_reason == "stop_string" or not whole.startswith(before):
        return text + sample.text
    return text + whole[len(before) :]


class Fitting(NamedTuple):
    """Prompts that can be asked, and how many rows could not be made into one, by reason."""

    prompts: list[PromptIds]
    drops: dict[str, int]


def fitting_prompts(chat: Chat, rows: Sequence[PromptRow], limits: Model) -> Fitting:
    """The rows whose conversation the template takes and whose prompt is within the limit, in their order."""
    fitting: list[PromptIds] = []
    drops: Counter[str] = Counter()
    for row in rows:
        try:
            prompt = PromptIds(row.id, chat.prompt_ids(row.prompt))
        except ModelError:
            drops[REFUSED] += 1
            continue
        if len(prompt.ids) > limits.max_prompt_tokens:
            drops[f"prompt over {limits.max_prompt_tokens} tokens"] += 1
        elif chat.context_tokens is not None and len(prompt.ids) >= chat.context_tokens:
            drops[f"prompt leaves no room in the model's {chat.context_tokens} tokens"] += 1
        else:
            fitting.append(prompt)
    return Fitting(fitting, dict(drops))
