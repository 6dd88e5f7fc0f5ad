"""What evaluating one model says at its end: how it scored, what failed, and who wins against somebody's responses."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.console import show
from limbeck.errors import InputError, RecipeError
from limbeck.manifest import read_manifest
from limbeck.recipe import Recipe
from limbeck.records import Estimate, Judgement, Reply
from limbeck.records.verdict import PairLogps
from limbeck.responses import EXTRA, LATER, MISSING, REPEATED
from limbeck.statistics import clustered_proportion, paired_difference, win_rate
from limbeck.store import read_records
from limbeck.turns import conversation_of, turn_number

_SEED = 0  # of the bootstrap: the same files give the same figures


class Scored(NamedTuple):
    """Judgements with a score: one value each (solved or not where the judge is exact), and whose conversation."""

    values: list[float]
    conversations: list[str]
    exact: bool

    def estimate(self, confidence: float) -> Estimate:
        """The mean over rows, with Wilson's interval where each is 0 or 1, else a bootstrap: by conversation."""
        if self.exact:
            return _clustered(self.values, self.conversations, confidence)
        zeros = [0.0] * len(self.values)
        found = paired_difference(zeros, self.values, seed=_SEED, clusters=self.conversations, confidence=confidence)
        return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def judges_of(recipe: Recipe) -> tuple[str, ...]:
    """The judges that score a model's replies by themselves.

    Raises:
        RecipeError: where one of them compares two models instead.
    """
    if "pairwise" in recipe.judged_by():
        raise RecipeError("limbeck evaluate: 'pairwise' compares the replies of two models and scores none; give "
                          "--judge verifier, nemotron or local")  # fmt: skip
    return recipe.judged_by()


def score_of(judgement: Judgement) -> float | None:
    """1 or 0 where the judge says solved or not, else the reward; None where unscored."""
    return judgement.score if judgement.solved is None else float(judgement.solved)


def scored(judgements: Sequence[Judgement]) -> Scored:
    """Those that have a score."""
    found = [(value, conversation_of(j.prompt_id)) for j in judgements if (value := score_of(j)) is not None]
    values, conversations = [value for value, _ in found], [conversation for _, conversation in found]
    return Scored(values, conversations, all(j.solved is not None for j in judgements if j.score is not None))


def show_judgements(path: Path, confidence: float) -> None:
    """Print what a judge says of one model: accuracy where it is exact, else the mean reward; unscored are counted.

    Of given responses in a model's place, those that could not be matched are counted too.

    Raises:
        InputError: where there is nothing to say.
    """
    judgements = read_records(path, Judgement)
    found = scored(judgements)
    if not found.values:
        raise InputError(f"{path}: not one of {len(judgements)} replies could be scored")
    what = found.estimate(confidence)
    text = f"accuracy {percent(what)}" if found.exact else f"mean reward {what.estimate:.3f} {_range(what)}"
    turns = sorted({turn_number(j.prompt_id) for j in judgements})
    show(f"{text}, n = {what.n}; {len(judgements) - len(found.values)} unscored")
    for turn in turns if len(turns) > 1 else ():
        part = scored([j for j in judgements if turn_number(j.prompt_id) == turn])
        if part.values:
            mean = part.estimate(confidence)
            shown = percent(mean) if part.exact else f"{mean.estimate:.3f} {_range(mean)}"
            show(f"  turn {turn}: {shown}, n = {mean.n}")
    _show_unmatched(path.parent)


def show_failures(folder: Path, judge: str, confidence: float) -> None:
    """Print how many replies hold no answer at all, and how many were cut: not known of given ones."""
    judgements = [j for j in read_records(folder / f"judgements_{judge}.jsonl", Judgement) if j.score is not None]
    replies = read_records(folder / "replies.jsonl", Reply)
    failed = _clustered(
        [not j.parsed for j in judgements], [conversation_of(j.prompt_id) for j in judgements], confidence
    )
    cut = sum(reply.finish_reason == "length" for reply in replies)
    told = "" if _is_given(folder) else f"; {cut} of {len(replies)} cut at the limit"
    show(f"no answer found in {percent(failed)} of the replies{told}")


