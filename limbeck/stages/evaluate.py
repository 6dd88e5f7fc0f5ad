"""Ask one model every held-out prompt and let the judges score its replies (paper step 7: one response a prompt).

Reads: `model` (a served one can do without), `test`, `transfer` (prompts), `chat_heldout` (demonstrations: the base
model's own chat replies), `reward_model` (of the judge `local`, where this run trained one).
Writes: `replies.jsonl`, `judgements_<judge>.jsonl`, `retention.json`.
Start reading at: `run`.
"""

from collections.abc import Mapping
from pathlib import Path

from limbeck import seeds
from limbeck.api.reply_store import FILE_NAME
from limbeck.errors import InputError
from limbeck.judges import make_judge
from limbeck.lm.generate import Sampling
from limbeck.lm.items import demonstration_items
from limbeck.lm.machine import release
from limbeck.lm.objectives import mean_nll_of
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.records import Demonstration, PromptRow
from limbeck.statistics import repetition_rate
from limbeck.store import read_records, write_json, write_records
from limbeck.students.choice import student_for
from limbeck.students.protocol import Student


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str) -> StageResult:
    """Sample, judge, and measure chat retention of one model, called `model`.

    Raises:
        InputError: where the only judge can judge none of the prompts.
        TeacherError: where the model's server or a judge is out of reach for good.
    """
    rows = [row for name in ("test", "transfer") if name in inputs for row in read_records(inputs[name], PromptRow)]
    if recipe.judged_by() == ("verifier",) and not any(row.problem for row in rows):
        raise InputError("no held-out prompt is a built-in problem, so the verifier can judge none; name another judge")
    student = student_for(model, recipe, inputs.get("model"))
    student.check()
    sampling = Sampling.of(recipe.evaluate, seeds.derive(recipe.seed, "evaluate"))
    asked = student.ask(rows, sampling, recipe.model, out / "replies.jsonl", f"evaluating {model}")
    by_id = {row.id: row for row in rows}
    answered = [(by_id[reply.prompt_id], reply) for reply in asked.replies]
    chat = read_records(inputs["chat_heldout"], Demonstration) if "chat_heldout" in inputs else []
    write_json(out / "retention.json", retention(student, chat, recipe, out))
    facts = {"tokens_per_second": round(asked.tokens_per_second, 1)} | student.facts()
    del student  # a judge that lies here must not lie beside it
    release()
    unscored: dict[str, int] = {}
    for name in recipe.judged_by():
        judge = make_judge(name, recipe, store=out / FILE_NAME, reward_model=inputs.get("reward_model"))
        judgements = list(judge.judge(answered))
        write_records(out / f"judgements_{name}.jsonl", judgements)
        unscored[f"{name}: unscored"] = sum(judgement.score is None for judgement in judgements)
    return StageResult(
        counts_in={"prompts": len(rows), "chat": len(chat)},
        counts_out={"replies": len(asked.replies)},
        drops=asked.drops | {reason: number for reason, number in unscored.items() if number},
        tokens={"sampled": asked.tokens},
        facts=facts,
    )


def retention(student: Student, chat: list[Demonstration], recipe: Recipe, out: Path) -> dict[str, float | int | None]:
    """How much of the base model's conversation is left, on held-out everyday prompts.

    `nats_per_token`: mean negative log-likelihood of the base model's replies. `repetition_rate`: mean share of
    repeated 4-word runs in the student's own replies to the same prompts. Both None where there are no such prompts.
    The first needs the weights, also of a served student; where there is nothing to measure they are not loaded.
    """
    nothing: dict[str, float | int | None] = {"nats_per_token": None, "repetition_rate": None, "prompts": 0}
    if not chat or recipe.corpus.chat is None:
        return nothing
    items = demonstration_items(student.weights().chat, chat, recipe.model).items
    if not items:
        return nothing
    sampling = Sampling(
        max_new_tokens=recipe.corpus.chat.max_new_tokens,
        temperature=recipe.corpus.chat.temperature,
        seed=seeds.derive(recipe.seed, "retain"),
    )
    replies = student.ask(chat, sampling, recipe.model, out / "chat_replies.jsonl", "  chat retention").replies
    rates = [rate for reply in replies if (rate := repetition_rate(reply.text)) is not None]
    return {
        "nats_per_token": mean_nll_of(student.weights(), items, recipe.sft.micro_batch_tokens),
        "repetition_rate": sum(rates) / len(rates) if rates else None,
        "prompts": len(items),
    }
