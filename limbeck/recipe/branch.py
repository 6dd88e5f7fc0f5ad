"""The section of the recipe that says how the student's failing replies are continued anew from their steps."""

from typing import Annotated

from pydantic import Field

from limbeck.recipe.fields import Positive, Sampled


class Branch(Sampled):
    """Finding where a failing reply goes wrong, for `divergence` pairs: from its last step backwards, the student
    writes the rest anew, until a continuation is right. What stands before it was no mistake then. Where a line holds a
    false equation, no step from there on is tried.
    """

    samples_per_step: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Continuations from each step; more find later steps, and cost more."
    )
    most_steps: Annotated[int, Field(ge=1, le=32)] = Field(
        6, description="Steps tried of one reply, from the last backwards."
    )
    most_prompts: Positive = Field(1000, description="Most weak prompts whose failing reply is looked at.")
    temperature: Annotated[float, Field(gt=0, le=5)] = Field(0.8, description="Of the continuations.")
