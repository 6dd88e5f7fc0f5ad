"""Weak prompts to pairs: ask the teacher, keep every raw reply, parse strictly, count what goes wrong.

Reads: weak, random (WeakPrompt), fresh (PromptRow), human (Pair); files that are not given count as empty.
Writes: KIND.jsonl (Pair) for every kind the arms ask for except human; replies.sqlite, which outlives re-runs.
Start reading at: `teach_pairs`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from limbeck.api.answers import WORTH_ASKING_AGAIN, Failed
from limbeck.api.reply_store import FILE_NAME, ReplyStore
from limbeck.console import meter
from limbeck.errors import InputError, TeacherError
from limbeck.likeness import normalised, same_answer
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe_pairs import PairKind
from limbeck.records import Pair, PromptRow, WeakPrompt, user_prompt
from limbeck.store import AnyRecord, digest_json, read_records, write_records
from limbeck.teachers import NewPromptRow, Replied, Request, Teacher, ask, teacher_for
from limbeck.teachers.drawing import ExamplePool, draw_new_prompt_rows, uniform_order
from limbeck.teachers.parsing import ParseFailure, parse_pair, parse_prompt
from limbeck.teachers.rendering import few_shot_request, new_prompt_request, template_id, zero_shot_request

ORDER: tuple[PairKind, ...] = ("random", "zero_shot", "few_shot", "on_policy")  # few_shot may show pairs made before
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Tables:
    """The stage's inputs, read."""

    weak: list[WeakPrompt]
    random: list[WeakPrompt]
    fresh: list[PromptRow]
    human: list[Pair]


class _NewPrompt(NamedTuple):
    row: PromptRow
    mined_from: str


class _Tokens(NamedTuple):
    tokens_in: int
    tokens_out: int


@dataclass(slots=True)
class _Tally:
    drops: Counter[str] = field(default_factory=Counter)
    spent: dict[str, _Tokens] = field(default_factory=dict)  # by key: a reply that serves two kinds counts once
    sent: Counter[str] = field(default_factory=Counter)  # by key
    unanswered: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    requests: int = 0

    def drop(self, kind: str, reason: str) -> None:
        self.drops[f"{kind}: {reason}"] += 1

    def fail(self, kind: str, failure: Failed) -> None:
        self.drop(kind, failure.reason)
        if failure.reason in WORTH_ASKING_AGAIN:
            self.unanswered[kind] += 1
        if failure.detail:
            self.details.setdefault(f"{kind}: {failure.reason}", failure.detail)

    def tokens(self) -> dict[str, int]:
        """Tokens of replies sent for in this run, and of those that the store had from an earlier one."""
        total: Counter[str] = Counter()
        for key, (tokens_in, tokens_out) in self.spent.items():
            name = "teacher" if key in self.sent else "from_store"
            total.update({f"{name}_in": tokens_in, f"{name}_out": tokens_out})
        return {name: count for name, count in sorted(total.items()) if count}

    def example(self, kind: str, reasons: Set[str]) -> str:
        """One of the server's own sentences for such a failure, in brackets."""
        said = [self.details[f"{kind}: {reason}"] for reason in sorted(reasons) if f"{kind}: {reason}" in self.details]
        return f" ({said[0]})" if said else ""


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Have the recipe's teacher write the pairs the arms need, and the spares.

    Raises:
        TeacherError: the teacher gives no service, or left too few replies for want of an answer; run again to resume.
        InputError: an input file is not what it should be.
    """
    return teach_pairs(recipe, teacher_for(recipe), inputs, out)


def teach_pairs(recipe: Recipe, teacher: Teacher, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Do what `run` does, with any teacher."""
    tables = Tables(
        weak=_read(inputs, "weak", WeakPrompt),
        random=_read(inputs, "random", WeakPrompt),
        fresh=_read(inputs, "fresh", PromptRow),
        human=_read(inputs, "human", Pair),
    )
    needed = {kind: recipe.pair_kinds()[kind] for kind in ORDER if kind in recipe.pair_kinds()}
    wanted = {kind: recipe.pairs_to_ask(kind) for kind in needed}
    made: dict[PairKind, list[Pair]] = {}
    with ReplyStore(out / FILE_NAME) as store:
        desk = _Desk(recipe, teacher, store, tables)
        for kind, count in wanted.items():
            made[kind] = desk.make(kind, count, made)
            _check_service(kind, len(made[kind]), needed[kind] + recipe.mix.heldout_pairs, desk.tally)
            write_records(out / f"{kind}.jsonl", made[kind])
    return _result(teacher, tables, wanted, made, desk.tally)


