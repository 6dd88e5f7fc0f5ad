"""The section of the recipe that holds what somebody published, so that a run sets its own figures beside it.

It decides nothing: neither what is trained nor how it is judged, only what the report shows.
"""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.fields import Name, Positive, Section, Share

Line = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\r\n]*$")]


class PublishedRow(Section):
    """What was published of one model. What is left out was not published."""

    win_rate: Share | None = Field(None, description="Share of prompts won against the SFT model.")
    average_reward: float | None = Field(None, description="Mean reward, in the unit of the published reward model.")
    win_rate_against: Share | None = Field(
        None, description="Share of prompts won against somebody else's responses (a leaderboard); beside it stands "
        "what this run has from `evaluate.against`."
    )  # fmt: skip
    note: Line | None = Field(None, description="What must be known to read the row, in one line.")


class PublishedFigure(Section):
    """A published figure, drawn anew from this run's own curves, training and held-out."""

    unit: str = Field(description="Whose training: `sft`, `dpo/ARM`, or another unit that leaves `metrics.jsonl`.")
    value: str = Field(min_length=1, description="Which quantity of it, as `metrics.jsonl` names it: `loss`, "
                       "`accuracy`.")  # fmt: skip
    title: Line = Field(description="What the figure is called.")


class Published(Section):
    """Figures of a paper, or of anybody else's run, beside this run's own: the report's first table."""

    title: Line = Field(description="What the table is called, for instance `Table 1`.")
    source: Line = Field(description="Where the figures were published.")
    ties: Literal["half", "loss"] = Field(
        "half", description="What a tie counts in the published win rates: half a win, or none. Ours are given both "
        "ways; the published one is compared with the same way."
    )  # fmt: skip
    prompts: Positive | None = Field(
        None, description="How many prompts the published win rates rest on, where that is known: their own interval "
        "(Wilson) then stands below them."
    )  # fmt: skip
    table: dict[Name, PublishedRow] = Field(
        min_length=1, description="Rows by the model of this recipe that they are to be compared with: `base`, `sft`, "
        "an arm. Arms without a row follow after them."
    )  # fmt: skip
    figures: tuple[PublishedFigure, ...] = Field((), description="Published figures, in their order.")
    samples: Annotated[int, Field(ge=0, le=20)] = Field(
        3, description="Prompts whose replies, of SFT and every arm, stand side by side; drawn by the recipe's seed."
    )
    notes: tuple[Line, ...] = Field((), description="What else must be known to read the table, a line each.")


def see_published(published: Published, models: Collection[str], units: Collection[str]) -> None:
    """See that every row is of a model of the run and every figure of a unit that trains.

    Raises:
        ValueError: naming the field, and what there is.
    """
    for name in published.table:
        if name not in models:
            raise ValueError(f"published.table.{name}: no model of this recipe; there are {', '.join(models)}")
    for place, figure in enumerate(published.figures):
        if figure.unit not in units:
            raise ValueError(
                f"published.figures.{place}.unit: nothing is trained in {figure.unit!r}; there are {', '.join(units)}"
            )
