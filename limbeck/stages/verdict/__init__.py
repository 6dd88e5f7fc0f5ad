"""The answer: what each model achieved on the same held-out prompts, compared with the SFT baseline pair by pair.

Reads: `test`, `transfer` (prompts) and, for each model, `<model>/replies`, `<model>/judgements_<judge>`,
`<model>/retention`.
Writes: `verdict.json`, `alarms.jsonl`.
Start reading at: `assembly.run`; then `models.py`, `scoring.py`, `comparing.py`, `wording.py`, `alarms.py`.
"""

from limbeck.stages.verdict.assembly import run

__all__ = ["run"]
