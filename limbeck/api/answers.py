"""What comes back from a server: a raw text, or a typed failure. One bad reply is a value here, never an exception."""

from typing import Literal

from limbeck.records import Record

FailureReason = Literal[
    "refused",  # the model declined, and the server said so in a field of its own
    "content_filter",  # the provider's filter stopped the prompt or the reply
    "truncated",  # the reply ran into max_tokens
    "empty",  # a reply without text
    "no_problem",  # the worked teacher knows no solution to this prompt
    "no_slip",  # the worked teacher found no plausible mistake in the worked solution
    "bad_request",  # the server refused this one request (400, 422): too long, for instance
    "timed_out",  # no reply in time, after all retries
    "rate_limited",  # 429 after all retries
    "server_error",  # 5xx, a lost connection or a reply in no known form, after all retries
]
ABOUT_THE_REPLY: frozenset[FailureReason] = frozenset(
    {"refused", "content_filter", "truncated", "empty", "no_problem", "no_slip"}
)
WORTH_ASKING_AGAIN: frozenset[FailureReason] = frozenset({"timed_out", "rate_limited", "server_error"})
MOST_UNANSWERED = 0.05  # of what was asked; a larger share without service is an outage, not a few drops


class Answered(Record):
    """A raw reply, not yet parsed. Tokens as the server counts them; 0 where it does not say.

    `stopped_by`: of a sample that ended with "stop", the stop string, "" for a token; None where the server does not
    say (and where the reply comes out of a reply store, which does not keep it).
    """

    text: str
    finish_reason: str = "stop"
    stopped_by: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0


class Failed(Record):
    """Why there is no usable reply. `text` is the raw text where some came; `detail` is the server's own sentence."""

    reason: FailureReason
    text: str = ""
    detail: str = ""
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def about_the_reply(self) -> bool:
        """True where the same request would fail again and may have been paid for: such failures are stored."""
        return self.reason in ABOUT_THE_REPLY


Answer = Answered | Failed
