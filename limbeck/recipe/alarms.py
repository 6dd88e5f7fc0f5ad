"""The section of the recipe that says which figures of training, and of what a model then says, raise an alarm."""

from typing import Annotated, Literal

from pydantic import Field

from limbeck.recipe.fields import Positive, Section, Share

_Amount = Annotated[float, Field(ge=0, le=1e9)]


class Alarms(Section):
    """Alarms while training, on the console and in `alarms.jsonl` beside the metrics, and after it, of the replies
    (`verdict/alarms.jsonl`). Each is said once, and again only where the figure is worse by half. A threshold at the
    end of its range is never passed.
    """

    max_solved_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05,
        description="Fall of the share of problems solved (`validate_problems`) since training began, at each of the "
        "last `validations`, where the best of them has a Wilson 95 % interval wholly below the share at the start.",
    )
    on_alarm: Literal["say", "stop"] = Field(
        "say", description="say: on the console, in `limbeck status` and in the report. stop: training ends there, "
        "and the best checkpoint so far is kept and used (with `keep` last, the last)."
    )  # fmt: skip
    window_steps: Annotated[int, Field(ge=5, le=100_000)] = Field(
        20, description="Training steps that are looked at together; a quarter of a shorter run, at least 10."
    )
    settle_share: Share = Field(
        0.25, description="Share of the steps, warm-up at least, before what is held out is judged: until then it has "
        "had no time to rise."
    )  # fmt: skip
    validations: Positive = Field(2, description="Validations in a row that must agree, so that one dip is none.")
    min_heldout_accuracy: Share = Field(
        0.5, description="Held-out pairs with the chosen response's reward above the rejected one's. 0.5: chance, "
        "above which the paper's runs never rose."
    )  # fmt: skip
    learnt_accuracy: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.65, description="What a run that learns would reach: with so few held-out pairs that it might by chance be "
        "as low as was measured, more often than one time in twenty, there is no alarm. 0.65 to 0.75 is usual on human "
        "pairs."
    )  # fmt: skip
    max_heldout_fall: Share = Field(
        0.15, description="Fall of held-out accuracy, of all pairs or of one source, from its highest; more than the "
        "95 % interval allows for, too."
    )  # fmt: skip
    max_accuracy_gap: Share = Field(
        0.25, description="Accuracy on the pairs trained on less that on held-out ones of the same source, likewise."
    )
    max_length_rule_lead: Share = Field(
        0.05, description="How much better than the model the rule 'the longer is chosen' (or 'the shorter') may tell "
        "held-out pairs apart at the end of training, likewise."
    )  # fmt: skip
    easy_accuracy: Share = Field(
        0.98, description="Accuracy on pairs not seen before, which only pairs with an easy mark reach so early (the "
        "demo's: 0.73 to 0.84); 1 is never passed."
    )  # fmt: skip
    easy_share: Share = Field(0.25, description="Share of the steps that `easy_accuracy` looks at.")
    max_loss_swing: _Amount = Field(
        0.2, description="Oscillation, as a share of the loss that training began with: of the training loss from one "
        "step to the next while it is no lower than it began (the demo's: 0.03 to 0.07, and lower than it began); of "
        "the held-out loss up and down again, twice."
    )  # fmt: skip
    max_loss_rise: _Amount = Field(
        0.05, description="Rise of the held-out loss above its lowest, or of one source's above where it began (SFT), "
        "as a share of it; in SFT by 0.01 nats a token at least. None of the whole loss where the model clearly solves "
        "more problems (`validate_problems`) than it did at its lowest."
    )  # fmt: skip
    max_loss_gap_nats: _Amount = Field(
        0.3, description="SFT: held-out loss less training loss, in nats a token (the demo's: 0.04 and 0.09)."
    )
    max_chosen_fall_nats: _Amount = Field(
        0.2, description="Fall of held-out chosen responses' log-probability against the reference, in nats a token "
        "(0.2: each token 18 % less likely). Some fall is usual with DPO (the demo's: 0.01)."
    )  # fmt: skip
    max_drift_nats: _Amount = Field(
        1.0, description="Mean of |log policy - log reference| over held-out responses, chosen and rejected, in nats a "
        "token: how far the policy has moved on text that it did not write. It is no KL divergence, which wants "
        "samples of the policy."
    )  # fmt: skip
    max_length_factor: Annotated[float, Field(ge=1, le=1e9)] = Field(
        1.5, description="Replies longer or shorter than those of the SFT model to the same prompts, as a factor "
        "(geometric mean); a learned judge likes length."
    )  # fmt: skip
    max_repetition_rise: Share = Field(
        0.05, description="Rise of the share of 4-word runs that a reply has said already, against the same replies."
    )
    max_truncation_rise: Share = Field(0.05, description="Rise of the share of replies cut at the limit, likewise.")
    max_prompt_echo_rise: Share = Field(
        0.02, description="Rise of the share of replies that mostly repeat or go on with their prompt, likewise."
    )
