"""The paper's recipe holds the paper's numbers, each with its step; the rehearsal is that recipe, small."""

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from limbeck import pipeline
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, packaged_recipe

PAPER = packaged_recipe("paper")
REHEARSAL = packaged_recipe("paper-rehearsal")
BASE = Path("/base")
FEW_SHOT = ("human+few_shot", "sequential", "human+few_shot-base_reference", "interleave")
DPO_ARMS = ("human", "human+zero_shot", *FEW_SHOT, "human-base_reference", "rolling")
SFT_ARMS = ("sft_human", "sft_interleave", "sft_rolling")


class Stated(NamedTuple):
    """A number or word of the paper: where in the recipe, what, and in which step."""

    section: str
    key: str
    value: object
    step: int


# Every figure of the paper that somebody who repeats it has to set.
STATED = [
    Stated("model", "student", "Qwen/Qwen2.5-0.5B", 1),
    Stated("model", "max_prompt_tokens", 2048, 1),
    Stated("corpus.demonstrations", "limit", 100_000, 2),
    Stated("sft", "epochs", 3, 2),
    Stated("sft", "learning_rate", 1e-5, 2),
    Stated("sft", "warmup_steps", 500, 2),
    Stated("sft", "batch_size", 16, 2),
    Stated("sft", "weight_decay", 0.01, 2),
    Stated("dpo", "loss", "sigmoid", 3),
    Stated("dpo", "beta", 1.0, 3),
    Stated("dpo", "nll_weight", 0.0, 3),
    Stated("dpo", "epochs", 2, 3),
    Stated("dpo", "learning_rate", 1e-5, 3),
    Stated("dpo", "warmup_steps", 500, 3),
    Stated("dpo", "batch_size", 16, 3),
    Stated("dpo", "weight_decay", 0.01, 3),
    Stated("dpo", "reference", "sft", 3),
    Stated("mine", "rule", "bottom_quantile", 4),
    Stated("teach", "teacher", "openai:gpt-4o", 5),
    Stated("teach", "example_pairs_shown", 4, 5),
    Stated("teach", "accept.few_shot", 10_000, 5),
    Stated("arms.human+zero_shot", "zero_shot", 2_000, 5),
    Stated("mix", "heldout_pairs", 200, 6),
    *(Stated(f"arms.{arm}", "human", 20_000, 6) for arm in (*DPO_ARMS, "sft_human", "sft_rolling")),
    *(Stated(f"arms.{arm}", "zero_shot", 2_000, 5) for arm in (*FEW_SHOT, "sft_interleave")),
    *(Stated(f"arms.{arm}", "few_shot", 9_800, 6) for arm in (*FEW_SHOT, "sft_interleave")),
    *(Stated(f"arms.{arm}", "rolling", 11_800, 6) for arm in ("rolling", "sft_rolling")),
    *(Stated(f"arms.{arm}", "dpo", {"reference": "base"}, 3) for arm in DPO_ARMS if "base" in arm),
    Stated("arms.human+few_shot", "mixing", "uniform", 6),
    Stated("arms.sequential", "mixing", "sequential", 6),
    *(
        Stated(f"arms.{a}", "mixing", "interleave", 9)
        for a in ("interleave", "rolling", "sft_interleave", "sft_rolling")
    ),
    Stated("teach", "context_pairs_shown", 5, 9),
    Stated("corpus.evaluation", "limit", 2_000, 7),
    Stated("evaluate", "samples_per_prompt", 1, 7),
    Stated("evaluate", "ties", "loss", 7),
    Stated("evaluate", "judges", ["nemotron"], 7),
]
# Where the paper contradicts itself, the reading that is not run stands beside the one that is.
ALSO_PRINTED = ["60 K human pairs", "20 K", "4o-mini", "GPT-3.5", "post training", "initial Qwen-2.5-0.5B", "8,200"]
# Sizes, model, sources and endpoints.
SCALED = {
    "name", "model.student", "model.max_prompt_tokens", "model.max_response_tokens",
    "corpus.demonstrations.0.path", "corpus.demonstrations.0.limit", "corpus.preferences.0.path",
    "corpus.evaluation.0.path", "corpus.evaluation.0.limit", "sft.validate_every_steps", "dpo.validate_every_steps",
    "mine.max_prompts", "mine.max_new_tokens", "evaluate.max_new_tokens", "mix.heldout_pairs",
    "teach.endpoint.base_url", "teach.budget.usd", "teach.budget.tokens",
    "teach.accept.zero_shot", "teach.accept.few_shot", "teach.accept.rolling",
    "judges.nemotron.endpoint.base_url", "judges.nemotron.budget.tokens",
}  # fmt: skip
SCALED_COUNTS = {"human", "zero_shot", "few_shot", "rolling"}


