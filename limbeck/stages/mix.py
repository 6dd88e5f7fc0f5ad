"""Pairs to one arm's training stream: hold some of each kind out, take the arm's counts, put them in order.

Reads: KIND (Pair) for every kind the arm asks for; where it trains by SFT, `demonstrations`, `validation` and `chat`
(Demonstration); where rolling pairs were written along pairs that the arm does not ask for, those as `rolling_stream`.
Writes: `train.jsonl` and `validation.jsonl` (Pair, or Demonstration where the arm trains by SFT), in the order in which
they are trained on; where the arm's mixing is `sequential`, `first.jsonl` and `first_validation.jsonl`, which its first
run trains on.
Start reading at: `Mixer`; the orders themselves are in `limbeck/stream.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple

from limbeck.console import say
from limbeck.errors import InputError, TooFewPairsError
from limbeck.likeness import PromptIdentity, prompt_identity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm, PairKind
from limbeck.records import Demonstration, Pair
from limbeck.seeds import rng
from limbeck.store import read_records, refuse_repeated, write_records
from limbeck.stream import Row, along_stream, appended, in_ratio, interleaved, spread, stream_order, stream_seed

HELD_OUT = "demonstrations: same prompt as a held-out row"
ROLLING_STREAM = "rolling_stream"
_MORE: dict[PairKind, str] = {
    "human": "give more rows under [[corpus.preferences]]",
    "random": "give more [[corpus.prompts]], or raise corpus.tasks.pool or teach.accept.random",
    "zero_shot": "give more [[corpus.prompts]], or raise corpus.tasks.pool or teach.accept.zero_shot",
    "few_shot": "raise corpus.tasks.fresh or teach.accept.few_shot",
    "rolling": "give more rows under [[corpus.preferences]] or raise teach.accept.rolling",
    "revise": "give more [[corpus.prompts]], or raise corpus.tasks.pool or teach.accept.revise",
    "on_policy": "raise corpus.tasks.pool or give more [[corpus.prompts]]",
    "own": "raise corpus.tasks.pool or mine.samples_per_prompt",
    "reference": "raise corpus.tasks.pool or give more [[corpus.prompts]]",
    "divergence": "raise corpus.tasks.pool or branch.samples_per_step",
    "contrast": "give more [[corpus.prompts]], or raise corpus.tasks.pool or teach.accept.contrast",
}


class Mixture(NamedTuple, Generic[Row]):
    """One arm's rows, in the order of training. No prompt of `validation` occurs in `train` or `first`.

    `first`: what the first run of a `sequential` arm trains on, validated on `first_validation`, the human part of
    `validation`; the arm's own run, the second, trains on `train`. Both are empty with any other mixing.
    `rolling_elsewhere`: of an interleaved arm, the rolling pairs that do not stand after the pair they were written
    from, since the arm does not train on it. `by_kind`: how many pairs of each are trained on.
    """

    train: list[Row]
    validation: list[Row]
    first: list[Row]
    first_validation: list[Row]
    drops: dict[str, int]
    rolling_elsewhere: int
    by_kind: dict[PairKind, int]


class Demonstrations(NamedTuple):
    """What the plain SFT trains on, chat included, and what it is validated on."""

    train: Sequence[Demonstration]
    validation: Sequence[Demonstration]


class _Parted(NamedTuple):
    """Pairs by kind, in stream order: those held out, and those that share no prompt with any; `there`: how many."""

    there: dict[PairKind, int]
    heldout: dict[PairKind, list[Pair]]
    rest: dict[PairKind, list[Pair]]


class _Taken(NamedTuple):
    """What an arm trains on. `places`: for the id of a rolling pair, that of the row it follows."""

    human: list[Pair]
    synthetic: list[Pair]
    places: dict[str, str]
    rolling_elsewhere: int
    by_kind: dict[PairKind, int]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, arm: str) -> StageResult:
    """Fill `arm`.

    Raises:
        InputError: an input file is missing or not what it should be, or holds too few pairs.
    """
    settings = recipe.arms[arm]
    missing = [kind for kind in settings.counts() if kind not in inputs]
    if missing:
        raise InputError(f"the arm {arm!r} asks for {missing[0]} pairs, but no file of such pairs is given")
    if settings.trains == "sft" and settings.starts_from == "base" and "demonstrations" not in inputs:
        raise InputError(
            f"the arm {arm!r} trains by SFT: its pairs join demonstrations, and no file of these is given; mix it in a "
            f'whole run (`limbeck run`), or set arms.{arm}.trains to "dpo"'
        )
    pairs = {kind: read_records(inputs[kind], Pair) for kind in settings.counts()}
    counts_in: dict[str, int] = {kind: len(rows) for kind, rows in pairs.items()}
    written_along = pairs.get(recipe.rolling_stream_kind(), [])
    if not written_along and ROLLING_STREAM in inputs:
        written_along = read_records(inputs[ROLLING_STREAM], Pair)
    mixer = Mixer(arm, settings, recipe.mix.heldout_pairs, stream_seed(recipe), written_along, recipe.mix.take_fewer)
    if settings.trains == "dpo":
        return _write(mixer.mix_pairs(pairs), settings, out, counts_in)
    # An arm that goes on from the SFT model has learnt the demonstrations already.
    names = ("validation",) if settings.starts_from == "sft" else ("demonstrations", "chat", "validation")
    own = {name: read_records(inputs[name], Demonstration) if name in inputs else [] for name in names}
    counts_in |= {name: len(rows) for name, rows in own.items()}
    demonstrations = Demonstrations([*own.get("demonstrations", []), *own.get("chat", [])], own["validation"])
    return _write(mixer.mix_demonstrations(pairs, demonstrations), settings, out, counts_in)


def _write(mixture: Mixture[Row], settings: Arm, out: Path, counts_in: dict[str, int]) -> StageResult:
    files = {"train": mixture.train, "validation": mixture.validation}
    if settings.mixing == "sequential":
        files |= {"first": mixture.first, "first_validation": mixture.first_validation}
    facts: dict[str, Any] = {"mixing": settings.mixing, "trains": settings.trains, "train_by_kind": mixture.by_kind}
    if settings.rolling and settings.mixing == "interleave":
        facts |= {"rolling_elsewhere": mixture.rolling_elsewhere}
    return StageResult(
        counts_in=counts_in,
        counts_out={name: write_records(out / f"{name}.jsonl", rows) for name, rows in files.items()},
        drops=mixture.drops,
        facts=facts,
    )


@dataclass(frozen=True)
class Mixer:
    """How one arm is filled. `heldout`: how many pairs of each kind are held out.

    The order of a kind is the same for every arm, so all arms hold out the same pairs of it. `written_along`: the pairs
    of the stream along which rolling ones were written; left out, those of the arm's own. `takes_fewer`: than the arm
    asks for, where there are no more.
    """

    arm: str
    settings: Arm
    heldout: int
    seed: int
    written_along: Sequence[Pair] = ()
    takes_fewer: bool = False

    def mix_pairs(self, pairs: Mapping[PairKind, Sequence[Pair]]) -> Mixture[Pair]:
        """Hold out the first pairs of each kind (of rolling ones the last along their stream: an arm that takes but the
        beginning of the human pairs has no place for those), take the arm's counts of the rest, order them as its
        mixing says.

        Raises:
            InputError: two pairs have one id, or there are too few of a kind (where fewer will do, none to train on),
                after those that share a prompt with a held-out pair are left out, or no rolling pair of an interleaved
                arm has its place there.
        """
        parted = self._part(pairs, frozenset())
        taken = self._take(parted, frozenset())
        kind = self.settings.stream_kind
        validation = [pair for rows in parted.heldout.values() for pair in rows]
        first = parted.heldout[kind] if kind else []
        rows = Mixture([], validation, [], first, {}, taken.rolling_elsewhere, taken.by_kind)
        return self._ordered(taken.human, taken.synthetic, taken, rows)

    def mix_demonstrations(
        self, pairs: Mapping[PairKind, Sequence[Pair]], own: Demonstrations
    ) -> Mixture[Demonstration]:
        """The same with chosen responses as demonstrations, among those of the plain SFT, which are the human stream.

        Raises:
            InputError: as `mix_pairs` does.
        """
        shut = frozenset(map(prompt_identity, own.validation))
        parted = self._part(pairs, shut)
        held = _prompts(parted.heldout) | shut
        kept = [row for row in own.train if prompt_identity(row) not in held]
        taken = self._take(parted, frozenset(row.id for row in kept))
        human = stream_order([*kept, *map(_demonstration, taken.human)], self.seed)
        heldout = {kind: list(map(_demonstration, rows)) for kind, rows in parted.heldout.items()}
        validation = [*own.validation, *(row for rows in heldout.values() for row in rows)]
        first = [*own.validation, *heldout.get("human", [])]
        drops = {HELD_OUT: len(own.train) - len(kept)} if len(kept) < len(own.train) else {}
        synthetic = list(map(_demonstration, taken.synthetic))
        rows = Mixture([], validation, [], first, drops, taken.rolling_elsewhere, taken.by_kind)
        return self._ordered(human, synthetic, taken, rows)

    def _part(self, pairs: Mapping[PairKind, Sequence[Pair]], shut: frozenset[PromptIdentity]) -> _Parted:
        """`shut`: prompts that are held out already."""
        kinds = self.settings.counts()
        # Preference training finds a pair's reference log-probabilities by its id.
        refuse_repeated([pair.id for kind in kinds for pair in pairs[kind]], "pair")
        ordered = {kind: stream_order(pairs[kind], self.seed) for kind in kinds}
        if "rolling" in ordered:  # the last of the stream first, so that they are what is held out
            kind = self.settings.stream_kind
            stream = self.written_along or (pairs[kind] if kind else ())
            ordered["rolling"] = along_stream(ordered["rolling"], stream, self.seed)[::-1]
        heldout = {kind: rows[: self.heldout] for kind, rows in ordered.items()}
        held = _prompts(heldout) | shut
        rest = {
            kind: [pair for pair in rows[self.heldout :] if prompt_identity(pair) not in held]
            for kind, rows in ordered.items()
        }
        if "rolling" in rest:
            rest["rolling"].reverse()
        return _Parted({kind: len(rows) for kind, rows in ordered.items()}, heldout, rest)

    def _take(self, parted: _Parted, beside: frozenset[str]) -> _Taken:
        """The arm's counts of what is left. `beside`: ids of the rows of the human stream that are no pairs."""
        stream = self.settings.stream_kind
        human = self._first(parted, stream, parted.rest[stream]) if stream else []
        usable = {kind: rows for kind, rows in parted.rest.items() if kind != stream}
        there = beside | {pair.id for pair in human}
        if self.settings.mixing == "interleave" and "rolling" in usable:  # those that have their place come first
            usable["rolling"] = sorted(usable["rolling"], key=lambda pair: pair.placed_after not in there)
        synthetic = {kind: self._first(parted, kind, rows) for kind, rows in usable.items()}
        rolling = synthetic.get("rolling", []) if self.settings.mixing == "interleave" else []
        places = {pair.id: str(pair.placed_after) for pair in rolling if pair.placed_after in there}
        if rolling and not places:
            raise InputError(
                f"the arm {self.arm!r} interleaves rolling pairs, and not one of them follows a {stream or 'human'} "
                "pair that the arm trains on (`placed_after` is the id of that pair)"
            )
        taken = [pair for rows in synthetic.values() for pair in rows]
        by_kind = {kind: len(human if kind == stream else synthetic[kind]) for kind in self.settings.counts()}
        return _Taken(human, taken, places, len(rolling) - len(places), by_kind)

    def _first(self, parted: _Parted, kind: PairKind, rows: Sequence[Pair]) -> list[Pair]:
        count = self.settings.counts()[kind]
        if len(rows) >= count and len(parted.heldout[kind]) == self.heldout:
            return list(rows[:count])
        left = {kind for kind, some in parted.rest.items() if some}
        # Only of a kind of which there is no pair: one that is all held out would be lost though it is there.
        none_will_do = not parted.there[kind] and self.settings.can_train_on(left)
        if self.takes_fewer and (rows or none_will_do):
            say(f"  arm {self.arm}: {len(rows)} {kind} pairs instead of {count}: there are no more")
            return list(rows)
        lower = f"lower arms.{self.arm}.{kind} to {len(rows)} (mix.take_fewer = true does), or " if rows else ""
        raise TooFewPairsError(
            f"the arm {self.arm!r} asks for {count} {kind} pairs and {self.heldout} are held out, but there are only "
            f"{parted.there[kind]} ({len(rows)} are left to train on): {lower}lower mix.heldout_pairs, or {_MORE[kind]}"
        )

    def _ordered(
        self, human: Sequence[Row], synthetic: Sequence[Row], taken: _Taken, rows: Mixture[Row]
    ) -> Mixture[Row]:
        """`rows`, which hold everything but what is trained on, with that in order."""
        mixing = self.settings.mixing
        if mixing == "uniform":  # every mini-batch is a uniform draw across the kinds (step 6 of the paper)
            train = [*human, *synthetic]
            rng(self.seed, "mix", self.arm, "order").shuffle(train)
            return rows._replace(train=train, first_validation=[])
        others = spread(synthetic, self.seed)
        if mixing == "sequential":
            return rows._replace(train=others, first=list(human))
        if mixing == "append":
            train = appended(human, others)
        elif mixing == "ratio":
            train = in_ratio(human, others, self.settings.synthetic_share)
        else:
            train = interleaved(human, others, taken.places)
        return rows._replace(train=train, first_validation=[])


def _prompts(pairs: Mapping[PairKind, Sequence[Pair]]) -> set[PromptIdentity]:
    return {prompt_identity(pair) for rows in pairs.values() for pair in rows}


def _demonstration(pair: Pair) -> Demonstration:
    """What a pair teaches without its rejected response; its source stays."""
    return Demonstration(
        id=pair.id,
        prompt=pair.prompt,
        source=pair.source,
        problem=pair.problem,
        reference_response=pair.reference_response,
        response=pair.chosen,
    )
