"""The budget of a teacher or judge: what must be said before money is spent."""

import re
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from limbeck.api.budget import Budget
from limbeck.api.costs import Terms, budget_of
from limbeck.api.prices import Price
from limbeck.errors import RecipeError
from limbeck.recipe.pairs import Teach

TEACHING = Path(__file__).parent.parent / "docs" / "teaching.md"
OWN = {"base_url": "http://localhost:8000/v1"}


def teach(**settings: Any) -> Terms:
    found = Teach.model_validate({"teacher": "openai:m"} | settings)
    return Terms("teach.budget", found.budget, found.endpoint, found.prices, found.batch)


def test_a_provider_is_asked_within_a_budget_only() -> None:
    with pytest.raises(RecipeError, match=r"teach\.budget\.usd or teach\.budget\.tokens"):
        budget_of("gpt-4o", teach(), True)
    with pytest.raises(RecipeError, match=r"with teach\.budget\.tokens how much"):
        budget_of("some-new-model", teach(), True)
    judge = replace(teach(), field="judges.pairwise.budget")
    with pytest.raises(RecipeError, match=r"judges\.pairwise\.budget\.usd or judges\.pairwise\.budget\.tokens"):
        budget_of("gpt-4o", judge, True)
    assert budget_of("gpt-4o", teach(budget={"usd": 5}), True) == Budget(5, None, Price(input=2.5, output=10))


def test_an_unknown_price_asks_for_a_token_limit_instead_of_money(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('date = "2026-11-01"\n[models]\nm = { input = 1, output = 2 }\n')
    for settings, words in (
        ({}, "in the packaged list"),
        ({"endpoint": OWN}, "of a server of your own"),
        ({"prices": str(own)}, "in .*prices"),
    ):
        with pytest.raises(RecipeError, match=f"no price for 'new' is known {words}"):
            budget_of("new", teach(budget={"usd": 5}, **settings), False)
    assert budget_of("new", teach(budget={"tokens": 99}), True) == Budget(None, 99, None)


def test_the_price_list_that_teaching_md_shows_prices_the_teacher_of_the_recipe_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEACHING.read_text(encoding="utf-8")
    listed, recipe = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("prices.toml").write_text(listed)
    shown = Teach.model_validate(tomllib.loads(recipe)["teach"])
    terms = Terms("teach.budget", shown.budget, shown.endpoint, shown.prices)
    model = shown.teacher.removeprefix("openai:")
    assert budget_of(model, terms, True) == Budget(20, None, Price(input=0.6, output=2.4))
    assert budget_of(model, replace(terms, batch=True), True).price == Price(input=0.3, output=1.2)
    assert "files('limbeck.api') / 'prices.toml'" in text
    assert (files("limbeck.api") / "prices.toml").is_file()


def test_a_refusal_for_want_of_a_price_shows_the_field_and_an_entry_of_the_list() -> None:
    with pytest.raises(RecipeError, match=r"with teach\.prices that has models\.\"some/new\" = \{ input = "):
        budget_of("some/new", teach(endpoint=OWN, budget={"usd": 5}), False)


def test_a_server_of_ones_own_needs_no_budget_and_may_have_a_price(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('date = "2026-11-01"\n[models]\ngpt-4o = { input = 1, output = 2 }\n')
    assert budget_of("gpt-4o", teach(endpoint=OWN), False) == Budget()
    assert budget_of("gpt-4o", teach(endpoint=OWN, prices=str(own)), False).price == Price(input=1, output=2)
