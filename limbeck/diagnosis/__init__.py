"""Diagnosis: what goes wrong while a model is trained, and in what it then says. Pure: no torch, no files.

`Watch` is fed every point of a training curve and answers with alarms; `reply_alarms` compares replies with those of
the baseline. Thresholds are the recipe's `[alarms]`. Refuses to know where points come from and who reads alarms.
Start reading at: `watch.py`, then `pair_rules.py` and `loss_rules.py`; `replies.py`.
"""

from limbeck.diagnosis.echoes import echoes_prompt
from limbeck.diagnosis.history import Training
from limbeck.diagnosis.replies import Answered, prompt_echo_rate, reply_alarms
from limbeck.diagnosis.watch import Watch

__all__ = ["Answered", "Training", "Watch", "echoes_prompt", "prompt_echo_rate", "reply_alarms"]
