"""The typed recipe: what a run is, field by field, with meaning, unit and why this default.

Pure data: `limbeck.recipe_file` reads it from TOML, and `docs/recipe.md` is generated from the descriptions here.
"""

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from limbeck.recipe_fields import Count, Name, Positive, Rate, Sampled, Section, Share

PairKind = Literal["human", "random", "zero_shot", "few_shot", "on_policy"]
Judge = Literal["verifier", "nemotron"]
ALL_LINEAR = "all-linear"


class Model(Section):
    """The student and the machine it runs on."""

    student: str = Field("smollm2-135m", description="Name that `limbeck pull` knows, local folder, or hub id.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA, then Apple's GPU, then the CPU."
    )
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Of computation; weights under training keep an fp32 master copy. auto: bf16 where a "
        "short probe finds it faster than fp32."
    )  # fmt: skip
    max_prompt_tokens: Positive = Field(2048, description="Longer prompts are dropped and counted (paper: 2,048).")
    max_response_tokens: Positive = Field(1024, description="Longer responses are dropped from training and counted.")


class Tasks(Section):
    """Verifiable reasoning problems, drawn per split; total rows, spread evenly over the families."""

    families: tuple[str, ...] = Field((), description="Task families to train on; empty: all of them.")
    sft: Count = Field(600, description="Problems with worked solutions for SFT.")
    pool: Count = Field(600, description="Problems among which the student's failures are sought.")
    fresh: Count = Field(400, description="Problems only the teacher has, for few-shot generation.")
    validation: Count = Field(200, description="Problems on which choices are made.")
    test: Count = Field(500, description="Held-out problems of the trained families, for the verdict.")
    transfer: Count = Field(150, description="Held-out problems of families and templates never trained on.")


class Chat(Section):
    """Everyday chat prompts that come with limbeck; the base model's own replies keep conversation alive in SFT."""

    train: Count = Field(160, description="Prompts whose base replies are mixed into SFT.")
    heldout: Count = Field(60, description="Prompts whose base replies measure retention.")
    max_new_tokens: Positive = Field(160, description="Longest reply asked for, in tokens; longer ones are dropped.")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(
        0.7, description="Of these replies; greedy ones of a small model repeat themselves."
    )


class Dataset(Section):
    """A data set: hub id, local folder of parquet files, or a JSON, JSONL or parquet file."""

    path: str = Field(description="Hub id or local path.")
    config: str | None = Field(
        None,
        description="Hub configuration, for instance `all` of SmolTalk; of a local folder, the parquet files below a "
        "folder of that name.",
    )
    split: str = Field(
        "train",
        description="Split of a hub data set; of a local folder, the parquet files whose name or folder says so.",
    )
    limit: Positive | None = Field(None, description="Take at most this many rows, a uniform sample by the seed.")


