"""Pairs to one arm's training stream: hold some of each kind out, take the arm's counts, shuffle uniformly.

Reads: KIND (Pair) for every kind the arm asks for.
Writes: train.jsonl and validation.jsonl (Pair).
Start reading at: `mix_pairs`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.likeness import prompt_identity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe_pairs import PairKind
from limbeck.records import Pair
from limbeck.seeds import rng
from limbeck.store import read_records, refuse_repeated, write_records
from limbeck.stream import stream_order

_MORE: dict[PairKind, str] = {
    "human": "give more rows under [[corpus.preferences]]",
    "random": "raise corpus.tasks.pool or teach.accept.random",
    "zero_shot": "raise corpus.tasks.pool or teach.accept.zero_shot",
    "few_shot": "raise corpus.tasks.fresh or teach.accept.few_shot",
    "rolling": "give more rows under [[corpus.preferences]] or raise teach.accept.rolling",
    "revise": "raise corpus.tasks.pool or teach.accept.revise",
    "on_policy": "raise corpus.tasks.pool",
    "contrast": "raise corpus.tasks.pool or teach.accept.contrast",
}


class Mixture(NamedTuple):
    """One arm's pairs. No prompt of `validation` occurs in `train`."""

    train: list[Pair]
    validation: list[Pair]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, arm: str) -> StageResult:
    """Fill `arm`.

    Raises:
        InputError: an input file is missing or not what it should be, or holds too few pairs.
    """
    counts = recipe.arms[arm].counts()
    missing = [kind for kind in counts if kind not in inputs]
    if missing:
        raise InputError(f"the arm {arm!r} asks for {missing[0]} pairs, but no file of such pairs is given")
    pairs = {kind: read_records(inputs[kind], Pair) for kind in counts}
    mixture = mix_pairs(pairs, counts, heldout=recipe.mix.heldout_pairs, seed=recipe.seed, arm=arm)
    write_records(out / "train.jsonl", mixture.train)
    write_records(out / "validation.jsonl", mixture.validation)
    return StageResult(
        counts_in={kind: len(rows) for kind, rows in pairs.items()},
        counts_out={"train": len(mixture.train), "validation": len(mixture.validation)},
        facts={"arm": arm, "train_by_kind": dict(counts)},
    )


def mix_pairs(
    pairs: Mapping[PairKind, Sequence[Pair]],
    counts: Mapping[PairKind, int],
    *,
    heldout: int,
    seed: int,
    arm: str,
) -> Mixture:
    """Hold out the first `heldout` pairs of each kind, train on the arm's count of the rest, uniformly shuffled.

    The order of a kind is the same for every arm, so all arms hold out the same pairs of it. Every mini-batch is then
    a uniform draw across the kinds (step 6 of the paper).

    Raises:
        InputError: two pairs have one id, or there are too few of a kind, after those that share a prompt with a
            held-out pair are left out.
    """
    # Preference training finds a pair's reference log-probabilities by its id.
    refuse_repeated([pair.id for kind in counts for pair in pairs[kind]], "pair")
    ordered = {kind: stream_order(pairs[kind], seed) for kind in counts}
    validation = [pair for kind in counts for pair in ordered[kind][:heldout]]
    held_prompts = {prompt_identity(pair) for pair in validation}
    train: list[Pair] = []
    for kind, count in counts.items():
        rest = [pair for pair in ordered[kind][heldout:] if prompt_identity(pair) not in held_prompts]
        if len(rest) < count or len(ordered[kind]) < heldout:
            raise InputError(_too_few(arm, kind, count, heldout, len(ordered[kind]), len(rest)))
        train += rest[:count]
    rng(seed, "mix", arm, "order").shuffle(train)
    return Mixture(train, validation)


def _too_few(arm: str, kind: PairKind, count: int, heldout: int, there: int, left: int) -> str:
    return (
        f"the arm {arm!r} asks for {count} {kind} pairs and {heldout} are held out, but there are only {there} "
        f"({left} are left to train on): lower arms.{arm}.{kind} to {left} or lower mix.heldout_pairs, or {_MORE[kind]}"
    )
