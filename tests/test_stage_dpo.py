"""DPO and the cache of reference log-probabilities: arms, sweeps and other run folders reuse it, and train the same."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from street import curve, settled_to, student, tokens_a_micro_batch
from tiny_models import CHATML, IM_START, tiny_tokenizer

from limbeck.errors import ModelError
from limbeck.lm import micro_batch
from limbeck.lm.logps_cache import FILE_NAME
from limbeck.lm.reference_logps import reference_logps
from limbeck.recipe import Model, Recipe
from limbeck.recipe.pairs import Arm
from limbeck.recipe.training import Dpo
from limbeck.records import Pair, user_prompt
from limbeck.stages import dpo
from limbeck.store import write_records

SETTINGS = Dpo(learning_rate=3e-3, epochs=1, batch_size=3, validate_every_steps=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("dpo") / "base")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / FILE_NAME


def pairs(numbers: Sequence[int], name: str = "k") -> list[Pair]:
    return [
        Pair(
            id=f"{name}{n}",
            prompt=user_prompt(f"Pick {n}"),
            source="human",
            chosen=f"{'Well, ' * (n % 4)}the answer is {n}.",
            rejected=f"No {n}{'!' * n}",
        )
        for n in numbers
    ]


def preferred(
    base: Path, out: Path, settings: Dpo = SETTINGS, reference: Path | None = None, rows: Sequence[Pair] = ()
) -> tuple[int, int, int]:
    """Run the stage; how many pairs the reference computed, found in the cache, and found in the run's own folder."""
    inputs = {"policy": base, "reference": reference or base}
    for name, records in {"pairs": rows or pairs(range(6)), "validation": pairs((7, 8), "held")}.items():
        inputs[name] = out / "in" / f"{name}.jsonl"
        inputs[name].parent.mkdir(parents=True, exist_ok=True)
        write_records(inputs[name], records)
    recipe = Recipe(name="x", model=Model(device="cpu", dtype="fp32"), dpo=settings, arms={"human": Arm(human=6)})
    facts: dict[str, Any] = dpo.run(recipe, inputs, out, "human").facts["reference"]
    return facts["computed"], facts["from_cache"], facts["resumed"]


def test_a_sweep_and_another_arm_score_only_pairs_that_are_new(base: Path, tmp_path: Path) -> None:
    assert preferred(base, tmp_path / "one") == (8, 0, 0)
    for name, value in {"beta": 0.5, "learning_rate": 1e-3, "micro_batch_tokens": 64}.items():
        assert preferred(base, tmp_path / name, SETTINGS.model_copy(update={name: value})) == (0, 8, 0)
    assert preferred(base, tmp_path / "arm", rows=pairs((4, 5, 9, 10), "other")) == (2, 4, 0)


def test_training_and_its_reference_are_as_wide_as_was_settled(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []

    def scored(*arguments: Any) -> Any:
        widths.append(arguments[2])
        return reference_logps(*arguments)

    monkeypatch.setattr(dpo, "reference_logps", scored)
    monkeypatch.setattr(micro_batch, "scoring_tokens", lambda *_: 99)
    preferred(base, tmp_path / "usual")
    settled_to(1, monkeypatch)  # a pair by itself
    preferred(base, tmp_path / "narrow")
    usual, narrow = tokens_a_micro_batch(capsys.readouterr().err)
    assert (usual, widths) == (3 * narrow, [99, 99])


def test_training_from_the_cache_is_training_without_it_number_by_number(
    base: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferred(base, tmp_path / "computed")
    assert preferred(base, tmp_path / "cached") == (0, 8, 0)
    no_folder = tmp_path / "file"
    no_folder.touch()
    monkeypatch.setenv("LIMBECK_CACHE", str(no_folder))
    assert preferred(base, tmp_path / "without") == (8, 0, 0)
    assert curve(tmp_path / "cached") == curve(tmp_path / "computed") == curve(tmp_path / "without")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("computed", "cached")]
    assert weights[0] == weights[1]
    first = curve(tmp_path / "cached")[1].values
    assert (first["preference_loss"], first["margin"]) == pytest.approx((0.693147, 0.0), abs=1e-5)


def test_a_further_round_keeps_its_reference_and_finds_it_in_the_cache(base: Path, tmp_path: Path) -> None:
    preferred(base, tmp_path / "one")
    trained = tmp_path / "one" / "model"
    assert preferred(trained, tmp_path / "two", reference=base) == (0, 8, 0)
    assert preferred(trained, tmp_path / "three") == (8, 0, 0)  # its reference is the trained model itself


def test_a_template_or_a_tokenizer_that_gives_other_ids_is_scored_anew(base: Path, tmp_path: Path) -> None:
    preferred(base, tmp_path / "one")
    other = shutil.copytree(base, tmp_path / "other")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML + "{# a remark #}"
    tokenizer.save_pretrained(other)
    assert preferred(other, tmp_path / "same ids") == (0, 8, 0)
    tokenizer.chat_template = "{{ '" + IM_START + "system\nBe kind.\n' }}" + CHATML
    tokenizer.save_pretrained(other)
    assert preferred(other, tmp_path / "other template") == (8, 0, 0)
    tiny_tokenizer("base_eos").save_pretrained(other)
    tokenizer = tiny_tokenizer("base_eos")
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|endoftext|>")
    tokenizer.save_pretrained(other)
    assert preferred(other, tmp_path / "other end of turn") == (8, 0, 0)


def test_another_vocabulary_is_refused_also_where_every_pair_is_in_the_cache(base: Path, tmp_path: Path) -> None:
    reference = shutil.copytree(base, tmp_path / "reference")
    trained = tmp_path / "one" / "model"
    preferred(base, tmp_path / "one")
    assert preferred(trained, tmp_path / "two", reference=reference) == (0, 8, 0)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(reference)
    with pytest.raises(ModelError, match="another tokenizer than the policy"):
        preferred(trained, tmp_path / "three", reference=reference)
