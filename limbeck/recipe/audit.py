"""The section of the recipe that says how pairs are audited, and what raises an alarm."""

from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.fields import Section, Share

_Auc = Annotated[float, Field(ge=0.5, le=1)]


class Audit(Section):
    """Looking at pairs before anything is trained on them: shortcuts, variety, coverage. An area under the ROC curve
    (AUC) raises an alarm where the lower end of its interval is above the threshold, so that few pairs raise none by
    chance. A maximum of 1 or a minimum of 0 is never passed.
    """

    on_alarm: Literal["say", "stop"] = Field(
        "say", description="say: on the console and in the report. stop: the run ends before any preference training."
    )
    sample_pairs: Annotated[int, Field(ge=100, le=100_000)] = Field(
        2000, description="Pairs looked at closely, of each kind and arm; lengths are those of all."
    )
    sample_texts: Annotated[int, Field(ge=10, le=5000)] = Field(
        500, description="Of those, how many are compared with each other: distinct-n, self-BLEU, Vendi score."
    )
    max_words_auc: _Auc = Field(
        0.8, description="Of a classifier that sees a bag of words only and tells chosen from rejected on unseen "
        "prompts (human pairs: 0.65 to 0.71; 0.5 is chance)."
    )  # fmt: skip
    max_length_auc: _Auc = Field(
        0.7, description="The same, of one that sees lengths only (human pairs: 0.59 to 0.60)."
    )
    max_self_bleu: Share = Field(
        0.85, description="Of 500 chosen responses with each other (human: 0.28 to 0.36; worked solutions of eleven "
        "families: 0.73, of three: 0.92)."
    )  # fmt: skip
    min_clusters_reached: Share = Field(
        0.75, description="Clusters of human prompts that the prompts reach, as a share of those that as many human "
        "ones reach (more human prompts: 0.96 to 1.01; 500 written from 10 seeds: 0.60). Where no arm has human pairs, "
        "random ones stand for them, else the pool."
    )  # fmt: skip
    min_effective_clusters: Share = Field(
        0.5, description="How evenly: effective number of clusters, likewise (more human prompts: 0.95 to 1.22; from "
        "10 seeds: 0.23)."
    )  # fmt: skip
    min_vendi: Share = Field(
        0.6, description="Vendi score of the prompts, likewise (more human prompts: 0.84 to 1.10; from 10 seeds: 0.34)."
    )
