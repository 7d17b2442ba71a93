"""Agreement scores beside F1, AP and PQ (`image2reg.nuclei.match`): AJI, pixel Jaccard, a published screen's own.

Sources: aggregated Jaccard index, Kumar et al., IEEE TMI 36:1550 (2017), as in Cellpose's metrics; the screen's
scores as its notebooks compute them (Kazemi Rashed et al., siRNA screen of U2OS cells).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.overlap import overlap_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from image2reg.nuclei.match import Matching

__all__ = ["AitsScores", "aggregated_jaccard", "aits_compat", "pixel_jaccard", "pooled_interval"]


def aggregated_jaccard(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Give the aggregated Jaccard index (AJI) of two label images.

    Objects are paired one to one for the largest total IoU; shared pixels of the pairs are divided by the pixels of
    their unions and of all objects left alone.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X) integer

    Returns
    -------
    float
        0 to 1; NaN without any object.

    Raises
    ------
    DataError
        As `match`.

    Examples
    --------
    >>> aggregated_jaccard([[1, 1, 0, 2]], [[5, 5, 0, 0]])
    0.6666666666666666
    """
    from scipy import sparse
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    table = overlap_table(truth, prediction)
    total = int(table.true_area.sum() + table.predicted_area.sum())
    if total == 0:
        return float("nan")
    n_true, n_predicted = table.true_labels.size, table.predicted_labels.size
    # Every true object may also stay alone: a partner of its own that costs nothing makes a full matching possible.
    # Costs lie below 0, and no stored entry may be 0.
    alone = np.arange(n_true)
    cost = sparse.coo_matrix(
        (
            np.concatenate([-1 - table.iou, np.full(n_true, -1.0)]),
            (np.concatenate([table.row, alone]), np.concatenate([table.column, n_predicted + alone])),
        ),
        (n_true, n_predicted + n_true),
    )
    shared = 0
    if n_true:
        row, column = min_weight_full_bipartite_matching(cost.tocsr())
        paired = column < n_predicted
        pixels = sparse.coo_matrix((table.shared, (table.row, table.column)), (n_true, max(n_predicted, 1)))
        shared = int(pixels.tocsr()[row[paired], column[paired]].sum())
    return shared / (total - shared)


def pixel_jaccard(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Intersection over union of the two foregrounds, objects ignored; NaN where both are empty.

    Raises
    ------
    DataError
        Shapes differ.
    """
    first, second = np.asarray(truth) > 0, np.asarray(prediction) > 0
    if first.shape != second.shape:
        raise DataError(
            f"truth has shape {first.shape}, prediction {second.shape}; they must cover the same pixels."
        )
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else float("nan")


@dataclass(frozen=True)
class AitsScores:
    """The screen paper's scores of one image; for comparison with its published figures and for nothing else.

    Attributes
    ----------
    tp : int
        True objects with exactly one prediction of IoU > threshold.
    fn : int
        True objects with none.
    fp : int
        Predictions without a true object of IoU > 0.5, *whatever the threshold*: what lies between is no error.
    jaccard : float
        Mean over the predictions of their largest IoU; a missed nucleus costs nothing. NaN without predictions.
    """

    tp: int
    fn: int
    fp: int
    jaccard: float

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn); NaN without objects.

        Examples
        --------
        >>> round(AitsScores(tp=320, fn=116, fp=30, jaccard=0.9).f1, 4)
        0.8142
        """
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")


def aits_compat(
    truth: ArrayLike, prediction: ArrayLike, *, threshold: float = 0.9, min_area_px: int = 100
) -> AitsScores:
    """Score one image as the screen paper did; its figures are means of these over images.

    Parameters
    ----------
    truth, prediction : (Y, X) integer
    threshold : float
        IoU that counts as found.
    min_area_px : int
        Smaller objects are removed from both sides before anything is counted, as published.

    Raises
    ------
    ConfigurationError
        A threshold outside (0, 1].
    DataError
        As `match`.
    """
    if not 0 < threshold <= 1:
        raise ConfigurationError(f"threshold is {threshold}; an IoU above 0 and at most 1 is needed.")
    table = overlap_table(truth, prediction)
    large_true, large = table.true_area >= min_area_px, table.predicted_area >= min_area_px
    kept = large_true[table.row] & large[table.column]
    row, column, iou = table.row[kept], table.column[kept], table.iou[kept]
    hits = np.bincount(row[iou > threshold], minlength=large_true.size)[large_true]
    best = np.zeros(large.size)
    np.maximum.at(best, column, iou)
    best = best[large]
    return AitsScores(
        tp=int((hits == 1).sum()),
        fn=int((hits == 0).sum()),
        fp=int((best <= 0.5).sum()),
        jaccard=float(best.mean()) if best.size else float("nan"),
    )


def pooled_interval(
    matchings: Sequence[Matching], threshold: float, score: str = "f1", *, seed: int = 0, n: int = 2000
) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of a pooled F1, AP, precision or recall, images resampled.

    Parameters
    ----------
    matchings : of single images, from `match`
    threshold : float
        One of theirs.
    score : str
        ``f1``, ``ap``, ``precision`` or ``recall``.

    Returns
    -------
    (low, high)
        NaN for a single image, and where no image counts for this score.

    Raises
    ------
    ConfigurationError
        Another score.
    """
    weights = {"f1": (2, 1, 1), "ap": (1, 1, 1), "precision": (1, 1, 0), "recall": (1, 0, 1)}
    if score not in weights:
        raise ConfigurationError(f"score is {score!r}; allowed are {', '.join(weights)}.")
    if len(matchings) < 2:
        return float("nan"), float("nan")
    counts: NDArray[np.float64] = np.array(
        [[m.at(threshold)[k] for k in ("tp", "fp", "fn")] for m in matchings]
    )
    counts *= weights[score]
    if not counts.any():
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(counts), size=(n, len(counts)))
    sums = counts[drawn].sum(axis=1)
    hits, total = sums[:, 0], sums.sum(axis=1)
    values = np.divide(hits, total, out=np.full(n, np.nan), where=total > 0)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
