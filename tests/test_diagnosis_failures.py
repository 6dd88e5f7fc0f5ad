"""The three failures of the distillation paper, reproduced with a tiny model: each is caught; healthy runs are not."""

from pathlib import Path

import pytest
from tiny_models import tiny_folder, tiny_model
from watched_runs import mixed, pairs, variations, watched

from limbeck.records.alarms import Alarm

SWING = "alarms.max_loss_swing"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"), "qwen2", num_hidden_layers=1)


def by_field(alarms: tuple[Alarm, ...]) -> dict[str, Alarm]:
    """The first alarm of each field."""
    return {alarm.field: alarm for alarm in reversed(alarms)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_healthy_run_raises_no_alarm(base: Path, tmp_path: Path, seed: int) -> None:
    train = mixed(pairs("human", 128, seed), pairs("few_shot", 128, seed))
    heldout = [*pairs("human", 32, 100 + seed), *pairs("few_shot", 32, 100 + seed)]
    assert watched(base, train, heldout, tmp_path) == ()


@pytest.mark.parametrize("seed", [1, 2])
def test_narrow_data_is_caught_before_half_of_the_run(base: Path, tmp_path: Path, seed: int) -> None:
    """Pairs written from six seeds are learnt by heart, and say nothing of human pairs."""
    alarms = watched(base, variations("few_shot", 256, seed, seeds=6), pairs("human", 64, seed), tmp_path)
    gap = by_field(alarms)["alarms.max_accuracy_gap"]
    assert gap.value > 0.4
    assert gap.step is not None
    assert gap.step <= 16
    assert "held-out human pairs, which this run does not train on" in gap.sentence
    assert "widen the prompts" in gap.advice


@pytest.mark.parametrize("seed", [1, 2])
def test_a_second_run_on_synthetic_pairs_alone_is_caught_forgetting_the_human_ones(
    base: Path, tmp_path: Path, seed: int
) -> None:
    """Separate-stage integration: what the teacher prefers is, in part, what people do not."""
    model, human = tiny_model(base), pairs("human", 32, 100 + seed)
    assert watched(model, pairs("human", 256, seed), human, tmp_path / "first") == ()
    synthetic = pairs("few_shot", 256, seed, contrast=0.6, prefers=1)
    heldout = [*human, *pairs("few_shot", 32, 100 + seed, contrast=0.6, prefers=1)]
    stuck = by_field(watched(model, synthetic, heldout, tmp_path / "second"))["alarms.min_heldout_accuracy"]
    assert stuck.value < 0.3
    assert "on human pairs is stuck" in stuck.sentence
    assert "what the reference knew of them is being forgotten" in stuck.sentence
    assert "interleave instead of sequential" in stuck.advice


@pytest.mark.parametrize("seed", [1, 2])
def test_oscillation_is_caught_before_half_of_the_run_and_so_is_accuracy_that_never_rises(
    base: Path, tmp_path: Path, seed: int
) -> None:
    """The paper's beta of 1 and a learning rate that is too high, on pairs whose labels are noise."""
    noise, heldout = pairs("human", 256, seed, contrast=0.0), pairs("human", 32, 100 + seed, contrast=0.0)
    found = by_field(watched(base, noise, heldout, tmp_path / "wild", beta=1.0, learning_rate=1e-2))
    assert found[SWING].value > 0.5
    assert found[SWING].step is not None
    assert found[SWING].step <= 16
    assert "learning_rate" in found[SWING].advice
    assert found["alarms.min_heldout_accuracy"].value <= 0.5
    calm = watched(base, noise, heldout, tmp_path / "calm", beta=0.1, learning_rate=3e-4)
    assert SWING not in by_field(calm)
