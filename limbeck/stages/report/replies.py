"""Replies side by side: prompts, answers, replies and judgements as the data that the page's scripts browse.

What is needed to filter and to order stands in one small index, column by column; texts stand in chunks, each read by
the page only when one of its prompts is shown or searched. Every text is cut to a length and made visible here, so the
page's size is bounded whatever models wrote. Refuses to know how it is shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from limbeck.records import Judgement, PromptRow, Reply
from limbeck.stages.report.gather import Answers, Gathered, HeldOut, ReplyKey
from limbeck.stages.report.outcomes import judges_of
from limbeck.stages.report.paired import preferences_by_prompt, scores_by_prompt
from limbeck.stages.report.results import baseline_of, series_of
from limbeck.stages.report.safe import cut
from limbeck.stages.report.svg import colour_class

TEXT_LIMIT = 4_000  # characters of one text: several times the longest reply the default recipe asks for
PAGE_BUDGET = 24_000_000  # characters of all texts: a browser takes that in well under a second
CHUNK = 50  # prompts whose texts are parsed together
_LEAST_LIMIT = 250  # a page of more than PAGE_BUDGET / 250 texts grows beyond the budget rather than show nothing

Json = dict[str, Any]


class Browser(NamedTuple):
    """The index of the page's browser, the texts of its prompts in chunks, and what a reader must know about them."""

    columns: Json
    chunks: tuple[list[Json], ...]
    notes: tuple[str, ...]