def _is_given(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and "responses" in manifest.inputs


def show_win_rate(model: Path, given: Path, judge: str, recipe: Recipe) -> None:
    """Print the win rate of a model's replies against given responses, both as they were judged in these folders.

    Every reply counts, against the one response to its prompt; intervals resample prompts. Prompts without a response
    take no part, and are counted.
    """
    name = f"judgements_{judge}.jsonl"
    baseline = {j.prompt_id: score_of(j) for j in read_records(given / name, Judgement)}
    judgements = [j for j in read_records(model / name, Judgement) if j.prompt_id in baseline]
    confidence, ties = recipe.evaluate.confidence, recipe.evaluate.ties
    found = win_rate(
        [baseline[j.prompt_id] for j in judgements],
        [score_of(j) for j in judgements],
        seed=_SEED,
        ties=ties,
        clusters=[conversation_of(j.prompt_id) for j in judgements],
        confidence=confidence,
    )
    rate = Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)
    show(
        f"win rate against {recipe.evaluate.against} {percent(rate)}, n = {rate.n}; {found.wins} W, {found.ties} T, "
        f"{found.losses} L, {found.unscored} unscored; a tie is {'half a win' if ties == 'half' else 'a loss'}"
    )
    _show_unmatched(given)


def _show_unmatched(given: Path) -> None:
    manifest = read_manifest(given)
    if manifest is None:
        return
    for reason, fact in ((MISSING, "ids_without_a_response"), (REPEATED, "lines_repeated"), (EXTRA, "lines_extra")):
        number = manifest.result.drops.get(reason, 0)
        if number:
            places = manifest.result.facts[fact]
            more = ", ..." if number > len(places) else ""
            what = "ids" if reason == MISSING else "lines"
            show(f"  {number} times: {reason} ({what} {', '.join(map(str, places))}{more})")
    if later := manifest.result.drops.get(LATER, 0):
        show(f"  {later} times: {LATER}")


def show_pairs(path: Path, confidence: float) -> None:
    """Print how often a model finds the chosen response likelier, and how often the longer one is the chosen one."""
    rows = read_records(path, PairLogps)
    if not rows:
        raise InputError(f"{path}: not one pair could be scored")
    prompts = [row.prompt or row.id for row in rows]
    likelier = _share([row.chosen_logps - row.rejected_logps for row in rows], prompts, confidence)
    per_token = _share(
        [row.chosen_logps / row.chosen_tokens - row.rejected_logps / row.rejected_tokens for row in rows],
        prompts,
        confidence,
    )
    longer = _share([row.chosen_characters - row.rejected_characters for row in rows], prompts, confidence)
    pairs = f" prompts, {len(rows)} pairs" if likelier.n < len(rows) else ""
    show(f"chosen response likelier than rejected {percent(likelier)}, n = {likelier.n}{pairs}")
    show(f"  likelier per token {percent(per_token)}")
    show(f"  the longer one is chosen {percent(longer)}")


def _share(differences: Sequence[float], prompts: Sequence[str], confidence: float) -> Estimate:
    """Share of positive differences, a tie as half; Wilson's interval, clustered by prompt."""
    return _clustered([0.5 * ((d > 0) + (d >= 0)) for d in differences], prompts, confidence)


def _clustered(values: Sequence[float], conversations: Sequence[str], confidence: float) -> Estimate:
    found = clustered_proportion(values, conversations, confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)


def percent(found: Estimate) -> str:
    """A share with its interval, in per cent."""
    return f"{100 * found.estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _range(found: Estimate) -> str:
    return f"[{found.low:.3f}, {found.high:.3f}]"
