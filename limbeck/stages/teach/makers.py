"""A class a kind of pair: what it is written on, what is asked for, and what becomes chosen and rejected.

Each is a `Maker`: candidates come one after the other in an order that the seed decides; asking for more moves none.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

from limbeck.likeness import same_answer
from limbeck.recipe.pairs import MadeKind, Teach
from limbeck.records import Divergence, Pair, PromptRow, WeakPrompt
from limbeck.seeds import rng
from limbeck.stages.teach.desk import Desk, Heard, Question
from limbeck.stages.teach.new_prompts import NewPrompts
from limbeck.stages.teach.tally import Tally
from limbeck.tasks.arithmetic import slips
from limbeck.teachers import NewPromptRow, Request, RequestKind
from limbeck.teachers.drawing import ExamplePool, new_prompt_rows, rolling_rows, uniform_order
from limbeck.teachers.parsing import ParsedPair, parse_pair, parse_plain, parse_revised
from limbeck.teachers.rendering import (
    few_shot_request,
    new_prompt_request,
    plain_request,
    revise_request,
    rolling_prompt_request,
    rolling_request,
    template_id,
    zero_shot_request,
)
from limbeck.teachers.template_files import Templates

ORDER = "teach"  # what the order of mined prompts is drawn for: one for all kinds, so that they share prompts


class OnPrompts:
    """`random` and `zero_shot`: a pair on a prompt as it is, without examples."""

    def __init__(self, kind: MadeKind, desk: Desk, rows: Sequence[WeakPrompt], seed: int, templates: Templates) -> None:
        self._kind, self._desk, self._templates = kind, desk, templates
        self._rows = iter(uniform_order(rows, seed, ORDER))

    def make(self, number: int) -> list[Pair | None]:
        """One request a pair."""
        rows = list(islice(self._rows, number))
        questions = [Question(zero_shot_request(row, self._templates), parse_pair) for row in rows]
        heard = self._desk.ask(self._kind, questions, "pairs")
        mined_from = [None if self._kind == "random" else row.id for row in rows]
        return [self._pair(row, reply, mined) for row, reply, mined in zip(rows, heard, mined_from, strict=True)]

    def _pair(self, row: PromptRow, reply: Heard[ParsedPair] | None, mined_from: str | None) -> Pair | None:
        return _written(self._kind, row, reply, self._desk, template_id("zero_shot", self._templates),
                        mined_from=mined_from)  # fmt: skip


class OnNewPrompts:
    """`few_shot` and `rolling`: a new prompt first, then a pair on it."""

    def __init__(
        self,
        kind: MadeKind,
        desk: Desk,
        rows: Iterator[NewPromptRow],
        prompts: NewPrompts,
        *,
        prompt_request: Callable[[NewPromptRow, int], Request],
        pair_request: Callable[[NewPromptRow, PromptRow], Request],
        templates: Templates,
    ) -> None:
        self._kind, self._desk, self._prompts, self._templates = kind, desk, prompts, templates
        self._prompt_request, self._pair_request = prompt_request, pair_request
        self._rows, self._places = rows, count()

    def make(self, number: int) -> list[Pair | None]:
        """Two requests a pair; the second only for a prompt that is new."""
        asked = list(islice(self._rows, number))
        return [pair for some in self._desk.in_turns(asked) for pair in self._make(some)]

    def _make(self, asked: Sequence[NewPromptRow]) -> list[Pair | None]:
        new = self._prompts.write([self._prompt_request(row, next(self._places)) for row in asked])
        questions = [
            None if prompt is None else Question(self._pair_request(row, prompt), parse_pair)
            for row, prompt in zip(asked, new, strict=True)
        ]
        heard = iter(self._desk.ask(self._kind, [question for question in questions if question], "pairs"))
        return [
            None if prompt is None else self._pair(row, prompt, next(heard))
            for row, prompt in zip(asked, new, strict=True)
        ]

    def _pair(self, asked: NewPromptRow, prompt: PromptRow, reply: Heard[ParsedPair] | None) -> Pair | None:
        kind: RequestKind = "rolling" if asked.context else "few_shot"
        return _written(
            self._kind,
            prompt,
            reply,
            self._desk,
            template_id(kind, self._templates),
            mined_from=", ".join(weak.id for weak in asked.weak) or None,
            placed_after=asked.context[-1].id if asked.context else None,
        )


def few_shot(
    desk: Desk,
    weak: Sequence[WeakPrompt],
    fresh: Sequence[PromptRow],
    pool: Sequence[Pair],
    *,
    seed: int,
    settings: Teach,
    templates: Templates,
) -> OnNewPrompts:
    """New prompts like the mined ones; pairs shown `example_pairs_shown` diverse pairs of `pool`."""
    examples = ExamplePool(pool, seed)
    return OnNewPrompts(
        "few_shot",
        desk,
        new_prompt_rows(weak, fresh, shown=settings.weak_prompts_shown, seed=seed,
                        invents_prompts=desk.teacher.invents_prompts),
        NewPrompts("few_shot", desk, fresh, weak, near_shown=True),
        prompt_request=lambda row, place: new_prompt_request(row, place, templates),
        pair_request=lambda _, prompt: few_shot_request(
            prompt, examples.draw(prompt, settings.example_pairs_shown), templates
        ),
        templates=templates,
    )  # fmt: skip


def rolling(
    desk: Desk,
    stream: Sequence[Pair],
    fresh: Sequence[PromptRow],
    *,
    seed: int,
    settings: Teach,
    templates: Templates,
) -> OnNewPrompts:
    """Prompts and pairs written with the `context_pairs_shown` pairs of the stream just before their place.

    A new prompt may be like those it was written from: that is its purpose. It may be none of them.
    """
    return OnNewPrompts(
        "rolling",
        desk,
        rolling_rows(stream, fresh, shown=settings.context_pairs_shown, seed=seed,
                     invents_prompts=desk.teacher.invents_prompts),
        NewPrompts("rolling", desk, fresh, stream, near_shown=False),
        prompt_request=lambda row, _: rolling_prompt_request(row, templates),
        pair_request=lambda row, prompt: rolling_request(prompt, row.context, templates),
        templates=templates,
    )  # fmt: skip


class Revised:
    """`revise`: the teacher's minimal correction of the student's own failing reply, against that reply."""

    def __init__(self, desk: Desk, weak: Sequence[WeakPrompt], seed: int, templates: Templates) -> None:
        self._desk, self._templates = desk, templates
        self._failures = _failures(uniform_order(weak, seed, ORDER), seed, desk.tally)

    def make(self, number: int) -> list[Pair | None]:
        """One request a pair."""
        failed = list(islice(self._failures, number))
        heard = self._desk.ask("revise", [self._question(*one) for one in failed], "corrections")
        return [
            reply and _pair("revise", row, reply.value, failure, teacher=self._desk.teacher.name, mined_from=row.id,
                            template=template_id("revise", self._templates), request_key=reply.key)
            for (row, failure), reply in zip(failed, heard, strict=True)
        ]  # fmt: skip

    def _question(self, row: WeakPrompt, failure: str) -> Question[str]:
        return Question(revise_request(row, failure, self._templates), lambda text: parse_revised(text, failure))


class OnPolicy:
    """The student's own failing reply, against a right reply of its own (`own`), the reference solution (`reference`),
    or the first where there is one, else the second (`on_policy`). Nobody is asked.

    Which right and which failing reply, the seed decides: a failure of middling badness, not the worst (best against
    worst degrades: Xiao et al. 2025, "Finding the Sweet Spot: Preference Data Construction for Scaling Preference
    Optimization"). A right answer that a false equation led to is luck, and no right reply.
    """

    def __init__(self, kind: MadeKind, weak: Sequence[WeakPrompt], seed: int, tally: Tally) -> None:
        self._kind, self._tally, self._seed = kind, tally, seed
        self._rows = iter(uniform_order(weak, seed, ORDER))

    def make(self, number: int) -> list[Pair | None]:
        """Take what is there; a prompt without both sides is no candidate, but counted."""
        return list(islice(self._pairs(), number))

    def _pairs(self) -> Iterator[Pair]:
        for row in self._rows:
            own, chosen = self._chosen(row)
            if not row.failures:
                self._tally.drop(self._kind, "no failing reply")
            elif not chosen:
                self._tally.drop(self._kind, self._missing(row))
            elif not (failures := [text for text in row.failures if not same_answer(chosen, text)]):
                self._tally.drop(self._kind, "equal answers")
            else:
                failure = rng(self._seed, "on_policy", "rejected", row.id).choice(failures)
                yield _pair(self._kind, row, chosen, failure, teacher="student" if own else "reference",
                            mined_from=row.id)  # fmt: skip

    def _chosen(self, row: WeakPrompt) -> tuple[bool, str | None]:
        """Whether it is the student's own, and the text."""
        if self._kind != "reference" and (right := [text for text in row.successes if not slips(text)]):
            return True, rng(self._seed, "on_policy", "chosen", row.id).choice(right)
        if self._kind == "own":
            return True, None
        return False, row.problem.solution if row.problem else row.reference_response

    def _missing(self, row: WeakPrompt) -> str:
        if self._kind != "own":
            return "no reference response"
        return "right only by a false equation" if row.successes else "no right reply of the student's own"


class Diverging:
    """`divergence`: a failing reply of the student's, and a right one that begins like it. Nobody is asked."""

    def __init__(self, weak: Sequence[WeakPrompt], found: Sequence[Divergence], seed: int, tally: Tally) -> None:
        self._tally = tally
        self._found = {one.prompt_id: one for one in found}
        self._rows = iter(uniform_order(weak, seed, ORDER))

    def make(self, number: int) -> list[Pair | None]:
        """Take what is there; a prompt without such a reply is no candidate, but counted."""
        return list(islice(self._pairs(), number))

    def _pairs(self) -> Iterator[Pair]:
        for row in self._rows:
            one = self._found.get(row.id)
            if one is None:
                self._tally.drop("divergence", "no right continuation of a failing reply")
            else:
                yield _pair("divergence", row, one.correction, one.failure, teacher="student", mined_from=row.id)


class Contrasted:
    """`contrast`: the teacher's plain answer to a mined prompt, against a weaker model's."""

    def __init__(self, strong: Desk, weaker: Desk, weak: Sequence[WeakPrompt], seed: int) -> None:
        self._strong, self._weaker = strong, weaker
        self._rows = iter(uniform_order(weak, seed, ORDER))

    def make(self, number: int) -> list[Pair | None]:
        """Two requests a pair; the weaker model is asked only where the teacher answered."""
        rows = list(islice(self._rows, number))
        return [pair for some in self._strong.in_turns(rows) for pair in self._make(some)]

    def _make(self, rows: Sequence[WeakPrompt]) -> list[Pair | None]:
        good = self._strong.ask("contrast", [Question(plain_request(row), parse_plain) for row in rows], "answers")
        answered = [row for row, reply in zip(rows, good, strict=True) if reply]
        worse = iter(
            self._weaker.ask(
                "contrast", [Question(plain_request(row), parse_plain) for row in answered], "weak answers"
            )
        )
        return [reply and self._pair(row, reply, next(worse)) for row, reply in zip(rows, good, strict=True)]

    def _pair(self, row: WeakPrompt, chosen: Heard[str], rejected: Heard[str] | None) -> Pair | None:
        if rejected is None:
            return None
        if same_answer(chosen.value, rejected.value):
            self._strong.tally.drop("contrast", "equal answers")
            return None
        return _pair(
            "contrast",
            row,
            chosen.value,
            rejected.value,
            teacher=f"{self._strong.teacher.name}, {self._weaker.teacher.name}",
            request_key=f"{chosen.key}, {rejected.key}",
            mined_from=row.id,
        )


class _Failing(NamedTuple):
    row: WeakPrompt
    failure: str


def _failures(rows: Sequence[WeakPrompt], seed: int, tally: Tally) -> Iterator[_Failing]:
    """Each row with one of its failing replies, drawn by the seed; rows without one are passed over and counted."""
    for row in rows:
        if row.failures:
            yield _Failing(row, rng(seed, "revise", "rejected", row.id).choice(row.failures))
        else:
            tally.drop("revise", "no failing reply")


def _written(
    kind: MadeKind, row: PromptRow, reply: Heard[ParsedPair] | None, desk: Desk, template: str | None, **details: Any
) -> Pair | None:
    if reply is None:
        return None
    return _pair(kind, row, reply.value.preferred, reply.value.dispreferred, teacher=desk.teacher.name,
                 template=template, request_key=reply.key, **details)  # fmt: skip


def _pair(kind: MadeKind, row: PromptRow, chosen: str, rejected: str, **details: Any) -> Pair:
    return Pair(
        id=f"{kind}/{row.id}",
        prompt=row.prompt,
        source=kind,
        problem=row.problem,
        reference_response=row.reference_response,
        chosen=chosen,
        rejected=rejected,
        **details,
    )
