"""Sections of the recipe that make preference pairs: the teacher, screening, mixing, and the arms."""

from collections.abc import Set
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from limbeck.recipe.fields import (
    Count,
    Positive,
    Rate,
    RequestFields,
    Section,
    Share,
    VariableName,
    see_extra_is_sent,
    without_secrets,
)

PairKind = Literal[
    "human", "random", "zero_shot", "few_shot", "rolling", "revise", "on_policy", "own", "reference", "divergence",
    "contrast"
]  # fmt: skip
MadeKind = Literal[
    "random", "zero_shot", "few_shot", "rolling", "revise", "on_policy", "own", "reference", "divergence", "contrast"
]  # fmt: skip
Structured = Literal["auto", "json_schema", "json_object", "off"]
Mixing = Literal["uniform", "append", "sequential", "ratio", "interleave"]


class Endpoint(Section):
    """An OpenAI-compatible server. The key is read from the environment or a file and never written anywhere."""

    base_url: Annotated[str, AfterValidator(without_secrets)] | None = Field(
        None, description="Leave out for the provider's own address."
    )
    api_key_env: VariableName | None = Field(
        None, description="Environment variable that holds the key. Left out: `OPENAI_API_KEY`, which is sent to "
        "OpenAI's own address alone (with style azure, `AZURE_OPENAI_API_KEY` to Azure's); other servers get no key."
    )  # fmt: skip
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
        64, description="Most requests in flight: they begin at 8, grow while answers are good, are halved on 429, 503 "
        "and time-outs, and lose a tenth on other faults."
    )  # fmt: skip
    requests_per_minute: Positive | None = Field(None, description="The account's limit, in any 60 seconds.")
    tokens_per_minute: Positive | None = Field(
        None, description="The account's limit, prompts and replies together, in any 60 seconds."
    )
    extra: RequestFields = Field(
        {}, description="Fields added to every request's body as they are, as in `extra = { reasoning_effort = "
        '"low" }`. A reply asked for with others is another reply.'
    )  # fmt: skip


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
        "worked",
        description="`worked` (embedded: worked solutions, no key), `openai:MODEL` (any compatible server), "
        "or `local:MODEL` (a model on this machine: a name that `limbeck pull` knows, a folder, or a hub id).",
    )
    endpoint: Endpoint = Field(Endpoint(), description="Server of an `openai:` teacher.")
    budget: Budget = Field(Budget(), description="Most that may be spent; a provider's own address wants one.")
    prices: str | None = Field(
        None,
        description="Your own price list, a copy of the packaged `prices.toml`, corrected; judges are priced by "
        "it too.",
    )
    batch: bool = Field(
        False, description="Through the provider's batch API: half the price at OpenAI, each round of requests "
        "is answered within 24 hours (new prompts, pairs and re-asks are rounds of their own); may be interrupted, and "
        "goes on waiting when run again."
    )  # fmt: skip
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.7, description="Of the teacher.")
    max_tokens: Positive = Field(2048, description="Longest teacher reply, in tokens.")
    weak_prompts_shown: Annotated[int, Field(ge=1, le=32)] = Field(
        3, description="Weak prompts shown when a new prompt is asked for."
    )
    example_pairs_shown: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="In-context pairs of a few-shot request (paper: 4)."
    )
    context_pairs_shown: Annotated[int, Field(ge=1, le=32)] = Field(
        5, description="Human pairs just before its place that a rolling pair is written with (paper: 5)."
    )
    contrast_with: str | None = Field(
        None,
        description="Weaker model whose answers contrast pairs reject, named like `teacher`: `openai:MODEL` or "
        "`local:MODEL`.",
    )
    contrast_endpoint: Endpoint | None = Field(
        None,
        description="Server of `contrast_with`; left out, that of the teacher. The teacher's own model may be the "
        'weaker one too, with another `extra`, as in `contrast_endpoint = { extra = { reasoning_effort = "low" } }`.',
    )
    structured: Structured = Field(
        "auto", description="How JSON is asked for. auto: by the reply's schema; where the server refuses that, as any "
        "JSON object; where it refuses that too, in words only. json_schema, json_object: so or not at all. off: in "
        "words only."
    )  # fmt: skip
    reasks: Annotated[int, Field(ge=0, le=3)] = Field(
        1, description="How often a reply that does not parse is asked for again, told what was wrong with it."
    )
    accept: dict[MadeKind, Positive] = Field(
        {}, description="Pairs of a kind that screening must keep before the teacher is asked no more; left out, what "
        "the arms need, `mix.heldout_pairs` included. As in `accept.few_shot = 2000`."
    )  # fmt: skip
    max_candidates: dict[MadeKind, Positive] = Field(
        {}, description="Most pairs of a kind that are tried for it; left out, twice `accept`."
    )
    templates: str | None = Field(
        None, description="Folder of your own prompt templates, KIND.txt; those that are not there are limbeck's."
    )

    @model_validator(mode="after")
    def _batch_has_a_provider(self) -> Self:
        if self.batch and not self.teacher.startswith("openai:"):
            raise ValueError(f"batch = true needs an `openai:MODEL` as teacher; {self.teacher!r} has no batch API")
        for name, server in {"endpoint": self.endpoint, "contrast_endpoint": self.contrast_endpoint}.items():
            if self.batch and server is not None and server.style != "openai":
                raise ValueError(f'batch = true needs {name}.style = "openai", not {server.style!r}')
        return self

    @model_validator(mode="after")
    def _extra_is_sent(self) -> Self:
        weaker = self.contrast_with
        see_extra_is_sent("endpoint", self.endpoint.extra, self.teacher, None if self.contrast_endpoint else weaker)
        if self.contrast_endpoint is not None:
            see_extra_is_sent("contrast_endpoint", self.contrast_endpoint.extra, weaker)
        return self


