"""What every section of the recipe is built from: its base, the kinds of its values, and how replies are sampled."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

Count = Annotated[int, Field(ge=0, le=10_000_000)]
Positive = Annotated[int, Field(gt=0, le=10_000_000)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$")]


def without_secrets(address: str) -> str:
    """An address as it is, unless it carries what belongs into the environment: recipes are kept and shown."""
    if not address.strip():  # as of a variable that is not set: it must not mean the provider's own
        raise ValueError("an address must not be empty: leave the field out, or say where your server is")
    try:
        parts = urlsplit(address)
    except ValueError:
        return address  # whoever uses it says what is wrong with it
    if "@" in address or parts.query:
        raise ValueError("an address must not carry a name, password or query: put the key into the environment "
                         "variable that api_key_env names")  # fmt: skip
    return address


def names_a_variable(name: str) -> str:
    """The name of an environment variable as it is, unless it can be none, or looks like the key itself.

    Keys of some providers are letters, digits and underscores too; no name of a variable mixes so many in lower case.
    """
    looks_secret = len(name) >= 20 and re.search(r"[a-z]", name) and re.search(r"\d", name)
    if name and (looks_secret or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise ValueError("should be the name of an environment variable, as OPENAI_API_KEY; the key itself belongs "
                         "into that variable and into no recipe")  # fmt: skip
    return name


VariableName = Annotated[str, AfterValidator(names_a_variable)]

# What limbeck says of a request itself; what would bring more replies than one, one in pieces, or something other than
# text, or ask something else; what would be asked of others, or be paid for by another list than that of `budget`; and
# what is an argument of OpenAI's client and no field of a request.
_SET_BY_LIMBECK = (
    "model", "messages", "temperature", "max_tokens", "max_completion_tokens", "response_format",
    "n", "best_of", "stream", "stream_options",
    "tools", "tool_choice", "functions", "function_call", "modalities", "audio",
    "prompt", "input", "echo",
    "models", "route", "fallbacks", "plugins", "service_tier",
    "web_search_options", "web_search", "enable_search", "search_parameters",
    "extra_headers", "extra_body", "extra_query",
)  # fmt: skip
_NAMES_OF_SECRETS = (  # and what ends so; but `prompt_cache_key` and `eos_token` are none
    "api_key", "access_key", "account_key", "auth_key", "private_key", "secret_key", "subscription_key", "access_token",
    "api_token", "auth_token", "bearer_token", "refresh_token", "session_token", "secret", "password", "passphrase",
    "authorization", "credential",
)  # fmt: skip
_IS_A_SECRET = re.compile(r"\b(?:sk|nvapi|gsk|hf|xai)[-_][\w.-]{12,}|\bAIza[\w-]{20,}|^\s*bearer\s", re.I)


def may_be_added(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Fields of a request's body as they are, unless limbeck sets one of them itself, or one looks like a key."""
    decided = {_alike(name) for name in _SET_BY_LIMBECK}
    if own := sorted(name for name in fields if _alike(name) in decided):
        raise ValueError(f"must not name {own[0]!r}, which limbeck decides itself; it is for other fields, such as "
                         "top_p or reasoning_effort")  # fmt: skip
    for name, value in _within(fields):
        if _names_a_secret(name) or (isinstance(value, str) and _IS_A_SECRET.search(value)):
            raise ValueError(f"holds in {name!r} what looks like a key: put it into the environment variable that "
                             "api_key_env names; recipes are kept and shown")  # fmt: skip
    return fields


def _alike(name: str) -> str:
    """A name as servers may read it: without regard to case, `-` and `_`."""
    return name.casefold().replace("-", "").replace("_", "")


def _names_a_secret(name: str) -> bool:
    alike = _alike(name)
    return alike in ("key", "token") or alike.removesuffix("s").endswith(tuple(map(_alike, _NAMES_OF_SECRETS)))


def _within(value: JsonValue, name: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every value at any depth, with the name that it stands under."""
    yield name, value
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from _within(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from _within(part, name)


RequestFields = Annotated[dict[str, JsonValue], AfterValidator(may_be_added)]


def see_extra_is_sent(field: str, extra: dict[str, JsonValue], *models: str | None) -> None:
    """Refuse fields of requests to a server that none of `models` is asked through, since one of them runs here."""
    local = next((model for model in models if model and model.startswith("local:")), None)
    if extra and local and not any(model and model.startswith("openai:") for model in models):
        raise ValueError(f"{field}.extra has fields for requests to a server, and {local!r} runs on this machine, "
                         "without one; leave it out")  # fmt: skip


def see_samples_differ(samples_per_prompt: int, temperature: float) -> None:
    """Refuse to ask for the same reply several times."""
    if samples_per_prompt > 1 and temperature == 0:
        raise ValueError(f"samples_per_prompt is {samples_per_prompt}, and at temperature 0 all replies to a prompt "
                         "are the same; raise temperature or ask once")  # fmt: skip


class Section(BaseModel):
    """Base of every section: frozen, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sampled(Section):
    """How a student's replies are sampled."""

    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.0, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Nucleus sampling (Holtzman et al. 2020).")
    top_k: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        0, description="Draw among this many likeliest tokens only, before `top_p` counts; 0: all."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="Above 1, tokens of the prompt and the reply so far become less likely (Keskar et al. 2019). "
        "1: the model's own probabilities, which is what is to be judged."
    )  # fmt: skip
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=16)] = Field(
        (), description="Strings that end a reply, besides the end of turn; they and what follows are not part of it."
    )
    max_new_tokens: Annotated[int, Field(gt=0, le=10_000_000)] = Field(200, description="Longest reply, in tokens.")
    weights: Literal["own", "int8", "auto"] = Field(
        "own", description="int8: the built-in engine samples with weights rounded to 8 bits, faster and nearly the "
        "same (docs/performance.md); on a CPU with AVX-512 VNNI, with a C++ compiler, and of Llama-like models "
        "only. auto: so where that can be done, with the model's own elsewhere; decided once for a run."
    )  # fmt: skip
