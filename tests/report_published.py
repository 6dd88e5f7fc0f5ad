"""The fixture's run beside published figures: one inside its interval, two outside, one model that published none."""

from pathlib import Path

from report_fixture import build_run, recipe

from limbeck.recipe import Recipe
from limbeck.recipe.published import Published
from limbeck.records import Estimate
from limbeck.records.verdict import Verdict
from limbeck.store import read_json, write_json

PUBLISHED = {
    "title": "Table 1 <b>of</b> | a paper",
    "source": "Somebody, 2025",
    "ties": "loss",
    "prompts": 2000,
    "notes": ("A note *on* the table.",),
    "table": {
        "sft": {"average_reward": -27.9, "win_rate_against": 0.585},
        "random": {"win_rate": 0.60, "average_reward": -25.3, "note": "A first try gave .10."},
        "random+zero_shot": {"win_rate": 0.37, "average_reward": -1.0},
    },
    "figures": (
        {"unit": "dpo/random", "value": "loss", "title": "DPO loss"},
        {
            "unit": "dpo/random+zero_shot",
            "value": "accuracy",
            "title": "Accuracy of a run with a very long title indeed",
        },
        {"unit": "dpo/on_policy", "value": "surprise", "title": "Nothing"},
    ),
}
REWARD = Estimate(estimate=-1.1, low=-1.4, high=-0.8, n=60)


def published_recipe() -> Recipe:
    """The fixture's recipe with a section `published`."""
    return recipe().model_copy(update={"published": Published.model_validate(PUBLISHED)})


def build_published_run(root: Path, *, hostile: bool = True) -> Path:
    """Write the fixture's run with both ways of counting ties, and mean rewards."""
    build_run(root, hostile=hostile)
    path = root / "verdict" / "verdict.json"
    verdict = Verdict.model_validate(read_json(path))
    strict = tuple(
        comparison.model_copy(update={"win_rate_other_ties": _rate(comparison.wins / comparison.difference.n)})
        for comparison in verdict.comparisons
    )
    scores = tuple(score.model_copy(update={"mean_reward": REWARD}) for score in verdict.scores)
    told = verdict.model_copy(update={"comparisons": strict, "scores": scores})
    write_json(path, told.model_dump(mode="json"))
    return root


def _rate(at: float) -> Estimate:
    return Estimate(estimate=at, low=at - 0.1, high=at + 0.1, n=60)
