"""Sections of the recipe that make preference pairs: the teacher, screening, mixing, and the arms."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from limbeck.recipe_fields import Count, Positive, Rate, Section, Share

PairKind = Literal["human", "random", "zero_shot", "few_shot", "rolling", "revise", "on_policy", "contrast"]
Mixing = Literal["uniform", "append", "sequential", "ratio", "interleave"]


class Endpoint(Section):
    """An OpenAI-compatible server. The key is read from the environment or a file and never written anywhere."""

    base_url: str | None = Field(None, description="Leave out for the provider's own address.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key; may be unset for "
                             "keyless local servers.")  # fmt: skip
    api_key_file: str | None = Field(None, description="File that holds the key and nothing else, instead of the "
                                     "environment variable.")  # fmt: skip
    style: Literal["openai", "azure"] = Field(
        "openai", description="azure: the model is a deployment in the address, the key goes in the header `api-key`; "
        "base_url is then `https://NAME.openai.azure.com`."
    )  # fmt: skip
    azure_api_version: str = Field("2024-10-21", description="Of an `azure` endpoint.")
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(120.0, description="Of one request.")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(6, description="For 429, 5xx and lost connections.")
    concurrency: Annotated[int, Field(gt=0, le=512)] = Field(
        64, description="Most requests in flight: they begin at 8, grow while answers are good, and are halved on 429, "
        "5xx and time-outs."
    )  # fmt: skip
    requests_per_minute: Positive | None = Field(None, description="The account's limit, in any 60 seconds.")
    tokens_per_minute: Positive | None = Field(
        None, description="The account's limit, prompts and replies together, in any 60 seconds."
    )


class Budget(Section):
    """What a teacher may cost. Every request's worst case is set aside before it is sent; limits hold over resumes."""

    usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="Most money, in US dollars by the list of prices."
    )
    tokens: Annotated[int, Field(gt=0, le=10**12)] | None = Field(
        None, description="Most tokens, of prompts and replies together; the only limit where no price is known."
    )


class Teach(Section):
    """Who writes the pairs, and how."""

    teacher: str = Field(
        "worked", description="`worked` (embedded: worked solutions, no key) or `openai:MODEL` (any compatible server)."
    )
    endpoint: Endpoint = Field(Endpoint(), description="Server of an `openai:` teacher.")
    budget: Budget = Field(Budget(), description="Most that may be spent; a provider's own address wants one.")
    prices: str | None = Field(
        None, description="Your own price list, a copy of the packaged `prices.toml`, corrected."
    )
    batch: bool = Field(
        False, description="Through the provider's batch API: half the price at OpenAI, an answer within 24 hours; may "
        "be interrupted, and goes on waiting when run again."
    )  # fmt: skip
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.7, description="Of the teacher.")
    max_tokens: Positive = Field(2048, description="Longest teacher reply, in tokens.")
    weak_prompts_shown: Annotated[int, Field(ge=1, le=32)] = Field(
        3, description="Weak prompts shown when a new prompt is asked for."
    )
    example_pairs_shown: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="In-context pairs of a few-shot request (paper: 4)."
    )
    spare_share: Share = Field(0.1, description="Extra requests, for those that screening drops.")

    @model_validator(mode="after")
    def _batch_has_a_provider(self) -> Self:
        if self.batch and not self.teacher.startswith("openai:"):
            raise ValueError(f"batch = true needs an `openai:MODEL` as teacher; {self.teacher!r} has no batch API")
        if self.batch and self.endpoint.style != "openai":
            raise ValueError(f'batch = true needs endpoint.style = "openai", not {self.endpoint.style!r}')
        return self


class Screen(Section):
    """Which pairs are kept."""

    min_response_characters: Count = Field(1, description="Shorter responses are dropped as empty.")
    max_length_ratio: Annotated[float, Field(ge=1)] = Field(
        20.0, description="A pair whose longer side exceeds the shorter by this factor is dropped."
    )
    on_verifier_disagreement: Literal["drop", "keep"] = Field(
        "drop", description="What to do where the task's scorer calls the chosen wrong or the rejected right."
    )


class Mix(Section):
    """How arms are filled."""

    heldout_pairs: Count = Field(24, description="Pairs of each kind kept out of every arm, to validate DPO (paper: "
                                 "200 few-shot pairs).")  # fmt: skip


class Arm(Section):
    """One training mixture: how many pairs of each kind, and how human and synthetic ones come together."""

    human: Count = Field(0, description="Pairs from `corpus.preferences`.")
    random: Count = Field(0, description="Teacher's pairs on randomly drawn prompts (stand where human pairs stand).")
    zero_shot: Count = Field(0, description="Teacher's pairs on mined prompts.")
    few_shot: Count = Field(0, description="Teacher's pairs on new prompts like the mined ones.")
    rolling: Count = Field(0, description="Teacher's pairs on new prompts, each written with the human pairs that come "
                           "before it in the stream as context.")  # fmt: skip
    revise: Count = Field(0, description="Chosen: the teacher's minimal correction of the student's own failing reply; "
                          "rejected: that reply.")  # fmt: skip
    on_policy: Count = Field(0, description="Chosen: the student's own verified best reply where it has one, else the "
                             "reference solution; rejected: its own failing reply.")  # fmt: skip
    contrast: Count = Field(0, description="Chosen: the teacher's answer to a mined prompt; rejected: the answer of "
                            "`teach.contrast_with`.")  # fmt: skip
    mixing: Mixing = Field(
        "uniform", description="uniform: every mini-batch a uniform draw across kinds (paper, step 6). append: human "
        "pairs, then the synthetic. sequential: a second training on the synthetic, from the checkpoint of the "
        "first. ratio: `synthetic_share` of every mini-batch. interleave: a synthetic pair at every other position."
    )  # fmt: skip
    synthetic_share: Rate = Field(0.5, description='Of every mini-batch, with `mixing = "ratio"`.')
    trains: Literal["dpo", "sft"] = Field(
        "dpo", description="sft: chosen responses join the demonstrations, and the arm is trained from the base model "
        "and judged against the plain SFT."
    )  # fmt: skip

    def counts(self) -> dict[PairKind, int]:
        """Pairs by kind, those asked for only."""
        asked: dict[PairKind, int] = {kind: getattr(self, kind) for kind in get_args(PairKind)}
        return {kind: number for kind, number in asked.items() if number}

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.counts():
            raise ValueError("an arm needs at least one pair of some kind")
        return self
