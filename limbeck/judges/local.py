"""A reward model on this machine: the one that a run trained, or any that the user names.

Rewards are kept in one file of the user's by what they were computed from (weights, precision, token ids), as soon as a
batch is done: an interruption loses a batch, and equal conversations have equal scores to the bit in every run, so that
two models that say the same tie. What is over the token limit is unscored, never cut. Knows no verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from limbeck.console import meter, say
from limbeck.errors import ModelError, RecipeError
from limbeck.judges.protocol import Exchange, over_long, unscored
from limbeck.lm.names import model_folder
from limbeck.recipe import Model
from limbeck.recipe.verdict import LocalJudge as Settings
from limbeck.records import Judgement, Message

if TYPE_CHECKING:
    from limbeck.lm.reward_model import Scorer

CACHE_FILE = "rewards.sqlite"
REFUSED = "conversation refused by the chat template"
Conversation = tuple[Sequence[Message], str]  # prompt, response


class Scored(NamedTuple):
    """The reward of one conversation, or why there is none."""

    score: float | None
    reason: str | None = None


class LocalJudge:
    """`local`: the reward model in the folder (or of the name) `model`; None: one is yet to be trained.

    Its weights are loaded when something has to be scored, and let go of when that is done: they never lie beside a
    student's for longer.
    """

    name = "local"

    def __init__(self, model: str | None, settings: Settings, machine: Model) -> None:
        self._model, self._settings, self._machine = model, settings, machine

    def check(self) -> None:
        """Raise `ModelError` where the model cannot judge; nothing is known yet of one that is yet to be trained."""
        if self._model is not None:
            from limbeck.lm.reward_model import describe_reward_model

            describe_reward_model(self._model)

    def judge(self, exchanges: Sequence[Exchange]) -> Iterator[Judgement]:
        """Score all replies that are not scored already, then yield the judgements.

        Raises:
            RecipeError: where no reward model was trained or named.
            ModelError: where it cannot be loaded, or gives a score that is not finite.
        """
        found = self.scores([(row.prompt, reply.text) for row, reply in exchanges])
        for (_, reply), (score, reason) in zip(exchanges, found, strict=True):
            if score is None:
                yield unscored(reply, reason or "")
            else:
                yield Judgement(prompt_id=reply.prompt_id, sample_index=reply.sample_index, score=score)

    def scores(self, conversations: Sequence[Conversation]) -> list[Scored]:
        """The reward of each conversation, in their order."""
        from limbeck.lm.machine import place
        from limbeck.lm.reward_cache import RewardCache

        name = self._named()
        read = self._read(name, conversations)
        device, dtype = place(self._machine)
        with RewardCache(model_folder(name), device, dtype, _cache_path()) as cache:
            wanted = list(dict.fromkeys(ids for ids in read if not isinstance(ids, str)))
            known = dict(cache.known(wanted))
            missing = [ids for ids in wanted if ids not in known]
            with meter("local judge: rewards", len(wanted), "conversations") as bar:
                bar.skip(len(known))
                if missing:
                    from limbeck.lm.machine import release
                    from limbeck.lm.reward_model import load_reward_model

                    for scored in _batches(load_reward_model(name, device, dtype), missing, self._settings):
                        cache.keep(scored)
                        known |= scored
                        bar.advance(len(scored))
                    release()
        return [Scored(None, ids) if isinstance(ids, str) else Scored(known[ids]) for ids in read]

    def _named(self) -> str:
        if self._model is None:
            raise RecipeError("the judge 'local' has no reward model: judges.local.model is 'trained', and none was "
                              "trained here; name a folder or a hub id")  # fmt: skip
        return self._model

    def _read(self, name: str, conversations: Sequence[Conversation]) -> list[tuple[int, ...] | str]:
        """The ids of each conversation, or why it cannot be scored."""
        from limbeck.lm.reward_model import describe_reward_model

        described = describe_reward_model(name)
        if described.form == "causal":
            say(f"{name} is a causal model: its logit of id 0 is taken for the reward, which only models of the "
                "-Reward-HF kind are trained for")  # fmt: skip
        most = min(self._settings.max_tokens, described.context_tokens or self._settings.max_tokens)
        found: list[tuple[int, ...] | str] = []
        for prompt, response in conversations:
            try:
                ids = described.conversations.ids(prompt, response)
            except ModelError:
                found.append(REFUSED)
                continue
            found.append(ids if len(ids) <= most else over_long(most))
        return found


def _batches(
    scorer: "Scorer", missing: Sequence[tuple[int, ...]], settings: Settings
) -> Iterator[Mapping[tuple[int, ...], float]]:
    """Yield rewards batch by batch; the longest first: what does not fit into memory says so at once."""
    ordered, done = sorted(missing, key=lambda ids: (-len(ids), ids)), 0
    for scores in scorer.scores(ordered, settings.micro_batch_tokens):
        yield dict(zip(ordered[done:], scores, strict=False))
        done += len(scores)


def _cache_path() -> Path:
    from limbeck.lm.pull import cache_folder

    return cache_folder() / CACHE_FILE
