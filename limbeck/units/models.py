"""The units that train the arms' models."""

from pathlib import Path

from limbeck.recipe import Recipe
from limbeck.units.unit import Unit, part_of, quiz_input, quiz_part


def training_unit(recipe: Recipe, arm: str, base: Path, name: str) -> Unit:
    """One training run of an arm: its only one, or the first or the second of a `sequential` one, called `name`."""
    settings, first, mixed = recipe.arms[arm], recipe.first_run_unit(arm), Path("mix") / arm
    own = recipe.model_copy(update={"dpo": recipe.dpo_of(arm), "sft": recipe.sft_of(arm)})
    rows, heldout = ("first", "first_validation") if name == first else ("train", "validation")
    start = base if settings.trains == "sft" and settings.starts_from == "base" else Path("sft/model")
    if settings.mixing == "sequential" and name != first:  # a second run, from where the first one ended
        start = Path(first or "sft") / "model"
    trains = own.dpo if settings.trains == "dpo" else own.sft
    inputs = {"validation": mixed / f"{heldout}.jsonl", **quiz_input(trains)}
    asked = quiz_part(recipe, trains)
    if settings.trains == "sft":
        inputs |= {"base": start, "demonstrations": mixed / f"{rows}.jsonl"}
        part = part_of(own, "model", "sft", "alarms") | {"reshuffles": settings.mixing == "uniform"} | asked
        return Unit(name, inputs, part, argument=arm)
    # DPO's reference is the model it starts from (Rafailov et al. 2023). So a second run begins with margins of 0 and
    # stays near what the first one learnt; the SFT model would draw it back from there.
    inputs |= {
        "pairs": mixed / f"{rows}.jsonl",
        "policy": start,
        "reference": start if own.dpo.reference == "sft" else base,
    }
    return Unit(name, inputs, part_of(own, "model", "dpo", "alarms") | asked, argument=arm)
