"""Sections of the recipe that reach the verdict: the judges, the reward model trained here, and the evaluation."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from limbeck.recipe.fields import Positive, Rate, Sampled, Section, VariableName, see_extra_is_sent, see_samples_differ
from limbeck.recipe.pairs import Budget, Endpoint
from limbeck.recipe.training import Optimisation

Judge = Literal["verifier", "nemotron", "local", "pairwise"]
TRAINED = "trained"
AGAINST = "against"  # what somebody else's responses are called among the models


class NemotronEndpoint(Endpoint):
    """An OpenAI-compatible server that is NVIDIA's, unless another address is set."""

    api_key_env: VariableName | None = Field(
        None, description="Environment variable that holds the key. Left out: `NVIDIA_API_KEY`, which is sent to "
        "NVIDIA's own address alone; any other server gets no key."
    )  # fmt: skip


class Nemotron(Section):
    """`nemotron`: a reward model behind a chat-completions address, asked as NVIDIA's Nemotron reward models are."""

    model: str = Field("nvidia/llama-3.1-nemotron-70b-reward", description="Model name the server is asked for.")
    endpoint: NemotronEndpoint = Field(NemotronEndpoint(), description="Its server; without base_url NVIDIA's own.")
    budget: Budget = Field(
        Budget(),
        description="Most that may be spent on it in a run; a provider's own address wants one. Money needs a "
        "price that is known.",
    )
    max_tokens: Positive = Field(
        4096, description="Longest conversation that it takes; one over it is left out of both sides, and counted."
    )


class LocalJudge(Section):
    """`local`: a reward model on this machine."""

    model: str = Field(
        TRAINED, description="`trained`: the one that this run trains from preference pairs (section `reward`). Else a "
        "folder or hub id of a classifier with one label, or of a causal model of the `-Reward-HF` kind (the reward is "
        "the logit of id 0)."
    )  # fmt: skip
    max_tokens: Positive = Field(
        4096, description="Longest conversation scored; one over it is left out of both sides, and counted."
    )
    micro_batch_tokens: Positive = Field(4096, description="Most tokens scored at once; bounds memory.")

    @property
    def is_named(self) -> bool:
        """Whether the user names a model, instead of having one trained."""
        return self.model != TRAINED


class Pairwise(Section):
    """`pairwise`: a chat model that is shown two replies and says which is better, in both orders."""

    model: str | None = Field(
        None, description="`openai:MODEL` (any compatible server) or `local:MODEL`; needed where it judges."
    )
    endpoint: Endpoint = Field(Endpoint(), description="Server of an `openai:` judge.")
    budget: Budget = Field(
        Budget(), description="Most that may be spent on it in a run; a provider's own address wants one."
    )
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.0, description="Of the judge.")
    max_tokens: Positive = Field(1024, description="Longest judgement, in tokens.")

    @model_validator(mode="after")
    def _extra_is_sent(self) -> Self:
        see_extra_is_sent("endpoint", self.endpoint.extra, self.model)
        return self


class Judges(Section):
    """How each judge is asked. The verifier has no settings."""

    nemotron: Nemotron = Nemotron()
    local: LocalJudge = LocalJudge()
    pairwise: Pairwise = Pairwise()


class Reward(Optimisation):
    """A Bradley-Terry reward model (Bradley and Terry 1952; Ouyang et al. 2022, equation 1), trained from pairs here.

    It judges as `local`, and its accuracy on held-out pairs stands beside every result it gives. It answers nothing:
    `validate_problems` and `keep = "solved"` are for SFT and DPO.
    """

    base: str | None = Field(None, description="Model the head is put on; left out, the student's base model.")
    pairs: Positive = Field(
        2000, description="Most pairs to train and measure it with: those of `corpus.judging`; else at most half of "
        "`corpus.preferences`, or of the teacher's pairs, which are set aside by prompt, so that no arm trains on them."
    )  # fmt: skip
    heldout_share: Rate = Field(0.2, description="Share of them, by prompt, on which its accuracy is measured.")
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = Field(2e-5, description="Peak learning rate.")
    epochs: Annotated[float, Field(gt=0, le=100)] = Field(
        1, description="Passes over the training pairs; more than one overfits soon (Ouyang et al. 2022, appendix C)."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled, on matrices only.")

    @model_validator(mode="after")
    def _is_asked_nothing(self) -> Self:
        if self.validate_problems:
            raise ValueError("validate_problems asks a model that writes replies; a reward model scores them")
        return self


class Evaluate(Sampled):
    """How the verdict is reached."""

    judges: tuple[Judge, ...] = Field(
        (), description="Who scores the replies; left out: `verifier` for built-in problems, `local` for your own "
        "prompts. The first named gives the headline."
    )  # fmt: skip
    same_judge: bool = Field(
        False, description="Let a learned judge that finds the weak prompts be the only judge of the result too. It is "
        "refused unless you say so here, since a win may then be no more than this one judge's taste, which was "
        "trained on; the verdict says it. The verifier is exact and needs no leave."
    )  # fmt: skip
    samples_per_prompt: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Replies to each prompt; intervals still resample prompts."
    )
    max_new_tokens: Positive = Field(200, description="Longest reply; replies cut there are counted as truncated.")
    ties: Literal["half", "loss"] = Field("half", description="half: ours; loss: the paper's definition.")
    confidence: Rate = Field(0.95, description="Of every interval.")
    on: Literal["test", "validation"] = Field(
        "test", description="validation: the built-in problems that choices are made on. Its replies and its verdict "
        "lie apart (`validate/`, `validation/`; a table on the console, no report), so that a recipe can be tried in "
        "many ways without looking at the test, which is opened when the choice is made."
    )  # fmt: skip
    against: str | None = Field(
        None, description="File of somebody else's responses to the held-out prompts, `prompt` and `response` a line; "
        "every model is compared with them too (the paper's leaderboard win rate)."
    )  # fmt: skip

    @field_validator("judges")
    @classmethod
    def _each_once(cls, judges: tuple[Judge, ...]) -> tuple[Judge, ...]:
        if twice := [judge for at, judge in enumerate(judges) if judge in judges[:at]]:
            raise ValueError(f"{twice[0]!r} is named twice")
        return judges

    @model_validator(mode="after")
    def _judges_differ(self) -> Self:
        if repeated := [judge for place, judge in enumerate(self.judges) if judge in self.judges[:place]]:
            raise ValueError(f"judges names {repeated[0]!r} twice; one judge cannot confirm itself")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        see_samples_differ(self.samples_per_prompt, self.temperature)
        return self
