"""What is wrong with wrong replies: cut off, no answer, a false equation, or true equations that lead elsewhere.

A worked solution writes one equation a line, so that a reply can be held against arithmetic line by line.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from experiments.sweep import JUDGE, Sweep
from limbeck.commands.compared import read_run
from limbeck.records import Judgement, Reply
from limbeck.stages.verdict.models import BASELINE
from limbeck.stages.verdict.pooling import FinishedRun

Fault = Literal["right", "cut off", "no answer", "false equation", "wrong plan"]
FAULTS: tuple[Fault, ...] = ("right", "false equation", "wrong plan", "no answer", "cut off")

_NUMBER = r"-?\d+(?:\.\d+)?"
# Two numbers and their result, alone: not the tail of a longer sum, and not followed by one.
_EQUATION = re.compile(rf"(?<![-+*/] )(?<![\w.*/+-])({_NUMBER}) ([-+*/]) ({_NUMBER}) = ({_NUMBER})(?!\d|\.\d| [-+*/] )")
_NEAR = 1e-9


def fault_of(reply: Reply, judgement: Judgement) -> Fault:
    """What is wrong with one reply. A cut reply without an answer is `cut off`, whatever stands in it."""
    if judgement.solved:
        return "right"
    if "####" not in reply.text:
        return "cut off" if reply.finish_reason == "length" else "no answer"
    return "false equation" if any(not holds(*found) for found in _EQUATION.findall(reply.text)) else "wrong plan"


def holds(left: str, sign: str, right: str, result: str) -> bool:
    """Whether an equation of two numbers is true; a quotient by zero is not."""
    a, b, c = float(left), float(right), float(result)
    if sign == "/":
        return b != 0 and abs(a - b * c) < _NEAR
    return abs({"+": a + b, "-": a - b, "*": a * b}[sign] - c) < _NEAR


def faults(run: FinishedRun, model: str) -> Counter[Fault]:
    """How many of a model's replies to the compared prompts have each fault."""
    found, asked = run.models[model], {row.id for row in run.rows}
    judged = found.judgements[JUDGE]
    return Counter(
        fault_of(reply, judged[key]) for key, reply in found.replies.items() if key[0] in asked and key in judged
    )


def markdown(sweep: Sweep) -> str:
    """A row a model over all seeds, SFT first: the share of its replies with each fault.

    Raises:
        RunFolderError: where a run is not finished.
    """
    runs = [run for _, run in (read_run(sweep.folder(seed)) for seed in sweep.seeds)]
    models = [BASELINE, *(arm for arm in runs[0].models if arm != BASELINE)]
    head = f"| model | {' | '.join(FAULTS)} |\n|---|{'---:|' * len(FAULTS)}"
    return "\n".join([head, *(_row(model, runs) for model in models)])


def _row(model: str, runs: Sequence[FinishedRun]) -> str:
    counted: Counter[Fault] = sum((faults(run, model) for run in runs), Counter())
    return f"| {model} | {' | '.join(f'{100 * counted[fault] / counted.total():.1f} %' for fault in FAULTS)} |"
