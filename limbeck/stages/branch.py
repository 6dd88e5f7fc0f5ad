"""Find the step at which a failing reply goes wrong: the student writes the rest anew, from the last step backwards.

A right continuation shows that what stands before it is no mistake, or none that cannot be recovered from. The failing
reply and the right one share that beginning, so that a pair of them differs in nothing but what decides.

Reads: `student` (model), `weak` (weak prompts with failing replies).
Writes: `divergences.jsonl`, `replies_N.jsonl` (the continuations from the N-th step tried).
Start reading at: `run`, then `find_divergences`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck import seeds, tasks
from limbeck.errors import InputError, RecipeError
from limbeck.likeness import same_answer
from limbeck.lm.generate import Sampling
from limbeck.lm.replies import Replies
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.branch import Branch
from limbeck.records import Divergence, Reply, WeakPrompt
from limbeck.store import read_records, write_records
from limbeck.students.choice import student_for
from limbeck.tasks.arithmetic import slips

_LINE_END = re.compile(r"\n+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[ \t]+(?=\S)")
# Rows, and by their ids what their replies begin with; which attempt it is.
Continue = Callable[[Sequence[WeakPrompt], Mapping[str, str], int], Sequence[Reply]]


@dataclass(frozen=True)
class _Failed:
    """A failing reply, and where its steps end, the last first: how many of its characters stand before each."""

    row: WeakPrompt
    text: str
    places: tuple[int, ...]


def run(recipe: Recipe, inputs: Mapping[str, Path], out: Path, model: str = "sft") -> StageResult:
    """Continue one failing reply of each weak prompt from its steps.

    Raises:
        RecipeError: where the student has a server: a reply cannot be begun for it.
        InputError: where no weak prompt has a problem behind it, so that nothing can say what is right.
    """
    if model in recipe.servers:
        raise RecipeError(f"servers.{model}: divergence pairs need the built-in engine, which can go on from a step of "
                          "a reply; leave the server out")  # fmt: skip
    weak = read_records(inputs["weak"], WeakPrompt)
    if weak and not any(row.problem for row in weak):
        raise InputError("no weak prompt is a problem with a verifier, so no continuation can be called right; "
                         "divergence pairs need [corpus.tasks]")  # fmt: skip
    student = student_for(model, recipe, inputs.get("student"))
    asked: list[Replies] = []

    def go_on(rows: Sequence[WeakPrompt], begun: Mapping[str, str], attempt: int) -> Sequence[Reply]:
        # A stream of its own for every step, else all steps of a reply would draw the same.
        sampling = Sampling.of(recipe.branch, seeds.derive(recipe.seed, "branch", attempt))
        label, path = f"branching: step {attempt + 1} from the end", out / f"replies_{attempt}.jsonl"
        found = student.ask(rows, sampling, recipe.model, path, label, recipe.branch.samples_per_step, begun)
        asked.append(found)
        return found.replies

    usable = [row for row in weak if row.problem and row.failures]
    sound = [one for row in usable if (one := _failed(row, recipe)) is not None]
    failed = sound[: recipe.branch.most_prompts]
    found = find_divergences(failed, go_on, recipe.branch, recipe.seed)
    write_records(out / "divergences.jsonl", found)
    drops = {
        "no whole failing reply, or no problem": len(weak) - len(usable),
        "no step before the mistake": len(usable) - len(sound),
        "more than branch.most_prompts": len(sound) - len(failed),
        "no right continuation": len(failed) - len(found),
    }
    return StageResult(
        counts_in={"weak": len(weak)},
        counts_out={"divergences": len(found)},
        drops={reason: number for reason, number in drops.items() if number},
        tokens={"sampled": sum(replies.tokens for replies in asked)},
        facts={"continuations": sum(len(replies.replies) for replies in asked),
               "mean_shared_share": round(_mean_shared(found), 3)},
    )  # fmt: skip


def _failed(row: WeakPrompt, recipe: Recipe) -> _Failed | None:
    """A failing reply and where to go on from: only before its first false equation, since what holds one is not right.

    None where no failing reply has such a step.
    """
    sound = [(text, [end for end in step_ends(text) if not slips(text[:end])]) for text in row.failures]
    if not (begun := [(text, ends) for text, ends in sound if ends]):
        return None
    text, ends = seeds.rng(recipe.seed, "branch", row.id).choice(begun)
    return _Failed(row, text, tuple(ends[::-1][: recipe.branch.most_steps]))


def step_ends(text: str) -> tuple[int, ...]:
    """Where steps end: how many characters stand before each next one. A step is a line; in a single line, a sentence.

    The last step has no end of its own: nothing is left to be written after it.
    """

    def between_words(ends: Iterable[int]) -> tuple[int, ...]:
        return tuple(end for end in ends if text[end:].strip() and text[:end].strip())

    lines = between_words(match.end() for match in _LINE_END.finditer(text))
    # A sentence ends before the space: to a tokenizer that belongs to the next word.
    return lines or between_words(match.start() for match in _SENTENCE_END.finditer(text))


def find_divergences(failed: Sequence[_Failed], go_on: Continue, settings: Branch, seed: int) -> list[Divergence]:
    """The latest step of each failing reply from which a continuation is right; those without one are left out."""
    found: dict[str, Divergence] = {}
    for attempt in range(settings.most_steps):
        still = [one for one in failed if one.row.id not in found and attempt < len(one.places)]
        if not still:
            break
        begun = {one.row.id: one.text[: one.places[attempt]] for one in still}
        right: dict[str, list[str]] = {}
        rows = {one.row.id: one for one in still}
        for reply in go_on([one.row for one in still], begun, attempt):
            one = rows[reply.prompt_id]
            if _is_right(one.row, reply) and not same_answer(reply.text, one.text):
                right.setdefault(reply.prompt_id, []).append(reply.text)
        for id_, texts in right.items():
            correction = seeds.rng(seed, "branch", "chosen", id_).choice(list(dict.fromkeys(texts)))
            found[id_] = Divergence(prompt_id=id_, failure=rows[id_].text, correction=correction,
                                    shared_characters=len(begun[id_]))  # fmt: skip
    return [found[one.row.id] for one in failed if one.row.id in found]


def _is_right(row: WeakPrompt, reply: Reply) -> bool:
    """A false equation on the way to the right answer is a mistake all the same."""
    ends = reply.finish_reason == "stop" and row.problem is not None and tasks.score(row.problem, reply.text).solved
    return ends and not slips(reply.text)


def _mean_shared(found: Sequence[Divergence]) -> float:
    shares = [one.shared_characters / len(one.failure) for one in found]
    return sum(shares) / len(shares) if shares else 0.0
