"""The exact judge: the task's own scorer. Knows nothing of models; a prompt without a problem it cannot judge."""

from collections.abc import Iterator, Sequence

from limbeck import tasks
from limbeck.judges.protocol import Exchange, unscored
from limbeck.records import Judgement

NO_PROBLEM = "no problem behind the prompt"


class Verifier:
    """`verifier`: solved or not, free and exact.

    Where the scorer itself fails, what the reply answers is nothing the scorer can read as right: the score is 0, not
    solved, and `unscored_reason` keeps the failure. Leaving it out would reward replies that break the scorer.
    """

    name = "verifier"

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, exchanges: Sequence[Exchange]) -> Iterator[Judgement]:
        """Yield each judgement as soon as it is made."""
        for row, reply in exchanges:
            if row.problem is None:
                yield unscored(reply, NO_PROBLEM)
                continue
            found = tasks.score(row.problem, reply.text)
            yield Judgement(
                prompt_id=reply.prompt_id,
                sample_index=reply.sample_index,
                score=found.score,
                solved=found.solved,
                parsed=found.parsed,
                unscored_reason=None if found.failure is None else f"the scorer failed: {found.failure}",
            )