class Corpus(Section):
    """Where prompts, demonstrations and human preference pairs come from."""

    tasks: Tasks | None = Field(None, description="Built-in verifiable problems; leave out to use only your own data.")
    chat: Chat | None = Field(None, description="Built-in everyday chat, for retention; leave out to skip it.")
    demonstrations: tuple[Dataset, ...] = Field((), description="Prompt and response rows for SFT.")
    preferences: tuple[Dataset, ...] = Field((), description="Preference pairs of kind `human`.")
    prompts: tuple[Dataset, ...] = Field((), description="Prompts to mine; empty: those of `preferences`.")
    evaluation: tuple[Dataset, ...] = Field((), description="Held-out prompts for the verdict.")
    validation_share: Share = Field(0.02, description="Share of demonstrations held out to pick checkpoints.")


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021): each weight W learns as W + (alpha / rank) B A, with W frozen.

    Needs `pip install limbeck[lora]`. An empty section asks for the defaults. The saved model is the sum; the adapters
    alone lie beside it, in `adapter/`.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(
        16, description="Rows of A and columns of B: how much an adapter can hold. 16 is usual for thousands of rows."
    )  # fmt: skip
    alpha: Annotated[int, Field(ge=1, le=4096)] = Field(
        32, description="Adapters count alpha / rank times; 32, twice the default rank, is usual. Learning rates are "
        "then some ten times those of full training."
    )  # fmt: skip
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        (ALL_LINEAR,), description="Names of linear layers, such as `q_proj`; `all-linear`: every one but the head. "
        "Neither the head nor the embeddings can carry adapters."
    )  # fmt: skip

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_name(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Optimisation(Section):
    """What SFT and DPO have in common. AdamW (Loshchilov & Hutter 2019), linear warm-up, then linear decay to zero."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = Field(1e-5, description="Peak learning rate.")
    warmup_steps: Count = Field(20, description="Steps of linear warm-up; at most half of all steps are used.")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled, on matrices only.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradients are scaled down to this norm.")
    batch_size: Positive = Field(16, description="Rows (SFT) or pairs (DPO) an optimizer step.")
    micro_batch_tokens: Positive = Field(
        4096, description="Most tokens in one packed forward pass; bounds memory, does not change the result."
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto", description="on: keep only the layers' inputs and compute the rest again in backward: far less memory, "
        "more time, the same gradients. auto: only where an estimate says that memory demands it."
    )  # fmt: skip
    epochs: Annotated[float, Field(gt=0, le=100)] = Field(2, description="Passes over the training rows.")
    max_steps: Positive | None = Field(None, description="Stop after this many optimizer steps.")
    validate_every_steps: Positive = Field(40, description="Steps between validations; the best checkpoint is kept.")
    patience: Positive | None = Field(
        None, description="Stop after this many validations without improvement; leave out to train to the end."
    )
    checkpoint_every_minutes: Annotated[float, Field(gt=0)] = Field(
        3.0, description="A killed run resumes from the last checkpoint, bit for bit in fp32."
    )
    lora: Lora | None = Field(None, description="Train adapters instead of all weights; leave out for all weights.")


class Sft(Optimisation):
    """Supervised fine-tuning: cross-entropy on response tokens only."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = Field(2e-4, description="Peak learning rate.")


class Mine(Sampled):
    """Finding the prompts the student fails."""

    rule: Literal["failed", "gap", "bottom_quantile"] = Field(
        "failed", description="failed: the verifier says no. gap: reward below the reference response's. "
        "bottom_quantile: reward in the lowest part (the paper's)."
    )  # fmt: skip
    judge: Judge = Field("verifier", description="Who says what failed.")
    bottom_quantile: Rate = Field(0.25, description="Share counted as weak by `bottom_quantile`.")
    max_prompts: Positive = Field(10_000, description="Most pool prompts the student is asked.")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.7, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="Nucleus sampling (Holtzman et al. 2020).")


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
        "worked", description="`worked` (embedded: worked solutions, no key) or `openai:MODEL` (any compatible server)."
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
    """One training mixture: how many pairs of each kind."""

    human: Count = Field(0, description="Pairs from `corpus.preferences`.")
    random: Count = Field(0, description="Teacher's pairs on randomly drawn prompts (stand where human pairs stand).")
    zero_shot: Count = Field(0, description="Teacher's pairs on mined prompts.")
    few_shot: Count = Field(0, description="Teacher's pairs on new prompts like the mined ones.")
    on_policy: Count = Field(0, description="Chosen: reference solution; rejected: the student's own failing reply.")

    def counts(self) -> dict[PairKind, int]:
        """Pairs by kind, those asked for only."""
        asked: dict[PairKind, int] = {kind: getattr(self, kind) for kind in get_args(PairKind)}
        return {kind: number for kind, number in asked.items() if number}

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.counts():
            raise ValueError("an arm needs at least one pair of some kind")
        return self


class Dpo(Optimisation):
    """Direct preference optimisation (Rafailov et al. 2023, equation 7) and its kin."""

    loss: Literal["sigmoid", "ipo", "apo_zero"] = Field(
        "sigmoid", description="sigmoid: the DPO paper's. ipo: draws the margin to 1/2 instead of ever further apart "
        "(Azar et al. 2023). apo_zero: pushes chosen up and rejected down, each by itself (D'Oosterlinck et al. 2024)."
    )  # fmt: skip
    beta: Annotated[float, Field(gt=0, le=100)] = Field(
        0.1, description="Strength of the pull to the reference (of ipo: tau); reward = beta times log-ratio. With "
        "`length_normalised` the ratio is one of a token, and 5 is usual."
    )  # fmt: skip
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="Share of pairs taken to be the wrong way round (conservative DPO, Mitchell 2023); `sigmoid` "
        "only. 0: the labels are trusted, as worked solutions are."
    )  # fmt: skip
    length_normalised: bool = Field(
        False, description="Log-ratios in nats a token instead of nats a response, so that length alone earns no "
        "margin (Tulu 3: Lambert et al. 2024); `sigmoid` and `ipo` only. false: both papers' as printed; TRL's ipo is "
        "true."
    )  # fmt: skip
    nll_weight: Annotated[float, Field(ge=0, le=10)] = Field(
        0.2, description="Weight of the chosen response's negative log-likelihood per token (an anchor against both "
        "log-probabilities falling)."
    )  # fmt: skip
    reference: Literal["sft", "base"] = Field("sft", description="sft: the DPO paper's; base: as printed in the "
                                              "distillation paper.")  # fmt: skip

    @model_validator(mode="after")
    def _combines(self) -> Self:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing above 0 goes with loss 'sigmoid' only, and loss is {self.loss!r}")
        if self.length_normalised and self.loss == "apo_zero":
            raise ValueError("length_normalised goes with loss 'sigmoid' or 'ipo' only, and loss is 'apo_zero'")
        return self