class Screen(Section):
    """Which pairs are kept."""

    min_response_characters: Count = Field(1, description="Shorter responses are dropped as empty.")
    max_length_ratio: Annotated[float, Field(ge=1)] = Field(
        20.0, description="A pair whose longer side exceeds the shorter by this factor is dropped."
    )
    max_length_difference_characters: Count = Field(
        6000, description="A pair whose sides differ in length by more is dropped: it would teach length."
    )
    max_answer_similarity: Share = Field(
        0.98, description="Answers that share more than this part of their words, in order, are dropped as nearly "
        "equal, unless a number, sign, negation, opposite, name or code differs. Exempt: problems, `revise`. 1: off."
    )  # fmt: skip
    max_prompt_similarity: Rate = Field(
        0.7, description="Jaccard similarity of word triples from which two prompts of a kind that a teacher wrote "
        "are the same, or a prompt is one of the evaluation. Problems are compared by content instead."
    )  # fmt: skip
    embedder: str = Field(
        "none", description="Who compares prompts by meaning: none; packaged (MiniLM of the extra `embeddings`); or a "
        "local folder of a sentence encoder."
    )  # fmt: skip
    max_prompt_cosine: Rate = Field(
        0.9, description="Cosine of embeddings from which two such prompts mean the same, with an `embedder`."
    )
    margin_band: tuple[float, float] | None = Field(
        None, description="Lowest and highest margin of a pair that a judge scored, in the judge's unit: below it a "
        "pair teaches nothing, above it the pair is too easy. Pairs without a margin are kept and counted; margins "
        "come with pairs that were scored elsewhere, so far."
    )  # fmt: skip
    on_verifier_disagreement: Literal["drop", "swap", "keep"] = Field(
        "drop", description="What to do where the task's scorer calls the chosen wrong or the rejected right. swap: "
        "exchange the two where the scorer says the opposite, drop where both are right or both wrong."
    )  # fmt: skip

    @model_validator(mode="after")
    def _band_has_room(self) -> Self:
        if self.margin_band is not None and self.margin_band[0] > self.margin_band[1]:
            raise ValueError(f"margin_band has its lowest margin first, then its highest, not {list(self.margin_band)}")
        return self


