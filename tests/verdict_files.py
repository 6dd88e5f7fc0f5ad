"""What evaluation leaves, written as files for the verdict stage to read."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.recipe import Recipe
from limbeck.recipe.file import parse_recipe
from limbeck.records import Judgement, Problem, PromptRow, Record, Reply, user_prompt
from limbeck.records.verdict import Comparison, Verdict
from limbeck.stages import verdict
from limbeck.store import write_records

Scores = Sequence[Sequence[float | None]]  # one list of samples a prompt; NaN is a reply that is missing


def prompt(at: int, source: str = "own") -> PromptRow:
    """A prompt whose problem's family is one of two."""
    family = "even" if at % 2 == 0 else "odd"
    problem = Problem(family=family, question="?", answer="1", metadata={}, solution="#### 1", content=f"{source} {at}")
    return PromptRow(id=f"p{at}", prompt=user_prompt(f"{source} prompt {at}"), source=source, problem=problem)


def recipe(arms: Sequence[str] = ("a",), judged_by: Sequence[str] = ("verifier",), **sections: Any) -> Recipe:
    """A recipe with these arms and judges."""
    evaluate = {"judges": judged_by, "temperature": 1.0, **sections.pop("evaluate", {})}
    data = {"name": "v", "corpus": {"tasks": {}}, "arms": {arm: {"random": 9} for arm in arms}, "evaluate": evaluate}
    return parse_recipe(data | sections, "v.toml")


def written(path: Path, records: Sequence[Record]) -> Path:
    """Write records and return where they lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, records)
    return path


def write_model(folder: Path, name: str, judged: Mapping[str, Scores], length: int = 4) -> dict[str, Path]:
    """The files of one model, judged by each of the judges; every sample's text has `length` characters."""
    found = {}
    replies: dict[tuple[str, int], Reply] = {}
    for judge, scores in judged.items():
        lines = []
        for at, samples in enumerate(scores):
            for sample, score in enumerate(samples):
                if score is not None and math.isnan(score):
                    continue
                solved = None if judge != "verifier" or score is None else score == 1
                reason = "why" if score is None else None
                lines.append(Judgement(prompt_id=f"p{at}", sample_index=sample, score=score, solved=solved,
                                       parsed=score != 0 or judge != "verifier", unscored_reason=reason))  # fmt: skip
                replies[f"p{at}", sample] = Reply(prompt_id=f"p{at}", sample_index=sample, text="x" * length,
                                                  finish_reason="stop", num_tokens=3)  # fmt: skip
        found[f"{name}/judgements_{judge}"] = written(folder / name / f"judgements_{judge}.jsonl", lines)
    return found | {f"{name}/replies": written(folder / name / "replies.jsonl", list(replies.values()))}


def judge_files(folder: Path, given: Recipe, models: Mapping[str, Mapping[str, Scores]], **inputs: Path) -> Verdict:
    """Write what every model left, run the stage, and read its verdict."""
    count = max(len(scores) for judged in models.values() for scores in judged.values())
    files = {"test": written(folder / "test.jsonl", [prompt(at) for at in range(count)])} | inputs
    for name, judged in models.items():
        files |= write_model(folder, name, judged)
    verdict.run(given, files, folder)
    return Verdict.model_validate_json((folder / "verdict.json").read_text())


def comparison(found: Verdict, candidate: str, baseline: str = "sft", judge: str | None = None) -> Comparison:
    """The one comparison of these two."""
    (match,) = [c for c in found.comparisons if (c.candidate, c.baseline) == (candidate, baseline)
                and judge in (None, c.judge)]  # fmt: skip
    return match
