"""Held-out pairs under every model: the slow form's numbers, each pair once, nothing computed twice."""

from pathlib import Path

import pytest
from tiny_models import plain_logps, plain_model, tiny_folder, tiny_model

from limbeck.errors import InputError
from limbeck.lm.items import pair_items
from limbeck.manifest import StageResult
from limbeck.recipe import Model, Recipe
from limbeck.records import Demonstration, Pair, user_prompt
from limbeck.records.verdict import PairLogps
from limbeck.stages import heldout_pairs
from limbeck.store import read_records, write_records

CPU = Model(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("heldout") / "base")


def pair(name: str, source: str = "random", chosen: str = "It is five.") -> Pair:
    return Pair(id=name, prompt=user_prompt(f"Pick {name}"), source=source, chosen=chosen, rejected=f"No, {name}!")


def run(out: Path, arms: dict[str, list[Pair]], model: Path | None) -> StageResult:
    inputs = {} if model is None else {"model": model}
    out.mkdir(parents=True, exist_ok=True)
    for name, pairs in arms.items():
        inputs[f"heldout_pairs/{name}"] = out / f"{name}.jsonl"
        write_records(inputs[f"heldout_pairs/{name}"], pairs)
    return heldout_pairs.run(Recipe(name="x", model=CPU), inputs, out, "human")


def scored(out: Path) -> list[PairLogps]:
    return read_records(out / "pair_logps.jsonl", PairLogps)


def test_pairs_of_all_arms_are_scored_once_as_the_slow_form_scores_them(base: Path, tmp_path: Path) -> None:
    first, second, third = pair("a"), pair("b", "few_shot", "Let us think step by step."), pair("c")
    result = run(tmp_path, {"one": [first, second], "two": [second, third]}, base)
    found = scored(tmp_path)
    assert [(row.id, row.source) for row in found] == [("a", "random"), ("b", "few_shot"), ("c", "random")]
    assert (result.counts_in, result.counts_out) == ({"pairs": 3}, {"pairs": 3})
    network = plain_model(base)
    for row, each, item in zip(
        found, (first, second, third), pair_items(tiny_model(base).chat, [first, second, third], CPU).items, strict=True
    ):
        chosen, rejected = (plain_logps(network, item.prompt, response) for response in item.responses)
        assert row.chosen_logps == pytest.approx(chosen.sum().item(), abs=1e-3)
        assert row.rejected_logps == pytest.approx(rejected.sum().item(), abs=1e-3)
        assert (row.chosen_tokens, row.rejected_tokens) == (len(chosen), len(rejected))
        assert (row.chosen_characters, row.rejected_characters) == (len(each.chosen), len(each.rejected))
    assert not list(tmp_path.glob(".*"))


def test_pairs_of_one_prompt_are_known_as_such_whatever_their_ids(base: Path, tmp_path: Path) -> None:
    other = pair("i", chosen="It is six.").model_copy(update={"id": "j"})
    run(tmp_path, {"one": [pair("i"), other, pair("k")]}, base)
    first, second, third = (row.prompt for row in scored(tmp_path))
    assert first == second != third


def test_a_further_arm_costs_only_its_own_pairs(base: Path, tmp_path: Path) -> None:
    run(tmp_path / "one", {"one": [pair("d"), pair("e")]}, base)
    result = run(tmp_path / "two", {"one": [pair("d"), pair("e")], "two": [pair("f")]}, base)
    assert (result.facts["from_cache"], result.facts["computed"]) == (2, 1)


def test_pairs_over_the_limit_are_counted(base: Path, tmp_path: Path) -> None:
    result = run(tmp_path, {"one": [pair("g"), pair("h", chosen="word " * 3000)]}, base)
    assert result.drops == {"response over 1024 tokens": 1}
    assert [row.id for row in scored(tmp_path)] == ["g"]


def test_a_model_whose_weights_are_elsewhere_is_not_measured_and_that_is_counted(tmp_path: Path) -> None:
    result = run(tmp_path, {"one": [pair("a"), pair("b")]}, None)
    assert scored(tmp_path) == []
    assert result.drops == {"not measured: the model's weights are not on this machine": 2}


def test_two_pairs_of_one_id_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heldout_pairs/two: the pair 'a' is another one elsewhere"):
        run(tmp_path, {"one": [pair("a")], "two": [pair("a", chosen="Something else.")]}, base)


@pytest.mark.parametrize("trains", ["dpo", "sft"])
def test_a_prompt_that_an_arm_trained_on_is_no_held_out_one_for_it_and_is_counted(
    trains: str, base: Path, tmp_path: Path
) -> None:
    kept, seen = pair("a"), pair("b", "few_shot")
    told = Demonstration(id="x", prompt=seen.prompt, source="own", response="Five.")
    write_records(tmp_path / "train.jsonl", [told if trains == "sft" else seen.model_copy(update={"id": "x"})])
    write_records(tmp_path / "pairs.jsonl", [kept, seen])
    inputs = {"model": base, "heldout_pairs/two": tmp_path / "pairs.jsonl", "trained/train": tmp_path / "train.jsonl"}
    recipe = Recipe.model_validate({"name": "x", "model": CPU, "arms": {"one": {"human": 1, "trains": trains}}})
    result = heldout_pairs.run(recipe, inputs, tmp_path, "one")
    assert [row.id for row in scored(tmp_path)] == ["a"]
    assert result.drops == {"a prompt that this arm trained on, and another holds out": 1}
    assert (result.counts_in, result.counts_out) == ({"pairs": 2}, {"pairs": 1})
