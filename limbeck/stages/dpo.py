"""Direct preference optimisation: one arm's stream of pairs in, that arm's model out (paper step 3).

Reads: `pairs`, `validation` (pairs), `policy` (model to start from), `reference` (model to stay near).
Writes: `model/`, `metrics.jsonl`, `reference_logps.jsonl`.
Start reading at: `run`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.console import meter
from limbeck.errors import ModelError
from limbeck.lm.items import pair_items
from limbeck.lm.load import LanguageModel, load_model
from limbeck.lm.machine import describe, place
from limbeck.lm.objectives import DpoObjective, pair_logps
from limbeck.lm.packing import Item, under_budget
from limbeck.lm.train import Trainer, training_result
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Pair, Record
from limbeck.store import RecordStream, digest_path, read_records, refuse_repeated


class ReferenceLogps(Record):
    """Log-probabilities of one pair under the reference, in nats, summed over response tokens."""

    pair_id: str
    chosen_logps: float
    rejected_logps: float


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, arm: str) -> StageResult:
    """Train the policy on the arm's pairs; the checkpoint with the lowest validation loss is kept.

    Raises:
        ModelError: where policy and reference have different vocabularies.
        TrainingError: where nothing is left to train on, or a loss is not finite.
    """
    pairs = read_records(inputs["pairs"], Pair)
    heldout = read_records(inputs["validation"], Pair) if "validation" in inputs else []
    refuse_repeated([pair.id for pair in (*pairs, *heldout)], "pair")
    device, dtype = place(recipe.model)
    policy = load_model(str(inputs["policy"]), device, dtype)
    train = pair_items(policy.chat, pairs, recipe.model)
    validation = pair_items(policy.chat, heldout, recipe.model)
    same = digest_path(inputs["policy"]) == digest_path(inputs["reference"])
    reference = policy if same else load_model(str(inputs["reference"]), device, dtype)
    if reference.chat.tokenizer.get_vocab() != policy.chat.tokenizer.get_vocab():
        raise ModelError("the reference reads text with another tokenizer than the policy: their log-probabilities do "
                         "not compare")  # fmt: skip
    reference_logps = score_reference(
        reference, [*train.items, *validation.items], recipe.dpo.micro_batch_tokens, out, arm
    )
    del reference
    objective = DpoObjective(train.items, validation.items, reference_logps, recipe.dpo)
    trainer = Trainer(policy, objective, recipe.dpo, out, f"DPO {arm}")
    progress = trainer.run()
    trainer.save_model(out / "model")
    counts_in = {"pairs": len(pairs), "validation": len(heldout)}
    return training_result(progress, counts_in, train, validation, describe(device, dtype))


def score_reference(
    reference: LanguageModel, items: Sequence[Item], max_tokens: int, out: Path, label: str
) -> dict[str, tuple[float, float]]:
    """Log-probabilities of all pairs under the reference, before the policy moves; streamed, so an interruption keeps
    what is done, and a resumed run never scores a policy that has already moved.
    """
    with (
        RecordStream(out / "reference_logps.jsonl", ReferenceLogps) as stream,
        meter(f"DPO {label}: reference", len(items), "pairs") as bar,
    ):
        found = {known.pair_id: (known.chosen_logps, known.rejected_logps) for known in stream.done}
        bar.skip(len(found))
        for run_of_items in under_budget([item for item in items if item.id not in found], max_tokens):
            for id_, (chosen, rejected) in pair_logps(reference, run_of_items, max_tokens).items():
                stream.append(ReferenceLogps(pair_id=id_, chosen_logps=chosen, rejected_logps=rejected))
                found[id_] = (chosen, rejected)
            bar.advance(len(run_of_items))
    return found
