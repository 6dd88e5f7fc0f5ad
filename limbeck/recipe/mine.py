"""The recipe's section `mine`, and who mines by which rule where it leaves that out."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from limbeck.recipe.fields import Positive, Rate, Sampled, see_samples_differ
from limbeck.recipe.verdict import Judge

Rule = Literal["failed", "gap", "bottom_quantile", "all"]


class Mine(Sampled):
    """Finding the prompts the student fails."""

    rule: Rule | None = Field(
        None, description="failed: the verifier says no. gap: reward below the reference response's. bottom_quantile: "
        "reward in the lowest part (the paper's). all: nobody judges, every prompt asked counts as weak. Left out, by "
        "what there is: `failed` for built-in problems; with a judge of rewards `gap` where every prompt asked has a "
        "reference response, else `bottom_quantile`; `all` where nothing can judge before a teacher has written."
    )  # fmt: skip
    judge: Judge | None = Field(
        None, description="Who says what failed: `verifier`, `nemotron` or `local`; `pairwise` scores no reply alone. "
        "Left out: `verifier` for built-in problems, else `local` where there are pairs to train it from before mining "
        "(a reward model of its own, which does not judge the result), or where the model named is not the only judge "
        "of the result."
    )  # fmt: skip
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
        see_samples_differ(self.samples_per_prompt, self.temperature)
        return self

    @model_validator(mode="after")
    def _judge_gives_scores(self) -> Self:
        if self.judge == "pairwise":
            raise ValueError("judge 'pairwise' compares two replies and scores none, so it cannot mine; name verifier, "
                             "nemotron or local")  # fmt: skip
        return self

    @property
    def asks_pass_rate(self) -> bool:
        """Whether `weak_below_pass_rate` was set; one that says the default, as limbeck writes it, says nothing."""
        default: float = type(self).model_fields["weak_below_pass_rate"].default
        return self.weak_below_pass_rate != default


class Mining(NamedTuple):
    """Who mines, by which rule. `judge` None: nobody (rule `all`).

    `rule` None: `gap` where every prompt asked has a reference response, else `bottom_quantile`; that shows when the
    prompts are read.
    """

    rule: Rule | None
    judge: Judge | None


class Available(NamedTuple):
    """What could mine. `problems`: the pool holds built-in problems. `local`: that judge can score before mining;
    `spare`: and the result has another one. `taught`: a teacher is to write about what is mined.
    """

    problems: bool
    local: bool
    spare: bool
    taught: bool


_GOES_WITH = "mine.rule 'failed' goes with the judge 'verifier', 'gap' and 'bottom_quantile' with a reward model"


def choose_mining(settings: Mine, there: Available) -> Mining:
    """Fill in what the section leaves out.

    Raises:
        ValueError: rule and judge do not go together, or that judge cannot score before mining.
    """
    chosen = _filled_in(settings, there)
    if chosen.rule == "all" and chosen.judge is not None:
        raise ValueError(f"mine.rule 'all' asks no judge, and mine.judge is {chosen.judge!r}; leave one of them out")
    if chosen.rule != "all" and (chosen.rule == "failed") != (chosen.judge == "verifier"):
        raise ValueError(_GOES_WITH)
    if chosen.judge == "local" and not there.local:
        asked = "judge 'local'" if settings.judge else f"rule {chosen.rule!r}"
        raise ValueError(f"mine.{asked} wants a reward model, and there is none before mining: give [[corpus.judging]] "
                         "or [[corpus.preferences]] to train one from, name one as judges.local.model, or set "
                         "mine.judge to 'nemotron'")  # fmt: skip
    if settings.asks_pass_rate and chosen.rule != "failed":
        found = chosen.rule or "gap or bottom_quantile"
        raise ValueError(f"mine.weak_below_pass_rate goes with rule 'failed' only, and rule is {found!r}")
    return chosen


def _filled_in(settings: Mine, there: Available) -> Mining:
    rule, judge = settings.rule, settings.judge
    if judge is not None:
        return Mining(rule or ("failed" if judge == "verifier" else None), judge)
    if rule is None:
        return _default(there)
    if rule == "all":
        return Mining(rule, None)
    return Mining(rule, "verifier" if rule == "failed" else "local")


def _default(there: Available) -> Mining:
    if there.problems or not (there.spare or there.taught):
        return Mining("failed", "verifier")
    return Mining(None, "local") if there.spare else Mining("all", None)
