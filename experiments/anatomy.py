"""What is wrong with wrong replies: cut off, no answer, a false equation, or true equations that lead elsewhere.

A worked solution writes one equation a line, which the arithmetic checker of the tasks holds to what is true.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from experiments.sweep import Sweep
from limbeck.commands.compared import read_run
from limbeck.errors import InputError
from limbeck.records import Judgement, Reply
from limbeck.stages.verdict.models import EXACT
from limbeck.stages.verdict.pooling import FinishedRun
from limbeck.tasks.arithmetic import check_arithmetic

Fault = Literal["right", "cut off", "no answer", "false equation", "wrong plan"]
FAULTS: tuple[Fault, ...] = ("right", "false equation", "wrong plan", "no answer", "cut off")


def fault_of(reply: Reply, judgement: Judgement) -> Fault:
    """What is wrong with one reply. A cut reply without an answer is `cut off`, whatever stands in it."""
    if judgement.solved:
        return "right"
    if "####" not in reply.text:
        return "cut off" if reply.finish_reason == "length" else "no answer"
    return "false equation" if check_arithmetic(reply.text) else "wrong plan"


def faults(run: FinishedRun, model: str) -> Counter[Fault]:
    """How many of a model's scored replies to the compared prompts have each fault."""
    found, asked = run.models[model], {row.id for row in run.rows}
    if EXACT not in found.judgements:
        raise InputError(f"{run.name}: only an exact judge says what is wrong with a reply, and none was asked")
    judged = found.judgements[EXACT]
    scored = {key for key, judgement in judged.items() if key[0] in asked and judgement.score is not None}
    return Counter(fault_of(reply, judged[key]) for key, reply in found.replies.items() if key in scored)


def markdown(sweep: Sweep) -> str:
    """A row a model over all seeds, SFT first: the share of its replies with each fault.

    Raises:
        RunFolderError: where a run is not finished. InputError: where a run has other arms, or nothing is scored.
    """
    runs = [run for _, run in (read_run(sweep.folder(seed)) for seed in sweep.seeds)]
    models = list(runs[0].models)
    if other := [run.name for run in runs if list(run.models) != models]:
        raise InputError(f"{other[0]} has other arms than {runs[0].name}: carry the same sweep out under both seeds")
    head = f"| model | {' | '.join(FAULTS)} |\n|---|{'---:|' * len(FAULTS)}"
    return "\n".join([head, *(_row(model, runs) for model in models)])


def _row(model: str, runs: Sequence[FinishedRun]) -> str:
    counted: Counter[Fault] = sum((faults(run, model) for run in runs), Counter())
    if not counted:
        raise InputError(f"no reply of {model} is scored")
    return f"| {model} | {' | '.join(f'{100 * counted[fault] / counted.total():.1f} %' for fault in FAULTS)} |"
