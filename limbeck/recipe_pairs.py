"""Sections of the recipe that make preference pairs: the teacher, screening, mixing, and the arms."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from limbeck.recipe_fields import Count, Positive, Rate, Section, Share

PairKind = Literal["human", "random", "zero_shot", "few_shot", "rolling", "revise", "on_policy", "contrast"]
Mixing = Literal["uniform", "append", "sequential", "ratio", "interleave"]


class Endpoint(Section):
    """An OpenAI-compatible server. The key is read from the environment and never written anywhere."""

    base_url: str | None = Field(None, description="Leave out for the provider's own address.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key; may be unset for "
                             "keyless local servers.")  # fmt: skip
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(120.0, description="Of one request.")
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(6, description="For 429, 5xx and lost connections.")
    concurrency: Annotated[int, Field(gt=0, le=512)] = Field(8, description="Requests in flight.")


class Teach(Section):
    """Who writes the pairs, and how."""

    teacher: str = Field(
        "worked",
        description="`worked` (embedded: worked solutions, no key), `openai:MODEL` (any compatible server), "
        "or `local:MODEL` (a model on this machine: a name that `limbeck pull` knows, a folder, or a hub id).",
    )
    endpoint: Endpoint = Field(Endpoint(), description="Server of an `openai:` teacher.")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.7, description="Of the teacher.")
    max_tokens: Positive = Field(2048, description="Longest teacher reply, in tokens.")
    weak_prompts_shown: Annotated[int, Field(ge=1, le=32)] = Field(
        3, description="Weak prompts shown when a new prompt is asked for."
    )
    example_pairs_shown: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="In-context pairs of a few-shot request (paper: 4)."
    )
    spare_share: Share = Field(0.1, description="Extra requests, for those that screening drops.")


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
