"""Sections of the recipe that say where prompts, demonstrations and human preference pairs come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.fields import Count, Positive, Section, Share


class Tasks(Section):
    """Verifiable reasoning problems, drawn per split; total rows, spread evenly over the families."""

    families: tuple[str, ...] = Field(
        (),
        description="Task families to train on; empty: all of them. gsm_symbolic, chain_sum, leg_counting, "
        "basic_arithmetic, simple_equations, gcd, fraction_simplification, number_filtering, letter_counting, "
        "spell_backward, calendar_arithmetic. Transfer problems are of products, simple_geometry and "
        "gsm_symbolic_held_out, always.",
    )
    sft: Count = Field(600, description="Problems with worked solutions for SFT.")
    pool: Count = Field(600, description="Problems among which the student's failures are sought.")
    fresh: Count = Field(400, description="Problems only the teacher has, for few-shot generation.")
    validation: Count = Field(200, description="Problems on which choices are made.")
    test: Count = Field(500, description="Held-out problems of the trained families, for the verdict.")
    transfer: Count = Field(150, description="Held-out problems of families and templates never trained on.")


class Chat(Section):
    """Everyday chat prompts that come with limbeck; the base model's own replies keep conversation alive in SFT."""

    train: Count = Field(160, description="Prompts whose base replies are mixed into SFT.")
    heldout: Count = Field(60, description="Prompts whose base replies measure retention.")
    max_new_tokens: Positive = Field(160, description="Longest reply asked for, in tokens; longer ones are dropped.")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(
        0.7, description="Of these replies; greedy ones of a small model repeat themselves."
    )


class Dataset(Section):
    """A data set: hub id, local folder of parquet (else JSONL) files, or a JSON, JSONL or parquet file."""

    path: str = Field(description="Hub id or local path.")
    config: str | None = Field(
        None,
        description="Hub configuration, for instance `all` of SmolTalk; of a local folder, the files below a "
        "folder of that name.",
    )
    split: str = Field(
        "train",
        description="Split of a hub data set; of a local folder, the files whose name or folder says so.",
    )
    limit: Positive | None = Field(
        None, description="Take at most this many rows, by the seed; `sample` says how they are drawn."
    )
    sample: Literal["uniform", "buffered"] = Field(
        "uniform", description="uniform: every row equally likely, for which the whole split is read once, of a hub's "
        "data set over the network, and nothing of it kept on disk. buffered: of a hub's data set little more than "
        "`limit` rows are fetched, from files in random order through a shuffled buffer of 10,000 rows; quick, and "
        "not uniform where the data set is sorted. Local files are always sampled uniformly."
    )  # fmt: skip

    @model_validator(mode="after")
    def _sample_has_a_limit(self) -> Self:
        if self.sample == "buffered" and self.limit is None:
            raise ValueError('sample = "buffered" goes with a limit: without one every row is taken')
        return self


class Corpus(Section):
    """Where prompts, demonstrations and human preference pairs come from."""

    tasks: Tasks | None = Field(None, description="Built-in verifiable problems; leave out to use only your own data.")
    chat: Chat | None = Field(None, description="Built-in everyday chat, for retention; leave out to skip it.")
    demonstrations: tuple[Dataset, ...] = Field(
        (), description="Prompt and response rows for SFT. Of a conversation with several turns SFT learns the last "
        "reply alone; what was said before is its prompt."
    )  # fmt: skip
    preferences: tuple[Dataset, ...] = Field((), description="Preference pairs of kind `human`.")
    prompts: tuple[Dataset, ...] = Field((), description="Prompts to mine; empty: those of `preferences`.")
    evaluation: tuple[Dataset, ...] = Field((), description="Held-out prompts for the verdict.")
    judging: tuple[Dataset, ...] = Field(
        (), description="Preference pairs that only a reward model trained here sees (section `reward`); their prompts "
        "are kept out of everything that is trained on. Empty: some of `preferences`, else of the teacher's pairs."
    )  # fmt: skip
    validation_share: Share = Field(0.02, description="Share of demonstrations held out to pick checkpoints.")

    def sources(self) -> tuple[Dataset, ...]:
        """Every data set that is named."""
        return (*self.demonstrations, *self.preferences, *self.prompts, *self.evaluation, *self.judging)
