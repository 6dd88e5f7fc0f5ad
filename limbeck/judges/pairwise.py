"""A chat model that is shown two replies and says which is better, in both orders (Zheng et al. 2023, section 3.4).

A verdict that changes with the order is a tie. What the judge cannot say is unscored, with the reason; a reply that
does not parse is asked for once more, told what was wrong. Knows no rule by which preferences become a result.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from limbeck.api import Answer, Answered, Call, ReplyStore, ask_all, reply_key
from limbeck.api.json_replies import ParseFailure
from limbeck.console import meter
from limbeck.errors import TeacherError
from limbeck.judges.chat_models import Asked, ChatModel
from limbeck.judges.pairwise_text import Better, ask_again, parse_verdict, question
from limbeck.judges.protocol import failure_words, refuse_outage
from limbeck.likeness import same_answer
from limbeck.records import Message, PromptRow, Reply, user_prompt
from limbeck.records.verdict import Outcome, Preference, Preferred
from limbeck.untrusted import one_line

SHOWN_CHARACTERS = 80
_CANDIDATE_FIRST: dict[Better, Preferred] = {"A": "candidate", "B": "baseline", "tie": "tie"}
_BASELINE_FIRST: dict[Better, Preferred] = {"A": "baseline", "B": "candidate", "tie": "tie"}
_OUTCOMES: dict[Preferred, Outcome] = {"candidate": "win", "baseline": "loss", "tie": "tie"}


_HELLO = question(
    PromptRow(id="preflight", prompt=user_prompt("What is 2 + 2?"), source="preflight"), "2 + 2 = 4.", "I like trains."
)


class Matchup(NamedTuple):
    """Two replies to one prompt: of the model that is judged, and of the one it is compared with."""

    row: PromptRow
    candidate: Reply
    baseline: Reply


@dataclass
class Counts:
    """What a judge was asked and what for: two questions a matchup, unless its replies are equal; tokens of answers."""

    questions: int = 0
    reasks: int = 0
    reasks_that_helped: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Unsaid(NamedTuple):
    """Why there is no verdict, and what the judge said instead."""

    reason: str
    text: str = ""


Verdict = Better | Unsaid


class PairwiseJudge:
    """`pairwise`: asks `model` through the reply store at `store`. Replies that are equal are a tie without asking."""

    name = "pairwise"

    def __init__(self, model: ChatModel, store: Path) -> None:
        self.counts = Counts()
        self.model = model
        self._store = store

    def __repr__(self) -> str:
        return f"PairwiseJudge(model={self.model!r})"

    def check(self) -> None:
        """Raise where the judge cannot be asked at all (no key, no budget, no such model); sends nothing."""
        self.model.check()

    def preflight(self) -> None:
        """Have a server's model judge one short pair; asked anew each time, since it shows whether it answers now.

        Raises:
            TeacherError: no verdict comes back, in two attempts.
            BudgetError: the budget is used up.
        """
        if not self.model.is_remote:
            return
        with ReplyStore(self._store) as store:
            asked = self._asked(_HELLO, {"preflight": sum(store.states().values())})
            found = self._ask([asked], store)[asked.key]
        if isinstance(found, Unsaid):
            said = f": {one_line(found.text, SHOWN_CHARACTERS)!r}" if found.text else ""
            raise TeacherError(
                f"{self.model.name} gives no verdict on a first, short pair ({found.reason}){said}; set "
                "judges.pairwise.model to a chat model that can answer in JSON"
            )

    def compare(self, matchups: Sequence[Matchup]) -> Iterator[Preference]:
        """Ask for every verdict that is not stored, in both orders, then yield the preferences in order.

        Raises:
            TeacherError: the judge gives no service, or too seldom; what it said before is kept.
            BudgetError: the budget is used up; so is that.
        """
        orders = [self._both_orders(each) for each in matchups]
        unique = list({asked.key: asked for both in orders for asked in both}.values())
        with ReplyStore(self._store) as store:
            found = self._ask(unique, store)
        for matchup, both in zip(matchups, orders, strict=True):
            yield preference(matchup, [found[asked.key] for asked in both])

    def _both_orders(self, matchup: Matchup) -> list[Asked]:
        """The two questions of a matchup, with the candidate first and with the baseline first; none of equal ones."""
        row, ours, theirs = matchup.row, matchup.candidate.text, matchup.baseline.text
        if same_answer(ours, theirs):
            return []
        return [self._asked(question(row, first, second)) for first, second in ((ours, theirs), (theirs, ours))]

    def _asked(self, messages: tuple[Message, ...], more: Mapping[str, int] | None = None) -> Asked:
        said = [message.model_dump() for message in messages]
        identity = {"kind": "verdict", **self.model.identity(), "messages": said, **(more or {})}
        return Asked(reply_key(identity), messages, json.dumps(identity, sort_keys=True))

    def _ask(self, asked: Sequence[Asked], store: ReplyStore) -> dict[str, Verdict]:
        """The verdict on every question by its key; what does not parse is asked for once more."""
        self.counts.questions += len(asked)
        answers = self._answers(asked, store, "verdicts")
        found = {each.key: _read(answers[each.key]) for each in asked}
        again = {
            each.key: self._asked(ask_again(each.messages, answers[each.key].text, read))
            for each in asked
            if isinstance(read := found[each.key], ParseFailure)
        }
        self.counts.reasks += len(again)
        second = self._answers(list(again.values()), store, "verdicts asked again")
        for key, repeated in again.items():
            found[key] = _read(second[repeated.key])
            self.counts.reasks_that_helped += isinstance(found[key], str)
        return {
            key: _unparsed(read, second[again[key].key]) if isinstance(read, ParseFailure) else read
            for key, read in found.items()
        }

    def _answers(self, asked: Sequence[Asked], store: ReplyStore, what: str) -> dict[str, Answer]:
        calls = [Call(each.key, "verdict", each.request, each) for each in asked]
        with meter(what, len(calls), "questions") as progress:

            def count(_key: str, from_store: bool) -> None:
                (progress.skip if from_store else progress.advance)(1)

            model = self.model
            answers = ask_all(
                calls,
                model.session,
                store,
                concurrency=model.concurrency,
                on_answer=count,
                budget=model.budget,
            )
        self.counts.tokens_in += sum(answer.tokens_in for answer in answers.values())
        self.counts.tokens_out += sum(answer.tokens_out for answer in answers.values())
        refuse_outage(answers.values(), model.name)
        return answers


def _read(answer: Answer) -> Better | ParseFailure | Unsaid:
    """A verdict is one although its answer was cut at a limit, as a guided reason may be."""
    if isinstance(answer, Answered):
        return parse_verdict(answer.text)
    read = parse_verdict(answer.text, bare=True) if answer.reason == "truncated" else None
    return read if isinstance(read, str) else Unsaid(failure_words(answer), answer.text)


def _unparsed(failure: ParseFailure, answer: Answer) -> Unsaid:
    return Unsaid(f"no verdict in the judge's reply ({failure.reason})", answer.text)


def preference(matchup: Matchup, verdicts: Sequence[Verdict]) -> Preference:
    """What both orders say together, the candidate's first; none of them: the replies are equal.

    Where they disagree the judge went by the place, and it is a tie; where one of them is unsaid, so is the outcome.
    """
    names = {"prompt_id": matchup.row.id, "sample_index": matchup.candidate.sample_index}
    if not verdicts:
        return Preference(**names, outcome="tie")
    first, second = verdicts
    candidate_first = None if isinstance(first, Unsaid) else _CANDIDATE_FIRST[first]
    baseline_first = None if isinstance(second, Unsaid) else _BASELINE_FIRST[second]
    outcome: Outcome | None = None
    if candidate_first and baseline_first:
        outcome = _OUTCOMES[candidate_first] if candidate_first == baseline_first else "tie"
    why = next((verdict.reason for verdict in verdicts if isinstance(verdict, Unsaid)), None)
    return Preference(
        **names,
        outcome=outcome,
        candidate_first=candidate_first,
        baseline_first=baseline_first,
        unscored_reason=why,
    )
