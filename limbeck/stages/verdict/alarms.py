"""What is wrong with what models say: alarms over replies, against SFT's, and how many replies echo their prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck import seeds
from limbeck.console import say
from limbeck.diagnosis import Answered, prompt_echo_rate, reply_alarms
from limbeck.recipe import Recipe
from limbeck.recipe.verdict import AGAINST
from limbeck.records import PromptRow
from limbeck.records.alarms import Alarm
from limbeck.records.verdict import ModelScore
from limbeck.stages.verdict.models import BASELINE, Model
from limbeck.store import write_records

ALARMS = "alarms.jsonl"
_BASE = "base"
Answers = Mapping[tuple[str, int], Answered]


def look_at_replies(
    models: Sequence[Model], scores: Sequence[ModelScore], test: Sequence[PromptRow], recipe: Recipe, out: Path
) -> tuple[ModelScore, ...]:
    """Write the alarms of all models' replies; return the scores with each model's rate of prompt echoes.

    Arms are compared with SFT, and SFT with the base model, in all but length, which SFT is to change.
    """
    answers = {model.name: _answers(model, test) for model in models}
    alarms: list[Alarm] = []
    for name, own in answers.items():
        baseline = {_BASE: None, BASELINE: _BASE}.get(name, BASELINE)
        if baseline in answers and name != AGAINST:  # of somebody else's responses nothing was trained here
            alarms += reply_alarms(
                f"evaluate/{name}",
                own,
                answers[baseline],
                recipe.alarms,
                baseline_name=baseline,
                seed=seeds.derive(recipe.seed, "reply alarms", name),
                lengths=name != BASELINE,
            )
    write_records(out / ALARMS, alarms)
    for alarm in alarms:
        say(f"ALARM {alarm.sentence} {alarm.advice}", style="yellow")
    return tuple(s.model_copy(update={"prompt_echo_rate": prompt_echo_rate(answers[s.model].values())}) for s in scores)


def _answers(model: Model, test: Sequence[PromptRow]) -> Answers:
    rows = {row.id: row for row in test}
    return {
        (reply.prompt_id, reply.sample_index): Answered(
            rows[reply.prompt_id].prompt[-1].content, reply, rows[reply.prompt_id].reference_response
        )
        for reply in model.replies.values()
        if reply.prompt_id in rows
    }
