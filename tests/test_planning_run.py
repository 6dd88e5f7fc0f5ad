"""A plan against what a run then does: tokens, steps, memory; and that planning touches nothing."""

import json
import re
from pathlib import Path

import pytest
import torch
from street import SETTINGS, limbeck, settings, student
from tiny_models import ARCHITECTURES, ragged_pairs, tiny_folder

from limbeck.errors import RecipeError, RunFolderError
from limbeck.lm.footprint import footprint_of
from limbeck.lm.load import load_model
from limbeck.lm.memory import estimate_memory, largest_micro_batch
from limbeck.lm.optim import MasterAdamW
from limbeck.lm.shape import Part, made_up, read_config, shape_of
from limbeck.manifest import StageResult, read_manifest
from limbeck.planning import assembly
from limbeck.planning.assembly import Plan, plan_of
from limbeck.planning.show import show_plan
from limbeck.planning.tables import tables_of
from limbeck.recipe.file import load_recipe
from limbeck.recipe.training import Lora, Optimisation
from limbeck.rounds import Reached

CPU, FP32 = torch.device("cpu"), torch.float32
# Many rows, so that a mean of them is one; everything else as small as it can be.
MANY = (
    "corpus.tasks.sft=40", "corpus.tasks.pool=60", "corpus.tasks.fresh=24",
    "corpus.tasks.test=4", "corpus.tasks.transfer=2", "corpus.chat.train=0", "corpus.chat.heldout=2",
    "sft.epochs=1", "sft.batch_size=8", "sft.checkpoint_every_minutes=9", "sft.validate_every_steps=9",
    "mine.max_new_tokens=4", "mix.heldout_pairs=2", "dpo.epochs=1", "dpo.batch_size=8", "dpo.validate_every_steps=9",
    "dpo.checkpoint_every_minutes=9", "evaluate.max_new_tokens=4",
)  # fmt: skip
ARMS = "[arms.random]\nrandom = 20\n[arms.mixed]\nrandom = 10\nzero_shot = 10\nfew_shot = 8\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    text = SETTINGS.format(student=json.dumps(str(student(folder / "base"))))
    path = folder / "recipe.toml"
    path.write_text(text[: text.index("[arms.random]")] + ARMS, encoding="utf-8")
    return path


def planned(recipe: Path, folder: Path, until: str | None = None) -> Plan:
    return plan_of(load_recipe(recipe, MANY), folder, until)


def done(folder: Path, unit: str) -> StageResult:
    manifest = read_manifest(folder / unit)
    assert manifest is not None
    return manifest.result


@pytest.fixture(scope="module")
def run(recipe: Path) -> tuple[Plan, Path]:
    """A plan, made before the run that it is of."""
    folder = recipe.parent / "run"
    plan = planned(recipe, folder)
    assert not folder.exists()
    limbeck("run", recipe, "--out", folder, *settings(*MANY)).done()
    return plan, folder


@pytest.mark.parametrize("unit", ["sft", "dpo/random", "dpo/mixed"])
def test_planned_steps_are_those_of_the_run_and_planned_tokens_within_15_percent(
    run: tuple[Plan, Path], unit: str
) -> None:
    plan, folder = run
    work = next(one.work for one in plan.units if one.unit.name == unit)
    result = done(folder, unit)
    assert work.steps is not None
    assert (work.steps.low, work.steps.high) == (result.counts_out["steps"],) * 2
    assert work.trained.likely == pytest.approx(result.tokens["trained"], rel=0.15)
    assert work.trained.low <= result.tokens["trained"] <= work.trained.high


def test_where_all_rows_are_known_the_tokens_of_sft_are_exact(run: tuple[Plan, Path]) -> None:
    plan, folder = run
    work = next(one.work for one in plan.units if one.unit.name == "sft")
    assert work.trained.is_exact
    assert round(work.trained.likely) == done(folder, "sft").tokens["trained"]


@pytest.mark.parametrize("unit", ["retain", "mine", "evaluate/sft"])
def test_no_unit_samples_more_than_planned(run: tuple[Plan, Path], unit: str) -> None:
    plan, folder = run
    work = next(one.work for one in plan.units if one.unit.name == unit)
    sampled = done(folder, unit).tokens["sampled"]
    assert 0 < sampled <= work.sampled.high


