"""Live trackers with the real libraries, where they are installed: what was written is read back; and real training."""

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from street import SMALL, limbeck, settings, student, write_lines
from test_lm_train import ALWAYS, KilledError, Wrapped, sft
from test_tracking import CURVE, metric, names, run_in, shown, trained
from tiny_models import tiny_folder, tiny_model

from limbeck.lm.items import Items
from limbeck.lm.train import METRICS, Trainer
from limbeck.lm.training_result import training_result
from limbeck.manifest import read_manifest
from limbeck.records import Metric
from limbeck.store import read_records
from limbeck.tracking import Tracking

MORE = [*CURVE[:4], metric(3), metric(4), metric(4, "validation", loss=0.5, **{"loss/human": 0.25})]
WHOLE = [*CURVE, *MORE[5:]]


def twice(tracker: str, folder: Path, first: Sequence[Metric] = CURVE, then: Sequence[Metric] = MORE) -> list[object]:
    """A run, and the same resumed from an earlier step; the facts of both."""
    facts = []
    for points in (first, then):
        (folder / METRICS).unlink(missing_ok=True)
        follows = Tracking((tracker,), run_in(folder / "track"), wait_seconds=60)
        trained(follows, folder, points)
        facts.append(follows.facts()[tracker])
    return facts


def complete(*numbers: int) -> list[object]:
    return [{"handed_over": number, "missed": 0, "problem": None} for number in numbers]


def test_tensorboards_own_reader_finds_every_point_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert twice("tensorboard", tmp_path) == complete(5, 7)
    (tmp_path / ".tracked_tensorboard.jsonl").unlink()
    twice("tensorboard", tmp_path, CURVE[:2], CURVE[:2])  # the unit ran anew: a curve of its own
    for run, expected in (("human", WHOLE), ("human-2", CURVE[:2])):
        read = EventAccumulator(str(tmp_path / "track" / "tensorboard" / "tiny" / "dpo" / run))
        read.Reload()
        for split in ("train", "validation"):
            points = [(event.step, event.value) for event in read.Scalars(f"{split}/loss")]
            wanted = [(point.step, pytest.approx(point.values["loss"])) for point in expected if point.split == split]
            assert points == wanted
        (text,) = read.Tensors("settings/text_summary")
        assert b"| learning_rate | 0.001 |" in text.tensor_proto.string_val[0]
    read = EventAccumulator(str(tmp_path / "track" / "tensorboard" / "tiny" / "dpo" / "human"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("validation/loss/human")] == [(4, 0.25)]


def test_tensorboard_without_a_place_to_write_is_counted(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "track").write_text("a file")
    (facts, _) = twice("tensorboard", tmp_path)
    assert facts == {"handed_over": 0, "missed": 5, "problem": "NotADirectoryError"}


def test_trackios_database_holds_every_point_once_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    assert twice("trackio", tmp_path) == complete(5, 7)
    with sqlite3.connect(tmp_path / "trackio" / "p.db") as database:
        rows = database.execute("select run_id, run_name, step, metrics from metrics order by id").fetchall()
    assert {row[1] for row in rows} == {"tiny/dpo/human"}
    assert len({row[0] for row in rows}) == 1
    expected = [(p.step, {f"{p.split}/{name}": value for name, value in p.values.items()}) for p in WHOLE]
    assert [(step, json.loads(metrics)) for _, _, step, metrics in rows] == expected


def wandb_rows(folder: Path) -> Iterator[dict[str, float]]:
    """History rows of W&B's offline files: protocol buffers in LevelDB's log format (32 KiB blocks, 7-byte heads)."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        data, at, content = path.read_bytes(), 7, b""
        while at < len(data):
            if (left := 32768 - at % 32768) < 7:
                at += left
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + 7])
            content += data[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):  # whole, or the last part
                record = Record.FromString(content)
                content = b""
                if record.WhichOneof("record_type") == "history":
                    yield {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}


def test_wandbs_offline_files_hold_every_point_once_under_one_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert twice("wandb", tmp_path) == complete(5, 7)
    ids = {path.name.rpartition("-")[2] for path in tmp_path.glob("track/wandb/offline-run-*")}
    assert len(ids) == 1
    rows = list(wandb_rows(tmp_path / "track"))
    for split in ("train", "validation"):
        points = [(row["_step"], row[f"{split}/loss"]) for row in rows if f"{split}/loss" in row]
        assert points == [(point.step, point.values["loss"]) for point in WHOLE if point.split == split]


def test_a_killed_and_resumed_training_is_one_curve_in_its_tracker_and_trains_as_if_it_had_none(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", "qwen2")
    run = run_in(tmp_path / "shown")
    rarely = ALWAYS.model_copy(update={"checkpoint_every_minutes": 1000})

    def die(step: int) -> None:
        if step == 3:
            trainer.save()
        if step == 6:
            raise KilledError

    def follows() -> Tracking:
        return Tracking(("fake",), run, wait_seconds=60)

    dying = Wrapped(sft(), before=die)
    trainer = Trainer(tiny_model(base), dying, rarely, tmp_path / "a", "SFT", tracking=follows())
    with pytest.raises(KilledError):
        trainer.run()
    resumed = Trainer(tiny_model(base), sft(), rarely, tmp_path / "a", "SFT", tracking=follows())
    resumed.run()
    plain = Trainer(tiny_model(base), sft(), rarely, tmp_path / "b", "SFT")
    plain.run()
    points, without = (read_records(tmp_path / name / METRICS, Metric) for name in ("a", "b"))
    assert names(points) == names(without)
    assert [p.values["loss"] for p in points] == [p.values["loss"] for p in without]
    (taken,) = shown(tmp_path / "shown")
    assert names(taken) == names(points)
    facts = training_result(resumed, {}, Items([], {}), Items([], {}), "cpu").facts["tracking"]
    assert facts == {"fake": {"handed_over": len(points), "missed": 0, "problem": None}}
    assert training_result(plain, {}, Items([], {}), Items([], {}), "cpu").facts["tracking"] == {}


def test_the_recipe_turns_tensorboard_on_and_changing_it_leaves_the_stage_fresh(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    rows = [{"instruction": f"Say {n}.", "output": f"{n}."} for n in range(6)]
    words = ["sft", "--model", student(tmp_path / "base"), "--data", write_lines(tmp_path / "d.jsonl", rows)]
    words += ["--out", tmp_path / "out", *settings(*SMALL, "sft.max_steps=2")]
    limbeck(*words, *settings('track.to=["tensorboard"]')).done()
    manifest = read_manifest(tmp_path / "out" / "sft")
    assert manifest is not None
    facts = manifest.result.facts["tracking"]["tensorboard"]
    assert facts == {"handed_over": len(read_records(tmp_path / "out/sft" / METRICS, Metric)), "missed": 0,
                     "problem": None}  # fmt: skip
    assert list((tmp_path / "out" / "track" / "tensorboard" / "sft" / "sft").glob("events.out.tfevents.*"))
    assert limbeck(*words).done().ran == []
