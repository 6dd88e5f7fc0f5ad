"""What a judge is: replies to prompts in, one judgement each out. Knows no judge in particular.

What a judge cannot score is a `Judgement` whose score is None, with the reason; never a number made up for it. Whoever
compares two models leaves such a prompt out of both, and counts it. A judge that compares instead of scoring
(`pairwise`) is none of these: it has `check` and `preflight`, and gives preferences.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from limbeck.api import Failed
from limbeck.records import Judgement, PromptRow, Reply

Exchange = tuple[PromptRow, Reply]


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
            TeacherError: the judge gives no service; a judge that costs money keeps what it was told before.
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
