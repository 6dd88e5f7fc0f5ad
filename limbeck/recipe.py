"""The typed recipe: what a run is, field by field, with meaning, unit and why this default.

Pure data; the larger sections stand in `recipe_audit`, `recipe_corpus`, `recipe_pairs` and `recipe_training`.
`limbeck.recipe_file` reads it from TOML, and `docs/recipe.md` is generated from the descriptions here.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe_audit import Audit
from limbeck.recipe_corpus import Corpus
from limbeck.recipe_fields import Name, Positive, Rate, Sampled, Section
from limbeck.recipe_pairs import Arm, Endpoint, Mix, PairKind, Screen, Teach
from limbeck.recipe_training import Dpo, Sft

Judge = Literal["verifier", "nemotron"]


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
    audit: Audit = Audit()
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
