"""What one model left behind: its replies and what each judge said of them, read once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.recipe import Recipe
from limbeck.records import Judgement, PromptRow, Reply
from limbeck.store import read_records

BASELINE = "sft"


@dataclass(frozen=True)
class Model:
    """One model's replies and judgements, by prompt id."""

    name: str
    replies: Mapping[str, Reply]
    judgements: Mapping[str, Mapping[str, Judgement]]
    nats_per_token: float | None
    chat_repetition_rate: float | None


def read_model(name: str, inputs: Mapping[str, Path], recipe: Recipe) -> Model:
    kept = json.loads(inputs[f"{name}/retention"].read_text(encoding="utf-8"))
    judgements: dict[str, dict[str, Judgement]] = {
        judge: {j.prompt_id: j for j in read_records(inputs[f"{name}/judgements_{judge}"], Judgement)}
        for judge in recipe.judged_by()
    }
    replies = {reply.prompt_id: reply for reply in read_records(inputs[f"{name}/replies"], Reply)}
    return Model(name, replies, judgements, kept["nats_per_token"], kept["repetition_rate"])


def scores_of(model: Model, judge: str, rows: Sequence[PromptRow]) -> list[float | None]:
    """A score a prompt: 1 or 0 from the verifier (solved or not), the reward otherwise, None where unscored."""
    found = [model.judgements[judge].get(row.id) for row in rows]
    if judge == "verifier":
        return [None if j is None or j.solved is None else float(j.solved) for j in found]
    return [None if j is None else j.score for j in found]
