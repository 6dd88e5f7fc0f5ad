"""Ask a model: prompt rows in, reply records out, written to a file as they finish so that a kill loses little."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from limbeck.console import meter
from limbeck.lm.generate import PromptIds, Sampling, generate, slots_for
from limbeck.lm.load import LanguageModel
from limbeck.recipe import Model
from limbeck.records import PromptRow, Reply
from limbeck.store import RecordStream, write_records


@dataclass(frozen=True)
class Replies:
    """Replies in the order of the rows; `tokens` counts those sampled here, in `seconds`."""

    replies: list[Reply]
    too_long: int
    tokens: int
    seconds: float


def ask(
    model: LanguageModel, rows: Sequence[PromptRow], sampling: Sampling, limits: Model, path: Path, label: str
) -> Replies:
    """Sample one reply a row into `path`; replies that an interrupted call left there are kept, not sampled again.

    Rows whose prompt is over the limit get no reply and are counted in `too_long`.
    """
    started, tokens = time.perf_counter(), 0
    prompts = [PromptIds(row.id, model.chat.prompt_ids(row.prompt)) for row in rows]
    fitting = [prompt for prompt in prompts if len(prompt.ids) <= limits.max_prompt_tokens]
    with RecordStream(path, Reply) as stream, meter(label, len(fitting), "replies") as bar:
        done: dict[str, Reply] = {reply.prompt_id: reply for reply in stream.done}
        bar.skip(len(done))
        waiting = [prompt for prompt in fitting if prompt.id not in done]
        longest = max((len(prompt.ids) for prompt in waiting), default=0) + sampling.max_new_tokens
        for sample in generate(model, waiting, replace(sampling, slots=slots_for(model, longest))):
            reply = Reply(
                prompt_id=sample.prompt_id,
                sample_index=sample.sample_index,
                text=model.chat.text(sample.ids),
                finish_reason=sample.finish_reason,
                num_tokens=len(sample.ids),
            )
            stream.append(reply)
            done[reply.prompt_id] = reply
            tokens += reply.num_tokens
            bar.advance(1, f"{tokens / (time.perf_counter() - started):.0f} tok/s")
    replies = [done[prompt.id] for prompt in fitting]
    write_records(path, replies)
    return Replies(replies, len(prompts) - len(fitting), tokens, time.perf_counter() - started)
