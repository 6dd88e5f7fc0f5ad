"""Worked solutions about letters and weekdays: counting letters, spelling backward, counting days.

Each solver reads a generator's metadata and writes on a slate; each `*_content` names the problem whatever its
wording. Nothing here knows a question's text or a score.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from limbeck.tasks.slate import DerailedError, Slate

Facts = Mapping[str, Any]
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def letters(facts: Facts, slate: Slate) -> str:
    """Spell each word, `t h a t: 2`, then add up."""
    target = facts["target_letter"]
    counts = []
    for word in slate.recall([word.lower() for word in facts["span"]]):
        right = word.count(target)
        count = slate.decide(right, partial(_beside, right))
        slate.write(f"{' '.join(word)}: {count}")
        counts.append(count)
    running = counts[0]
    for count in counts[1:]:
        running = slate.compute(running, "+", count)
    return str(running)


def _beside(count: int) -> list[int]:
    """One more, or one less where there is one."""
    return [count + 1, count - 1] if count else [1]


def letters_content(facts: Facts) -> str:
    return f"letters: {facts['target_letter']} in {' '.join(sorted(word.lower() for word in facts['span']))}"


def backward(facts: Facts, slate: Slate) -> str:
    """Spell the word, then spell it from the end."""
    spelled = slate.recall(facts["word"].lower())
    slate.write(" ".join(spelled))
    turned = slate.decide(spelled[::-1], lambda: _misspelled(spelled[::-1]))
    slate.write(" ".join(turned))
    return "".join(turned)


def _misspelled(word: Sequence[str]) -> list[list[str]]:
    """Two neighbours swapped, or one letter twice."""
    swapped = [[*word[:at], word[at + 1], word[at], *word[at + 2 :]] for at in range(len(word) - 1)]
    doubled = [[*word[: at + 1], word[at], *word[at + 1 :]] for at in range(len(word))]
    return swapped + doubled


def backward_content(facts: Facts) -> str:
    return f"backward: {facts['word'].lower()}"


def weekday(facts: Facts, slate: Slate) -> str:
    """Take away whole weeks (seventy days first, they are easy to see), then count the days that are left."""
    start = date.fromisoformat(facts["start_date"]).weekday()
    forward = slate.decide(facts["offset_days"] > 0, lambda: [facts["offset_days"] < 0])
    days = abs(facts["offset_days"])
    for weeks_of in (70, 7):
        if days >= weeks_of:
            days = slate.compute(days, "-", days // weeks_of * weeks_of)
    if not 0 <= days <= 9:
        raise DerailedError("a slip left no days to count")
    last = slate.decide(days, partial(_beside, days))
    step = 1 if forward else -1
    names = [WEEKDAYS[(start + step * day) % 7] for day in range(last + 1)]
    counted = ", ".join(f"{day} {name}" for day, name in enumerate(names))
    slate.write(f"{days} {'after' if forward else 'before'} {WEEKDAYS[start]}: {counted}")
    return names[-1]


def weekday_content(facts: Facts) -> str:
    # The date itself is wording: the question names its weekday.
    return f"weekday: {date.fromisoformat(facts['start_date']).weekday()} {facts['offset_days']:+d}"
