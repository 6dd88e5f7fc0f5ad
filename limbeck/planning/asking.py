"""What a teacher and judges elsewhere are asked, and what that costs: requests, tokens, money where prices are known.

Requests of a teacher are those of the stage itself, which is gone through with a few rows and a teacher that only
listens (`stages/teach/rehearsal.py`), and counted up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from limbeck.api.client import BYTES_A_TOKEN
from limbeck.api.costs import Terms, budget_of
from limbeck.api.prices import NANO, Price
from limbeck.judges.nemotron import REPLY_TOKENS
from limbeck.planning.lengths import ASSUMED_PROMPT, ASSUMED_RESPONSE
from limbeck.planning.pairs import Texts
from limbeck.planning.ranges import Range, exact, total
from limbeck.planning.tables import Tables
from limbeck.planning.work import Works
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm, Budget, Endpoint, MadeKind, PairKind
from limbeck.records import Pair, PromptRow, Record, WeakPrompt, user_prompt
from limbeck.store import write_records

_WRITTEN: frozenset[PairKind] = frozenset({"random", "zero_shot", "few_shot", "rolling", "revise", "contrast"})
_REHEARSED = 12  # pairs of a kind
_ROWS = 48  # of each table that the rehearsal reads
_JSON_TOKENS = 20  # of the two keys around a pair, about
_REWARD_REPLY_TOKENS = 20  # what a reward takes, about
_PAIRWISE_PROMPT_TOKENS = 300  # what is said around the two replies, about
_PAIRWISE_REPLY_TOKENS = 120  # a reason of some sentences, about


@dataclass(frozen=True)
class Asked:
    """Requests to one model elsewhere; `tokens_in`, `tokens_out` of all of them. The highest
    of each is the worst case: every candidate that may be tried is, every reply is asked for as often and is as long
    as it may be. `field`: where its budget stands.
    """

    stage: str
    who: str
    what: str
    field: str
    requests: Range
    tokens_in: Range
    tokens_out: Range
    price: Price | None
    budget: Budget

    @property
    def tokens(self) -> Range:
        """Of prompts and replies."""
        return self.tokens_in + self.tokens_out

    @property
    def dollars(self) -> Range | None:
        """None where no price is known."""
        price = self.price
        if price is None:
            return None
        low, likely, high = (
            price.nano_dollars(round(a), round(b)) / NANO
            for a, b in zip(vars(self.tokens_in).values(), vars(self.tokens_out).values(), strict=True)
        )
        return Range(low, likely, high)


def over_budget(asked: Sequence[Asked]) -> str | None:
    """What to say where a budget that all of these share may not last; None where it does."""
    field, budget = asked[0].field, asked[0].budget
    dollars = [one.dollars for one in asked if one.dollars is not None]
    limits = {
        "usd": (total(dollars) if dollars else None, budget.usd),
        "tokens": (total(one.tokens for one in asked), budget.tokens),
    }
    for unit, (needed, limit) in limits.items():
        if needed is None or limit is None or needed.high <= limit:
            continue
        said = f"{field}.{unit} = {limit:,g}" if unit == "usd" else f"{field}.{unit} = {limit:_}"
        when = "is likely not to be enough" if needed.likely > limit else "may not be enough in the worst case"
        return f"{said} {when}; a run that uses it up stops, keeps what was answered, and goes on with more"
    return None


def teacher_requests(recipe: Recipe, tables: Tables, texts: Texts) -> list[Asked]:
    """What the teacher (and the weaker one of contrast pairs) is asked, kind by kind."""
    teach = recipe.teach
    found = _of_the_weaker(recipe, texts)
    for kind in recipe.pair_kinds():
        if kind not in _WRITTEN or kind == "human" or teach.teacher == "worked":
            continue
        each = _rehearsed(recipe, kind, tables)
        accept, most = recipe.accept(kind), recipe.max_candidates(kind)
        number = Range(accept, accept, most * (1 + teach.reasks)) * each.requests
        reply = texts.teacher(kind) * (1 if kind in {"revise", "contrast"} else 2) + exact(_JSON_TOKENS)
        written = Range(reply.low, reply.likely, teach.max_tokens).capped(teach.max_tokens)
        if each.requests > 1 and kind in {"few_shot", "rolling"}:  # half of them ask for a prompt, which is short
            short = texts.prompt(kind) + exact(_JSON_TOKENS)
            written = (written + Range(short.low, short.likely, teach.max_tokens)) * 0.5
        price = _price(teach.teacher, teach.endpoint, recipe, batch=teach.batch)
        found.append(
            Asked("teach", teach.teacher, f"{kind} pairs", "teach.budget", number, number * each.prompt_tokens,
                  number * written, price, teach.budget)
        )  # fmt: skip
    return found


def _of_the_weaker(recipe: Recipe, texts: Texts) -> list[Asked]:
    """What the weaker model of contrast pairs is asked: an answer for every candidate."""
    teach, model = recipe.teach, recipe.teach.contrast_with
    if model is None or not model.startswith("openai:") or "contrast" not in recipe.pair_kinds():
        return []
    accept = recipe.accept("contrast")
    number = Range(accept, accept, recipe.max_candidates("contrast"))
    reply = texts.teacher("contrast")
    written = Range(reply.low, reply.likely, teach.max_tokens).capped(teach.max_tokens)
    price = _price(model, teach.contrast_endpoint or teach.endpoint, recipe, batch=teach.batch)
    return [Asked("teach", model, "contrast pairs", "teach.budget", number, number * texts.prompt("contrast"),
                  number * written, price, teach.budget)]  # fmt: skip


def _price(model: str, endpoint: Endpoint, recipe: Recipe, *, batch: bool = False) -> Price | None:
    """What a model costs, by the list that its budget would be kept by."""
    name = model.partition(":")[2] or model
    if model.startswith("local:"):
        return None
    terms = Terms("", Budget(tokens=1), endpoint, recipe.teach.prices, batch)
    return budget_of(name.strip(), terms, paid=False).price


@dataclass(frozen=True)
class _Each:
    """Requests for one candidate, and mean tokens of their prompts."""

    requests: float
    prompt_tokens: Range


def _rehearsed(recipe: Recipe, kind: PairKind, tables: Tables) -> _Each:
    """Go through the stage for a few pairs of a kind."""
    from limbeck.stages.teach.rehearsal import rehearse

    few = recipe.model_copy(
        update={
            "arms": {"plan": Arm.model_validate({kind: _REHEARSED})},
            "mix": recipe.mix.model_copy(update={"heldout_pairs": 0}),
            "teach": recipe.teach.model_copy(
                update={"accept": {}, "max_candidates": {}, "budget": Budget(tokens=10**12), "templates": None}
            ),
        }
    )
    with TemporaryDirectory() as folder:
        inputs = _stand_ins(tables, Path(folder))
        asked = rehearse(few, inputs).by_template.values()
    number = sum(one.number for one in asked)
    tokens = sum(one.prompt_bytes for one in asked) / BYTES_A_TOKEN / max(number, 1)
    read = bool(tables["pool"].samples or tables["human"].samples)
    # Where the judge learns from the teacher's pairs, more are written than the arm asks for.
    return _Each(
        number / few.accept(cast(MadeKind, kind)), exact(tokens) * (Range(0.8, 1, 1.3) if read else Range(0.4, 1, 3))
    )


def _stand_ins(tables: Tables, folder: Path) -> dict[str, Path]:
    """Files of rows like those that will be there: samples, each with a number of its own; made-up words where no row
    was read.
    """
    pool = list(tables["pool"].samples) or [_words("prompt", ASSUMED_PROMPT)]
    human = [row for row in tables["human"].samples if isinstance(row, Pair)] or [_pair(pool[0])]
    weak = [_weak(pool[place % len(pool)], place) for place in range(_ROWS)]
    stream = [_numbered(human[place % len(human)], place) for place in range(_ROWS)]
    fresh = [_numbered(row, place) for place, row in enumerate(tables["fresh"].samples[:_ROWS])]
    rows: Mapping[str, Sequence[Record]] = {"weak": weak, "random": weak, "fresh": fresh, "human": stream}
    for name, records in rows.items():
        write_records(folder / f"{name}.jsonl", records)
    return {name: folder / f"{name}.jsonl" for name in rows}


def _words(word: str, tokens: Range) -> PromptRow:
    text, characters = word, round(BYTES_A_TOKEN * tokens.likely)
    while len(text) < characters:
        text += f" {word}{len(text)}"
    return PromptRow(id=word, prompt=user_prompt(text), source="plan", reference_response=text)


def _pair(row: PromptRow) -> Pair:
    chosen, rejected = (_words(side, ASSUMED_RESPONSE).prompt[0].content for side in ("chosen", "rejected"))
    return Pair(id="pair", prompt=row.prompt, source="human", chosen=chosen, rejected=rejected)


def _numbered(row: PromptRow, place: int) -> PromptRow:
    turn = row.prompt[-1]
    turns = (*row.prompt[:-1], turn.model_copy(update={"content": f"{place}: {turn.content}"}))
    return row.model_copy(update={"id": f"{row.id}/{place}", "prompt": turns, "problem": None})


def _weak(row: PromptRow, place: int) -> WeakPrompt:
    known = _numbered(row, place)
    failing = row.reference_response or _words("reply", ASSUMED_RESPONSE).prompt[0].content
    values = {name: getattr(known, name) for name in PromptRow.model_fields}
    return WeakPrompt(**values, failures=(f"{place} {failing}",))


def judge_requests(recipe: Recipe, works: Works, units: Mapping[str, int]) -> list[Asked]:
    """What judges that are elsewhere are asked: of mining, of models' replies, of comparisons. `units`: how many of
    each stage are to be run.
    """
    found = []
    if units.get("mine") and recipe.mining().judge == "nemotron":
        asked = works.mined_prompts() * recipe.mine.samples_per_prompt
        if recipe.mining().rule == "gap":
            asked += works.mined_prompts()
        found.append(_reward_requests(recipe, works, "mine", "mined replies", asked))
    judged, turns = works.judged_prompts(), works.judged_turns()
    models = units.get("evaluate", 0)
    if models and turns is not None and "nemotron" in recipe.judged_by():
        asked = turns * (models * recipe.evaluate.samples_per_prompt)
        found.append(_reward_requests(recipe, works, "evaluate", f"replies of {models} models", asked))
    if judged is not None and (matches := units.get("compare", 0)):
        found.append(_comparisons(recipe, works, judged * (2 * matches)))  # of first turns, in both orders
    return found


def _reward_requests(recipe: Recipe, works: Works, stage: str, what: str, asked: Range) -> Asked:
    judge, mines = recipe.judges.nemotron, stage == "mine"
    most = (recipe.mine if mines else recipe.evaluate).max_new_tokens
    table = "pool" if mines else works.judged_table
    each = (works.measured[table].prompt + works.texts.student(most, table)).capped(judge.max_tokens)
    price = _price(judge.model, judge.endpoint, recipe)
    written = Range(_REWARD_REPLY_TOKENS, _REWARD_REPLY_TOKENS, REPLY_TOKENS)
    return Asked(stage, "nemotron", what, "judges.nemotron.budget", asked, asked * each, asked * written, price,
                 judge.budget)  # fmt: skip


def _comparisons(recipe: Recipe, works: Works, asked: Range) -> Asked:
    judge = recipe.judges.pairwise
    most, table = recipe.evaluate.max_new_tokens, works.judged_table
    each = works.measured[table].prompt + works.texts.student(most, table) * 2 + exact(_PAIRWISE_PROMPT_TOKENS)
    model = judge.model or "pairwise"
    written = Range(_PAIRWISE_REPLY_TOKENS / 2, _PAIRWISE_REPLY_TOKENS, judge.max_tokens)
    asked = asked * recipe.evaluate.samples_per_prompt
    price = _price(model, judge.endpoint, recipe)
    return Asked("compare", model, "comparisons", "judges.pairwise.budget", asked, asked * each, asked * written, price,
                 judge.budget)  # fmt: skip
