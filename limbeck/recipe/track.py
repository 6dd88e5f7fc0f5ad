"""The section of the recipe that says which live trackers are told of training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.fields import Section

TrackerName = Literal["tensorboard", "trackio", "wandb"]


class Track(Section):
    """Live trackers: every point of every training curve, while it is made, besides `metrics.jsonl`.

    Each is an extra (`pip install 'limbeck[wandb]'`) and works without an account: what it writes stays on this
    machine, unless you are logged in to W&B, or set `WANDB_MODE` or `TRACKIO_SPACE_ID`. A tracker that fails changes
    nothing in the run: what it missed is counted in the manifest. Nothing here decides a result.
    """

    to: tuple[TrackerName, ...] = Field((), description="Trackers; none: curves are in the report only.")
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        "limbeck", description="Project that runs are listed under, by trackio and wandb; a run is called by recipe "
        "and unit, for instance `smoke/dpo/human`."
    )  # fmt: skip
    folder: str | None = Field(
        None, description="Where TensorBoard's event files and W&B's own files go; left out, `track/` in the run "
        "folder. trackio keeps its own place (`TRACKIO_DIR`)."
    )  # fmt: skip

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len(set(self.to)) < len(self.to):
            raise ValueError("track.to names a tracker twice")
        return self
