"""Direct preference optimisation: one arm's stream of pairs in, that arm's model out (paper step 3).

Reads: `pairs`, `validation` (pairs), `policy` (model to start from), `reference` (model to stay near), `problems`
(asked at validations, where the recipe says so).
Writes: `model/`, `metrics.jsonl`, `alarms.jsonl`, `reference_logps.jsonl`; with LoRA `adapter/`.
Start reading at: `run`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.errors import ModelError
from limbeck.lm import logps_cache, micro_batch
from limbeck.lm.items import pair_items
from limbeck.lm.load import LanguageModel, load_model, load_tokenizer
from limbeck.lm.lora import attach
from limbeck.lm.machine import describe, place
from limbeck.lm.objectives import DpoObjective
from limbeck.lm.packing import Item
from limbeck.lm.pull import cache_folder
from limbeck.lm.reference_logps import Reference, Scored, reference_logps
from limbeck.lm.train import Trainer
from limbeck.lm.training_result import training_result
from limbeck.manifest import StageResult
from limbeck.quiz import quiz_of
from limbeck.recipe import Recipe
from limbeck.recipe.training import Dpo
from limbeck.records import Pair
from limbeck.store import digest_path, read_records, refuse_repeated
from limbeck.tracking import Tracking


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, arm: str) -> StageResult:
    """Train the policy on the arm's pairs, in their order; which checkpoint is kept, `keep` says.

    Raises:
        ModelError: where policy and reference have different vocabularies.
        TrainingError: where nothing is left to train on, or nothing of what was held out; or a loss is not finite.
    """
    pairs = read_records(inputs["pairs"], Pair)
    heldout = read_records(inputs["validation"], Pair) if "validation" in inputs else []
    refuse_repeated([pair.id for pair in (*pairs, *heldout)], "pair")
    settings = recipe.dpo_of(arm)
    device, dtype = place(recipe.model)
    policy = load_model(str(inputs["policy"]), device, dtype)
    train, validation = (pair_items(policy.chat, rows, recipe.model, settings.scope) for rows in (pairs, heldout))
    train.see_some(f"DPO {arm}")
    validation.see_some(f"DPO {arm}", "held-out")
    scored = _score_reference(policy, inputs, [*train.items, *validation.items], settings, out, f"DPO {arm}")
    adapters = attach(policy, settings.lora, recipe.seed)  # after the reference was scored with the weights alone
    settings = micro_batch.settled(settings, policy, train.items, f"DPO {arm}")
    objective = DpoObjective(train.items, validation.items, scored.logps, settings)
    quiz = quiz_of(objective, policy, settings, recipe, inputs, f"DPO {arm}")
    about = f"{out.parent.name}/{arm}"  # of a `sequential` arm's two runs, the one
    tracking = Tracking.of(recipe, out, about, settings.model_dump(mode="json"))
    trainer = Trainer(policy, objective, settings, out, f"DPO {arm}", recipe.alarms, about, tracking, quiz=quiz)
    trainer.run()
    if adapters is not None:
        adapters.save(out / "adapter")
        adapters.merge()
    policy.save(out / "model")
    counts_in = {"pairs": len(pairs), "validation": len(heldout)}
    result = training_result(trainer, counts_in, train, validation, describe(device, dtype))
    return result.model_copy(update={"facts": result.facts | {"reference": scored.facts}})


def _score_reference(
    policy: LanguageModel, inputs: Mapping[str, Path], items: Sequence[Item], settings: Dpo, out: Path, label: str
) -> Scored:
    """Score all pairs under the reference, before anything changes the policy, which is loaded once if it is both."""
    name = str(inputs["reference"])
    same = digest_path(inputs["policy"]) == digest_path(inputs["reference"])
    tokenizer = policy.chat.tokenizer if same else load_tokenizer(name)
    if tokenizer.get_vocab() != policy.chat.tokenizer.get_vocab():
        raise ModelError("the reference reads text with another tokenizer than the policy: their log-probabilities do "
                         "not compare")  # fmt: skip
    device, dtype = policy.device, policy.head.weight.dtype
    reference = Reference(
        inputs["reference"], device, dtype, lambda: policy if same else load_model(name, device, dtype)
    )
    cache = cache_folder() / logps_cache.FILE_NAME
    tokens = micro_batch.scoring_tokens(settings, device)
    return reference_logps(reference, items, tokens, out / "reference_logps.jsonl", cache, label)
