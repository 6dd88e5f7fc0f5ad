"""The section of the recipe about iterated runs: how many rounds, whose model goes on, and when to stop."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from limbeck.recipe.fields import Name, Section
from limbeck.recipe.pairs import Arm

MOST_ROUNDS = 32


class Rounds(Section):
    """Iterated runs: mine, teach, screen, mix and train again, each time from the last round's model and what it fails.

    Every further round is a run folder of its own, `rounds/2`, `rounds/3` ..., in which `sft` is the last round's
    model. It trains on its own pairs alone. All rounds share the corpus, the held-out prompts, the judges, the reply
    stores, and so the budgets.
    """

    count: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] = Field(
        1, description="Rounds at most; the run itself is the first. Built-in problems are drawn anew for each; of "
        "your own prompts, those not asked in an earlier round come first."
    )  # fmt: skip
    arm: Name | None = Field(
        None, description="Arm whose model goes on, and of whose mixture further rounds train one; left out, the only "
        "arm. It trains by DPO, or by SFT from the last model (`starts_from` sft). There is no choosing the best by "
        "its score on the test set: then no test would be left."
    )  # fmt: skip
    stop_when_unclear: bool = Field(
        True, description="Stop after a round whose model is not clearly better than the last one's: its paired "
        "interval, by the first judge, holds zero or lies below. That looks at the test set after every round, so "
        "that the last clear gain is a little flattered; `rounds.json` says so. false: all rounds, and no look."
    )  # fmt: skip
    first_seed: int | None = Field(
        None, description="The run's own seed, by which every round orders its pairs, so that human ones stay on their "
        "side: limbeck writes it into the recipe of a round's folder; leave it."
    )  # fmt: skip
    number: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] = Field(
        1, description="Which round a recipe is of: limbeck writes it into the recipe of a round's folder; leave it."
    )  # fmt: skip


def arm_going_on(rounds: Rounds, arms: Mapping[str, Arm]) -> str:
    """The arm of the rounds.

    Raises:
        ValueError: where none is named and there are several or none, or it cannot go on.
    """
    names = ", ".join(arms) or "none"
    if rounds.arm is None and len(arms) != 1:
        raise ValueError(f"rounds.arm: name the arm whose model goes on in further rounds, one of {names}; the best "
                         "by its score on the test set is not taken, since then no test would be left")  # fmt: skip
    arm = next(iter(arms)) if rounds.arm is None else rounds.arm
    if arm not in arms:
        raise ValueError(f"rounds.arm: there is no arm {arm!r}; the arms are {names}")
    if arms[arm].trains == "sft" and arms[arm].starts_from == "base":
        raise ValueError(f"rounds.arm: {arm} trains from the base model, and further rounds go on from the last one's; "
                         f'set arms.{arm}.starts_from to "sft", or name another arm')  # fmt: skip
    if set(arms[arm].counts()) == {"human"}:
        raise ValueError(f"rounds.arm: {arm} has human pairs only, so that a further round had nothing new to learn "
                         "from; name an arm with pairs that a teacher or the student writes")  # fmt: skip
    return arm


def unit_going_on(rounds: Rounds, arms: Mapping[str, Arm]) -> str:
    """The unit, in the last round's folder, whose model is this round's `sft`; empty of the first round."""
    if rounds.number == 1 or rounds.arm is None or rounds.arm not in arms:
        return ""
    return f"{arms[rounds.arm].models_in}/{rounds.arm}"
