"""Alarms of a real training run: said at once, kept, resumed with, and stopped by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import ragged_demonstrations, tiny_folder, tiny_model

from limbeck.lm.alarm_file import ALARMS
from limbeck.lm.items import Items
from limbeck.lm.load import LanguageModel
from limbeck.lm.objectives import SftObjective
from limbeck.lm.packing import Item
from limbeck.lm.train import StepLoss, Trainer, Values
from limbeck.lm.training_result import training_result
from limbeck.recipe.alarms import Alarms
from limbeck.recipe.training import Sft
from limbeck.records.alarms import Alarm
from limbeck.store import read_records

SETTINGS = Sft(learning_rate=1e-4, batch_size=3, epochs=6, validate_every_steps=1, checkpoint_every_minutes=1e-9)
HELD_OUT = (2.0, 1.0, 1.2, 1.3, 1.4, 1.5, 1.6, 3.0, 4.0)  # after step 0, 1, ...: overfitting is sure at step 3


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass
class Scripted:
    """SFT whose held-out loss is `HELD_OUT`, and which dies before a step."""

    inner: SftObjective
    dies_at: int = -1
    step: int = 0

    @property
    def train(self) -> Sequence[Item]:
        return self.inner.train

    @property
    def heldout(self) -> Sequence[Item]:
        return self.inner.heldout

    @property
    def num_rows(self) -> int:
        return self.inner.num_rows

    def rows(self, step: int) -> Sequence[Item]:
        if step == self.dies_at:
            raise KilledError
        self.step = step + 1
        return self.inner.rows(step)

    def losses(self, model: LanguageModel, rows: Sequence[Item]) -> Iterator[StepLoss]:
        return self.inner.losses(model, rows)

    def validate(self, model: LanguageModel) -> Values:
        assert model.network is not None
        return {"loss": HELD_OUT[min(self.step, len(HELD_OUT) - 1)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("start"), "qwen2", num_hidden_layers=1)


def trainer(folder: Path, out: Path, rules: Alarms | None, dies_at: int = -1) -> Trainer:
    rows = ragged_demonstrations()
    objective = Scripted(SftObjective(rows, rows[:2], SETTINGS, seed=1), dies_at)
    return Trainer(tiny_model(folder), objective, SETTINGS, out, "SFT", rules, "sft")


def kept(out: Path) -> list[Alarm]:
    return read_records(out / ALARMS, Alarm)


def test_alarms_are_said_at_once_and_kept_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = trainer(folder, tmp_path, Alarms())
    training.run()
    found = kept(tmp_path)
    assert [(alarm.about, alarm.field, alarm.step) for alarm in found] == [
        ("sft", "alarms.max_loss_rise", 3),
        ("sft", "alarms.max_loss_rise", 5),  # 0.5 is worse than 0.3 by half of the one, 0.4 was not
        ("sft", "alarms.max_loss_rise", 7),
        ("sft", "alarms.max_loss_rise", 8),
    ]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ALARM")]
    assert lines == [f"ALARM {alarm.sentence} {alarm.advice}" for alarm in found]
    facts = training_result(training, {}, Items([], {}), Items([], {}), "").facts
    assert (facts["alarms"], facts["stopped_by_alarm"]) == (4, False)


def test_a_killed_run_neither_loses_nor_repeats_an_alarm(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path / "whole", Alarms()).run()
    for dies_at in (1, 3, 4, 6, 9):
        with pytest.raises(KilledError):
            trainer(folder, tmp_path / "killed", Alarms(), dies_at).run()
    training = trainer(folder, tmp_path / "killed", Alarms())
    training.run()
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole") == training.watch.alarms


def test_an_alarm_ends_training_where_the_recipe_says_so_and_the_best_checkpoint_is_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = trainer(folder, tmp_path, Alarms(on_alarm="stop"))
    progress = training.run()
    assert (progress.step, progress.best_step, progress.stopped_by_alarm) == (3, 1, True)
    assert len(kept(tmp_path)) == 1
    said = capsys.readouterr().err
    assert 'ends at step 3 of 14, since there is an alarm and alarms.on_alarm is "stop"; the best checkpoint is' in said


def test_a_run_killed_right_after_the_alarm_that_stops_it_ends_there_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trainer(folder, tmp_path, Alarms(), dies_at=5).run()
    assert trainer(folder, tmp_path, Alarms(on_alarm="stop")).run().step == 5  # no step more


def test_nothing_is_watched_without_rules(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path, None).run()
    assert not (tmp_path / ALARMS).exists()