def test_reference_tokens_are_planned_once_for_pairs_that_arms_share(run: tuple[Plan, Path]) -> None:
    plan, folder = run
    for unit in ("dpo/random", "dpo/mixed", "heldout_pairs/sft", "heldout_pairs/base"):
        work = next(one.work for one in plan.units if one.unit.name == unit)
        result = done(folder, unit)
        if unit.startswith("heldout_pairs"):
            assert work.scored.likely == pytest.approx(result.tokens["scored"], rel=0.25)
        else:
            assert work.scored.likely > result.facts["reference"]["tokens"]  # validations are in it too


def test_what_is_fresh_is_planned_as_nothing_and_the_folder_stays_as_it_is(
    run: tuple[Plan, Path], recipe: Path
) -> None:
    folder = run[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = planned(recipe, folder)
    assert {one.state for one in again.units} == {"fresh"}
    stale = plan_of(load_recipe(recipe, (*MANY, "dpo.beta=0.7")), folder)
    due = [one.unit.name for one in stale.units if not one.is_fresh]
    assert due[:2] == ["dpo/random", "dpo/mixed"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_plan_fits_80_columns_and_ends_where_it_is_told_to(recipe: Path, tmp_path: Path) -> None:
    out = limbeck("run", recipe, "--plan", "--until", "mine", "--out", tmp_path / "run", *settings(*MANY)).done().out
    table = out[: out.index("In all:")].splitlines()
    assert max(map(len, table)) <= 80
    named = [line.split()[0] for line in table if line.strip()]
    assert named[named.index("corpus") :] == ["corpus", "retain", "sft", "mine"]
    assert re.search(r"Nothing was sent, fetched or written", out)
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_broken_after_its_stage(recipe: Path, tmp_path: Path) -> None:
    long = settings(*MANY, "arms.of_a_longer_name2.random=4")
    lines = limbeck("run", recipe, "--plan", "--out", tmp_path / "run", *long).done().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:1] == ["mix/"])
    assert lines[at + 1].split() == ["of_a_longer_name2"]


def test_a_stage_that_is_not_there_and_another_recipes_folder_are_refused(
    run: tuple[Plan, Path], recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="no such stage"):
        planned(recipe, tmp_path / "run", "nothing")
    with pytest.raises(RunFolderError, match="holds the run of the recipe 'tiny', not 'other'"):
        plan_of(load_recipe(recipe, (*MANY, "name=other")), run[1])