class Evaluate(Sampled):
    """How the verdict is reached."""

    judges: tuple[Judge, ...] = Field(("verifier",), min_length=1, description="Exact verifier, reward API, or both.")
    max_new_tokens: Positive = Field(200, description="Longest reply; replies cut there are counted as truncated.")
    ties: Literal["half", "loss"] = Field("half", description="half: ours; loss: the paper's definition.")
    confidence: Rate = Field(0.95, description="Of every interval.")
    reward: Endpoint = Field(Endpoint(api_key_env="NVIDIA_API_KEY"), description="Server of the `nemotron` judge.")
    reward_model: str = Field(
        "nvidia/llama-3.1-nemotron-70b-reward", description="Model name the reward server is asked for."
    )


class Server(Section):
    """Your own OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama) that holds a model of the run.

    NAME is `base`, `sft` or an arm; for a stage alone, `model`. Where a model has a server, its replies (mining,
    evaluation, the base model's chat) are sampled there; training and chat retention in nats stay with the built-in
    engine. limbeck cannot see which weights a server holds: after a model was trained anew, restart its server.
    """

    base_url: str = Field(description="Its address, for instance `http://localhost:8000/v1`.")
    model: str = Field(min_length=1, description="The model's name there, as its `/models` lists it.")
    api_key_env: str | None = Field(None, description="Environment variable that holds the key, where it wants one.")
    concurrency: Annotated[int, Field(gt=0, le=512)] = Field(32, description="Requests in flight.")
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        600.0, description="Of one reply, the wait for a free place on the server included."
    )

    def identity(self) -> dict[str, str]:
        """What decides the replies; how and how fast they are asked for does not."""
        return {"base_url": self.base_url.rstrip("/"), "model": self.model}


class Recipe(Section):
    """A whole run, from a base model to a verdict."""

    name: Name = Field(description="Names the run folder: runs/NAME.")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(1, description="Every random choice derives from it.")
    model: Model = Model()
    corpus: Corpus = Corpus()
    sft: Sft = Sft()
    mine: Mine = Mine()
    teach: Teach = Teach()
    screen: Screen = Screen()
    mix: Mix = Mix()
    arms: dict[Name, Arm] = Field({}, description="Mixtures by name; each becomes a trained model.")
    dpo: Dpo = Dpo()
    evaluate: Evaluate = Evaluate()
    servers: dict[Name, Server] = Field({}, description="Servers of models by the model's name; empty: the built-in "
                                        "engine samples.")  # fmt: skip

    @model_validator(mode="after")
    def _possible(self) -> Self:
        reserved = {"base", "sft"} & set(self.arms)
        if reserved:
            raise ValueError(f"an arm cannot be called {reserved.pop()!r}: that names a model before DPO")
        if (self.mine.rule == "failed") != (self.mine.judge == "verifier"):
            raise ValueError("mine.rule 'failed' goes with the judge 'verifier', 'gap' and 'bottom_quantile' with a "
                             "reward model")  # fmt: skip
        for name, section in {"mine": self.mine, "evaluate": self.evaluate}.items():
            if self.servers and section.weights == "int8":
                server = next(iter(self.servers))
                raise ValueError(f"{name}.weights 'int8' is the built-in engine's, and servers.{server} samples "
                                 "elsewhere: models would be asked in different ways")  # fmt: skip
        return self

    def pairs_to_ask(self, kind: PairKind) -> int:
        """How many pairs of a kind the teacher is asked for: what arms and validation need, and the spare ones."""
        needed = self.pair_kinds().get(kind, 0)
        exact = (needed + self.mix.heldout_pairs) * (1 + self.teach.spare_share) if needed else 0.0
        return math.ceil(round(exact, 6))  # 1.1 is a little more than 11/10: unrounded, 100 pairs would be 111

    def pair_kinds(self) -> dict[PairKind, int]:
        """How many pairs of each kind the arms need together: the largest demand, since arms share pairs."""
        needed: dict[PairKind, int] = {}
        for arm in self.arms.values():
            for kind, count in arm.counts().items():
                needed[kind] = max(needed.get(kind, 0), count)
        return needed
