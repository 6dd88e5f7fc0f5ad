"""Iterated runs of a tiny student: what every round leaves, what is fresh, what stops them."""

from pathlib import Path

import pytest
from street import limbeck, outputs, settings, student, write_tiny_recipe

THREE = ("rounds.count=3", "rounds.arm=mixed", "rounds.stop_when_unclear=false")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    return write_tiny_recipe(folder / "recipe.toml", student(folder / "base"))


def test_x(recipe: Path) -> None:
    folder = recipe.parent / "run"
    o = limbeck("run", recipe, "--out", folder, *settings(*THREE)).done()
    print(o.ran)
    print((folder / "rounds" / "rounds.json").read_text())
    o = limbeck("run", recipe, "--out", folder, *settings(*THREE)).done()
    assert o.ran == []
    print(limbeck("status", folder).done().out)