class _Desk:
    """Makes the pairs of each kind, with the teacher and the store at hand."""

    def __init__(self, recipe: Recipe, teacher: Teacher, store: ReplyStore, tables: Tables) -> None:
        self.tally = _Tally()
        self._recipe, self._teacher, self._store, self._tables = recipe, teacher, store, tables

    def make(self, kind: PairKind, count: int, made: Mapping[PairKind, Sequence[Pair]]) -> list[Pair]:
        """Make up to `count` pairs of `kind`; `made` holds the kinds before it."""
        if kind == "on_policy":
            return self._on_policy(count)
        if kind == "few_shot":
            return self._few_shot(count, self._tables.human or made.get("random") or made.get("zero_shot") or [])
        prompts = self._tables.random if kind == "random" else self._tables.weak
        chosen = uniform_order(prompts, self._recipe.seed, "teach")[:count]
        mined_from = [None if kind == "random" else row.id for row in chosen]
        return self._pairs(kind, [zero_shot_request(row) for row in chosen], mined_from)

    def _few_shot(self, count: int, pool: Sequence[Pair]) -> list[Pair]:
        seed, settings = self._recipe.seed, self._recipe.teach
        rows = draw_new_prompt_rows(
            self._tables.weak,
            self._tables.fresh,
            count=count,
            shown=settings.weak_prompts_shown,
            seed=seed,
            invents_prompts=self._teacher.invents_prompts,
        )
        prompts = self._new_prompts(rows)
        examples = ExamplePool(pool, seed)
        requests = [few_shot_request(new.row, examples.draw(new.row, settings.example_pairs_shown)) for new in prompts]
        return self._pairs("few_shot", requests, [new.mined_from for new in prompts])

    def _new_prompts(self, rows: Sequence[NewPromptRow]) -> list[_NewPrompt]:
        requests = [new_prompt_request(row, index) for index, row in enumerate(rows)]
        replies = self._ask("few_shot", requests, "new prompts")
        questions = {normalised(row.problem.question): row for row in self._tables.fresh if row.problem}
        seen = {normalised(row.prompt[-1].content) for row in self._tables.weak}
        prompts: list[_NewPrompt] = []
        for row, reply in zip(rows, replies, strict=True):
            text = self._parsed("few_shot", reply, parse_prompt)
            if text is None:
                continue
            if normalised(text) in seen:
                self.tally.drop("few_shot", "new prompt: said before")
                continue
            seen.add(normalised(text))
            known = questions.get(normalised(text))
            prompts.append(_NewPrompt(_prompt_row(text, known), ", ".join(weak.id for weak in row.weak)))
        return prompts

    def _pairs(self, kind: PairKind, requests: Sequence[Request], mined_from: Sequence[str | None]) -> list[Pair]:
        pairs = []
        for request, reply, mined in zip(requests, self._ask(kind, requests, "pairs"), mined_from, strict=True):
            parsed = self._parsed(kind, reply, parse_pair)
            if parsed is None or isinstance(request.row, NewPromptRow):
                continue
            pairs.append(
                _pair(
                    kind,
                    request.row,
                    chosen=parsed.preferred,
                    rejected=parsed.dispreferred,
                    teacher=self._teacher.name,
                    template=template_id(request.kind),
                    request_key=reply.key,
                    mined_from=mined,
                )
            )
        return pairs

    def _on_policy(self, count: int) -> list[Pair]:
        pairs: list[Pair] = []
        for row in uniform_order(self._tables.weak, self._recipe.seed, "teach"):
            if len(pairs) == count:
                break
            reference = row.problem.solution if row.problem else row.reference_response
            if not (reference and row.failures):
                self.tally.drop("on_policy", "no failing reply" if reference else "no reference response")
            elif same_answer(reference, row.failures[0]):
                self.tally.drop("on_policy", "equal answers")
            else:
                rejected = row.failures[0]
                pairs.append(
                    _pair("on_policy", row, chosen=reference, rejected=rejected, teacher="reference", mined_from=row.id)
                )
        return pairs

    def _ask(self, kind: PairKind, requests: Sequence[Request], what: str) -> list[Replied]:
        self.tally.requests += len(requests)
        with meter(f"{kind}: {what}", len(requests), what) as progress:

            def count(key: str, from_store: bool) -> None:
                if from_store:
                    progress.skip(1)
                else:
                    self.tally.sent[key] += 1
                    progress.advance()

            return ask(self._teacher, requests, self._store, count, lambda note: progress.advance(0, note))

    def _parsed(self, kind: str, reply: Replied, parse: Callable[[str], Parsed | ParseFailure]) -> Parsed | None:
        answer = reply.answer
        self.tally.spent[reply.key] = _Tokens(answer.tokens_in, answer.tokens_out)
        if isinstance(answer, Failed):
            self.tally.fail(kind, answer)
            return None
        parsed = parse(answer.text)
        if isinstance(parsed, ParseFailure):
            self.tally.drop(kind, f"parse: {parsed.reason}")
            return None
        return parsed


