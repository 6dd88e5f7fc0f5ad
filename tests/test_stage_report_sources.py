"""The report's table by source, and the curves of arms that train by SFT or twice."""

from pathlib import Path

from report_fixture import MODELS
from report_rich import build_rich_run, rich_recipe

from limbeck.manifest import KEPT_STEP, MANIFEST
from limbeck.records import Metric
from limbeck.stages.report import page
from limbeck.stages.report.curves import dpo_curves, run_name, sft_curves
from limbeck.stages.report.gather import gather
from limbeck.stages.report.sources import LAST_STEPS, source_table, sources_of
from limbeck.stages.report.tables import EMPTY
from limbeck.store import read_json, write_json


def point(step: int, split: str, **values: float) -> Metric:
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return Metric.model_validate({"step": step, "split": split, "values": named})


def test_a_source_is_told_at_the_kept_checkpoint_before_training_and_in_the_last_steps() -> None:
    points = [
        point(0, "validation", loss=0.7, accuracy__human=0.5, margin__human=0.0, margin__new=0.0),
        *(point(n, "train", loss=0.6, accuracy__human=float(n > 30)) for n in range(1, 41)),
        point(20, "validation", loss=0.5, accuracy__human=0.75, margin__human=1.25, margin__new=-0.5),
        point(40, "validation", loss=0.6, accuracy__human=1.0, margin__human=2.0, margin__new=-1.0),
    ]
    table = source_table({"dpo_first/a": (), "dpo/a": tuple(points)}, {"dpo/a": 20})
    assert table is not None
    human, new = table.rows
    assert [cell.main for cell in human] == ["a", "human", "75.0%", "1.250", "–"]
    assert human[2].note == "from 50.0%\ntraining 50.0%"  # 10 of the last 20 steps
    assert LAST_STEPS == 20
    assert [cell.main for cell in new] == ["a", "new", "–", "−0.500", "–"]
    assert (new[2], new[3].note) == (EMPTY, "from 0.000")
    last = source_table({"dpo/a": tuple(points)}, {"dpo/a": 40})  # `keep` is "last"
    assert last is not None
    assert [cell.main for cell in last.rows[0]] == ["a", "human", "100.0%", "2.000", "–"]


def test_which_checkpoint_was_kept_the_manifest_says(tmp_path: Path) -> None:
    root = build_rich_run(tmp_path / "run")
    unit = f"dpo/{MODELS[2]}"
    manifest = read_json(root / unit / MANIFEST)
    shown = set()
    for kept in {metric.step for metric in gather(root, rich_recipe()).metrics[unit] if metric.split == "validation"}:
        manifest["result"]["facts"] = {KEPT_STEP: kept}
        write_json(root / unit / MANIFEST, manifest)
        table = page._training(gather(root, rich_recipe()), ())["source_table"]
        shown.add(next(row[3].main for row in table.rows if row[0].main == MODELS[2]))
    assert len(shown) > 2
    assert "–" not in shown


def test_without_validation_the_training_value_is_told_and_none_is_claimed() -> None:
    table = source_table(
        {"sft_arms/a": (point(1, "train", loss=1.0, loss__tasks=0.5, loss__chat=2.0),)}, {"sft_arms/a": 1}
    )
    assert table is not None
    assert [(row[0].main, row[1].main, row[4].main, row[4].note) for row in table.rows] == [
        ("a", "chat", "–", "training 2.000"), ("a", "tasks", "–", "training 0.500"),
    ]  # fmt: skip


def test_one_source_makes_no_table_and_a_data_sets_slash_belongs_to_its_name() -> None:
    assert source_table({"sft": (point(1, "train", loss=1.0),)}, {"sft": 1}) is None
    assert sources_of([point(1, "train", **{"loss/HuggingFaceTB/smoltalk": 1.0})]) == ["HuggingFaceTB/smoltalk"]


def test_first_runs_and_sft_arms_have_curves_and_numbers_of_their_own() -> None:
    assert [run_name(unit) for unit in ("sft", "dpo/a", "dpo_first/a", "sft_arms/b")] == [
        "sft",
        "a",
        "a, first run",
        "b",
    ]
    lines = (point(1, "train", loss=0.7, margin=0.0),)
    metrics = dict.fromkeys(("sft", "dpo_first/a", "dpo/a", "sft_first/b", "sft_arms/b"), lines)
    series = {"base": 0, "sft": 1, "a": 2, "b": 3}
    drawn = {"dpo": dpo_curves(metrics, series).figure, "sft": sft_curves(metrics, series).figure}
    names = {kind: [entry.name for entry in figure.legend] for kind, figure in drawn.items() if figure is not None}
    assert names == {"dpo": ["a, first run", "a"], "sft": ["sft", "b, first run", "b"]}
    marks = {entry.name: str(entry.mark) for figure in drawn.values() if figure for entry in figure.legend}
    assert len({marks[name] for name in ("sft", "a", "b", "a, first run")}) == 4
