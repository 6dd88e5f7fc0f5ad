"""Replies side by side: prompts, answers, replies and judgements as the data that `page.js` browses.

Every text is cut to a length and made visible here, so the page's size is bounded whatever models wrote. Refuses to
know how it is shown.
"""

from typing import Any, NamedTuple

from limbeck.records import Judgement, PromptRow, Reply
from limbeck.stages.report.gather import Answers, Gathered, HeldOut, ReplyKey
from limbeck.stages.report.results import baseline_of, series_of
from limbeck.stages.report.safe import cut
from limbeck.stages.report.svg import colour_class

TEXT_LIMIT = 4_000  # characters of one text: several times the longest reply the default recipe asks for
PAGE_BUDGET = 24_000_000  # characters of all texts: a browser parses that in well under a second
_LEAST_LIMIT = 250  # a page of more than PAGE_BUDGET / 250 texts grows beyond the budget rather than show nothing

Json = dict[str, Any]


class Browser(NamedTuple):
    """The data of the page's browser, and what a reader must know about it."""

    data: Json
    notes: tuple[str, ...]


def browser(gathered: Gathered, budget: int = PAGE_BUDGET) -> Browser | None:
    """The data to browse, or None where there is no prompt with a reply."""
    models = [score.model for score in gathered.verdict.scores]
    first = {model: _first_samples(gathered.answers[model].replies) for model in models}
    rows = [held for held in gathered.prompts if any(held.row.id in replies for replies in first.values())]
    if not rows:
        return None
    limit = _limit(rows, first, budget)
    series, baseline = series_of(gathered.verdict), baseline_of(gathered.verdict)
    data = {
        "models": [{"name": model, "colour": colour_class(series[model])} for model in models],
        "baseline": models.index(baseline) if baseline in models else None,
        "rows": [
            _row(held, limit, [_reply(first[m].get(held.row.id), gathered.answers[m], limit) for m in models])
            for held in rows
        ],
    }
    return Browser(data, _notes(gathered, limit))


def _first_samples(replies: tuple[Reply, ...]) -> dict[str, Reply]:
    first: dict[str, Reply] = {}
    for reply in replies:
        known = first.get(reply.prompt_id)
        if known is None or reply.sample_index < known.sample_index:
            first[reply.prompt_id] = reply
    return first


def _limit(rows: list[HeldOut], first: dict[str, dict[str, Reply]], budget: int) -> int:
    """The largest halving of TEXT_LIMIT at which all texts together fit the budget."""
    lengths = [len(text) for held in rows for text in _texts_of(held)]
    lengths += [len(reply.text) for replies in first.values() for reply in replies.values()]
    limit = TEXT_LIMIT
    while limit // 2 >= _LEAST_LIMIT and sum(min(length, limit) for length in lengths) > budget:
        limit //= 2
    return limit


def _texts_of(held: HeldOut) -> list[str]:
    return [*(message.content for message in held.row.prompt), *(text for _, text in _references(held.row))]


def _references(row: PromptRow) -> list[tuple[str, str]]:
    """Good answers with their titles; the reference response of a task is its worked solution."""
    if row.problem:
        return [("Answer", row.problem.answer), ("Worked solution", row.problem.solution)]
    return [("Reference response", row.reference_response)] if row.reference_response else []


def _row(held: HeldOut, limit: int, replies: list[Json | None]) -> Json:
    row = held.row
    return {
        "id": cut(row.id, limit).text,
        "split": held.split,
        "topic": cut(row.topic, limit).text,
        "prompt": [{"role": message.role, **_text(message.content, limit)} for message in row.prompt],
        "references": [{"title": title, **_text(text, limit)} for title, text in _references(row)],
        "replies": replies,
    }


def _text(text: str, limit: int) -> Json:
    shown, more = cut(text, limit)
    return {"text": shown, "more": more} if more else {"text": shown}


def _reply(reply: Reply | None, answers: Answers, limit: int) -> Json | None:
    if reply is None:
        return None
    key = ReplyKey(reply.prompt_id, reply.sample_index)
    verified = answers.judgements.get("verifier", {}).get(key)
    rewarded = answers.judgements.get("nemotron", {}).get(key)
    judged = _outcome(verified, rewarded)
    return {
        **_text(reply.text, limit),
        "tokens": reply.num_tokens,
        **({"truncated": True} if reply.finish_reason == "length" else {}),
        **judged,
        **({"score": round(rewarded.score, 3)} if rewarded and rewarded.score is not None else {}),
    }


def _outcome(verified: Judgement | None, rewarded: Judgement | None) -> Json:
    """The mark of a reply: the verifier's word where there is one; a reward alone is no mark."""
    judgement = verified or rewarded
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
    if further := sum(reply.sample_index > 0 for reply in replies):
        notes.append(f"{further:,} further samples of the same prompts are in the run folder; the first is shown here.")
    if stray := sum(reply.prompt_id not in known for reply in replies):
        notes.append(f"{stray:,} replies answer prompts that are not among the held-out prompts found; not shown.")
    return tuple(notes)
