"""Weak prompts to pairs: ask the teacher, keep every raw reply, parse strictly, go on until enough pairs are accepted.

Reads: weak, random (WeakPrompt), fresh (PromptRow), human (Pair), evaluation_NAME (PromptRow) for whatever is held out,
    templates (a folder of the user's own); what is not given counts as empty.
Writes: KIND.jsonl (Pair) for every kind the arms ask for except human: every pair that could be made, so that screening
    says of each why it is dropped; replies.sqlite, which outlives re-runs.
Start reading at: `writing.teach_pairs`, then `accepting.collect` (when to stop) and `makers` (a class a kind).
"""

from limbeck.stages.teach.writing import run, teach_pairs

__all__ = ["run", "teach_pairs"]
