"""Whole runs of a tiny student whose arms mix in different ways, by DPO and by SFT: folders, order, freshness, page."""

import json
import shutil
from pathlib import Path

import pytest
from street import limbeck, outputs, settings, student, write_tiny_recipe

from limbeck import pipeline
from limbeck.manifest import MANIFEST, read_manifest
from limbeck.recipe.file import load_recipe
from limbeck.records import Demonstration, Metric, Pair
from limbeck.records.verdict import Verdict
from limbeck.store import digest_path, read_records

ARMS = """
[arms.human]
random = 4
[arms.second]
random = 4
zero_shot = 3
mixing = "sequential"
[arms.between]
random = 4
zero_shot = 3
mixing = "interleave"
trains = "sft"
[arms.after]
zero_shot = 3
mixing = "sequential"
trains = "sft"
"""
ARM_UNITS = [
    "mix/human", "mix/second", "mix/between", "mix/after", "audit", "dpo_first/second", "dpo/human", "dpo/second",
    "sft_arms/between", "sft_arms/after",
]  # fmt: skip
UNITS = [
    "corpus", "retain", "sft", "mine", "teach", "screen", "export", *ARM_UNITS,
    *(f"{step}/{model}" for step in ("evaluate", "heldout_pairs")
      for model in ("base", "sft", "human", "second", "between", "after")), "verdict", "report",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixing")
    path = write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))
    path.write_text(path.read_text().partition("[arms.random]")[0] + ARMS)
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """A finished run, to be looked at and not to be touched."""
    folder = recipe.parent / "run"
    assert limbeck("run", recipe, "--out", folder).done().ran == UNITS
    return folder


def metrics(folder: Path, unit: str) -> list[Metric]:
    return read_records(folder / unit / "metrics.jsonl", Metric)


def test_every_arm_is_judged_against_the_plain_sft(finished: Path) -> None:
    verdict = Verdict.model_validate_json((finished / "verdict" / "verdict.json").read_text())
    arms = ["human", "second", "between", "after"]
    assert [score.model for score in verdict.scores] == ["base", "sft", *arms]
    assert {(c.candidate, c.baseline) for c in verdict.comparisons if c.split == "test"} == {
        (model, "sft") for model in ("base", *arms)
    }
    assert "the best of 4 arms, " in verdict.sentence


