"""Have the judge `pairwise` compare one model's replies with the SFT model's, prompt by prompt, in both orders.

Of a conversation with follow-ups the first turn: what stands before a later one is another text for each model.

Reads: `test`, `transfer` (prompts), `replies` (of the model) and `baseline` (of the SFT model).
Writes: `preferences.jsonl` (Preference), in the order of the model's replies.
Start reading at: `run`, then `judges/pairwise.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.judges import Matchup, judge_store, make_pairwise
from limbeck.judges.pairwise import Counts
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import PromptRow, Reply
from limbeck.records.verdict import Preference
from limbeck.store import read_records, write_records
from limbeck.turns import conversation_of

ALONE = "unscored: no reply of the baseline"
LATER = "unscored: a later turn, which each model is asked in a conversation of its own"


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str) -> StageResult:
    """Compare the replies of `model` with the baseline's to the same prompt and of the same number.

    Raises:
        TeacherError: where the judge is out of reach for good.
        BudgetError: where `judges.pairwise.budget` is used up; what was said before is kept.
    """
    splits = [inputs[name] for name in ("test", "transfer") if name in inputs]
    rows = {row.id: row for path in splits for row in read_records(path, PromptRow)}
    baseline = {(reply.prompt_id, reply.sample_index): reply for reply in read_records(inputs["baseline"], Reply)}
    replies = [reply for reply in read_records(inputs["replies"], Reply) if conversation_of(reply.prompt_id) in rows]
    ours = [reply for reply in replies if reply.prompt_id in rows]
    matchups = [
        Matchup(rows[reply.prompt_id], reply, theirs)
        for reply in ours
        if (theirs := baseline.get((reply.prompt_id, reply.sample_index))) is not None
    ]
    judge = make_pairwise(recipe, judge_store("pairwise", out))
    preferences = list(judge.compare(matchups))
    write_records(out / "preferences.jsonl", preferences)
    drops = Counter(f"unscored: {each.unscored_reason}" for each in preferences if each.outcome is None)
    drops += Counter({ALONE: len(ours) - len(matchups), LATER: len(replies) - len(ours)})
    return StageResult(
        counts_in={"replies": len(replies)},
        counts_out={"preferences": len(preferences)},
        drops=dict(sorted(drops.items())),
        tokens={"judge_in": judge.counts.tokens_in, "judge_out": judge.counts.tokens_out},
        facts={"model": model, "judge": judge.model.name, **asked_facts(judge.counts), **position_facts(preferences)},
    )


def asked_facts(counts: Counts) -> dict[str, int]:
    """How often the judge was asked, and how often again because its reply did not parse."""
    return {"questions": counts.questions, "reasks": counts.reasks, "reasks_that_helped": counts.reasks_that_helped}


def position_facts(preferences: Sequence[Preference]) -> dict[str, float | int | None]:
    """How far the judge goes by the place: of those it was asked about in both orders and answered.

    `flip_rate`: share on which the two orders disagree. `first_position_rate`: share of its decided verdicts (both
    orders, ties left out) that are for what is shown first; one half for a judge that does not look at the place.
    """
    both = [(p.candidate_first, p.baseline_first) for p in preferences if p.candidate_first and p.baseline_first]
    first = sum((ours == "candidate") + (theirs == "baseline") for ours, theirs in both)
    decided = sum((ours != "tie") + (theirs != "tie") for ours, theirs in both)
    flips = sum(ours != theirs for ours, theirs in both)
    return {
        "judged_in_both_orders": len(both),
        "equal_replies": sum(p.outcome == "tie" and p.candidate_first is None for p in preferences),
        "flips": flips,
        "flip_rate": round(flips / len(both), 4) if both else None,
        "first_position_rate": round(first / decided, 4) if decided else None,
    }
