"""The typed recipe: what a run is, field by field, with meaning, unit and why this default.

Pure data; the larger sections stand in `recipe_audit`, `recipe_corpus`, `recipe_pairs` and `recipe_training`.
`limbeck.recipe_file` reads it from TOML, and `docs/recipe.md` is generated from the descriptions here.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from limbeck.recipe_audit import Audit
from limbeck.recipe_corpus import Corpus
from limbeck.recipe_export import Export
from limbeck.recipe_fields import Name, Positive, Rate, Sampled, Section, without_secrets
from limbeck.recipe_pairs import Arm, MadeKind, Mix, PairKind, Screen, Teach
from limbeck.recipe_track import Track
from limbeck.recipe_training import Dpo, Sft
from limbeck.recipe_verdict import Evaluate, Judge, Judges, Reward

_MINED: frozenset[PairKind] = frozenset({"random", "zero_shot", "revise", "on_policy", "contrast"})
_NEW: frozenset[PairKind] = frozenset({"few_shot", "rolling"})
SHARING_PROMPTS: dict[PairKind, frozenset[PairKind]] = {kind: group for group in (_MINED, _NEW) for kind in group}


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
    samples_per_prompt: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Replies to each; more find the prompts that it fails often, and its own right replies to them. "
        "`gap` and `bottom_quantile` take their mean reward."
    )  # fmt: skip
    weak_below_pass_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="`failed`: a prompt is weak where a smaller share of the replies is right; 1: any failure."
    )
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.7, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="Nucleus sampling (Holtzman et al. 2020).")

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples_per_prompt > 1 and self.temperature == 0:
            raise ValueError(f"samples_per_prompt is {self.samples_per_prompt}, and at temperature 0 all replies to a "
                             "prompt are the same; raise temperature or ask once")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _pass_rate_is_of_failures(self) -> Self:
        # A recipe that limbeck wrote spells its defaults out: one that says the default says nothing.
        default = type(self).model_fields["weak_below_pass_rate"].default
        if self.rule != "failed" and self.weak_below_pass_rate != default:
            raise ValueError(f"weak_below_pass_rate goes with rule 'failed' only, and rule is {self.rule!r}")
        return self


class Server(Section):
    """Your own OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama) that holds a model of the run.

    NAME is `base`, `sft` or an arm; for a stage alone, `model`. Where a model has a server, its replies (mining,
    evaluation, the base model's chat) are sampled there; training and chat retention in nats stay with the built-in
    engine. limbeck cannot see which weights a server holds: after a model was trained anew, restart its server.
    """

    base_url: Annotated[str, AfterValidator(without_secrets)] = Field(
        description="Its address, for instance `http://localhost:8000/v1`."
    )
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
    export: Export = Export()
    mix: Mix = Mix()
    audit: Audit = Audit()
    arms: dict[Name, Arm] = Field({}, description="Mixtures by name; each becomes a trained model.")
    dpo: Dpo = Dpo()
    evaluate: Evaluate = Evaluate()
    judges: Judges = Judges()
    reward: Reward = Reward()
    track: Track = Track()
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
        self._see_quotas()
        self._see_rolling()
        for name, section in {"mine": self.mine, "evaluate": self.evaluate}.items():
            if self.servers and section.weights == "int8":
                server = next(iter(self.servers))
                raise ValueError(f"{name}.weights 'int8' is the built-in engine's, and servers.{server} samples "
                                 "elsewhere: models would be asked in different ways")  # fmt: skip
        return self

    def _see_quotas(self) -> None:
        needed = self.pair_kinds()
        for setting in ("accept", "max_candidates"):
            if unasked := sorted(getattr(self.teach, setting).keys() - needed.keys()):
                raise ValueError(f"teach.{setting} names kinds of which no arm asks for pairs: {', '.join(unasked)}")
        for kind in self.teach.accept.keys() | self.teach.max_candidates.keys():
            accept, most, need = self.accept(kind), self.max_candidates(kind), needed.get(kind, 0)
            if accept < need + self.mix.heldout_pairs:
                raise ValueError(f"teach.accept.{kind} is {accept}, and an arm asks for {need} such pairs besides the "
                                 f"{self.mix.heldout_pairs} that are held out")  # fmt: skip
            if most < accept:
                raise ValueError(f"teach.max_candidates.{kind} is {most}, less than the {accept} that are to be "
                                 "accepted")  # fmt: skip
        if self._rolling_along("random") and self.accept("random") < (least := self._random_under_rolling()):
            raise ValueError(f"teach.accept.random is {self.accept('random')}, and rolling pairs are written along at "
                             f"least {least} random ones, those that are held out included")  # fmt: skip

    def _see_rolling(self) -> None:
        """An interleaved arm must train on the pairs along which its rolling pairs are written, and on enough of them.

        Item j is written with the pairs j .. j+shown-1 and follows the last of them.
        """
        kind, shown = self.rolling_stream_kind(), self.teach.context_pairs_shown
        arms = {name: arm for name, arm in self.arms.items() if arm.rolling}
        streams = {arm.stream_kind for arm in arms.values()}
        for name, arm in arms.items():
            if arm.stream_kind not in {kind, None} and (arm.mixing == "interleave" or kind in streams):
                raise ValueError(f"arms.{name}: rolling pairs are written along the {kind} pairs of the arms, and this "
                                 f"arm has {arm.stream_kind} ones in their place; give it {kind} pairs too, or make "
                                 "it a recipe of its own")  # fmt: skip
            there = arm.counts().get(kind, 0)
            if arm.mixing == "interleave" and there < arm.rolling + shown - 1:
                raise ValueError(f"arms.{name}: its {arm.rolling} rolling pairs, each written with the {shown} pairs "
                                 "before its place (teach.context_pairs_shown), have their places among "
                                 f"{arm.rolling + shown - 1} {kind} pairs, and it has {there}; raise "
                                 f"arms.{name}.{kind} or lower arms.{name}.rolling")  # fmt: skip

    def rolling_stream_kind(self) -> Literal["human", "random"]:
        """The kind along whose pairs rolling ones are written: `human`, unless arms ask for none but for random ones.

        Human pairs that no arm trains on are written along only where there are no random ones either.
        """
        kinds = self.pair_kinds()
        return "random" if "random" in kinds and "human" not in kinds else "human"

    def rolling_stream_length(self) -> int:
        """How many pairs that stream must have, besides those held out of it, to write what is to be accepted.

        That is where every candidate is accepted: one that is not leaves its place empty.
        """
        return self.accept("rolling") + self.teach.context_pairs_shown - 1

    def _rolling_along(self, kind: PairKind) -> bool:
        return "rolling" in self.pair_kinds() and self.rolling_stream_kind() == kind

    def _random_under_rolling(self) -> int:
        """Random pairs that the rolling ones of arms and validation take, validation pairs of the random included."""
        rolling = self.pair_kinds()["rolling"] + self.mix.heldout_pairs
        return rolling + self.teach.context_pairs_shown - 1 + self.mix.heldout_pairs

    def accept(self, kind: MadeKind) -> int:
        """How many pairs of a kind screening has to keep: `teach.accept`, else what arms and validation need.

        An arm trains on no prompt that it holds out of another kind: kinds that are written on the same prompts can
        cost each other as many pairs as are held out of each. Random pairs along which rolling ones are written are as
        many as those need.
        """
        needs = [
            count + self.mix.heldout_pairs * len(self._sharing_prompts(kind) & arm.counts().keys())
            for arm in self.arms.values()
            if (count := arm.counts().get(kind))
        ]
        if needs and kind == "random" and self._rolling_along("random"):
            needs.append(self.rolling_stream_length() + self.mix.heldout_pairs)
        return self.teach.accept.get(kind, max(needs)) if needs else 0

    def _sharing_prompts(self, kind: MadeKind) -> frozenset[PairKind]:
        mined_from_human = kind in _MINED and self.corpus.preferences and not self.corpus.prompts
        return SHARING_PROMPTS[kind] | ({"human"} if mined_from_human else set())

    def judged_by(self) -> tuple[Judge, ...]:
        """The judges of the verdict: those that `evaluate.judges` names, else what the held-out prompts call for."""
        if self.evaluate.judges:
            return self.evaluate.judges
        exact = self.corpus.tasks is not None and self.corpus.tasks.test > 0
        offline = self.corpus.evaluation and (not exact or self.corpus.preferences or self.judges.local.is_named)
        return (*(("verifier",) if exact or not offline else ()), *(("local",) if offline else ()))

    def mines(self) -> bool:
        """Whether an arm asks for pairs that are made, for which the student's failures are sought."""
        return any(kind != "human" for kind in self.pair_kinds())

    def max_candidates(self, kind: MadeKind) -> int:
        """Most pairs of a kind that are tried for: `teach.max_candidates`, else twice as many as to be accepted."""
        return self.teach.max_candidates.get(kind, 2 * self.accept(kind)) if self.pair_kinds().get(kind) else 0

    def pair_kinds(self) -> dict[PairKind, int]:
        """How many pairs of each kind the arms need together: the largest demand, since arms share pairs."""
        needed: dict[PairKind, int] = {}
        for arm in self.arms.values():
            for kind, count in arm.counts().items():
                needed[kind] = max(needed.get(kind, 0), count)
        return needed

    def arm_unit(self, arm: str) -> str:
        """The folder, in a run, in which an arm's model is trained."""
        return f"{'dpo' if self.arms[arm].trains == 'dpo' else 'sft_arms'}/{arm}"

    def first_run_unit(self, arm: str) -> str | None:
        """The folder of the training that comes before the arm's own, where it has one (`sequential`)."""
        settings = self.arms[arm]
        return f"{settings.trains}_first/{arm}" if settings.has_first_run else None
