"""The records that stages exchange: one JSON object a line, one class a kind of line.

`rows.py`: prompts, demonstrations, replies, judgements, pairs, metrics. What is written once a unit stands in a file of
its own: `audit.py`, `alarms.py`, `verdict.py`, `rounds.py`.
"""

from limbeck.records.rows import (
    Demonstration,
    Divergence,
    Estimate,
    FinishReason,
    HeldOutSplit,
    Judgement,
    Message,
    Metric,
    Pair,
    Problem,
    PromptRow,
    Record,
    Reply,
    Role,
    WeakPrompt,
    system_folded,
    user_prompt,
)

__all__ = [
    "Demonstration",
    "Divergence",
    "Estimate",
    "FinishReason",
    "HeldOutSplit",
    "Judgement",
    "Message",
    "Metric",
    "Pair",
    "Problem",
    "PromptRow",
    "Record",
    "Reply",
    "Role",
    "WeakPrompt",
    "system_folded",
    "user_prompt",
]
