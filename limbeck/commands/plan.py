"""The command that says how many prompts a question needs, before anything is spent. Parse, call, print."""

from typing import Annotated

import typer
from rich.table import Table

from limbeck.console import results, show
from limbeck.errors import RecipeError
from limbeck.statistics.planning import Measure, Plan, plan_detectable, plan_prompts

_POINTS = 100
_LEAST_POINTS = 0.001
_NEARLY_ONE = 0.999999  # beyond, a normal quantile is no number
# What each judge's figure is, and what nobody knows beforehand that decides how many prompts it takes.
_MEASURES = {"verifier": ("accuracy", "answered right by one only"), "reward": ("win_rate", "ties")}


def plan(
    detect: Annotated[
        float | None,
        typer.Option(help="Difference to see, in points: of accuracy, or of the win rate from 50 %."),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Or: how much can so many held-out prompts show?")
    ] = None,
    arms: Annotated[int, typer.Option(min=1, max=10**6, help="Arms compared with one baseline.")] = 1,
    *,
    power: Annotated[float, typer.Option(help="Probability of seeing a difference that is there.")] = 0.8,
    confidence: Annotated[float, typer.Option(help="One minus the error allowed, all arms together.")] = 0.95,
    judge: Annotated[str, typer.Option(help="verifier (accuracy) or reward (win rate).")] = "verifier",
    ties_rate: Annotated[
        list[float] | None, typer.Option("--ties-rate", help="Expected share of ties (reward); may be given again.")
    ] = None,
    discordant_rate: Annotated[
        list[float] | None,
        typer.Option(help="Expected share of problems that one model alone solves (verifier); may be given again."),
    ] = None,
) -> None:  # fmt: skip
    """Say how many prompts a question needs, or what so many can show."""
    if (detect is None) == (prompts is None):
        raise RecipeError("limbeck plan: give either --detect POINTS or --prompts NUMBER")
    if detect is not None and not _LEAST_POINTS <= detect < _POINTS:
        raise RecipeError(
            f"limbeck plan: --detect should be points from {_LEAST_POINTS:g} to below 100, found {detect:g}"
        )
    if not 0.5 <= power <= _NEARLY_ONE:
        raise RecipeError(f"limbeck plan: --power should lie from 0.5 to {_NEARLY_ONE}, found {power}")
    if not 0 < confidence <= _NEARLY_ONE:
        raise RecipeError(
            f"limbeck plan: --confidence should lie above 0 and be at most {_NEARLY_ONE}, found {confidence}"
        )
    rates = _rates(judge, ties_rate, discordant_rate)
    measure: Measure = "accuracy" if judge == "verifier" else "win_rate"
    alpha = 1 - confidence
    if prompts is not None:
        plans = plan_detectable(measure, prompts, rates=rates, num_arms=arms, power=power, alpha=alpha)
    else:
        difference = (detect or 0.0) / _POINTS
        plans = plan_prompts(measure, difference, rates=rates, num_arms=arms, power=power, alpha=alpha)
    _show(plans, judge, confidence)


def _rates(judge: str, ties: list[float] | None, discordant: list[float] | None) -> list[float] | None:
    """The expected rates, of the judge's own kind."""
    if judge not in _MEASURES:
        raise RecipeError(f"--judge {judge!r}: expected one of {', '.join(_MEASURES)}")
    wrong, right = (ties, discordant) if judge == "verifier" else (discordant, ties)
    if wrong:
        option, other = ("--ties-rate", "reward") if judge == "verifier" else ("--discordant-rate", "verifier")
        raise RecipeError(f"limbeck plan: {option} goes with --judge {other}")
    for rate in right or ():
        if not 0 <= rate <= 1:
            raise RecipeError(f"limbeck plan: a rate is a share between 0 and 1, not {rate:g}")
    return right or None


def _show(plans: tuple[Plan, ...], judge: str, confidence: float) -> None:
    what = "accuracy" if judge == "verifier" else "win rate"
    table = Table(title=f"Two models on the same prompts: {what}", title_justify="left")
    for column in (_MEASURES[judge][1], "held-out prompts", "points that they show"):
        table.add_column(column, justify="right")
    for each in plans:
        table.add_row(f"{100 * each.rate:.0f} %", _number(each), _points(each))
    results.print(table)
    if any(each.num_prompts is None or each.difference is None for each in plans):
        show("-: where so few prompts decide, no number of them shows it, or there is no such difference.")
    first = plans[0]
    correction = f", {100 * first.alpha_per_arm:.2g} % each" if first.num_arms > 1 else ""
    show(
        f"With a probability of {100 * first.power:.0f} %, at {100 * (1 - confidence):.2g} % error over "
        f"{first.num_arms} arm{'s' if first.num_arms > 1 else ''}{correction}."
    )


def _number(each: Plan) -> str:
    return "-" if each.num_prompts is None else f"{each.num_prompts:,}"


def _points(each: Plan) -> str:
    return "-" if each.difference is None else f"{_POINTS * each.difference:.1f}"