def _pair(kind: PairKind, row: PromptRow, **details: Any) -> Pair:
    return Pair(
        id=f"{kind}/{row.id}",
        prompt=row.prompt,
        source=kind,
        problem=row.problem,
        reference_response=row.reference_response,
        **details,
    )


def _prompt_row(text: str, known: PromptRow | None) -> PromptRow:
    if known is not None:
        return known
    return PromptRow(id=f"new-{digest_json(normalised(text))[:16]}", prompt=user_prompt(text), source="few_shot")


def _read(inputs: Mapping[str, Path], name: str, kind: type[AnyRecord]) -> list[AnyRecord]:
    return read_records(inputs[name], kind) if name in inputs else []


def _check_service(kind: PairKind, made: int, needed: int, tally: _Tally) -> None:
    """Stop where pairs are missing because nobody answered: those can still be had. Bad replies are no such reason."""
    if made < needed and tally.unanswered[kind]:
        raise TeacherError(
            f"{tally.unanswered[kind]} requests for {kind} pairs got no reply after all retries"
            f"{tally.example(kind, WORTH_ASKING_AGAIN)}, so that only {made} of {needed} pairs could be made; what was "
            "answered is kept: run the same command again"
        )
    if made == 0 and tally.drops[f"{kind}: bad_request"]:
        raise TeacherError(f"the server refused the requests for {kind} pairs{tally.example(kind, {'bad_request'})}")
    if made == 0:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(tally.drops.items()) if kind in reason)
        raise InputError(f"not one {kind} pair could be made ({reasons or 'there is nothing to ask about'})")


def _result(
    teacher: Teacher,
    tables: Tables,
    wanted: Mapping[PairKind, int],
    made: Mapping[PairKind, Sequence[Pair]],
    tally: _Tally,
) -> StageResult:
    sent = tally.sent.total()
    facts: dict[str, Any] = {
        "teacher": teacher.name,
        **teacher.facts(),
        "wanted": dict(wanted),
        "shortfall": {kind: wanted[kind] - len(pairs) for kind, pairs in made.items() if len(pairs) < wanted[kind]},
        "replies": {"used": tally.requests, "sent": sent, "from_store": tally.requests - sent},
    }
    if tally.details:
        facts["failure_examples"] = dict(sorted(tally.details.items()))
    return StageResult(
        counts_in={name: len(getattr(tables, name)) for name in ("weak", "random", "fresh", "human")},
        counts_out={kind: len(pairs) for kind, pairs in made.items()},
        drops=dict(sorted(tally.drops.items())),
        tokens=tally.tokens(),
        facts=facts,
    )
