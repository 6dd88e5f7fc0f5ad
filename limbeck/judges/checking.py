"""A judge put to pairs with known answers: how often it prefers the chosen one. What it cannot score is counted."""

from collections import Counter
from collections.abc import Sequence

from limbeck import seeds
from limbeck.errors import InputError, in_words
from limbeck.judges.card import judge_card
from limbeck.judges.local import LocalJudge, Scored
from limbeck.records import Pair
from limbeck.records.verdict import JudgeCard


def measured_card(judge: LocalJudge, model: str, pairs: Sequence[Pair], seed: int, confidence: float) -> JudgeCard:
    """Score both responses of every pair; pairs of which one cannot be scored are left out, and the card says so.

    Raises:
        InputError: where none can be scored.
    """
    found = judge.scores([(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)])
    measured: list[Pair] = []
    margins: list[float] = []
    left_out: Counter[str] = Counter()
    for pair, chosen, rejected in zip(pairs, found[::2], found[1::2], strict=True):
        if chosen.score is None or rejected.score is None:
            left_out[_reason(chosen, rejected)] += 1
            continue
        measured.append(pair)
        margins.append(chosen.score - rejected.score)
    reasons = in_words(left_out)
    if not measured:
        raise InputError(f"none of the {len(pairs)} pairs can be scored ({reasons})")
    return judge_card(
        judge.name,
        f"the reward model {model}",
        measured,
        margins,
        seed=seeds.derive(seed, "judge card"),
        confidence=confidence,
        more_limits=[f"{left_out.total()} pairs could not be scored: {reasons}"] if left_out else [],
    )


def _reason(chosen: Scored, rejected: Scored) -> str:
    return (chosen.reason if chosen.score is None else rejected.reason) or "no score"
