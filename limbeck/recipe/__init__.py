"""The typed recipe, pure data: what a run is, field by field, with meaning, unit and why this default.

`recipe.py` holds the whole and what follows from it; a section of more than a few fields has a file of its name;
`file.py` reads and writes TOML, `part.py` says which fields decide results. `docs/recipe.md` is made from it.
"""

from limbeck.recipe.mine import Mine
from limbeck.recipe.recipe import Model, Recipe, Server
from limbeck.recipe.training import Dpo, Sft
from limbeck.recipe.verdict import Evaluate

__all__ = ["Dpo", "Evaluate", "Mine", "Model", "Recipe", "Server", "Sft"]
