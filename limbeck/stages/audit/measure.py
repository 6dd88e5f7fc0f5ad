"""Measuring one set of pairs: lengths, variety, shortcuts, and how its prompts cover the anchor's. Pure.

Start reading at: `measure`. Refuses to know files and thresholds.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from limbeck.likeness import prompt_identity
from limbeck.recipe.audit import Audit
from limbeck.records import Estimate, Pair, PromptRow
from limbeck.records.audit import Lengths, PairsAudit, PromptCoverage, Shortcut, Variety
from limbeck.seeds import rng
from limbeck.statistics import Interval, distinct_n, proportion, self_bleu, vendi_score
from limbeck.statistics.coverage import LEAST_ANCHORS, LEAST_CANDIDATES, coverage
from limbeck.statistics.shortcut import fit_antisymmetric, heldout_auc
from limbeck.statistics.words import count_grams, words_of

LEAST_PROMPTS = 40  # 8 a fold; with fewer, an area of 0.5 has an interval of about +-0.2
_TELLING = 5  # words named for each side
_LEAST_RESPONSES = 3  # a word in fewer responses tells nothing about other prompts
_PENALTY = 10.0  # between 0.1 and 30 the best or within 0.003 of it on two human sets and the worked teacher
_VENDI_GRAMS = 2

Words = list[str]


class Anchor(NamedTuple):
    """All prompts that others are to cover, as words, and which they are (`human`, `random`, `pool`)."""

    name: str
    prompts: tuple[Words, ...]


class Sides(NamedTuple):
    """The words of some pairs' prompts, chosen and rejected responses."""

    prompts: list[Words]
    chosen: list[Words]
    rejected: list[Words]


def measure(
    name: str,
    of: Literal["kind", "arm"],
    pairs: Sequence[Pair],
    anchor: Anchor | None,
    rules: Audit,
    *,
    seed: int,
    confidence: float,
) -> PairsAudit:
    """Audit one set of pairs; what is compared pair by pair, of a sample that `seed` and the set's name decide."""
    sample = sampled(pairs, rules.sample_pairs, seed, of, name, "pairs")
    sides = Sides([asked(pair) for pair in sample], [words_of(pair.chosen) for pair in sample],
                  [words_of(pair.rejected) for pair in sample])  # fmt: skip
    places = sampled(range(len(sample)), rules.sample_texts, seed, of, name, "texts")
    prompts, chosen, rejected = (_variety([side[place] for place in places]) for side in sides)
    shortcut = _shortcut(sample, sides, seed, confidence)
    covered = None if anchor is None else _coverage(sides.prompts, anchor, rules, seed)
    missing = [] if shortcut else [f"shortcut test: it needs pairs of {LEAST_PROMPTS} prompts with words"]
    if anchor is not None and covered is None:
        missing.append(
            f"coverage: it needs {LEAST_CANDIDATES} prompts that are none of the {anchor.name} ones, and "
            f"{LEAST_ANCHORS} of those"
        )
    return PairsAudit(
        name=name,
        of=of,
        num_pairs=len(pairs),
        num_sampled=len(sample),
        chosen_length=_lengths([pair.chosen for pair in pairs]),
        rejected_length=_lengths([pair.rejected for pair in pairs]),
        longer_is_chosen=_longer(pairs, confidence),
        prompts=prompts,
        chosen=chosen,
        rejected=rejected,
        shortcut=shortcut,
        coverage=covered,
        not_measured=tuple(missing),
    )


