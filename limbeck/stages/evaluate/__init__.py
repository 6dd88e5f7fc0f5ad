"""Ask one model every held-out prompt and let the judges score its replies (paper step 7: one response a prompt).

Reads: `model` (a served one can do without), `test`, `transfer` (prompts), `chat_heldout` (demonstrations: the base
model's own chat replies), `reward_model` (a reward model trained here, where it judges). Of `against`, and of replies
that are there already: `responses` in place of a model.
Writes: `replies.jsonl`, `judgements_<judge>.jsonl`, `retention.json`.
Start reading at: `assembly.run`; then `asking.py`, `given.py`, `retaining.py`.
"""

from limbeck.stages.evaluate.assembly import run

__all__ = ["run"]
