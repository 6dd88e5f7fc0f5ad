"""The section of the recipe that says how pairs are published. Licence and languages are the user's to state."""

from typing import Annotated

from pydantic import Field

from limbeck.recipe.fields import Section

# As the hub spells them: `cc-by-4.0`, `apache-2.0`, `other`; `en`, `gsw`, `zh-Hant`, `pt-BR`.
Licence = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]
# What decides which pairs there are. How they are trained on afterwards does not.
PAIR_SECTIONS = frozenset({"seed", "model", "corpus", "sft", "mine", "teach", "screen", "mix"})


class Export(Section):
    """The pairs of a run as a data set: parquet in TRL's preference format, and a card that states facts only."""

    licence: Licence | None = Field(
        None, description="Licence of the data set, as the Hugging Face hub spells it (`cc-by-4.0`). Left out: "
        "unknown, and the card says so. The terms of the teacher and of the human pairs are yours to check."
    )  # fmt: skip
    languages: tuple[Language, ...] = Field(
        (), description="Languages of the texts, by their codes (`en`). Left out: unknown; they are never guessed."
    )
    include_human: bool = Field(
        True, description="Export pairs of kind `human` too. false: only what was generated, for instance where the "
        "human pairs are not yours to pass on."
    )  # fmt: skip
