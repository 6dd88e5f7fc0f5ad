"""How likely one model finds both responses of the pairs that no arm trains on (paper step 7: preference replication).

Reads: `model` (a served one may have no weights here), `heldout_pairs/<arm>` (Pair): every DPO arm's validation pairs;
of an arm `trained/train` and `trained/first`: what it trained on, whose prompts are left out for it, and counted.
Writes: `pair_logps.jsonl` (PairLogps), each pair once.
Start reading at: `run`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from limbeck.errors import InputError
from limbeck.likeness import prompt_identity
from limbeck.lm import logps_cache
from limbeck.lm.items import pair_items
from limbeck.lm.load import load_chat, load_model
from limbeck.lm.machine import place
from limbeck.lm.micro_batch import scoring_tokens
from limbeck.lm.packing import Item
from limbeck.lm.pull import cache_folder
from limbeck.lm.reference_logps import Reference, Scored, reference_logps
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Demonstration, Pair
from limbeck.records.verdict import PairLogps
from limbeck.store import digest_json, read_records, write_records

PAIRS = "heldout_pairs/"
TRAINED = "trained/"
SEEN = "a prompt that this arm trained on, and another holds out"
_PROMPT_DIGITS = 16  # of a prompt's digest: enough to tell thousands apart
NO_WEIGHTS = "not measured: the model's weights are not on this machine"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str) -> StageResult:
    """Score every held-out pair under one model, called `model`, by the path that training takes.

    Scores are kept by content (decision 8). So the SFT model's are those that DPO computed for its reference, where it
    looked at whole responses; and a further arm's pairs are the only ones that other models are asked for.

    Raises:
        InputError: where two arms call different pairs by one id.
    """
    pairs = each_once(
        (name, pair) for name, path in inputs.items() if name.startswith(PAIRS) for pair in read_records(path, Pair)
    )
    if "model" not in inputs:
        write_records(out / "pair_logps.jsonl", [])
        return StageResult(counts_in={"pairs": len(pairs)}, drops={NO_WEIGHTS: len(pairs)} if pairs else {})
    kind = Demonstration if model in recipe.arms and recipe.arms[model].trains == "sft" else Pair
    files = [path for name, path in inputs.items() if name.startswith(TRAINED)]
    trained = {prompt_identity(row) for path in files for row in read_records(path, kind)}
    unseen = [pair for pair in pairs if prompt_identity(pair) not in trained]
    folder = inputs["model"]
    items = pair_items(load_chat(str(folder)), unseen, recipe.model)
    scored = _score(recipe, folder, items.items, out, f"held-out pairs, {model}")
    by_id = {pair.id: pair for pair in pairs}
    write_records(out / "pair_logps.jsonl", (_record(by_id[item.id], item, scored) for item in items.items))
    return StageResult(
        counts_in={"pairs": len(pairs)},
        counts_out={"pairs": len(items.items)},
        drops=items.drops | ({SEEN: len(pairs) - len(unseen)} if len(unseen) < len(pairs) else {}),
        tokens={"scored": scored.facts["tokens"]},
        facts=scored.facts,
    )


def each_once(named: Iterable[tuple[str, Pair]]) -> list[Pair]:
    """Each pair once, in order of first appearance: arms share the pairs that they hold out.

    Raises:
        InputError: where an id names different pairs.
    """
    found: dict[str, Pair] = {}
    for name, pair in named:
        known = found.setdefault(pair.id, pair)
        if (known.prompt, known.chosen, known.rejected) != (pair.prompt, pair.chosen, pair.rejected):
            raise InputError(f"{name}: the pair {pair.id!r} is another one elsewhere; ids must be distinct")
    return list(found.values())


def _score(recipe: Recipe, folder: Path, items: Sequence[Item], out: Path, label: str) -> Scored:
    device, dtype = place(recipe.model)
    scorer = Reference(folder, device, dtype, lambda: load_model(str(folder), device, dtype))
    cache, kept = cache_folder() / logps_cache.FILE_NAME, out / ".logps.jsonl"
    scored = reference_logps(scorer, items, scoring_tokens(recipe.dpo, device), kept, cache, label, role="model")
    kept.unlink()
    return scored


def _record(pair: Pair, item: Item, scored: Scored) -> PairLogps:
    chosen_logps, rejected_logps = scored.logps[pair.id]
    chosen, rejected = item.responses
    return PairLogps(
        id=pair.id,
        prompt=digest_json(list(prompt_identity(pair)))[:_PROMPT_DIGITS],
        source=pair.source,
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        chosen_tokens=len(chosen),
        rejected_tokens=len(rejected),
        chosen_characters=len(pair.chosen),
        rejected_characters=len(pair.rejected),
    )
