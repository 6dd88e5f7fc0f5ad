"""Sections of the recipe that train: SFT, DPO, and what both have in common."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from limbeck.recipe.fields import Count, Positive, Section

ALL_LINEAR = "all-linear"
USUAL_TOKENS = 4096  # of a packed forward pass
_MOST_TOKENS = 10_000_000


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021): each weight W learns as W + (alpha / rank) B A, with W frozen.

    Needs `pip install 'limbeck[lora]'`. An empty section asks for the defaults. The saved model is the sum; the
    adapters alone lie beside it, in `adapter/`.
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


def _tokens_or_auto(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_TOKENS:
        return value
    raise ValueError(f'should be "auto" or a whole number from 1 to {_MOST_TOKENS:,}')


PassTokens = Annotated[Literal["auto"] | int, BeforeValidator(_tokens_or_auto)]


class Optimisation(Section):
    """What SFT and DPO have in common. AdamW (Loshchilov & Hutter 2019), linear warm-up, then linear decay to zero."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = Field(1e-5, description="Peak learning rate.")
    warmup_steps: Count = Field(20, description="Steps of linear warm-up; at most half of all steps are used.")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled, on matrices only.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradients are scaled down to this norm.")
    batch_size: Positive = Field(16, description="Rows (SFT) or pairs (DPO) an optimizer step.")
    micro_batch_tokens: PassTokens = Field(
        "auto", description="Most tokens in one packed forward pass; bounds memory, does not change the result beyond "
        "rounding. auto: 4,096; on a CUDA GPU 32,768, halved down to 4,096 where memory asks for it."
    )  # fmt: skip
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto", description="on: keep only the layers' inputs and compute the rest again in backward: far less memory, "
        "more time, the same gradients. auto: only where an estimate says that memory demands it."
    )  # fmt: skip
    epochs: Annotated[float, Field(gt=0, le=100)] = Field(2, description="Passes over the training rows.")
    max_steps: Positive | None = Field(None, description="Stop after this many optimizer steps.")
    validate_every_steps: Positive = Field(40, description="Steps between validations; see `keep`.")
    keep: Literal["best", "solved", "last"] = Field(
        "best", description="Which weights are kept. best: of the validation with the lowest held-out loss, the start "
        "included. solved: of the one that solved most of `validate_problems`, the later of equals. last: those that "
        "training ends with. The loss does not always say what is wanted: that of the student's own replies hardly "
        "falls, since they are likely already."
    )  # fmt: skip
    validate_problems: Count = Field(
        0, description="So many of `corpus.tasks.validation` are answered at every validation, as the verdict asks "
        "them (section `evaluate`), and `solved` is the share that is right: neither loss nor margin says that "
        "reasoning gets worse. 0: none. Not with `lora`."
    )  # fmt: skip
    patience: Positive | None = Field(
        None, description="Stop after this many validations without improvement; leave out to train to the end."
    )
    checkpoint_every_minutes: Annotated[float, Field(gt=0)] = Field(
        3.0, description="A killed run resumes from the last checkpoint, bit for bit in fp32 on a CPU."
    )
    lora: Lora | None = Field(None, description="Train adapters instead of all weights; leave out for all weights.")

    @property
    def tokens_at_once(self) -> int:
        """`micro_batch_tokens` as a number: where nobody has settled "auto" (lm/micro_batch.py), the usual one."""
        return USUAL_TOKENS if self.micro_batch_tokens == "auto" else self.micro_batch_tokens

    def overridden(self, own: Mapping[str, object]) -> Self:
        """These settings with what an arm has otherwise.

        Patience, which an arm cannot take back, is not inherited by one that keeps the last weights.
        """
        inherited = self.model_dump()
        if own.get("keep") == "last":
            inherited["patience"] = None
        return type(self).model_validate(inherited | dict(own)) if own else self

    @model_validator(mode="after")
    def _problems_are_asked(self) -> Self:
        if self.keep == "solved" and not self.validate_problems:
            raise ValueError("keep 'solved' needs problems that are solved: ask for some with validate_problems")
        if self.validate_problems and self.lora is not None:
            raise ValueError("validate_problems asks a model with weights of its own, and lora trains adapters beside "
                             "them: leave one of them out")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _patience_goes_with_the_best(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience ends training some validations after the best one, so that with keep 'last' "
                             "worse weights would be kept: leave one of them out")  # fmt: skip
        return self


class Sft(Optimisation):
    """Supervised fine-tuning: cross-entropy on response tokens only."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = Field(2e-4, description="Peak learning rate.")


Scope = Literal["response", "step"]


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
    scope: Scope = Field(
        "response", description="Which tokens the preference is about. response: all, as DPO is defined. step: those "
        "from the first that differs to the end of its line. What follows a mistake follows from it; to push that down "
        "as well unlearns going on consistently (after Lai et al. 2024, Step-DPO). For pairs whose sides begin alike "
        "and part at the mistake; `nll_weight` is of the whole chosen response either way."
    )  # fmt: skip
    nll_weight: Annotated[float, Field(ge=0, le=10)] = Field(
        0.2, description="Weight of the chosen response's negative log-likelihood per token (an anchor against both "
        "log-probabilities falling)."
    )  # fmt: skip
    reference: Literal["sft", "base"] = Field(
        "sft", description="sft: the DPO paper's, the model that training starts from; in the second run of a "
        "`sequential` arm that is the first run's. base: as printed in the distillation paper, in both runs."
    )  # fmt: skip

    @model_validator(mode="after")
    def _combines(self) -> Self:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing above 0 goes with loss 'sigmoid' only, and loss is {self.loss!r}")
        if self.length_normalised and self.loss == "apo_zero":
            raise ValueError("length_normalised goes with loss 'sigmoid' or 'ipo' only, and loss is 'apo_zero'")
        return self