def lines() -> dict[tuple[str, str], list[tuple[object, str]]]:
    """Section and key to value and comment, as often as they stand there; what the paper found stands after that."""
    found: dict[tuple[str, str], list[tuple[object, str]]] = {}
    section = ""
    for line in PAPER.read_text(encoding="utf-8").partition("\n[published]\n")[0].splitlines():
        code, _, comment = line.partition("#")
        if code.startswith("["):
            section = code.strip().strip("[]").replace('"', "")
        elif "=" in code:
            key, _, value = code.partition("=")
            found.setdefault((section, key.strip()), []).append((tomllib.loads(f"v = {value}")["v"], comment))
    return found


@pytest.mark.parametrize("stated", STATED, ids=lambda one: f"{one.section}-{one.key}")
def test_a_number_of_the_paper_is_in_its_recipe_with_the_step_it_is_from(stated: Stated) -> None:
    ((value, comment),) = lines()[stated.section, stated.key]
    assert value == stated.value
    assert f"step {stated.step}" in comment


def test_every_number_of_the_recipe_is_the_papers_or_said_to_be_ours() -> None:
    numbers = [(where, note) for where, said in lines().items() for value, note in said if re.search(r"\d", str(value))]
    words = re.compile(r"step \d|\bours\b|the interface's")
    assert [where for where, comment in numbers if not words.search(comment)] == []


def test_both_readings_are_named_where_the_paper_contradicts_itself() -> None:
    text = PAPER.read_text(encoding="utf-8")
    assert [reading for reading in ALSO_PRINTED if reading not in text] == []


def test_the_mixture_is_the_papers_31_800_pairs_and_the_arms_beside_it_have_the_same() -> None:
    recipe = load_recipe(PAPER)
    counts = recipe.arms["human+few_shot"].counts()
    assert sum(counts.values()) == 31_800
    assert sum(counts.values()) - counts["human"] == 11_800
    assert counts["few_shot"] + recipe.mix.heldout_pairs == 10_000
    assert all(recipe.arms[arm].counts() == counts for arm in FEW_SHOT)
    assert sum(recipe.arms["rolling"].counts().values()) == 31_800


def test_all_arms_share_one_sft_one_mining_and_one_teaching() -> None:
    recipe = load_recipe(PAPER)
    listed = pipeline.units(recipe, BASE)
    assert set(recipe.arms) == {*DPO_ARMS, *SFT_ARMS}
    for shared in ("corpus", "retain", "sft", "mine", "teach", "screen", "audit", "verdict", "report"):
        assert [unit.name for unit in listed if unit.step == shared] == [shared]
    policies = {unit.argument: unit.inputs["policy"] for unit in listed if unit.step == "dpo"}
    assert set(policies) == set(DPO_ARMS)
    assert {arm for arm, start in policies.items() if start != Path("sft/model")} == {"sequential"}
    references = {unit.argument: unit.inputs["reference"] for unit in listed if unit.step == "dpo"}
    assert {arm for arm, folder in references.items() if folder == BASE} == {arm for arm in DPO_ARMS if "base" in arm}
    assert {unit.inputs["base"] for unit in listed if unit.step == "sft_arms"} == {BASE}


@pytest.mark.parametrize("added", [*DPO_ARMS[2:], *SFT_ARMS])
def test_an_arm_that_is_added_later_repeats_nothing_that_the_others_did(added: str) -> None:
    """`rolling` aside, whose pairs the teacher has yet to write; what is bought already stays in its store."""
    recipe = load_recipe(PAPER).model_copy(update={"published": None})  # which names every arm that it has figures of
    few = Recipe.model_validate(recipe.model_dump() | {"arms": {k: v for k, v in recipe.arms.items() if k != added}})
    before, after = ({unit.name: unit.part for unit in pipeline.units(one, BASE)} for one in (few, recipe))
    assert {name for name in before if before[name] != after[name]} <= {"audit", "verdict", "report"}


def flat(value: object, place: str = "") -> dict[str, object]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        return {place: value}
    return {key: leaf for name, part in pairs for key, leaf in flat(part, f"{place}.{name}".lstrip(".")).items()}


def test_the_rehearsal_differs_from_the_paper_in_sizes_model_sources_and_endpoints_alone() -> None:
    paper, rehearsal = (
        flat(load_recipe(path).model_dump(mode="json", exclude={"published"})) for path in (PAPER, REHEARSAL)
    )
    differs = {place for place in paper.keys() | rehearsal.keys() if paper.get(place) != rehearsal.get(place)}
    counts = {place for place in differs if place.startswith("arms.") and place.rpartition(".")[2] in SCALED_COUNTS}
    assert differs - counts == SCALED


@pytest.mark.parametrize("path", [PAPER, REHEARSAL], ids=lambda path: path.stem)
def test_the_whole_run_is_possible_once_there_are_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(variable, "sk-test") if path == PAPER else monkeypatch.delenv(variable, raising=False)
    pipeline.check(load_recipe(path))


def test_rehearsal_and_paper_have_the_same_units(tmp_path: Path) -> None:
    names: Any = [[unit.name for unit in pipeline.units(load_recipe(path), BASE)] for path in (PAPER, REHEARSAL)]
    assert names[0] == names[1]
