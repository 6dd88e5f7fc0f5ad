"""How much of the ground that some prompts cover is covered by others: written prompts against the human ones.

The human prompts (the anchors) are divided at random. One half is clustered: the map. The other half is the control:
what human prompts that the map has not seen reach of it. Written prompts are put on the same map. Few clusters reached,
or nearly all prompts in a few of them, is *narrow* data; far from every centre is *new* ground, which is no fault, but
not what was to be covered either. Every written prompt lies in some human cluster by definition, so the reverse of
coverage is measured by distance.

Refuses to know where prompts come from.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from limbeck.errors import InputError
from limbeck.seeds import derive
from limbeck.statistics.words import FloatArray, count_grams, unit_rows

LEAST_ANCHORS = 40  # 4 clusters of 5
LEAST_CANDIDATES = 40
_MAX_CLUSTERS = 50
_ANCHORS_PER_CLUSTER = 5
_MAX_ROUNDS = 50  # of k-means; on 1,000 prompts it settles after some 10
_FAR = 0.05  # so many of the controls are called far, by definition


class Coverage(NamedTuple):
    """How `num_compared` candidates spread over the anchors' clusters, and how as many anchors (the controls) do.

    `reached`, `reached_by_controls`: share of the clusters that so many reach. `effective`, `effective_of_controls`:
    effective number of clusters they lie in. `far`: share of candidates that lie farther from their cluster's centre
    than 95 % of the controls do.
    """

    num_clusters: int
    num_compared: int
    reached: float
    reached_by_controls: float
    effective: float
    effective_of_controls: float
    far: float


class _Placed(NamedTuple):
    """Where prompts lie on the map, both of shape (prompts,): the cluster and the cosine to its centre."""

    clusters: npt.NDArray[np.int64]
    cosines: FloatArray


def coverage(candidates: Sequence[Sequence[str]], anchors: Sequence[Sequence[str]], *, seed: int) -> Coverage:
    """Compare how candidates and held-back anchors, each given as words, spread over clusters of the other anchors.

    Raises:
        InputError: there are fewer than `LEAST_ANCHORS` anchors or `LEAST_CANDIDATES` candidates.
    """
    if len(anchors) < LEAST_ANCHORS or len(candidates) < LEAST_CANDIDATES:
        raise InputError(
            f"Coverage needs {LEAST_ANCHORS} prompts to compare with and {LEAST_CANDIDATES} to compare; there are "
            f"{len(anchors)} and {len(candidates)}."
        )
    generator = np.random.default_rng(derive(seed, "coverage"))
    order = generator.permutation(len(anchors))
    half = len(anchors) // 2
    texts = [*(anchors[place] for place in order), *candidates]
    units = _tf_idf(texts, half)
    num_clusters = min(_MAX_CLUSTERS, half // _ANCHORS_PER_CLUSTER)
    centres = spherical_kmeans(units[:half], num_clusters, generator)
    controls, placed = _place(units[half : len(anchors)], centres), _place(units[len(anchors) :], centres)
    sizes, control_sizes = (np.bincount(each.clusters, minlength=num_clusters) for each in (placed, controls))
    num_compared = min(len(candidates), len(anchors) - half)
    return Coverage(
        num_clusters=num_clusters,
        num_compared=num_compared,
        reached=expected_reach(sizes, num_compared),
        reached_by_controls=expected_reach(control_sizes, num_compared),
        effective=effective_number(sizes),
        effective_of_controls=effective_number(control_sizes),
        far=float((placed.cosines < np.quantile(controls.cosines, _FAR)).mean()),
    )


def _tf_idf(texts: Sequence[Sequence[str]], num_known: int) -> Any:
    """Unit rows of log(1 + count) x idf, with idf = ln((1 + n) / (1 + df)) + 1 over the first `num_known` texts only:
    a word that none of those has counts as the rarest (Salton and Buckley 1988; smoothed as in scikit-learn).
    """
    counts = count_grams(texts).matrix
    known = np.asarray((counts[:num_known] > 0).sum(axis=0), dtype=np.float64).reshape(-1)
    weights = np.log((1 + num_known) / (1 + known)) + 1
    return unit_rows((counts.log1p() @ sparse.diags(weights)).tocsr())


def spherical_kmeans(units: Any, num_clusters: int, generator: np.random.Generator) -> FloatArray:
    """Cluster unit rows by cosine (Dhillon and Modha 2001); returns the centres, [clusters, features], of length 1.

    Seeded as k-means++ (Arthur and Vassilvitskii 2007: by squared distance, which for unit rows is 2 - 2 cosine). A
    cluster that loses all its rows takes the row that fits its own worst.
    """
    centres = _seeds(units, num_clusters, generator)
    before = np.full(units.shape[0], -1)
    for _ in range(_MAX_ROUNDS):
        placed = _place(units, centres)
        clusters = placed.clusters
        worst = iter(np.argsort(placed.cosines, kind="stable"))
        for empty in np.flatnonzero(np.bincount(clusters, minlength=num_clusters) == 0):
            clusters[next(worst)] = empty
        if (clusters == before).all():
            break
        before = clusters
        member = sparse.csr_matrix((np.ones(len(clusters)), (clusters, np.arange(len(clusters)))),
                                   shape=(num_clusters, len(clusters)))  # fmt: skip
        centres = unit_rows((member @ units).toarray())  # [clusters, features]
    return centres


def _seeds(units: Any, num_clusters: int, generator: np.random.Generator) -> FloatArray:
    chosen = [int(generator.integers(units.shape[0]))]
    distances = np.ones(units.shape[0])
    while len(chosen) < num_clusters:
        cosines = (units @ units[chosen[-1]].T).toarray().reshape(-1)
        distances = np.minimum(distances, np.maximum(0.0, 1 - cosines))
        total = distances.sum()
        shares = distances / total if total > 0 else np.full(len(distances), 1 / len(distances))
        chosen.append(int(generator.choice(len(shares), p=shares)))
    return np.asarray(units[chosen].toarray(), dtype=np.float64)


def _place(units: Any, centres: FloatArray) -> _Placed:
    cosines = np.asarray(units @ centres.T)  # [prompts, clusters]
    return _Placed(cosines.argmax(axis=1), cosines.max(axis=1))


def expected_reach(sizes: npt.NDArray[np.int64], draws: int) -> float:
    """Expected share of the groups that `draws` of all members hit, drawn without replacement (Hurlbert 1971, equation
    for E(S_n)): so a set can be compared with a smaller one.
    """
    total = int(sizes.sum())
    missed = np.exp(_log_choose(total - sizes, draws) - _log_choose(np.array([total]), draws))
    return float((1 - missed).mean())  # over groups


def _log_choose(n: npt.NDArray[np.int64], k: int) -> FloatArray:
    with np.errstate(invalid="ignore"):
        logs = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(np.maximum(n - k, 0) + 1)
    return np.where(n >= k, logs, -np.inf)


def effective_number(sizes: npt.NDArray[np.int64]) -> float:
    """1 / the probability that two different members lie in one group (Simpson 1949; Hill 1973, order 2): that many
    equal groups would be as varied. Does not depend on how many members there are; at most the number of groups.
    """
    total = int(sizes.sum())
    together = float((sizes * (sizes - 1)).sum()) / (total * (total - 1))
    return min(1 / together, float(len(sizes))) if together > 0 else float(len(sizes))