def browser(gathered: Gathered, budget: int = PAGE_BUDGET) -> Browser | None:
    """The data to browse, or None where there is no prompt with a reply."""
    models = [score.model for score in gathered.verdict.scores]
    replies = {model: _by_prompt(gathered.answers[model].replies) for model in models}
    rows = [held for held in gathered.prompts if any(held.row.id in replies[model] for model in models)]
    if not rows:
        return None
    models = [model for model in models if replies[model]]
    limit = _limit(rows, replies, budget)
    texts = [
        _texts(held.row, limit, [_samples(replies[m].get(held.row.id, ()), gathered.answers[m], limit) for m in models])
        for held in rows
    ]
    chunks = tuple(texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
    return Browser(_index(gathered, rows, models, texts), chunks, _notes(gathered, limit))


def _index(gathered: Gathered, rows: Sequence[HeldOut], models: Sequence[str], texts: Sequence[Json]) -> Json:
    series, baseline = series_of(gathered.verdict), baseline_of(gathered.verdict)
    topics = sorted({held.row.topic for held in rows})
    answers = [gathered.answers[model] for model in models]
    judges = [judge for judge in judges_of(gathered.verdict) if judge == "pairwise" or _used(answers, judge)]
    return {
        "models": [{"name": cut(model, 200).text, "colour": colour_class(series[model])} for model in models],
        "baseline": models.index(baseline) if baseline in models else None,
        "judges": judges,
        "chunk": CHUNK,
        "topics": [cut(topic, 200).text for topic in topics],
        "ids": [cut(held.row.id, 200).text for held in rows],
        "split": [held.split for held in rows],
        "topic": [topics.index(held.row.topic) for held in rows],
        "scores": {judge: [_column(_scores(each, judge), rows) for each in answers] for judge in judges},
        "marks": [[_marks(text["replies"][place]) for text in texts] for place in range(len(models))],
    }


def _used(answers: Iterable[Answers], judge: str) -> bool:
    return any(judge in each.judgements for each in answers)


def _scores(answers: Answers, judge: str) -> Mapping[str, float]:
    """A score a prompt; from a judge that compares, that of the difference to the baseline, which itself has none."""
    return preferences_by_prompt(answers) if judge == "pairwise" else scores_by_prompt(answers, judge)


def _column(values: Mapping[str, float], rows: Sequence[HeldOut]) -> list[float | None]:
    return [None if (value := values.get(held.row.id)) is None else round(value, 3) for held in rows]


def _marks(samples: Sequence[Json]) -> str:
    """One letter a thing that some sample of a prompt is: what filters ask for."""
    letters = {"unparsed": "p", "unscored": "n", "solved": "s", "wrong": "w"}
    found = {letters[sample["outcome"]] for sample in samples if "outcome" in sample}
    return "".join(sorted(found | ({"t"} if any("truncated" in sample for sample in samples) else set())))


def _by_prompt(replies: Iterable[Reply]) -> dict[str, list[Reply]]:
    found: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        found[reply.prompt_id].append(reply)
    return {prompt_id: sorted(each, key=lambda reply: reply.sample_index) for prompt_id, each in found.items()}


def _limit(rows: Sequence[HeldOut], replies: Mapping[str, Mapping[str, list[Reply]]], budget: int) -> int:
    """The largest halving of TEXT_LIMIT at which all texts together fit the budget."""
    lengths = [len(text) for held in rows for text in _said(held.row)]
    lengths += [len(reply.text) for of in replies.values() for samples in of.values() for reply in samples]
    limit = TEXT_LIMIT
    while limit // 2 >= _LEAST_LIMIT and sum(min(length, limit) for length in lengths) > budget:
        limit //= 2
    return limit


def _said(row: PromptRow) -> list[str]:
    return [*(message.content for message in row.prompt), *(text for _, text in _references(row))]


def _references(row: PromptRow) -> list[tuple[str, str]]:
    """Good answers with their titles; the reference response of a task is its worked solution."""
    if row.problem:
        return [("Answer", row.problem.answer), ("Worked solution", row.problem.solution)]
    return [("Reference response", row.reference_response)] if row.reference_response else []


def _texts(row: PromptRow, limit: int, replies: list[list[Json]]) -> Json:
    return {
        "prompt": [{"role": message.role, **_text(message.content, limit)} for message in row.prompt],
        "references": [{"title": title, **_text(text, limit)} for title, text in _references(row)],
        "replies": replies,
    }


def _text(text: str, limit: int) -> Json:
    shown, more = cut(text, limit)
    return {"text": shown, "more": more} if more else {"text": shown}


def _samples(replies: Sequence[Reply], answers: Answers, limit: int) -> list[Json]:
    return [_reply(reply, answers, limit) for reply in replies]


def _reply(reply: Reply, answers: Answers, limit: int) -> Json:
    key = ReplyKey(reply.prompt_id, reply.sample_index)
    judged = {judge: lines[key] for judge, lines in answers.judgements.items() if key in lines}
    rewards = {judge: round(line.score, 3) for judge, line in judged.items()
               if judge != "verifier" and line.score is not None}  # fmt: skip
    preference = answers.preferences.get(key)
    return {
        **_text(reply.text, limit),
        "tokens": reply.num_tokens,
        **({"truncated": True} if reply.finish_reason == "length" else {}),
        **_outcome(judged.get("verifier") or next(iter(judged.values()), None)),
        **({"rewards": rewards} if rewards else {}),
        **({"preferred": preference.outcome or "unscored"} if preference else {}),
    }


def _outcome(judgement: Judgement | None) -> Json:
    """The mark of a reply: the verifier's word where there is one; a reward alone is no mark."""
    if judgement is None:
        return {}
    if judgement.score is None:
        return {"outcome": "unscored", "reason": cut(judgement.unscored_reason or "no reason given", 200).text}
    if judgement.solved is None:
        return {}
    if judgement.solved:
        return {"outcome": "solved"}
    return {"outcome": "wrong" if judgement.parsed else "unparsed"}


def _notes(gathered: Gathered, limit: int) -> tuple[str, ...]:
    notes = []
    known = {held.row.id for held in gathered.prompts}
    replies = [reply for answers in gathered.answers.values() for reply in answers.replies]
    if limit < TEXT_LIMIT:
        notes.append(f"Texts are cut at {limit:,} characters to keep this page small; the run folder holds them whole.")
    if stray := sum(reply.prompt_id not in known for reply in replies):
        notes.append(f"{stray:,} replies answer prompts that are not among the held-out prompts found; not shown.")
    return tuple(notes)