class Mix(Section):
    """How arms are filled."""

    heldout_pairs: Count = Field(24, description="Pairs of each kind kept out of every arm, to validate DPO (paper: "
                                 "200 few-shot pairs).")  # fmt: skip
    take_fewer: bool = Field(False, description="Where there are fewer pairs of a kind than an arm asks for: take what "
                             "there is and say so, instead of stopping. None will do too where the teacher's budget "
                             "ended first or screening kept none, and the arm has another kind to train on (with "
                             "`sequential`, in each run); a kind of which none can be made, or all are held out, still "
                             "ends the run.")  # fmt: skip


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
    on_policy: Count = Field(0, description="Chosen: the student's own verified reply, without a false equation, where "
                             "there is one, else the reference solution; rejected: its own failing reply.")  # fmt: skip
    own: Count = Field(0, description="Chosen: the student's own verified reply, without a false equation; rejected: "
                       "its own failing one. Needs `mine.samples_per_prompt` above 1.")  # fmt: skip
    reference: Count = Field(0, description="Chosen: the reference solution; rejected: the student's own failing "
                             "reply.")  # fmt: skip
    divergence: Count = Field(0, description="Chosen: the student's own failing reply up to its last good step, and "
                              "from there a verified continuation of its own, without a false equation (section "
                              "`branch`); rejected: that reply.")  # fmt: skip
    contrast: Count = Field(0, description="Chosen: the teacher's answer to a mined prompt; rejected: the answer of "
                            "`teach.contrast_with`.")  # fmt: skip
    mixing: Mixing = Field(
        "uniform", description="How synthetic pairs (every kind but human; but random, where it stands for human) join "
        "the human stream. uniform: every mini-batch a uniform draw across kinds (paper, step 6). append: human pairs, "
        "then the synthetic. sequential: a second training on the synthetic, from the checkpoint of the first. ratio: "
        "`synthetic_share` of every mini-batch. interleave: a synthetic pair after each human one; a rolling pair "
        "right after the human pair it follows (all of them, where several follow one), or, where the arm does not "
        "train on that, where any synthetic pair may stand. Every epoch repeats the order, except that SFT draws that "
        "of uniform anew."
    )  # fmt: skip
    synthetic_share: Rate = Field(
        0.5, description='Synthetic part of every mini-batch, with `mixing = "ratio"`; left-over pairs follow alone.'
    )
    trains: Literal["dpo", "sft"] = Field(
        "dpo", description="sft: chosen responses join the demonstrations, which are the human stream then, with those "
        "of human pairs among them; the arm is trained from the base model and judged against the plain SFT."
    )  # fmt: skip
    starts_from: Literal["base", "sft"] = Field(
        "base", description="Of an SFT arm. sft: it goes on from the plain SFT's model (in a further round, from the "
        "last round's) on the chosen responses alone: what more SFT on the same answers gives, which preference "
        "training has to beat."
    )  # fmt: skip
    dpo: dict[str, Any] = Field(
        {}, description="What a DPO arm has otherwise than `[dpo]` says, as in `dpo = { beta = 1.0 }`."
    )  # fmt: skip
    sft: dict[str, Any] = Field({}, description="What an SFT arm has otherwise than `[sft]` says.")

    def counts(self) -> dict[PairKind, int]:
        """Pairs by kind, those asked for only."""
        asked: dict[PairKind, int] = {kind: getattr(self, kind) for kind in get_args(PairKind)}
        return {kind: number for kind, number in asked.items() if number}

    @property
    def stream_kind(self) -> PairKind | None:
        """The kind whose pairs belong to the human stream: `human`; in a DPO arm without any, `random`."""
        if self.human:
            return "human"
        return "random" if self.random and self.trains == "dpo" else None

    @property
    def has_first_run(self) -> bool:
        """Whether a model of the arm's own is trained on the human stream first, and the arm's goes on from that.

        The first run of an SFT arm without human pairs is the plain SFT, which there is already.
        """
        return self.mixing == "sequential" and (self.trains == "dpo" or self.stream_kind is not None)

    def can_train_on(self, there: Set[PairKind]) -> bool:
        """Whether pairs of the kinds that are there make a training: some that it asks for, or some for each run."""
        asked = set(self.counts())
        stream = asked & {self.stream_kind}
        runs = (stream, asked - stream) if self.mixing == "sequential" else (asked,)
        return all(run & there for run in runs if run)

    @property
    def models_in(self) -> str:
        """The folder, in a run, that holds the models of arms that train as this one does."""
        return "dpo" if self.trains == "dpo" else "sft_arms"

    def mixture(self) -> dict[str, Any]:
        """What decides the arm's mixture: everything but how it is trained on."""
        return self.model_dump(exclude={"dpo", "sft"})

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.counts():
            raise ValueError("an arm needs at least one pair of some kind")
        other = "sft" if self.trains == "dpo" else "dpo"
        if getattr(self, other):
            raise ValueError(f"{other} settings are given, and the arm trains by {self.trains}")
        if self.starts_from == "sft" and self.trains == "dpo":
            raise ValueError(
                'starts_from = "sft" is for arms with trains = "sft"; DPO starts from the SFT model anyway'
            )
        return self

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if self.mixing == "uniform":
            return self
        if (self.trains == "dpo" or self.starts_from == "sft") and self.stream_kind is None:
            raise ValueError(f"mixing {self.mixing!r} needs human pairs, or random ones in their place, among which "
                             "the others come")  # fmt: skip
        if not set(self.counts()) - {self.stream_kind}:
            raise ValueError(f"mixing {self.mixing!r} needs pairs of a synthetic kind, and this arm has "
                             f"{self.stream_kind} ones only")  # fmt: skip
        if self.mixing == "interleave" and self.rolling and self.stream_kind is None:
            raise ValueError("mixing 'interleave' puts rolling pairs after the human ones they were written from, and "
                             "an SFT arm without human pairs has none; give it some")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _share_is_of_a_ratio(self) -> Self:
        # A recipe that limbeck wrote spells its defaults out: one that says the default says nothing.
        default = type(self).model_fields["synthetic_share"].default
        if self.mixing != "ratio" and self.synthetic_share != default:
            raise ValueError(f"synthetic_share goes with mixing 'ratio' only, and mixing is {self.mixing!r}")
        return self
