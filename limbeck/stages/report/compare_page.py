"""The page of several runs, laid out once, as one HTML text without a script. Same input, same bytes."""

from limbeck.stages.report import several
from limbeck.stages.report.assets import assets, filled
from limbeck.stages.report.over_seeds import seeds_table


def render_comparison(runs: several.Runs) -> str:
    """The whole page."""
    static = assets(scripted=False)
    return filled(
        "compare.html.j2",
        {
            "runs": runs,
            "policy": static.policy,
            "style": static.style,
            "cautions": several.cautions(runs),
            "score_figures": several.score_figures(runs),
            "difference_figures": several.difference_figures(runs),
            "seeds_table": seeds_table(runs),
            "comparison_table": several.comparison_table(runs),
            "alarm_table": several.alarm_table(runs),
            "topic_figure": several.topic_figure(runs),
            "topic_table": several.topic_table(runs),
            "training_curves": several.training_curves(runs),
            "recipe_table": several.recipe_table(runs),
            "cost_table": several.cost_table(runs),
        },
    )
