"""`limbeck compare`, folders of evaluation: an id is a place in a draw or a file; what pairs is the prompt itself."""

import random
from collections.abc import Sequence
from pathlib import Path

from street import SMALL, limbeck, settings, student
from verdict_files import prompt, recipe, write_model, written

from limbeck.commands.compared import Side, paired_sides, read_side
from limbeck.manifest import StageResult, carry_out
from limbeck.recipe.file import write_recipe
from limbeck.records import PromptRow


def evaluated(
    out: Path, rows: Sequence[PromptRow], marks: Sequence[float], transfer: Sequence[PromptRow] | None = None
) -> Path:
    """What an evaluation leaves: the prompts in order, which the model's replies of the ids p0, p1... answer."""
    inputs = {"test": written(out / "corpus" / "test.jsonl", rows)}
    if transfer is not None:
        inputs["transfer"] = written(out / "corpus" / "transfer.jsonl", transfer)

    def work(_: Path) -> StageResult:
        write_model(out / "evaluate", "model", {"verifier": [[mark] for mark in marks]})
        return StageResult()

    name = "evaluate/model"
    carry_out(unit=name, folder=out / name, inputs=inputs, recipe_part={}, seed=1, keep=(), work=work)
    return out


def numbered(contents: Sequence[int]) -> list[PromptRow]:
    """Prompts of these contents with the ids p0, p1..., whatever stands in them."""
    return [prompt(at).model_copy(update={"id": f"p{place}"}) for place, at in enumerate(contents)]


def columns(one: Side, other: Side) -> list[tuple[float | None, float | None]]:
    rows = paired_sides(one, other, "verifier")
    return list(zip(rows.baseline, rows.candidate, strict=True))


def test_problems_drawn_under_two_seeds_share_ids_and_are_not_paired(tmp_path: Path) -> None:
    base = student(tmp_path / "base")
    short = settings(*SMALL, "evaluate.max_new_tokens=6")
    folders = [tmp_path / name for name in ("a", "b", "again")]
    for folder, seed in zip(folders, (1, 2, 1), strict=True):
        limbeck("evaluate", "--model", base, "--tasks", 6, "--seed", seed, "--out", folder, *short).done()
    complaint = limbeck("compare", folders[0], folders[1]).complaint
    assert complaint == "a and b have no prompt in common: the texts of their prompts differ"
    assert "0/6/0" in limbeck("compare", folders[0], folders[2]).done().out


def test_prompts_are_paired_by_content_whatever_their_ids(tmp_path: Path) -> None:
    contents = list(range(8))
    turned = random.Random(1).sample(contents, 8)
    one = evaluated(tmp_path / "one", numbered(contents), [float(at < 4) for at in contents])
    other = evaluated(tmp_path / "other", numbered(turned), [float(at < 4) for at in turned])
    assert columns(read_side(one), read_side(other)) == [(float(at < 4),) * 2 for at in contents]
    told = limbeck("compare", one, other).done().out
    assert "0/8/0" in told


def test_copies_of_a_prompt_are_paired_one_by_one_and_are_one_piece_of_evidence(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", numbered([5, 5, 6]), [1, 0, 1])
    other = evaluated(tmp_path / "other", numbered([6, 5, 5]), [0, 1, 1])
    assert columns(read_side(one), read_side(other)) == [(1, 1), (0, 1), (1, 0)]
    assert len(set(paired_sides(read_side(one), read_side(other), "verifier").prompts)) == 2


def test_prompts_of_unknown_files_that_differ_are_not_taken_for_the_same(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", numbered([0, 1]), [1, 0])
    same = evaluated(tmp_path / "same", numbered([0, 1]), [1, 1])
    other = evaluated(tmp_path / "other", numbered([2, 3]), [1, 1])
    for folder in (one, same, other):  # as where the prompts were a file of the user's own
        (folder / "corpus" / "test.jsonl").unlink()
    assert "1/1/0" in limbeck("compare", one, same).done().out
    complaint = limbeck("compare", one, other).complaint
    assert "one and other were asked prompts of different files" in complaint
    assert "judgements_verifier.jsonl, which are paired by prompt_id" in complaint
    files = [folder / "evaluate" / "model" / "judgements_verifier.jsonl" for folder in (one, other)]
    assert "1/1/0" in limbeck("compare", *files).done().out


def test_a_runs_transfer_problems_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    test, transfer = numbered(range(6)), [prompt(at).model_copy(update={"id": f"p{at}"}) for at in (6, 7, 8)]
    runs = []
    for name, marks in (("before", [0.0] * 9), ("after", [0.0] * 6 + [1.0] * 3)):
        runs.append(evaluated(tmp_path / name, test, marks, transfer))
        write_recipe(runs[-1] / "recipe.toml", recipe())
    done = limbeck("compare", *(run / "evaluate" / "model" for run in runs)).done()
    assert "0/6/0" in done.out
    assert "Test prompts are compared; a run's transfer problems are left out" in " ".join(done.err.split())


def test_a_further_rounds_prompts_are_those_of_the_run(tmp_path: Path) -> None:
    test, transfer = numbered(range(3)), numbered([])
    run = evaluated(tmp_path / "run", test, [0, 0, 0], transfer)
    write_recipe(run / "recipe.toml", recipe())
    later = evaluated(run / "rounds" / "2", test, [1, 1, 1], transfer)
    for file in (later / "corpus").iterdir():
        file.unlink()
    assert read_side(later).asked == read_side(run).asked
    assert columns(read_side(run), read_side(later)) == [(0, 1)] * 3


def test_where_transfer_problems_cannot_be_told_from_test_nothing_is_compared(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", numbered(range(3)), [0, 0, 0], [prompt(9)])
    (run / "corpus" / "transfer.jsonl").unlink()
    other = evaluated(tmp_path / "other", numbered(range(3)), [0, 0, 0])
    assert "its transfer problems can no longer be told from its test" in limbeck("compare", run, other).complaint