def sampled(items: Sequence[Any], most: int, seed: int, *purpose: str) -> list[Any]:
    """At most `most` of the items, in their order."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in sorted(rng(seed, "audit", *purpose).sample(range(len(items)), most))]


def asked(row: PromptRow) -> Words:
    """What the user said, in all turns."""
    return words_of("\n".join(turn.content for turn in row.prompt if turn.role == "user"))


def _lengths(texts: Sequence[str]) -> Lengths:
    return Lengths(
        characters=sum(map(len, texts)) / len(texts), words=sum(len(text.split()) for text in texts) / len(texts)
    )


def _longer(pairs: Sequence[Pair], confidence: float) -> Estimate | None:
    lengths = [(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    differing = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    return _estimate(proportion(sum(differing), len(differing), confidence)) if differing else None


def _estimate(interval: Interval) -> Estimate:
    return Estimate(**interval._asdict())


def _variety(texts: Sequence[Words]) -> Variety:
    filled = [text for text in texts if text]
    longest = max(map(len, filled), default=0)
    distinct = [distinct_n(filled, n) if longest >= n else None for n in (1, 2, 3)]
    return Variety(
        num_texts=len(filled),
        distinct_1=distinct[0],
        distinct_2=distinct[1],
        distinct_3=distinct[2],
        self_bleu=self_bleu(filled) if len(filled) > 1 else None,
        vendi=_vendi(filled) if filled else None,
    )


def _vendi(texts: Sequence[Words]) -> float:
    return vendi_score(count_grams(texts, longest=_VENDI_GRAMS).matrix)


def _shortcut(sample: Sequence[Pair], sides: Sides, seed: int, confidence: float) -> Shortcut | None:
    prompts = [prompt_identity(pair) for pair in sample]
    counted = count_grams([*sides.chosen, *sides.rejected], least_texts=_LEAST_RESPONSES)
    if len(set(prompts)) < LEAST_PROMPTS or not counted.grams:
        return None
    surface = counted.matrix.log1p()  # [chosen, then rejected; words]: ten commas are not ten times one
    words = (surface[: len(sample)] - surface[len(sample) :]).tocsr()
    lengths = np.array([_length_features(pair.chosen) - _length_features(pair.rejected) for pair in sample])
    areas = [heldout_auc(each, prompts, seed=seed, penalty=_PENALTY, confidence=confidence)
             for each in (words, lengths)]  # fmt: skip
    # How much each word adds to the mean score: a word that weighs much and hardly occurs gives nothing away.
    adds = fit_antisymmetric(words, _PENALTY) * np.asarray(words.mean(axis=0)).reshape(-1)
    more = np.asarray(words.sum(axis=0)).reshape(-1) > 0  # whether the chosen have more of it
    told = [place for place in np.argsort(-adds, kind="stable") if adds[place] > 0] if areas[0].low > 0.5 else []
    return Shortcut(
        num_pairs=len(sample),
        words_auc=_estimate(areas[0]),
        length_auc=_estimate(areas[1]),
        telling_chosen=tuple(counted.grams[place] for place in told if more[place])[:_TELLING],
        telling_rejected=tuple(counted.grams[place] for place in told if not more[place])[:_TELLING],
    )


def _length_features(text: str) -> Any:
    return np.log1p([len(text), len(text.split())])


def _coverage(prompts: Sequence[Words], anchor: Anchor, rules: Audit, seed: int) -> PromptCoverage | None:
    """Of the prompts that are none of the anchor's: those cover themselves, whatever the others do."""
    filled = [prompt for prompt in prompts if prompt]
    known = set(map(tuple, anchor.prompts))
    new = [prompt for prompt in filled if tuple(prompt) not in known]
    if len(new) < LEAST_CANDIDATES or len(anchor.prompts) < LEAST_ANCHORS:
        return None
    anchors = sampled(anchor.prompts, rules.sample_pairs, seed, "anchor")
    found = coverage(new, anchors, seed=seed)
    num = min(len(new), len(anchors), rules.sample_texts)
    own, others = (
        _vendi(sampled(texts, num, seed, "vendi", name)) for name, texts in (("own", new), ("anchor", anchors))
    )
    return PromptCoverage(
        anchor=anchor.name,
        num_clusters=found.num_clusters,
        num_compared=found.num_compared,
        reached=found.reached,
        reached_by_anchor=found.reached_by_controls,
        effective=found.effective,
        effective_of_anchor=found.effective_of_controls,
        far=found.far,
        num_vendi=num,
        vendi=own,
        vendi_of_anchor=others,
        num_shared=len(filled) - len(new),
    )