def test_a_student_that_is_not_here_leaves_hours_open_and_fails_nothing(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(load_recipe(recipe, (*MANY, "model.student=owner/far-away")), tmp_path / "run")
    assert plan.machine.speed is None
    assert any("owner/far-away is not on this machine" in note for note in plan.notes)
    assert any("a quarter of the characters" in note for note in plan.notes)
    sft = next(one for one in plan.units if one.unit.name == "sft")
    assert sft.work.steps is not None
    assert sft.work.steps.is_exact
    assert sft.seconds is None


def test_a_paid_teachers_requests_are_counted_and_priced_and_no_key_is_needed(recipe: Path, tmp_path: Path) -> None:
    paid = ("teach.teacher=openai:gpt-4o", "teach.budget.usd=1", "teach.reasks=1")
    plan = plan_of(load_recipe(recipe, (*MANY, *paid)), tmp_path / "run")
    by_kind = {one.what: one for one in plan.asked}
    # 20 pairs and 2 held out of each kind on the same prompts; a few-shot pair takes a request for its prompt too.
    assert by_kind["few_shot pairs"].requests.likely == 2 * (8 + 2)
    assert by_kind["few_shot pairs"].requests.high == 2 * by_kind["few_shot pairs"].requests.likely * 2
    assert all(one.dollars is not None and 0 < one.dollars.likely < one.dollars.high for one in plan.asked)
    assert any("needs a key" in note for note in plan.notes)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("settings", [Optimisation(), Optimisation(lora=Lora(rank=4))], ids=["full", "lora"])
def test_memory_by_the_configuration_alone_is_that_of_the_loaded_model(
    architecture: str, settings: Optimisation, tmp_path: Path
) -> None:
    layers = 4
    more = {"layer_types": ["sliding_attention", "full_attention"] * 2} if architecture == "gemma3_text" else {}
    folder = tiny_folder(tmp_path / "model", architecture, num_hidden_layers=layers, **more)
    items, config = ragged_pairs(), read_config(folder)
    model = load_model(str(folder), CPU, FP32)
    if settings.lora is not None:
        pytest.importorskip("peft")
        from limbeck.lm.lora import attach

        attach(model, settings.lora, 1)
    masters = MasterAdamW(model.network, weight_decay=0.0).weights()
    loaded = estimate_memory(model, masters, items, settings, free_bytes=0, moments_held=True)
    found = footprint_of(config, shape_of(config), settings, 2, CPU, FP32)
    guessed = found.estimate(largest_micro_batch(items, settings), 0)
    assert guessed.kept_bytes == pytest.approx(loaded.kept_bytes, rel=0.02)
    assert guessed.fixed_bytes == pytest.approx(loaded.fixed_bytes, rel=0.01)
    assert guessed.recomputed_bytes == pytest.approx(loaded.recomputed_bytes, rel=0.02)


def test_a_further_round_is_planned_by_itself_without_what_rounds_share(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = load_recipe(recipe, (*MANY, "rounds.count=3", "rounds.arm=mixed"))
    plan = plan_of(rounds, tmp_path / "run")
    assert plan.further is not None
    assert plan.further.most == 2
    names = [one.unit.name for one in plan.further.units]
    assert names[0] == "mine"
    assert {"dpo/mixed", "evaluate/mixed"} <= set(names)
    assert not {"corpus", "sft", "evaluate/sft", "dpo/random"} & set(names)
    first, further = ({one.unit.name: one.work for one in units} for units in (plan.units, plan.further.units))
    assert further["dpo/mixed"].steps == first["dpo/mixed"].steps
    assert plan.further.seconds.likely > 0
    show_plan(plan)
    assert "Further rounds, not in the figures here: at most 2, each" in " ".join(capsys.readouterr().out.split())


def test_rounds_that_were_made_or_cannot_be_are_not_promised(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = load_recipe(recipe, (*MANY, "rounds.count=3", "rounds.arm=mixed"))
    first = [one for one in plan_of(rounds, tmp_path).units if one.unit.step not in {"rounds", "report"}]
    fresh = {one.unit.name: "fresh" for one in first}
    monkeypatch.setattr(assembly, "_states", lambda *_: fresh)
    monkeypatch.setattr(assembly, "tables_in", lambda *_: tables_of(rounds))
    for reached, left in {
        Reached(2, None): 1, Reached(2, "unclear"): None, Reached(3, "all"): None, Reached(1, "budget"): 2,
    }.items():  # fmt: skip
        monkeypatch.setattr(assembly, "reached", lambda *_, so_far=reached: so_far)
        further = plan_of(rounds, tmp_path).further
        assert (further.most if further else None) == left
    monkeypatch.setattr(assembly, "reached", lambda *_: Reached(3, "all"))
    for due, left in {"mine": 2, "rounds/2/screen": 2, "rounds/3/dpo/mixed": 1}.items():  # all rounds were made once
        monkeypatch.setattr(assembly, "_states", lambda *_, due=due: fresh | {due: "stale"})
        further = plan_of(rounds, tmp_path).further
        assert (further.most if further else None) == left

    def refuse(*_: object) -> None:
        raise RecipeError("no such round")

    monkeypatch.setattr(assembly, "round_recipe", refuse)
    plan = plan_of(rounds, tmp_path)
    assert plan.further is None
    assert "further rounds are not reckoned: no such round" in plan.notes


def test_what_a_further_round_asks_elsewhere_is_said_account_by_account(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paid = ("rounds.count=2", "rounds.arm=mixed", "teach.teacher=openai:gpt-4o", "teach.budget.usd=1")
    show_plan(plan_of(load_recipe(recipe, (*MANY, *paid)), tmp_path))
    said = " ".join(capsys.readouterr().out.split())
    (own,) = re.findall(r"Each further round: (Cost, openai:gpt-4o: \$.*?), of the same budget", said)
    assert "budget $1" not in own
    assert "budget $1" in said


def test_a_run_of_one_round_and_a_plan_that_ends_before_them_say_nothing_of_further_rounds(
    recipe: Path, tmp_path: Path
) -> None:
    assert planned(recipe, tmp_path / "run").further is None
    rounds = load_recipe(recipe, (*MANY, "rounds.count=3", "rounds.arm=mixed"))
    assert plan_of(rounds, tmp_path / "run", "mine").further is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shape_counts_what_the_loaded_network_has(architecture: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", architecture)
    shape, model = shape_of(read_config(folder)), load_model(str(folder), CPU, FP32)
    assert shape.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    assert (shape.words, shape.hidden) == tuple(model.head.weight.shape)
    one = made_up(read_config(folder), Part(1, 100), CPU, FP32)
    assert one.head.weight.shape[0] == 100
    assert len(one.decoder.layers) == 1
