"""The stage's work: decide what is held out, write every row to its file, count what the card says."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from limbeck.console import say
from limbeck.errors import InputError
from limbeck.likeness import PromptIdentity, prompt_identity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Pair
from limbeck.stages.export.card import Facts, card
from limbeck.stages.export.columns import row_of
from limbeck.stages.export.files import Library, file_format, parquet_library, table
from limbeck.store import atomic_folder, each_record, read_json_lines, read_records, write_text
from limbeck.stream import along_stream, stream_order, stream_seed

KEPT, MADE, DROPPED = "kept_", "made_", "dropped"
ROLLING, ROLLING_STREAM = "rolling", "rolling_stream"
CARD = "README.md"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Write the data set.

    Raises:
        InputError: an input file is not what it should be.
    """
    library = parquet_library()
    if library is None:
        say("  export: pairs are written as JSON Lines; for parquet, pip install 'limbeck[hub]' and export again")
    kept = {name.removeprefix(KEPT): path for name, path in inputs.items() if name.startswith(KEPT)}
    facts = Facts(suffix=file_format(library is not None))
    held = _held_out_prompts(kept, inputs, recipe)
    with atomic_folder(out / "data") as folder:
        _write_kept(_published(kept, recipe, facts), held, folder, library, facts)
    if DROPPED in inputs:
        _write_dropped(recipe, inputs, out / DROPPED, library, facts)
    write_text(out / CARD, card(recipe, facts))
    return _result(facts)


def _held_out_prompts(kept: Mapping[str, Path], inputs: Mapping[str, Path], recipe: Recipe) -> set[PromptIdentity]:
    """The prompts of the pairs of each kind that every arm holds out: the first in the order that mixing takes too, of
    rolling ones the last along the pairs that they were written after.
    """
    count, seed = recipe.mix.heldout_pairs, stream_seed(recipe)
    held: set[PromptIdentity] = set()
    for kind, path in kept.items():
        if kind == ROLLING and count:
            file = inputs.get(ROLLING_STREAM) or kept.get(recipe.rolling_stream_kind())
            stream = read_records(file, Pair) if file else []
            pairs = along_stream(read_records(path, Pair), stream, seed)[-count:]
        else:
            pairs = _first(each_record(path, Pair), count, seed)
        held.update(map(prompt_identity, pairs))
    return held


def _published(kept: Mapping[str, Path], recipe: Recipe, facts: Facts) -> Iterator[Pair]:
    """Every kept pair, without human ones where the recipe says so; in a file of pairs the source says which those are.

    Those left out are counted in `facts`.
    """
    for kind, path in kept.items():
        for pair in each_record(path, Pair):
            if recipe.export.include_human or "human" not in {kind, pair.source}:
                yield pair
            else:
                facts.human_left_out += 1


def _first(pairs: Iterable[Pair], count: int, seed: int) -> list[Pair]:
    """What `stream_order` puts first, without holding more than a few times `count` pairs."""
    first: list[Pair] = []
    for pair in pairs:
        first.append(pair)
        if len(first) >= 2 * count + 100:
            first = stream_order(first, seed)[:count]
    return stream_order(first, seed)[:count]


def _write_kept(
    pairs: Iterable[Pair], held: set[PromptIdentity], folder: Path, library: Library | None, facts: Facts
) -> None:
    with ExitStack() as files:
        splits = ("train", "validation") if held else ("train",)
        add = {split: files.enter_context(table(folder, split, library)) for split in splits}
        for pair in pairs:
            split = "validation" if prompt_identity(pair) in held else "train"
            add[split](row_of(pair))
            facts.count(split, pair)


def _write_dropped(
    recipe: Recipe, inputs: Mapping[str, Path], place: Path, library: Library | None, facts: Facts
) -> None:
    """Write what screening dropped, whole, with the reasons: it was paid for, and somebody may judge otherwise."""
    reasons = {(kind, id_): reason for kind, id_, reason in _reasons(inputs[DROPPED])}
    if not recipe.export.include_human:
        reasons = {key: reason for key, reason in reasons.items() if key[0] != "human"}
    if not reasons:
        return
    found: set[tuple[str, str]] = set()
    with atomic_folder(place) as folder, table(folder, DROPPED, library, with_reason=True) as add:
        for kind, path in ((name.removeprefix(MADE), path) for name, path in inputs.items() if name.startswith(MADE)):
            for pair in each_record(path, Pair):
                key = (kind, pair.id)
                if key in reasons:
                    found.add(key)
                    add(row_of(pair, reasons[key]))
                    facts.drops[f"{kind}: {reasons[key]}"] += 1
    if lost := sorted(reasons.keys() - found):
        raise InputError(f"{inputs[DROPPED]} names the {lost[0][0]} pair {lost[0][1]!r}, which is not among those made")


def _reasons(path: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, id and reason of every dropped pair; whatever else screening notes of it is left to screening."""
    for number, line in read_json_lines(path):
        kind, id_, reason = (line.get(field) for field in ("kind", "id", "reason"))
        if not (isinstance(kind, str) and isinstance(id_, str) and isinstance(reason, str)):
            raise InputError(f"{path}, line {number}: expected a dropped pair, with the texts `id`, `kind`, `reason`")
        yield kind, id_, reason


def _result(facts: Facts) -> StageResult:
    counts: Counter[str] = facts.total_by_kind()
    left_out = facts.human_left_out
    drops = {"human: left out by export.include_human": left_out} if left_out else {}
    dropped = facts.drops.total()
    return StageResult(
        counts_in=dict(sorted(counts.items())),
        counts_out={split: by_kind.total() for split, by_kind in facts.splits.items()} | {"with_reasons": dropped},
        drops=drops,
        facts={"format": facts.suffix},
    )
