"""Sources to clean records, split for good: what is trained on, what is chosen by, what is judged by.

Reads: the data sets that the recipe names (files, folders, hub), the built-in tasks and everyday chat prompts.
Writes: demonstrations, demonstrations_validation (Demonstration), human (Pair), and chat_train, chat_heldout, pool,
    fresh, validation, test, transfer (PromptRow), each as NAME.jsonl, in an order that the seed decides; where a reward
    model is trained before mining, judging and where one mines judging_mine (Pair), which only those see.
Start reading at: `assembly.run`, then `formats.FORMATS`.
"""

from limbeck.stages.corpus.assembly import run

__all__ = ["run"]
