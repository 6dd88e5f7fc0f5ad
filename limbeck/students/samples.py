"""Between `Sampling` and chat completions: what is sent for a prompt, and what a reply's end means. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from limbeck import seeds
from limbeck.api.answers import Answered
from limbeck.lm.generate import Sampling
from limbeck.records import FinishReason

SEED_BITS = 31  # llama.cpp holds a seed in 32 bits and takes the largest for "at random"; others hold more
# No parameters of OpenAI's: sent only where they are set to something else than these.
_NEUTRAL = {"top_k": 0, "repetition_penalty": 1.0}
_REFUSABLE = ("temperature", "top_p", "seed", "stop", *_NEUTRAL)
# In quotes, or beside a word that is said of parameters.
_SPOKEN_OF = (
    r"[`'\"]{name}[`'\"]|\b(?:parameter|param|field|argument|value)\W+{name}\b"
    r"|\b{name}\s+(?:must|should|cannot|parameter|field|value)\b"
)


def parameters(sampling: Sampling, prompt_id: str, sample_index: int = 0) -> dict[str, Any]:
    """What a chat completion is told of the sampling; the seed is the sample's own, whatever else is asked."""
    wanted: dict[str, Any] = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seeds.derive(sampling.seed, prompt_id, sample_index) % (1 << SEED_BITS),
    }
    if sampling.stop:
        wanted["stop"] = list(sampling.stop)
    settings = asdict(sampling)
    return wanted | {name: settings[name] for name, off in _NEUTRAL.items() if settings[name] != off}


def finish_reason(answer: Answered, stops: Sequence[str]) -> FinishReason:
    """Why a reply ended. Where stop strings were asked for and the server does not tell them from an end of turn, the
    reply counts as cut at one: no end of turn is made up that the student may not have written.
    """
    if answer.finish_reason == "length":
        return "length"
    if not stops or (answer.stopped_by is not None and answer.stopped_by not in stops):
        return "stop"
    return "stop_string"


def refused_parameter(said: str, sent: Mapping[str, Any]) -> str | None:
    """The parameter of the sampling that a server's complaint about a request names, if any.

    A word of every day's use counts only where it is spoken of as a parameter: a complaint may repeat the prompt.
    """
    for name in _REFUSABLE:
        pattern = rf"\b{name}\b" if "_" in name else _SPOKEN_OF.format(name=name)
        if name in sent and re.search(pattern, said):
            return name
    return None
