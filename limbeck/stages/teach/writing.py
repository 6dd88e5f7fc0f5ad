"""The stage itself: its files, the order of the kinds, and what the manifest says of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from limbeck.apart import of_the_judge, part
from limbeck.api.answers import MOST_UNANSWERED, WORTH_ASKING_AGAIN
from limbeck.api.reply_store import ReplyStore
from limbeck.console import say
from limbeck.errors import BudgetError, InputError, RecipeError, TeacherError, TooFewPairsError, in_words
from limbeck.likeness import prompt_identity
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import MadeKind
from limbeck.recipe.part import spending_limits
from limbeck.records import Divergence, Pair, PromptRow, WeakPrompt
from limbeck.screening import Screener
from limbeck.stages.teach.accepting import OUT_OF_BUDGET, OUT_OF_CANDIDATES, Collected, Maker, collect
from limbeck.stages.teach.desk import Desk
from limbeck.stages.teach.makers import Contrasted, Diverging, OnPolicy, OnPrompts, Revised, few_shot, rolling
from limbeck.stages.teach.spending import store_for, usd_spent, usd_spent_on
from limbeck.stages.teach.tally import Tally
from limbeck.store import AnyRecord, read_records, refuse_repeated, write_records
from limbeck.stream import stream_order, stream_seed
from limbeck.teachers import Teacher, check_kinds, contrast_teacher_for, teacher_for
from limbeck.teachers.template_files import Templates

EVALUATION = "evaluation_"
_SHOWING: tuple[MadeKind, ...] = ("few_shot", "rolling")
# What may show pairs comes last: which of them the judge keeps to itself depends on every kind on the same prompts.
ORDER: tuple[MadeKind, ...] = (*(kind for kind in get_args(MadeKind) if kind not in _SHOWING), *_SHOWING)
OWN_EXAMPLES = 16  # the first of them: where there are as many, asking for more leaves what was drawn, and paid for


@dataclass(frozen=True, slots=True)
class Tables:
    """The stage's inputs, read."""

    weak: list[WeakPrompt]
    random: list[WeakPrompt]
    fresh: list[PromptRow]
    human: list[Pair]
    divergences: list[Divergence]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Have the recipe's teacher write the pairs the arms need.

    Raises:
        RecipeError: the teacher cannot write a kind that an arm asks for.
        TeacherError: the teacher gives no service, or left too few replies for want of an answer; run again to resume.
        BudgetError: it ended before there were enough pairs and `mix.take_fewer` is not set, or an arm has none at all.
        InputError: an input file or a template is not what it should be, or of a kind no pair could be made.
    """
    check_kinds(recipe)
    result = teach_pairs(recipe, teacher_for(recipe), inputs, out, weaker=contrast_teacher_for(recipe))
    for kind in result.facts["exhausted"]:
        _say_fewer(kind, result.facts)
    return result


def teach_pairs(
    recipe: Recipe, teacher: Teacher, inputs: Mapping[str, Path], out: Path, weaker: Teacher | None = None
) -> StageResult:
    """Do what `run` does, with any teacher, and any weaker one for contrast pairs."""
    tables = Tables(
        weak=_read(inputs, "weak", WeakPrompt),
        random=_read(inputs, "random", WeakPrompt),
        fresh=_read(inputs, "fresh", PromptRow),
        human=_read(inputs, "human", Pair),
        divergences=_read(inputs, "divergences", Divergence),
    )
    for what, rows in (("weak", tables.weak), ("random", tables.random), ("fresh", tables.fresh)):
        refuse_repeated([row.id for row in rows], what)  # pairs are named by them, and paid for before mixing looks
    templates = Templates(inputs.get("templates"))
    templates.check()
    held_out = (row for name in inputs if name.startswith(EVALUATION) for row in _read(inputs, name, PromptRow))
    screener = Screener(recipe.screen, held_out, templates.texts())
    tally = Tally()
    with ReplyStore(store_for(out)) as store:
        desk = Desk(teacher, "teacher", store, tally, recipe.teach.reasks)
        second = None if weaker is None else Desk(weaker, "contrast_with", store, tally, recipe.teach.reasks)
        office = _Office(recipe, tables, templates, screener, desk, second)
        for kind in ORDER:
            if kind in recipe.pair_kinds():
                write_records(out / f"{kind}.jsonl", office.make(kind).pairs)
        _check_arms(recipe, office.made, tally)
        budgets = [one.budget for one in (teacher, weaker) if one is not None]
        usd, own_usd = usd_spent(store, *budgets), usd_spent_on(tally.keys(), store, *budgets)
    result = _result(recipe, teacher, weaker, tables, office.made, tally)
    facts = result.facts if own_usd is None else result.facts | {"replies_usd": own_usd}
    money = usd if recipe.rounds.number == 1 else own_usd  # the store of a further round holds all rounds' replies
    return result.model_copy(update={"money_usd": money, "facts": facts})


class _Office:
    """Makes the kinds, one after the other; later ones may show pairs of earlier ones."""

    def __init__(
        self,
        recipe: Recipe,
        tables: Tables,
        templates: Templates,
        screener: Screener,
        desk: Desk,
        weaker: Desk | None,
    ) -> None:
        self.made: dict[MadeKind, Collected] = {}
        self._recipe, self._tables, self._templates, self._screener = recipe, tables, templates, screener
        self._desk, self._weaker = desk, weaker

    def make(self, kind: MadeKind) -> Collected:
        """Make the pairs of a kind, up to what is to be accepted.

        Raises:
            TeacherError, BudgetError, InputError: as `run` says.
        """
        accept, tally = self._recipe.accept(kind), self._desk.tally

        def see(so_far: Collected) -> None:
            _check_outage(kind, so_far, accept, tally)
            if kind in tally.used_up and len(so_far.accepted) < accept:
                so_far.exhausted = OUT_OF_BUDGET

        if kind == "rolling" and self._budget_left_no_stream():
            tally.used_up[kind], found = tally.used_up["random"], Collected(exhausted=OUT_OF_BUDGET)
        else:
            found = collect(self._maker(kind), accept, self._recipe.max_candidates(kind), self._screener.start(), see)
        if found.exhausted == OUT_OF_BUDGET:
            self._take_what_is_paid_for(kind, found)
        else:
            _check_yield(kind, found, accept, tally)
        self.made[kind] = found
        return found

    def _take_what_is_paid_for(self, kind: MadeKind, found: Collected) -> None:
        """Go on with it, and say so, where fewer pairs will do; else stop, and say how many they are."""
        there, accept, end = len(found.accepted), self._recipe.accept(kind), self._desk.tally.used_up[kind]
        if self._recipe.mix.take_fewer:  # whether an arm can do without any is known when all kinds are made
            say(f"  {there} of the {accept} {kind} pairs asked for, and no more: {end}")
            return
        others = _counted({**self.made, kind: found})
        if not others:
            raise BudgetError(f"{end}; no usable {kind} pair is paid for yet")
        there_is = (
            f"the {there} usable {kind} pairs, of {accept} asked for," if there else f"no {kind} pair but {others}"
        )
        raise BudgetError(f"{end}, or take {there_is} that are paid for already: mix.take_fewer = true in the recipe, "
                          "or --set mix.take_fewer=true")  # fmt: skip

    def _maker(self, kind: MadeKind) -> Maker:
        seed, settings, tables = self._recipe.seed, self._recipe.teach, self._tables
        match kind:
            case "random" | "zero_shot":
                rows = tables.random if kind == "random" else tables.weak
                return OnPrompts(kind, self._desk, rows, seed, self._templates)
            case "few_shot":
                own = self._accepted("random") or self._accepted("zero_shot")
                shown = {pair.id for pair in self._training(own)}  # those held out are shown to nobody
                pool = self._stream or [pair for pair in own if pair.id in shown][:OWN_EXAMPLES]
                if not pool:
                    say("  few-shot: written without examples, for there is no human, random or zero-shot pair to show")
                return few_shot(self._desk, tables.weak, tables.fresh, pool, seed=seed, settings=settings,
                                templates=self._templates)  # fmt: skip
            case "rolling":
                _check_stream(len(self._before_rolling), settings.context_pairs_shown)
                return rolling(self._desk, self._before_rolling, tables.fresh, seed=seed, settings=settings,
                               templates=self._templates)  # fmt: skip
            case "revise":
                return Revised(self._desk, tables.weak, seed, self._templates)
            case "contrast":
                if self._weaker is None:
                    raise RecipeError("contrast pairs need a weaker model: name one as teach.contrast_with")
                return Contrasted(self._desk, self._weaker, tables.weak, seed)
            case "on_policy" | "own" | "reference" | "divergence":
                return self._unasked(kind)

    def _unasked(self, kind: MadeKind) -> Maker:
        """Of the kinds for which no teacher is asked."""
        weak, seed, tally = self._tables.weak, self._recipe.seed, self._desk.tally
        if kind == "divergence":
            return Diverging(weak, self._tables.divergences, seed, tally)
        return OnPolicy(kind, weak, seed, tally)

    @cached_property
    def _stream(self) -> list[Pair]:
        """The human pairs that are trained on, in their order: screened, without those that mixing holds out."""
        screening = self._screener.start()
        judged = map(screening.judge, self._tables.human)
        return self._training([one.pair for one in judged if one.reason is None])

    @cached_property
    def _before_rolling(self) -> list[Pair]:
        """The pairs that rolling ones are written along: asked for when the kinds before are made."""
        human = self._recipe.rolling_stream_kind() == "human"
        return self._stream if human else self._training(self._accepted("random"))

    def _budget_left_no_stream(self) -> bool:
        """Whether random pairs stand in for the human stream, and the budget ended before there were enough to show."""
        random = self.made.get("random") if self._recipe.rolling_stream_kind() == "random" else None
        ended = random is not None and random.exhausted == OUT_OF_BUDGET
        return ended and len(self._before_rolling) < self._recipe.teach.context_pairs_shown

    def _training(self, pairs: list[Pair]) -> list[Pair]:
        """In the order of the stream, without those of the judge, and without those whose prompts mixing holds out: of
        what the judge leaves of a kind the first.
        """
        aside = of_the_judge(self._recipe, {kind: found.accepted for kind, found in self.made.items()})
        ordered = stream_order(part(pairs, aside).rest, stream_seed(self._recipe))
        held_out = set(map(prompt_identity, ordered[: self._recipe.mix.heldout_pairs]))
        return [pair for pair in ordered if prompt_identity(pair) not in held_out]

    def _accepted(self, kind: MadeKind) -> list[Pair]:
        return self.made[kind].accepted if kind in self.made else []


def _read(inputs: Mapping[str, Path], name: str, kind: type[AnyRecord]) -> list[AnyRecord]:
    return read_records(inputs[name], kind) if name in inputs else []


def _check_stream(pairs: int, shown: int) -> None:
    if pairs < shown:
        raise InputError(
            f"rolling pairs are written with the {shown} pairs before them (teach.context_pairs_shown), and there are "
            f"only {pairs} human pairs to train on; give more under [[corpus.preferences]], or an arm with random "
            "pairs, which stand in for them"
        )


def _check_outage(kind: MadeKind, found: Collected, accept: int, tally: Tally) -> None:
    """Stop where nobody answers, or the server wants none of it, before more candidates are tried in vain."""
    unanswered, refused = tally.unanswered[kind], tally.dropped(kind, "bad_request")
    if unanswered > max(1, MOST_UNANSWERED * found.candidates):
        raise _unanswered(kind, found, accept, tally)
    if not found.pairs and 1 < refused == found.candidates:
        raise TeacherError(f"the server refused the requests for {kind} pairs{tally.example(kind, {'bad_request'})}")


def _check_arms(recipe: Recipe, made: Mapping[MadeKind, Collected], tally: Tally) -> None:
    """Stop where the budget ended before there was a pair that an arm could be trained on."""
    usable = {kind for kind, found in made.items() if found.accepted}
    for name, arm in recipe.arms.items():
        ended = [kind for kind in made if kind in arm.counts() and kind not in usable and kind in tally.used_up]
        if ended and not arm.can_train_on({"human", *usable}):
            others = _counted(made)
            cannot = f", without which arms.{name} cannot be trained; of other kinds there are usable pairs: {others}"
            raise BudgetError(f"{tally.used_up[ended[0]]}; no usable {' or '.join(ended)} pair is paid for yet"
                              f"{cannot if others else ''}")  # fmt: skip


def _counted(made: Mapping[MadeKind, Collected]) -> str:
    """How many pairs screening would keep, by kind."""
    return ", ".join(f"{len(found.accepted)} {kind}" for kind, found in made.items() if found.accepted)


def _say_fewer(kind: str, facts: Mapping[str, Any]) -> None:
    """Say that there are fewer pairs than were asked for, and why; of an ended budget it was said when it ended."""
    reason = next(iter(facts["exhausted"][kind]))
    if reason == OUT_OF_BUDGET:
        return
    there, accept, tried = (facts[of][kind] for of in ("accepted", "accept", "candidates"))
    why = f"{tried} were tried, and no prompt is left"
    if reason == OUT_OF_CANDIDATES:
        why = f"{tried} were tried, the most that teach.max_candidates.{kind} allows"
    lost = facts["not_accepted"].get(kind)
    say(f"  {there} of the {accept} {kind} pairs asked for: {why}{f' ({in_words(lost)})' if lost else ''}")


def _check_yield(kind: MadeKind, found: Collected, accept: int, tally: Tally) -> None:
    """Stop where there is nothing at all, and say whether it can still be had."""
    if not found.pairs and tally.unanswered[kind]:
        raise _unanswered(kind, found, accept, tally)
    if not found.pairs:
        reasons = in_words(tally.drops.get(kind, Counter()))
        raise TooFewPairsError(f"not one {kind} pair could be made ({reasons or 'there is nothing to ask about'})")


def _unanswered(kind: MadeKind, found: Collected, accept: int, tally: Tally) -> TeacherError:
    return TeacherError(
        f"{tally.unanswered[kind]} requests for {kind} pairs got no reply after all retries"
        f"{tally.example(kind, WORTH_ASKING_AGAIN)}, so that there are only {len(found.accepted)} of {accept} pairs; "
        "what was answered is kept: run the same command again"
    )


def _result(
    recipe: Recipe,
    teacher: Teacher,
    weaker: Teacher | None,
    tables: Tables,
    made: Mapping[MadeKind, Collected],
    tally: Tally,
) -> StageResult:
    sent = tally.sent.total()
    facts: dict[str, Any] = {
        "teacher": teacher.name,
        **teacher.facts(),
        "accept": {kind: recipe.accept(kind) for kind in made},
        "accepted": {kind: len(found.accepted) for kind, found in made.items()},
        "candidates": {kind: found.candidates for kind, found in made.items()},
        "exhausted": {
            kind: {found.exhausted: recipe.accept(kind) - len(found.accepted)}
            for kind, found in made.items()
            if found.exhausted
        },
        "not_accepted": {
            kind: dict(sorted(reasons.items()))
            for kind, found in made.items()
            if (reasons := tally.drops.get(kind, Counter()) + found.screened_out)
        },
        "replies": {"used": tally.requests, "sent": sent, "from_store": tally.requests - sent},
        "reasks": tally.reasks,
        "reasks_that_helped": tally.reasks_that_helped,
    }
    if weaker is not None and "contrast" in made:
        facts["contrast_with"] = {"teacher": weaker.name, **weaker.facts()}
    if tally.details:
        facts["failure_examples"] = dict(sorted(tally.details.items()))
    return StageResult(
        counts_in={name: len(getattr(tables, name)) for name in ("weak", "random", "fresh", "human")},
        counts_out={kind: len(found.pairs) for kind, found in made.items()},
        drops=tally.all_drops(),
        tokens=tally.tokens(),
        facts=facts,
        ended_by=spending_limits(recipe) if any(found.exhausted == OUT_OF_BUDGET for found in made.values()) else {},
    )
