"""`limbeck compare`: the user's own judged replies, folders of `limbeck evaluate`, and several seeds of a run."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from street import limbeck
from verdict_files import prompt, recipe, write_model, written

from limbeck import seeds
from limbeck.commands.compared import read_run
from limbeck.recipe.file import write_recipe
from limbeck.records import Judgement
from limbeck.rounds import round_recipe
from limbeck.stages.verdict.paired import Named, PairedRows, Terms, compare
from limbeck.stages.verdict.pooling import joined, pool, run_rows

NAN = float("nan")


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rewards(path: Path, shift: float, seed: int, count: int = 60) -> Path:
    rng = random.Random(f"judged {seed}")
    drawn = [(rng.gauss(shift, 1), rng.randint(5, 40)) for _ in range(count)]
    rows = [{"prompt_id": f"p{at}", "score": score, "text": "x" * long} for at, (score, long) in enumerate(drawn)]
    return lines(path, rows)


def scores(path: Path) -> list[float | None]:
    return [json.loads(line)["score"] for line in path.read_text().splitlines()]


def test_own_files_give_the_same_comparison_as_the_verdict(tmp_path: Path) -> None:
    sft, good = rewards(tmp_path / "sft.jsonl", 0, 1), rewards(tmp_path / "good.jsonl", 1.5, 2)
    told = limbeck("compare", sft, good).done().out
    terms = Terms(seeds.derive(1, "compare"))
    unknown: list[float | None] = [None] * 60
    rows = PairedRows(scores(sft), scores(good), unknown, unknown, list(range(60)), [""] * 60)
    slow = compare(rows, Named("good", "sft", "score"), terms)
    assert slow is not None
    assert f"{slow.wins}/{slow.ties}/{slow.losses}" in told
    assert f"{100 * slow.win_rate.estimate:.1f}" in told
    assert f"[{slow.difference.low:+.2f}, {slow.difference.high:+.2f}]" in told
    assert "Win rate against sft, judged by score; a tie is half a win." in told
    assert "sign test, exact" in told


def test_the_table_fits_80_columns_whatever_the_names_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "a_name_that_is_longer_than_any_column_could_be_made_to_hold_without_folding"
    files = [
        rewards(tmp_path / f"{name}.jsonl", shift, 7, 2000) for name, shift in (("sft", 0), (long, -0.5), ("b", 9))
    ]
    told = limbeck("compare", *files).done().out
    assert max(map(len, told.splitlines())) <= 80
    assert "..." not in told
    assert "…" not in told


def test_ties_count_half_or_as_the_paper_has_them_none(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [{"prompt_id": str(at), "score": 0} for at in range(10)])
    two = lines(tmp_path / "two.jsonl", [{"prompt_id": str(at), "score": int(at < 4)} for at in range(10)])
    assert "70.0" in limbeck("compare", one, two).done().out
    strict = limbeck("compare", one, two, "--ties", "loss").done().out
    assert "40.0" in strict
    assert "a tie is no win" in strict


def test_candidates_are_corrected_together_and_unscored_rows_are_counted(tmp_path: Path) -> None:
    sft = lines(tmp_path / "sft.jsonl", [{"prompt_id": str(at), "solved": False} for at in range(8)])
    six = [{"prompt_id": str(at), "solved": None if at > 6 else at < 6} for at in range(8)]  # p = 2 / 2^6 = 0.03125
    one, two = lines(tmp_path / "one.jsonl", six), lines(tmp_path / "two.jsonl", six)
    alone = limbeck("compare", sft, one).done().out
    assert "McNemar, exact" in alone
    assert "0.031" in alone
    assert "1 unscored" in alone
    assert limbeck("compare", sft, one, two).done().out.count("0.062") == 2


def test_folders_of_evaluate_are_compared_by_every_judge_they_share(tmp_path: Path) -> None:
    for name, marks in (("before", [[0.0], [1.0], [NAN]]), ("after", [[1.0], [1.0], [1.0]])):
        write_model(tmp_path / name / "evaluate", "model", {"verifier": marks, "nemotron": marks})
    write_model(tmp_path / "other" / "evaluate", "model", {"nemotron": [[2.0], [2.0]]})
    told = limbeck("compare", tmp_path / "before", tmp_path / "after").done().out
    assert "Win rate against before, judged by verifier" in told
    assert "Win rate against before, judged by nemotron" in told
    assert told.count("1/1/0") == 2
    assert "verifier" not in limbeck("compare", tmp_path / "before", tmp_path / "other").done().out


def test_what_a_learned_judge_wrote_is_read_as_rewards_and_turns_of_a_conversation_are_one_prompt(
    tmp_path: Path,
) -> None:
    files = []
    for name, gain in (("before", 0.0), ("after", 1.0)):
        ids = [f"p{at}{turn}" for at in range(6) for turn in ("", "/turn-2")]
        judged = [Judgement(prompt_id=id_, score=at + gain, parsed=True) for at, id_ in enumerate(ids)]
        files.append(written(tmp_path / f"{name}.jsonl", judged))
    told = limbeck("compare", *files).done().out
    assert "judged by score" in told
    assert "12/0/0" in told
    assert "0.031" in told  # 2 / 2^6: six conversations, not twelve prompts


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [{"prompt_id": "1", "score": "high"}],
            "line 1: score should be a number, or null where unscored, found 'high'",
        ),
        ([{"prompt_id": "1"}], "line 1: score should be a number, or null where unscored, found None"),
        (
            [{"prompt_id": "1", "score": NAN}],
            "line 1: score should be a finite number, or null where unscored, found nan",
        ),
        ([{"score": 1}], "line 1: prompt_id should be a text, found None"),
        ([{"prompt_id": "1", "solved": 1}], "line 1: solved should be true, false, or null where unscored, found 1"),
        ([{"prompt_id": "1", "score": 1}] * 2, "line 2: prompt '1' has a sample 0 already"),
        ([{"prompt_id": "1", "score": 1, "sample_index": -1}], "line 1: sample_index should be a number from 0 up"),
        ([{"prompt_id": "other", "score": 1}], "have no prompt in common"),
        ([{"prompt_id": "1", "score": None}], "no row is scored on both sides"),
        ([{"prompt_id": "1", "solved": True}], "no judge scored all of them: good by score; bad by verifier"),
        ([{"prompt_id": "1", "solved": True}, {"prompt_id": "2", "score": 1}], "line 2: solved should be true, false"),
        ([], "is empty: there is no score to compare"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence_that_names_the_line(
    rows: list[dict[str, Any]], complaint: str, tmp_path: Path
) -> None:
    good = lines(tmp_path / "good.jsonl", [{"prompt_id": "1", "score": 1}])
    assert complaint in limbeck("compare", good, lines(tmp_path / "bad.jsonl", rows)).complaint


def test_what_is_no_folder_of_replies_is_refused(tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", [{"prompt_id": "1", "score": 1}])
    assert "does not exist" in limbeck("compare", good, tmp_path / "none").complaint
    assert "expected a folder that `limbeck evaluate` wrote" in limbeck("compare", good, tmp_path).complaint
    assert "good.jsonl is given twice" in limbeck("compare", good, good).complaint
    assert "--confidence should lie between 0 and 1" in limbeck("compare", good, good, "--confidence", 95).complaint


def a_run(folder: Path, seed: int, first: int, arms: tuple[str, ...] = ("a", "b"), count: int = 40) -> Path:
    """A finished run whose prompts are numbered from `first`; arm a is better, arm b as good as SFT."""
    rng = random.Random(f"judged {seed}")
    skill = {"base": 0.1, "sft": 0.4, "a": 0.75, "b": 0.4, "c": 0.4}
    folder.mkdir()
    write_recipe(folder / "recipe.toml", recipe(arms).model_copy(update={"seed": seed}))
    rows = [prompt(at).model_copy(update={"id": f"p{at - first}"}) for at in range(first, first + count)]
    written(folder / "corpus" / "test.jsonl", rows)
    for name in ("base", "sft", *arms):
        marks = [[float(rng.random() < skill[name])] for _ in range(count)]
        write_model(folder / "evaluate", name, {"verifier": marks})
    return folder


def test_seeds_are_pooled_arm_by_arm_and_shown_one_by_one(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / f"r{seed}", seed, 100 * seed) for seed in (1, 2, 3)]
    told = limbeck("compare", *runs).done().out
    read = [read_run(run)[1] for run in runs]
    found = {
        p.together.candidate: p for p in pool(read, ("a", "b"), "verifier", Terms(seeds.derive(1, "compare"), family=2))
    }
    both = found["a"]
    assert both.together.difference.n == 120
    alone = [c for c in both.by_run if c is not None]
    assert both.together.wins == sum(c.wins for c in alone)
    assert both.together.difference.estimate == pytest.approx(sum(c.difference.estimate for c in alone) / 3)
    assert both.together.test == "McNemar, exact"
    assert both.together.p_value_holm < 0.05 < found["b"].together.p_value_holm
    assert both.spread is not None
    assert f"{100 * both.spread:.1f}" in told
    assert f"{both.together.wins}/{both.together.ties}/{both.together.losses}" in told
    for c in alone:
        assert f"{c.wins}/{c.ties}/{c.losses}" in told
    assert "How far another training may fall from them is seen in the spread between seeds." in told


def test_a_copy_of_a_run_is_no_second_seed(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / name, seed, 0) for name, seed in (("one", 1), ("two", 2), ("copy", 1))]
    runs.append(a_run(tmp_path / "other", 3, 0, arms=("a",)))
    done = limbeck("compare", *runs)
    assert done.code == 2
    assert f"{runs[0]} and {runs[2]} are one recipe under one seed" in " ".join(done.err.split())


def test_prompts_that_seeds_share_are_one_piece_of_evidence_and_others_are_strata(tmp_path: Path) -> None:
    same = [read_run(a_run(tmp_path / f"same{seed}", seed, 0))[1] for seed in (1, 2)]
    rows = joined(same, [run_rows(run, "a", "verifier") for run in same])
    assert len(set(rows.prompts)) == 40
    assert rows.strata is None
    (found,) = pool(same, ("a",), "verifier", Terms(1))
    assert found.together.difference.n == 40
    assert found.together.test == "paired permutation over prompts"
    apart = [read_run(a_run(tmp_path / f"apart{seed}", seed, 100 * seed))[1] for seed in (1, 2)]
    rows = joined(apart, [run_rows(run, "a", "verifier") for run in apart])
    assert len(set(rows.prompts)) == 80
    assert rows.strata == [0] * 40 + [1] * 40


def test_the_same_round_of_several_seeds_is_one_recipe(tmp_path: Path) -> None:
    runs = [a_run(tmp_path / f"r{seed}", seed, 100 * seed, arms=("a",)) for seed in (1, 2)]
    for run, seed in zip(runs, (1, 2), strict=True):
        whole = recipe(("a",), rounds={"count": 2}).model_copy(update={"seed": seed})
        write_recipe(run / "recipe.toml", whole)
        write_model(run / "rounds" / "2" / "evaluate", "a", {"verifier": [[1.0]] * 40})
        write_recipe(run / "rounds" / "2" / "recipe.toml", round_recipe(whole, 2))
    done = limbeck("compare", *(run / "rounds" / "2" for run in runs)).done()
    assert "differ in more than name and seed" not in done.err


def test_runs_that_do_not_fit_together_are_refused_or_said(tmp_path: Path) -> None:
    one, two = a_run(tmp_path / "one", 1, 0), a_run(tmp_path / "two", 2, 0, arms=("a", "c"))
    done = limbeck("compare", one, two).done()
    assert "Not in every run, and left out: b, c." in done.err
    assert "These recipes differ in more than name and seed: arms." in done.err
    assert f"{one} is given twice" in limbeck("compare", one, one).complaint
    own = lines(tmp_path / "own.jsonl", [{"prompt_id": "1", "score": 1}])
    assert "is a whole run and" in limbeck("compare", one, own).complaint
    other = a_run(tmp_path / "three", 3, 0, arms=("c",))
    assert "these runs have no arm in common" in limbeck("compare", one, other).complaint
    (two / "evaluate" / "a" / "replies.jsonl").unlink()
    assert "cannot be compared yet" in limbeck("compare", one, two).complaint