def test_the_second_run_starts_from_the_first_ones_model_which_is_its_reference_too(finished: Path) -> None:
    first, second = (read_manifest(finished / unit) for unit in ("dpo_first/second", "dpo/second"))
    assert first is not None and second is not None
    sft, model = (digest_path(finished / folder / "model") for folder in ("sft", "dpo_first/second"))
    assert (first.inputs["policy"], first.inputs["reference"]) == (sft, sft)
    assert (second.inputs["policy"], second.inputs["reference"]) == (model, model)
    assert model != sft
    for unit in ("dpo_first/second", "dpo/second"):
        start = metrics(finished, unit)[0].values
        assert start["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
        assert start["margin"] == pytest.approx(0, abs=1e-5)
    held = {name for name in metrics(finished, "dpo/second")[0].values if name.startswith("accuracy/")}
    assert held == {"accuracy/random", "accuracy/zero_shot"}
    assert not [name for name in metrics(finished, "dpo_first/second")[0].values if "/" in name]


def test_with_the_base_as_reference_both_runs_keep_it(recipe: Path) -> None:
    loaded = load_recipe(recipe, ("dpo.reference=base",))
    found = {unit.name: unit for unit in pipeline.units(loaded, Path("/base"))}
    assert {found[name].inputs["reference"] for name in ("dpo_first/second", "dpo/second")} == {Path("/base")}
    assert found["dpo/second"].inputs["policy"] == Path("dpo_first/second/model")


def test_the_first_run_is_the_run_of_the_arm_with_human_pairs_only(finished: Path) -> None:
    pairs = {name: read_records(finished / "mix" / f"{name}.jsonl", Pair) for name in ("second/first", "human/train")}
    assert {pair.id for pair in pairs["second/first"]} == {pair.id for pair in pairs["human/train"]}


def test_sft_arms_train_from_the_base_on_demonstrations_in_the_order_of_the_mixture(finished: Path) -> None:
    rows = read_records(finished / "mix" / "between" / "train.jsonl", Demonstration)
    sources = [row.source for row in rows]
    synthetic = {"random", "zero_shot"}
    assert [source in synthetic for source in sources[:14]] == [False, True] * 7
    plain = [*read_records(finished / "corpus/demonstrations.jsonl", Demonstration),
             *read_records(finished / "retain/train.jsonl", Demonstration)]  # fmt: skip
    assert {row.id for row in rows if row.source not in synthetic} == {row.id for row in plain}
    steps = [point.values for point in metrics(finished, "sft_arms/between") if point.split == "train"]
    seen = [{name.removeprefix("loss/") for name in step if name.startswith("loss/")} for step in steps]
    # Batches of 4 of a stream that begins anew with each epoch, over the end of which a batch may go on.
    stream = sources * 2
    assert seen == [set(stream[start : start + 4]) for start in range(0, len(stream), 4)]
    between, after = (read_manifest(finished / f"sft_arms/{arm}") for arm in ("between", "after"))
    assert between is not None and after is not None
    assert after.inputs["base"] == digest_path(finished / "sft" / "model") != between.inputs["base"]


def test_the_page_has_a_row_for_every_source_of_a_run_and_curves_of_first_runs(finished: Path) -> None:
    page = (finished / "report" / "report.html").read_text()
    assert "Source by source" in page
    assert "second, first run" in page
    assert page.count("<span>zero_shot</span>") >= 2
    not_found = read_manifest(finished / "report")
    assert not_found is not None
    assert not_found.result.facts["not_found"] == []


def test_nothing_runs_twice_and_more_synthetic_pairs_leave_the_first_run_alone(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert limbeck("run", recipe, "--out", run).done().ran == []
    again = limbeck("run", recipe, "--out", run, "--set", "arms.second.zero_shot=2").done().ran
    assert again == [
        "mix/second",
        "audit",
        "dpo/second",
        "evaluate/second",
        "heldout_pairs/second",
        "verdict",
        "report",
    ]
    overrides = settings("arms.second.zero_shot=2", "arms.between.mixing=uniform")
    shuffled = limbeck("run", recipe, "--out", run, *overrides, "--until", "sft_arms").done().ran
    assert shuffled == ["mix/between", "sft_arms/between"]


@pytest.mark.parametrize(
    ("until", "last"), [("mix", "mix/after"), ("dpo_first", "dpo_first/second"), ("dpo", "dpo/second")]
)
def test_until_ends_after_a_step_with_all_its_arms(
    recipe: Path, finished: Path, tmp_path: Path, until: str, last: str
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for folder in ("mix", "audit", "dpo_first", "dpo", "sft_arms"):
        shutil.rmtree(run / folder)
    ran = limbeck("run", recipe, "--out", run, "--until", until).done().ran
    assert ran == ARM_UNITS[: ARM_UNITS.index(last) + 1]
    if until == "dpo":
        rest = limbeck("run", recipe, "--out", run).done().ran
        assert [unit for unit in rest if unit != "report"] == ARM_UNITS[ARM_UNITS.index(last) + 1 :]
        assert outputs(run) == outputs(finished)


def test_mix_alone_takes_a_mixing_and_says_in_one_sentence_what_an_arm_lacks(finished: Path, tmp_path: Path) -> None:
    files = [f"random={finished}/screen/random.jsonl:4", f"zero_shot={finished}/screen/zero_shot.jsonl:3"]
    words = ("mix", *files, "--out", tmp_path / "out", *settings("mix.heldout_pairs=0", "arms.mixed.mixing=interleave"))
    folder = Path(limbeck(*words).done().out.strip())
    sources = [pair.source for pair in read_records(folder / "train.jsonl", Pair)]
    assert sources == ["random", "zero_shot"] * 3 + ["random"]
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["result"]["facts"]["mixing"] == "interleave"


@pytest.mark.parametrize(
    ("shares", "setting", "words"),
    [
        (["zero_shot"], "mixing=append", "arms.mixed: mixing 'append' needs human pairs, or random ones"),
        (["human"], "mixing=ratio", "arms.mixed: mixing 'ratio' needs pairs of a synthetic kind"),
        (["human", "zero_shot"], "mixing=shuffle", "arms.mixed.mixing"),
        (["human", "zero_shot"], "synthetic_share=1.5", "arms.mixed.synthetic_share"),
        (["human", "zero_shot"], "trains=sft", "the arm 'mixed' trains by SFT: its pairs join demonstrations"),
    ],
)
def test_an_arm_that_cannot_be_mixed_is_one_sentence(
    finished: Path, tmp_path: Path, shares: list[str], setting: str, words: str
) -> None:
    files = [f"{kind}={finished}/screen/zero_shot.jsonl:1" for kind in shares]
    complaint = limbeck("mix", *files, "--out", tmp_path / "out", "--set", f"arms.mixed.{setting}").complaint
    assert words in complaint


def test_an_sft_arm_with_human_pairs_has_a_first_run_on_them_from_the_base(recipe: Path) -> None:
    setting = "arms.after={human=2, zero_shot=3, mixing='sequential', trains='sft'}"
    found = {unit.name: unit for unit in pipeline.units(load_recipe(recipe, (setting,)), Path("/base"))}
    first, second = found["sft_first/after"], found["sft_arms/after"]
    assert (first.stage, first.inputs["base"], second.inputs["base"]) == (
        "sft", Path("/base"), Path("sft_first/after/model"),
    )  # fmt: skip
    assert first.inputs["demonstrations"] == Path("mix/after/first.jsonl")
    assert first.inputs["validation"] == Path("mix/after/first_validation.jsonl")
    assert second.inputs["demonstrations"] == Path("mix/after/train.jsonl")
