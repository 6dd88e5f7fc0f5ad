"""What one model left behind: its replies and what each judge said of them, read once.

A row is one sample of one prompt, and its key is (prompt id, sample index).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import Judgement, PromptRow, Reply
from limbeck.records.verdict import PairLogps, Preference
from limbeck.store import read_json, read_records
from limbeck.turns import conversation_of, every_turn

BASELINE = "sft"
EXACT = "verifier"
PAIRWISE = "pairwise"
_POINTS = {"win": 1.0, "tie": 0.0, "loss": -1.0}

Key = tuple[str, int]
Kept = TypeVar("Kept", Reply, Judgement, Preference)


@dataclass(frozen=True)
class Asked:
    """The rows of one split: every prompt as often as it was sampled."""

    keys: tuple[Key, ...]
    topics: tuple[str, ...]

    @property
    def prompts(self) -> list[str]:
        """Each row's prompt, by which rows are resampled: its samples and the turns that follow on it go together."""
        return [conversation_of(prompt) for prompt, _ in self.keys]

    def of_topic(self, topic: str) -> "Asked":
        """The rows of one topic."""
        kept = tuple(key for key, each in zip(self.keys, self.topics, strict=True) if each == topic)
        return Asked(kept, (topic,) * len(kept))


def asked_of(rows: Sequence[PromptRow], samples: int) -> Asked:
    """The rows that `samples` samples of each prompt's turns make, sampled or not: what is missing is counted.

    All turns of a conversation have the topic of its first.
    """
    turns = [(turn.row.id, row.topic) for row in rows for turn in every_turn([row])]
    keys = tuple((id_, sample) for id_, _ in turns for sample in range(samples))
    return Asked(keys, tuple(topic for _, topic in turns for _ in range(samples)))


@dataclass(frozen=True)
class Model:
    """One model's replies, judgements by judge, and preferences over the baseline, by key."""

    name: str
    replies: Mapping[Key, Reply]
    judgements: Mapping[str, Mapping[Key, Judgement]]
    preferences: Mapping[Key, Preference] = field(default_factory=dict)
    pair_logps: Sequence[PairLogps] = ()
    nats_per_token: float | None = None
    chat_repetition_rate: float | None = None

    def key_of(self, key: Key) -> Key:
        """Where what stands in a row lies: somebody else's one response stands beside every sample of a prompt."""
        return (key[0], 0) if self.name == AGAINST else key


def read_model(name: str, inputs: Mapping[str, Path], recipe: Recipe) -> Model:
    """Read what a model left; a judge's file that is not among the inputs is one that was never asked of it."""
    judgements: dict[str, dict[Key, Judgement]] = {
        judge: _by_key(inputs.get(f"{name}/judgements_{judge}"), Judgement)
        for judge in recipe.judged_by()
        if f"{name}/judgements_{judge}" in inputs
    }
    retention = inputs.get(f"{name}/retention")
    kept: Mapping[str, Any] = {} if retention is None else read_json(retention)
    logps = inputs.get(f"{name}/pair_logps")
    return Model(
        name,
        _by_key(inputs[f"{name}/replies"], Reply),
        judgements,
        _by_key(inputs.get(f"{name}/preferences"), Preference),
        [] if logps is None else read_records(logps, PairLogps),
        kept.get("nats_per_token"),
        kept.get("repetition_rate"),
    )


def _by_key(path: Path | None, kind: type[Kept]) -> dict[Key, Kept]:
    records = [] if path is None else read_records(path, kind)
    return {(record.prompt_id, record.sample_index): record for record in records}


def scores_of(model: Model, judge: str, asked: Asked) -> list[float | None]:
    """A score a row: 1 or 0 from the verifier (solved or not), the reward otherwise, None where unscored or missing.

    A pairwise judge scores no reply by itself.
    """
    judged = model.judgements.get(judge, {})
    found = [judged.get(model.key_of(key)) for key in asked.keys]
    if judge == EXACT:
        return [None if j is None or j.solved is None else float(j.solved) for j in found]
    return [None if j is None else j.score for j in found]


def preferences_of(model: Model, asked: Asked) -> list[float | None]:
    """1, 0 or -1 a row: whether a pairwise judge prefers the model's reply to the baseline's; None where unscored."""
    found = [model.preferences.get(model.key_of(key)) for key in asked.keys]
    return [None if p is None or p.outcome is None else _POINTS[p.outcome] for p in found]


def lengths_of(model: Model, asked: Asked) -> list[float | None]:
    """Characters a row, None where there is no reply: the one unit that models with other tokenizers share."""
    found = [model.replies.get(model.key_of(key)) for key in asked.keys]
    return [None if reply is None else float(len(reply.text)) for reply in found]
