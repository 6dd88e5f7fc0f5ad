"""Supervised fine-tuning: demonstrations in, a student out (paper step 2: loss on the response only).

Reads: `demonstrations`, `validation` (demonstrations), `chat` (the base model's replies), `base` (model to start from),
`problems` (asked at validations, where the recipe says so).
Writes: `model/`, `metrics.jsonl`, `alarms.jsonl`; with LoRA `adapter/`.
Start reading at: `run`.
"""

from collections.abc import Mapping
from pathlib import Path

from limbeck.console import say
from limbeck.lm import micro_batch
from limbeck.lm.items import demonstration_items
from limbeck.lm.load import load_model
from limbeck.lm.lora import attach
from limbeck.lm.machine import describe, place
from limbeck.lm.objectives import SftObjective
from limbeck.lm.train import Trainer
from limbeck.lm.training_result import training_result
from limbeck.manifest import StageResult
from limbeck.quiz import quiz_of
from limbeck.recipe import Recipe
from limbeck.records import Demonstration
from limbeck.store import read_records
from limbeck.tracking import Tracking


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, arm: str | None = None) -> StageResult:
    """Train on all demonstrations; the checkpoint that `keep` names becomes the student.

    `arm`: where the demonstrations are an arm's mixture; unless that is uniform, every epoch keeps the file's order.

    Raises:
        TrainingError: where nothing is left to train on, or a loss is not finite.
    """
    demonstrations = read_records(inputs["demonstrations"], Demonstration)
    chat = read_records(inputs["chat"], Demonstration) if "chat" in inputs else []
    heldout = read_records(inputs["validation"], Demonstration) if "validation" in inputs else []
    settings = recipe.sft_of(arm)
    device, dtype = place(recipe.model)
    model = load_model(str(inputs["base"]), device, dtype)
    adapters = attach(model, settings.lora, recipe.seed)
    train = demonstration_items(model.chat, [*demonstrations, *chat], recipe.model)
    validation = demonstration_items(model.chat, heldout, recipe.model)
    label = f"SFT {arm}" if arm else "SFT"
    train.see_some(label)
    if heldout and not validation.items:  # a share of few rows, which nobody chose: no reason not to train
        say(f"  {label}: nothing is validated, no held-out row is left: {validation.reasons}")
    reshuffles = arm is None or recipe.arms[arm].mixing == "uniform"
    settings = micro_batch.settled(settings, model, train.items, label)
    objective = SftObjective(train.items, validation.items, settings, recipe.seed, reshuffles)
    quiz = quiz_of(objective, model, settings, recipe, inputs, label)
    about = f"{out.parent.name}/{arm}" if arm else "sft"
    tracking = Tracking.of(recipe, out, about, settings.model_dump(mode="json"))
    trainer = Trainer(model, objective, settings, out, label, recipe.alarms, about, tracking, quiz=quiz)
    trainer.run()
    if adapters is not None:
        adapters.save(out / "adapter")
        adapters.merge()
    model.save(out / "model")
    counts_in = {"demonstrations": len(demonstrations), "chat": len(chat), "validation": len(heldout)}
    return training_result(trainer, counts_in, train, validation, describe(device, dtype))
