"""The typed recipe: what a run is, field by field, with meaning, unit and why this default.

Pure data; the larger sections stand in `recipe_*.py`.
`limbeck.recipe.file` reads it from TOML, and `docs/recipe.md` is generated from the descriptions here.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from limbeck.recipe.alarms import Alarms
from limbeck.recipe.audit import Audit
from limbeck.recipe.branch import Branch
from limbeck.recipe.corpus import Corpus
from limbeck.recipe.export import Export
from limbeck.recipe.fields import Name, Positive, Section, VariableName, without_secrets
from limbeck.recipe.mine import Available, Mine, Mining, choose_mining
from limbeck.recipe.pairs import Arm, MadeKind, Mix, PairKind, Screen, Teach
from limbeck.recipe.published import Published, see_published
from limbeck.recipe.rounds import Rounds, arm_going_on
from limbeck.recipe.track import Track
from limbeck.recipe.training import Dpo, Optimisation, Sft
from limbeck.recipe.verdict import AGAINST, Evaluate, Judge, Judges, Reward

_MINED: frozenset[PairKind] = frozenset(
    {"random", "zero_shot", "revise", "on_policy", "own", "reference", "divergence", "contrast"}
)
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
    api_key_env: VariableName | None = Field(None, description="Environment variable that holds the key, if any.")
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
    branch: Branch = Branch()
    teach: Teach = Teach()
    screen: Screen = Screen()
    export: Export = Export()
    mix: Mix = Mix()
    audit: Audit = Audit()
    arms: dict[Name, Arm] = Field({}, description="Mixtures by name; each becomes a trained model.")
    dpo: Dpo = Dpo()
    alarms: Alarms = Alarms()
    evaluate: Evaluate = Evaluate()
    judges: Judges = Judges()
    reward: Reward = Reward()
    track: Track = Track()
    rounds: Rounds = Rounds()
    servers: dict[Name, Server] = Field({}, description="Servers of models by the model's name; empty: the built-in "
                                        "engine samples.")  # fmt: skip
    published: Published | None = Field(None, description="Published figures to set beside the run's own.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        reserved = {"base", "sft"} & {name.casefold() for name in self.arms}
        if reserved:
            raise ValueError(f"an arm cannot be called {reserved.pop()!r}: that names a model before DPO")
        if len({name.casefold() for name in self.arms}) < len(self.arms):
            raise ValueError("two arms have names that differ in case alone: their folders would be one on some disks")
        if AGAINST in {name.casefold() for name in self.arms}:
            raise ValueError(f"an arm cannot be called {AGAINST!r}: somebody else's responses stand under that name "
                             "(evaluate.against)")  # fmt: skip
        self.mining()  # what does not go together is refused there
        self._see_own_settings()
        self._see_quotas()
        self._see_rolling()
        if self.published is not None:
            given = () if self.evaluate.against is None else (AGAINST,)
            see_published(self.published, ("base", "sft", *self.arms, *given), self.training_units())
        self._see_rounds()
        for name, section in {"mine": self.mine, "evaluate": self.evaluate}.items():
            if self.servers and section.weights == "int8":
                server = next(iter(self.servers))
                raise ValueError(f"{name}.weights 'int8' is the built-in engine's, and servers.{server} samples "
                                 "elsewhere: models would be asked in different ways")  # fmt: skip
        return self

    def _see_own_settings(self) -> None:
        for arm in self.arms:
            try:
                self.dpo_of(arm), self.sft_of(arm)
            except ValidationError as error:
                found = error.errors()[0]
                section = "dpo" if self.arms[arm].dpo else "sft"
                field = ".".join(("arms", arm, section, *map(str, found["loc"])))
                if found["type"] == "extra_forbidden":
                    raise ValueError(f"unknown key {field!r}: [{section}] has no such setting") from None
                said = found["msg"].removeprefix("Value error, ")
                raise ValueError(f"{field}: {said[0].lower()}{said[1:]} (found {found['input']!r:.80})") from None

    def _see_rounds(self) -> None:
        if self.rounds.count == 1:
            return
        if self.evaluate.on == "validation":
            raise ValueError("rounds.count above 1 goes with evaluate.on 'test': rounds are told apart by the verdict")
        arm_going_on(self.rounds, self.arms)
        served = next((name for name in self.servers if name != "base"), None)
        if served:
            raise ValueError(f"servers.{served}: further rounds (rounds.count) sample from models that a server which "
                             "was started before cannot hold; leave the server out")  # fmt: skip

    def _see_quotas(self) -> None:
        needed = self.pair_kinds()
        for setting in ("accept", "max_candidates"):
            if unasked := sorted(getattr(self.teach, setting).keys() - needed.keys()):
                raise ValueError(f"teach.{setting} names kinds of which no arm asks for pairs: {', '.join(unasked)}")
        for kind in self.teach.accept.keys() | self.teach.max_candidates.keys():
            accept, most, need = self.accept(kind), self.max_candidates(kind), needed.get(kind, 0)
            judged = self.judging_pairs(kind)
            if accept < need + self.mix.heldout_pairs + judged:
                apart = f" and the {judged} that train the judge (reward.pairs)" if judged else ""
                raise ValueError(f"teach.accept.{kind} is {accept}, and an arm asks for {need} such pairs besides the "
                                 f"{self.mix.heldout_pairs} that are held out{apart}")  # fmt: skip
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
        needs = self._needs(kind)
        if needs and kind == "random" and self._rolling_along("random"):
            needs.append(self.rolling_stream_length() + self.mix.heldout_pairs)
        judged = sum(self.judging_pairs(other) for other in SHARING_PROMPTS[kind])
        return self.teach.accept.get(kind, max(needs) + judged) if needs else 0

    def human_needed(self) -> int:
        """How many human pairs arms and validation need, and rolling pairs that are written along them."""
        needs = self._needs("human")
        if self._rolling_along("human"):
            needs.append(self.rolling_stream_length() + self.mix.heldout_pairs)
        return max(needs, default=0)

    def _needs(self, kind: PairKind) -> list[int]:
        """Arm by arm, pairs of a kind with those that are held out of it and of kinds on the same prompts."""
        return [
            count + self.mix.heldout_pairs * len(self._sharing_prompts(kind) & arm.counts().keys())
            for arm in self.arms.values()
            if (count := arm.counts().get(kind))
        ]

    def _sharing_prompts(self, kind: PairKind) -> frozenset[PairKind]:
        shared: frozenset[PairKind] = frozenset({"human"})
        group = _MINED | shared if self.corpus.preferences and not self.corpus.prompts else _MINED
        return group if kind in group else SHARING_PROMPTS.get(kind, frozenset({kind}))

    def judged_by(self) -> tuple[Judge, ...]:
        """The judges of the verdict: those that `evaluate.judges` names, else what the held-out prompts call for."""
        if self.evaluate.judges:
            return self.evaluate.judges
        exact = self.corpus.tasks is not None and self.corpus.tasks.test > 0
        pairs = self.corpus.judging or self.corpus.preferences
        offline = self.corpus.evaluation and (not exact or pairs or self.judges.local.is_named)
        return (*(("verifier",) if exact or not offline else ()), *(("local",) if offline else ()))

    def mining(self) -> Mining:
        """Who mines, by which rule: what section `mine` says, the rest by what there is.

        A judge `local` that is trained here and mines is another model than the one that judges the result: it learns
        from other pairs (`reward_units`).
        """
        named = self.judges.local.is_named
        trained = not named and self.mines() and self.pairs_for_judging() in {"judging", "human"}
        alone_allowed = self.evaluate.same_judge
        there = Available(
            problems=self.corpus.tasks is not None and self.corpus.tasks.pool > 0,
            local=named or trained,
            spare=trained or (named and (not self.mines() or alone_allowed or self.judged_by() != ("local",))),
            taught=self.mines() and bool(self.corpus.prompts or self.corpus.preferences),
        )
        return choose_mining(self.mine, there)

    def pairs_for_judging(self) -> Literal["judging", "human", "teacher"]:
        """Whose pairs a reward model that is trained here learns from: never those that an arm trains on."""
        if self.corpus.judging:
            return "judging"
        return "human" if self.corpus.preferences else "teacher"

    def reward_units(self) -> tuple[Literal["reward", "reward_mine"], ...]:
        """The reward models that are trained here: `reward` judges the result, `reward_mine` mines."""
        if self.judges.local.is_named:
            return ()
        mines = self.mines() and self.mining().judge == "local"
        return (*(("reward",) if "local" in self.judged_by() else ()), *(("reward_mine",) if mines else ()))

    def judging_pairs(self, kind: PairKind) -> int:
        """How many pairs of a kind that a teacher makes are set aside for the judge: at most half, since arms get as
        many. None where there are other pairs for it, or a judge from an earlier round.
        """
        kinds = self.pair_kinds()
        if self.rounds.number > 1:  # the judge is the first round's
            return 0
        if not self.reward_units() or self.pairs_for_judging() != "teacher" or not kinds.get(kind):
            return 0
        return min(-(-self.reward.pairs // len(kinds)), kinds[kind])

    def judging_limits(self) -> tuple[str, ...]:
        """What the pairs that a reward model is trained from here do not allow to claim, as sentences."""
        if not self.reward_units() or self.pairs_for_judging() != "teacher":
            return ()
        return ("trained on the teacher's own pairs: it prefers what the teacher writes",)

    def mines(self) -> bool:
        """Whether an arm asks for pairs that are made, for which the student's failures are sought."""
        return any(kind != "human" for kind in self.pair_kinds())

    def mined_alone(self) -> bool:
        """Whether a learned judge that finds the weak prompts is the only judge of the result."""
        judge = self.mining().judge if self.mines() else None
        another = judge == "local" and not self.judges.local.is_named  # of two models trained here one mines
        return judge not in {None, "verifier"} and not another and set(self.judged_by()) == {judge}

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

    def dpo_of(self, arm: str) -> Dpo:
        """How an arm trains on pairs: `[dpo]`, with what the arm has otherwise. Of a name that is no arm's: `[dpo]`."""
        own = self.arms[arm].dpo if arm in self.arms else {}
        return self.dpo.overridden(own)

    def sft_of(self, arm: str | None) -> Sft:
        """How an arm trains on demonstrations: `[sft]`, with what the arm has otherwise; None: the plain SFT."""
        own = self.arms[arm].sft if arm in self.arms else {}
        return self.sft.overridden(own)

    def trainings(self) -> tuple[tuple[str, Optimisation], ...]:
        """How everything is trained, with the section that says so: the sections themselves, then the arms'."""
        arms = (
            (f"arms.{name}.{arm.trains}", self.dpo_of(name) if arm.trains == "dpo" else self.sft_of(name))
            for name, arm in self.arms.items()
        )
        return ("sft", self.sft), ("dpo", self.dpo), ("reward", self.reward), *arms

    def training_units(self) -> tuple[str, ...]:
        """The folders, in a run, that hold the curves of a student's training."""
        runs = (unit for arm in self.arms for unit in (self.first_run_unit(arm), self.arm_unit(arm)) if unit)
        return ("sft", *runs)

    def arm_unit(self, arm: str) -> str:
        """The folder, in a run, in which an arm's model is trained."""
        return f"{self.arms[arm].models_in}/{arm}"

    def first_run_unit(self, arm: str) -> str | None:
        """The folder of the training that comes before the arm's own, where it has one (`sequential`)."""
        settings = self.arms[arm]
        return f"{settings.trains}_first/{arm}" if settings.has_first_run else None
