"""What a judge is: replies to prompts in, one judgement each out. Knows no judge in particular.

What a judge cannot score is a `Judgement` whose score is None, with the reason; never a number made up for it. Whoever
compares two models leaves such a prompt out of both, and counts it. A judge that compares instead of scoring
(`pairwise`) is none of these: it has `check` and `preflight`, and gives preferences.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

from limbeck.api import Answer, Failed
from limbeck.api.answers import MOST_UNANSWERED, WORTH_ASKING_AGAIN
from limbeck.errors import TeacherError
from limbeck.records import Judgement, PromptRow, Reply

Exchange = tuple[PromptRow, Reply]
_A_FEW = 2  # questions without an answer that are no outage, however few were asked


class Judge(Protocol):
    """Scores replies. `name` is what the recipe and the report call it."""

    name: str

    def check(self) -> None:
        """Say at once, without sending anything, whether the judge can be asked at all.

        Raises:
            TeacherError: no key, or no usable address.
            RecipeError: it costs money, and the recipe does not say how much.
        """

    def judge(self, exchanges: Sequence[Exchange]) -> Iterator[Judgement]:
        """Yield the judgement of each reply, in their order.

        Raises:
            TeacherError: the judge gives no service, or too seldom; one that costs money keeps what it was told before.
            BudgetError: its budget is used up; so does it then.
        """


@runtime_checkable
class AskedBeforehand(Protocol):
    """A judge elsewhere, of whom one question shows whether it judges at all."""

    def preflight(self) -> None:
        """Ask one tiny thing that has to be judged, before anything is trained or sampled; its reply is stored.

        Raises:
            TeacherError: no usable answer comes: no key, no such model, no connection, or no judge.
            BudgetError: the judge's budget is used up.
        """


def over_long(max_tokens: int) -> str:
    """The reason for which a conversation of more tokens than a judge takes is unscored."""
    return f"over {max_tokens:,} tokens"


def is_over_long(reason: str | None) -> bool:
    """Whether that is the reason."""
    return reason is not None and reason.startswith("over ") and reason.endswith(" tokens")


def unscored(reply: Reply, reason: str) -> Judgement:
    """The judgement that says why there is none."""
    return Judgement(prompt_id=reply.prompt_id, sample_index=reply.sample_index, score=None, unscored_reason=reason)


def failure_words(failed: Failed) -> str:
    """Why a judge gave no usable answer, in words that reasons are counted by."""
    said = f" ({failed.detail})" if failed.detail else ""
    return f"{failed.reason.replace('_', ' ')}{said}"


def refuse_outage(answers: Collection[Answer], who: str) -> None:
    """Stop where too many questions got no answer after all retries: a result without them would be taken for final.

    Raises:
        TeacherError: more than a few of them, and more than 5 %.
    """
    unanswered = [each for each in answers if isinstance(each, Failed) and each.reason in WORTH_ASKING_AGAIN]
    if len(unanswered) > max(_A_FEW, MOST_UNANSWERED * len(answers)):
        raise TeacherError(
            f"{who} gave no answer to {len(unanswered):,} of {len(answers):,} questions after all retries "
            f"({failure_words(unanswered[0])}); what was answered is kept: run the same command again"
        )
