"""Keep conversation alive: the base model's own replies to everyday prompts, to be mixed into SFT and to measure it.

Reads: `chat_train`, `chat_heldout` (prompts), `base` (model).
Writes: `train.jsonl`, `heldout.jsonl` (demonstrations whose response is the base model's reply).
Start reading at: `run`.
"""

from collections.abc import Mapping
from pathlib import Path

from limbeck import seeds
from limbeck.lm.generate import Sampling
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Demonstration, PromptRow
from limbeck.store import read_records, write_records
from limbeck.students.choice import student_for


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path) -> StageResult:
    """Sample the base model once a chat prompt; truncated and empty replies are no example to follow and are dropped.

    Raises:
        ModelError: where the base model cannot be used; TeacherError: where its server is out of reach.
    """
    parts = {name: read_records(inputs[f"chat_{name}"], PromptRow) for name in ("train", "heldout")}
    if not any(parts.values()) or recipe.corpus.chat is None:
        for name in parts:
            write_records(out / f"{name}.jsonl", [])
        return StageResult()
    student = student_for("base", recipe, inputs["base"])
    student.check()
    sampling = Sampling(
        max_new_tokens=recipe.corpus.chat.max_new_tokens,
        temperature=recipe.corpus.chat.temperature,
        seed=seeds.derive(recipe.seed, "retain"),
    )
    rows = [row for part in parts.values() for row in part]
    asked = student.ask(rows, sampling, recipe.model, out / "replies.jsonl", "base model's chat replies")
    replies = {reply.prompt_id: reply for reply in asked.replies}
    drops = {**asked.drops, "truncated": 0, "empty": 0}
    counts: dict[str, int] = {}
    for name, part in parts.items():
        kept = []
        for row in part:
            reply = replies.get(row.id)
            if reply is None:
                continue
            if reply.finish_reason == "length":
                drops["truncated"] += 1
            elif not reply.text.strip():
                drops["empty"] += 1
            else:
                kept.append(Demonstration(id=row.id, prompt=row.prompt, source=row.source, response=reply.text))
        counts[name] = write_records(out / f"{name}.jsonl", kept)
    return StageResult(
        counts_in={name: len(part) for name, part in parts.items()},
        counts_out=counts,
        drops={reason: number for reason, number in drops.items() if number},
        tokens={"sampled": asked.tokens},
        facts=student.facts(),
    )
