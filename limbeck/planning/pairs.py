"""How long preference pairs of a kind will be, and the replies they are made of. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from limbeck.planning.lengths import Lengths
from limbeck.planning.ranges import Range, exact, mean_of
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import PairKind

_NEW_PROMPTS = Range(0.6, 1.0, 1.6)  # how long an invented prompt is, of those it was made from
_TEACHERS = Range(0.6, 1.0, 1.8)  # how long a teacher's answer is, of the data's own
_STUDENTS = Range(0.5, 1.0, 2.0)  # how long a student's reply is, of the responses that it learnt from


@dataclass(frozen=True)
class PairLengths:
    """Mean tokens of a kind's pairs; ends of turns are not computed and not counted."""

    prompt: Range
    chosen: Range
    rejected: Range

    @property
    def computed(self) -> Range:
        """Tokens that a step computes of a pair: the prompt once, both responses."""
        return self.prompt + self.chosen + self.rejected


@dataclass(frozen=True)
class Texts:
    """How long texts will be that nobody has written yet, from those of the tables (`measured`, by table)."""

    recipe: Recipe
    measured: Mapping[str, Lengths]

    def student(self, max_new_tokens: int, table: str = "pool") -> Range:
        """A reply of the student to a prompt of `table`: about as long as what it learns from."""
        found = self.measured[table if self.measured[table].response.likely else "demonstrations"]
        return _within(found.response, max_new_tokens)

    def teacher(self, kind: PairKind) -> Range:
        """One answer of the teacher. Worked solutions are those of the problems themselves."""
        if self.recipe.teach.teacher == "worked":
            return self.measured["fresh" if kind in {"few_shot", "rolling"} else "pool"].response
        models = ("human", "pool", "demonstrations")
        found = next((self.measured[name] for name in models if self.measured[name].seen), self.measured["human"])
        return (found.response * _TEACHERS).capped(self.recipe.teach.max_tokens / 2)

    def prompt(self, kind: PairKind) -> Range:
        """The prompt of a kind's pairs."""
        if kind == "human":
            return self.measured["human"].prompt
        if kind in {"few_shot", "rolling"}:
            worked = self.recipe.teach.teacher == "worked"
            return self.measured["fresh"].prompt if worked else self.measured["pool"].prompt * _NEW_PROMPTS
        return self.measured["pool"].prompt

    def pair(self, kind: PairKind) -> PairLengths:
        """Both sides of a kind's pairs."""
        prompt, student = self.prompt(kind), self.student(self.recipe.mine.max_new_tokens)
        solution = self.measured["pool"].response
        match kind:
            case "human":
                return PairLengths(prompt, self.measured["human"].response, self.measured["human"].rejected)
            case "own" | "divergence" | "revise":
                return PairLengths(prompt, student, student)
            case "on_policy" | "reference":
                return PairLengths(prompt, solution, student)
            case _:
                return PairLengths(prompt, self.teacher(kind), self.teacher(kind))

    def computed(self, counts: Mapping[PairKind, int]) -> Range:
        """Mean tokens that a step computes of a pair, over a mixture: a draw of so many, with two standard errors."""
        mean = mean_of((count, self.pair(kind).computed) for kind, count in counts.items())
        tables = ("human" if kind == "human" else "pool" for kind in counts)
        variation = max((self.measured[table].variation for table in tables), default=0.0)
        error = min(2 * variation / math.sqrt(max(sum(counts.values()), 1)), 0.9)
        return mean * Range(1 - error, 1, 1 + error)


def _within(response: Range, most: int) -> Range:
    reply = response * _STUDENTS
    return Range(min(reply.low, most), min(reply.likely, most), float(most)) if most else exact(0)
