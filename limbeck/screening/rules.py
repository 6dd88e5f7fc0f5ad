"""The rules by which a pair is kept or dropped, each with its reason; the first one wins. Pure.

Start reading at: `reason_to_drop`.
"""

import re
from collections.abc import Callable, Iterable

from limbeck import tasks
from limbeck.likeness import EvaluationPrompts, PromptIdentity, normalised, prompt_identity, same_answer
from limbeck.recipe_pairs import Screen
from limbeck.records import Pair, Problem

ECHO_WORDS = 5  # a reply to a shorter prompt may well begin with its words ("Hello!" to "Hello!")
_CANNOT = r"(?:can['’]?t|can not|cannot|unable|not able|won['’]t|will not|must decline)\b"
_I_CANNOT = rf"\b(?:i|we)(?:['’]m|['’]re| am| are)? {_CANNOT}"  # not: sorry to hear that *you* cannot
_SORRY = r"(?:(?:i['’]?m|i am)\s+)?(?:\w+\s+)?(?:sorry|my apologies|i apologi[sz]e)\b"
_ASSISTANT = r"as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
_JOINT = rf"(?:\W+(?:but|that|to say|however|unfortunately|{_ASSISTANT}(?: language model\b)?))*\W+"
# What is not done: the task itself. Who "cannot help but notice" or "cannot continue until" goes on.
_THE_TASK = (
    r"(?: to)? (?:help|assist|provide|comply|fulfil|answer|do that|create|generate|support|engage|discuss"
    r"|continue(?= with\b| this\b| that\b|\W*$|[.,;!])(?![^.!?]*\buntil\b))(?! but\b)(?![^.!?]*\bbut here\b)"
)
_REFUSALS = re.compile(
    rf"{_SORRY}{_JOINT}{_I_CANNOT}(?![^.!?]*\bbut here\b)"
    rf"|{_SORRY}[^.!?]*{_I_CANNOT}{_THE_TASK}"
    rf"|{_ASSISTANT}[^.!?]*\b{_CANNOT}(?![^.!?]*\bbut\b)"
    rf"|{_ASSISTANT}[^.!?]*\b{_CANNOT}{_THE_TASK}"
    rf"|(?:unfortunately,? )?i(?:(?:['’]m| am)? {_CANNOT}| have to decline){_THE_TASK}",
    re.IGNORECASE,
)

Solves = Callable[[Problem, str], bool]


def solves(problem: Problem, text: str) -> bool:
    """Ask the task's own scorer."""
    return tasks.score(problem, text).solved


def screen_pairs(
    pairs: Iterable[Pair],
    evaluation: EvaluationPrompts,
    rules: Screen,
    solves: Solves,
    on_pair: Callable[[], None] = lambda: None,
) -> list[str | None]:
    """Return, for each pair of one kind, the reason to drop it or None. The first good pair of a prompt stays."""
    seen: set[PromptIdentity] = set()
    reasons: list[str | None] = []
    for pair in pairs:
        identity = prompt_identity(pair)
        reason = reason_to_drop(pair, evaluation, rules, solves)
        if reason is None and identity in seen:
            reason = "duplicate prompt"
        if reason is None:
            seen.add(identity)
        reasons.append(reason)
        on_pair()
    return reasons


def reason_to_drop(pair: Pair, evaluation: EvaluationPrompts, rules: Screen, solves: Solves) -> str | None:
    """Return the first reason against `pair`, cheapest first: its texts, the evaluation, then the scorer.

    Order: too short, equal answers, length ratio, refusal, prompt echo, overlap with evaluation, verifier. A duplicate
    prompt comes last (`screen_pairs`), so that a pair that is dropped anyway never displaces a good one.
    """
    return (
        _form_problem(pair, rules)
        or ("refusal (chosen)" if refuses(pair.chosen) else None)
        or _echo(pair)
        or evaluation.overlap(pair)
        or (disagreement(pair, solves) if rules.on_verifier_disagreement == "drop" else None)
    )


def _form_problem(pair: Pair, rules: Screen) -> str | None:
    lengths = [len(pair.chosen.strip()), len(pair.rejected.strip())]
    if min(lengths) < rules.min_response_characters:
        return "too short (chosen)" if lengths[0] < rules.min_response_characters else "too short (rejected)"
    if same_answer(pair.chosen, pair.rejected):
        return "equal answers"
    return "length ratio" if max(lengths) > rules.max_length_ratio * max(1, min(lengths)) else None


def refuses(text: str) -> bool:
    """True where a reply begins by declining. Only its beginning counts: an answer may speak of what cannot be."""
    return _REFUSALS.match(text.strip()) is not None


def _echo(pair: Pair) -> str | None:
    prompt = normalised(pair.prompt[-1].content)
    if len(prompt.split()) < ECHO_WORDS:
        return None
    if normalised(pair.chosen).startswith(prompt):
        return "prompt echo (chosen)"
    # What the student itself said wrong is what it has to unlearn, echoes too; a teacher has no excuse.
    if pair.source != "on_policy" and normalised(pair.rejected).startswith(prompt):
        return "prompt echo (rejected)"
    return None


def disagreement(pair: Pair, solves: Solves) -> str | None:
    """Say where the task's scorer contradicts the pair; None where it agrees or there is no task."""
    if pair.problem is None:
        return None
    if not solves(pair.problem, pair.chosen):
        return "verifier: the chosen is wrong"
    return "verifier: the rejected is right" if solves(pair.problem, pair.rejected) else None
