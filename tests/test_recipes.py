"""The recipes that come with limbeck: they parse, can be carried out, and explain themselves."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from street import limbeck

from limbeck import pipeline
from limbeck.errors import LimbeckError
from limbeck.recipe import Recipe
from limbeck.recipe.file import load_recipe, packaged_recipe, write_recipe
from limbeck.recipe.pairs import MadeKind

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
KEYLESS = ("demo", "smoke", "starter")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    write_recipe(tmp_path / "again.toml", recipe)
    assert load_recipe(tmp_path / "again.toml") == recipe


@pytest.mark.parametrize("name", KEYLESS)
def test_a_whole_run_of_a_keyless_recipe_is_possible(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    recipe = load_recipe(packaged_recipe(name))
    pipeline.check(recipe)
    listed = pipeline.units(recipe, tmp_path)
    trained = [unit.name for unit in listed if unit.stage in {"sft", "dpo"} and unit.argument is not None]
    assert trained == [recipe.arm_unit(arm) for arm in recipe.arms]


def test_the_papers_recipe_lacks_nothing_but_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(packaged_recipe("paper"))
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(LimbeckError, match="needs a key"):
        pipeline.check(recipe)
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(variable, "sk-test")
    pipeline.check(recipe)


@pytest.mark.parametrize("name", (*KEYLESS, "own-prompts"))
def test_every_input_of_a_unit_is_written_by_an_earlier_one(name: str, tmp_path: Path) -> None:
    written: list[Path] = []
    for unit in pipeline.units(load_recipe(packaged_recipe(name)), tmp_path):
        inputs = [path for path in unit.inputs.values() if not path.is_absolute()]
        assert [path for path in inputs if not set(path.parents) & set(written)] == [], unit.name
        written.append(Path(unit.name))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_arm_has_no_more_pairs_than_there_are_problems(path: Path) -> None:
    recipe = load_recipe(path)
    tasks = recipe.corpus.tasks
    if tasks is None:
        return
    new = {"few_shot", "rolling"}
    needs = {kind: recipe.accept(kind) for kind in get_args(MadeKind)}
    assert {kind: need for kind, need in needs.items() if need > (tasks.fresh if kind in new else tasks.pool)} == {}


def test_init_writes_the_starter_recipe(tmp_path: Path) -> None:
    limbeck("init", tmp_path / "recipe.toml").done()
    assert load_recipe(tmp_path / "recipe.toml") == load_recipe(FOLDER / "starter.toml")


def test_init_writes_the_recipe_for_own_prompts_on_demand(tmp_path: Path) -> None:
    limbeck("init", "--own-prompts", tmp_path / "recipe.toml").done()
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert recipe == load_recipe(FOLDER / "own-prompts.toml")
    assert (recipe.corpus.tasks, recipe.judged_by(), recipe.mining().rule) == (None, ("local",), "all")


def test_the_starters_examples_work_when_their_comment_signs_are_taken_away() -> None:
    lines = (FOLDER / "starter.toml").read_text().splitlines()
    blocks = {"# [[", "# pa", "# sp", "# li", "# en"}
    data = tomllib.loads("\n".join(line.removeprefix("# ") if line[:4] in blocks else line for line in lines))
    assert {"demonstrations", "preferences", "evaluation"} <= set(data["corpus"])
    assert set(data["teach"]["endpoint"]) == {"base_url", "api_key_env"}


def test_every_setting_of_the_demo_says_what_it_is() -> None:
    """Each has a comment on its line, or a name that says it to whoever trains models; arms say it in their head."""
    speaking = {
        "warmup_steps", "epochs", "micro_batch_tokens", "validate_every_steps", "judge", "judges", "temperature",
        "beta", "reference", "confidence",
    }  # fmt: skip
    section, silent = "", set()
    for line in (FOLDER / "demo.toml").read_text().splitlines():
        code, _, comment = line.partition("#")
        if code.startswith("["):
            section = code.strip()
            assert comment or not section.startswith("[arms."), section
        elif "=" in code and not comment and not section.startswith("[arms."):
            silent.add(code.partition("=")[0].strip())
    assert silent <= speaking


@pytest.mark.parametrize(
    "override",
    [
        "teach.budget.usd=77", "teach.budget.tokens=9_000_000", "teach.endpoint.concurrency=3",
        "teach.endpoint.tokens_per_minute=1000", "teach.endpoint.api_key_env=OTHER",
        "judges.nemotron.endpoint.timeout_seconds=9",
    ],
)  # fmt: skip
def test_how_fast_and_for_how_much_a_server_is_asked_makes_nothing_stale(tmp_path: Path, override: str) -> None:
    path = packaged_recipe("paper")
    plain, changed = (pipeline.units(load_recipe(path, given), tmp_path) for given in ((), (override,)))
    assert [unit.part for unit in plain[:-1]] == [unit.part for unit in changed[:-1]]


def test_the_rule_of_what_a_right_reply_is_decides_the_pairs_that_hold_one(tmp_path: Path) -> None:
    def parts(**kinds: int) -> dict[str, dict[str, Any]]:
        recipe = Recipe.model_validate({"name": "x", "corpus": {"tasks": {}}, "arms": {"a": kinds}})
        return {unit.name: unit.part for unit in pipeline.units(recipe, tmp_path)}

    assert "right" in parts(own=1)["teach"]
    assert "right" in parts(on_policy=1)["teach"]
    assert "right" in parts(divergence=1)["branch"]
    assert "right" not in parts(reference=1)["teach"]


def test_rolling_pairs_are_written_anew_where_another_arm_changes_the_stream_they_are_written_along(
    tmp_path: Path,
) -> None:
    def teach(**arms: dict[str, int]) -> dict[str, Any]:
        corpus = {"tasks": {}, "preferences": [{"path": "h.jsonl"}]}
        recipe = Recipe.model_validate({"name": "x", "corpus": corpus, "arms": arms})
        return next(dict(unit.part) for unit in pipeline.units(recipe, tmp_path) if unit.name == "teach")

    mixed = {"random": 300, "rolling": 50}
    assert teach(a=mixed)["rolling_along"] == "random"
    assert teach(a=mixed, b={"human": 300})["rolling_along"] == "human"
    assert "rolling_along" not in teach(a={"random": 300})


def test_another_address_or_model_of_a_server_makes_what_it_wrote_stale(tmp_path: Path) -> None:
    path = packaged_recipe("paper")
    for override in ("teach.endpoint.base_url=http://localhost:1/v1", "teach.max_tokens=7"):
        plain, changed = (pipeline.units(load_recipe(path, given), tmp_path) for given in ((), (override,)))
        assert [a.name for a, b in zip(plain[:-1], changed[:-1], strict=True) if a.part != b.part] == [
            "teach",
            "export",
        ]
