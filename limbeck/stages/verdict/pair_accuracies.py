"""How often a model gives the chosen response of a held-out pair the higher log-probability."""

from collections.abc import Sequence

from limbeck.records import Estimate
from limbeck.records.verdict import PairAccuracy, PairLogps
from limbeck.stages.verdict.models import BASELINE, Model
from limbeck.statistics import clustered_proportion


def pair_accuracies(models: Sequence[Model], confidence: float) -> list[PairAccuracy]:
    """Accuracies of every model by source of pairs, raw and, but for SFT itself, of its change against SFT.

    The second is the implicit reward's (Rafailov et al. 2023, equation 5; beta does not matter for a sign). A summed
    log-probability is lower for longer responses, so the raw accuracy leans towards shorter ones; hence the accuracy of
    choosing the longer one beside it. Equal values are half right.
    """
    reference = {
        (pair.source, pair.id): pair for model in models if model.name == BASELINE for pair in model.pair_logps
    }
    found = []
    for model in models:
        for source in sorted({pair.source for pair in model.pair_logps}):
            pairs = [pair for pair in model.pair_logps if pair.source == source]
            found.append(_accuracy(model.name, source, pairs, reference, confidence))
    return found


def _accuracy(
    model: str,
    source: str,
    pairs: Sequence[PairLogps],
    reference: dict[tuple[str, str], PairLogps],
    confidence: float,
) -> PairAccuracy:
    known = [(pair, before) for pair in pairs if (before := reference.get((source, pair.id))) is not None]
    changes = [_margin(pair) - _margin(before) for pair, before in known]
    longer = [float(pair.chosen_characters - pair.rejected_characters) for pair in pairs]
    return PairAccuracy(
        model=model,
        source=source,
        raw=_share([_margin(pair) for pair in pairs], [_prompt(pair) for pair in pairs], confidence),
        against_reference=None
        if model == BASELINE or not known
        else _share(changes, [_prompt(pair) for pair, _ in known], confidence),
        longer_is_chosen=_share(longer, [_prompt(pair) for pair in pairs], confidence),
    )


def _margin(pair: PairLogps) -> float:
    return pair.chosen_logps - pair.rejected_logps


def _prompt(pair: PairLogps) -> str:
    return pair.prompt or pair.id


def _share(margins: Sequence[float], prompts: Sequence[str], confidence: float) -> Estimate:
    """The share of margins above 0, those of 0 as a half; pairs of one prompt are one piece of evidence."""
    points = [0.5 * ((margin > 0) + (margin >= 0)) for margin in margins]
    found = clustered_proportion(points, prompts, confidence)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high, n=found.num_prompts)
