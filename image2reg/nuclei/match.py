"""Matching predicted objects with true ones by intersection over union (IoU): F1, AP and panoptic quality.

One sparse overlap table gives every IoU; at each threshold the one-to-one matching with the most pairs,
and among those the largest total IoU, is taken. Counts and scores follow StarDist (stardist/stardist:
stardist/matching.py; Schmidt et al., MICCAI 2018; panoptic quality: Kirillov et al., CVPR 2019), with one
difference: an image without any object, true or predicted, is NaN and counted, and not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.overlap import Overlap, overlap_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["THRESHOLDS", "MatchedObjects", "Matching", "match", "match_dataset", "match_objects"]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Matching:
    """Scores at each IoU threshold; every array is (thresholds,).

    Attributes
    ----------
    thresholds : float
        A pair counts when IoU >= threshold.
    tp, fp, fn : float
        Matched pairs, predicted objects without a partner, true objects without one. Whole numbers,
        except in a data set averaged by image.
    precision, recall, f1 : float
        tp/(tp+fp), tp/(tp+fn), 2tp/(2tp+fp+fn).
    ap : float
        tp/(tp+fp+fn): "average precision" of DSB2018 and Cellpose, "accuracy" of StarDist.
    mean_matched_iou, mean_true_iou : float
        Sum of the IoU of matched pairs over tp, and over the number of true objects.
    pq : float
        Panoptic quality: sum of matched IoU / (tp + fp/2 + fn/2).
    n_true, n_predicted : int
        Objects, over all images.
    n_images, n_empty : int
        Images that entered; those among them with no object at all, where every score is NaN.
    by : str
        ``image`` (one image), ``pooled`` (counts summed over images) or ``mean`` (scores averaged over
        the images that are not empty).

    Notes
    -----
    0/0 is 0, as in StarDist, unless there is no object on either side.
    """

    thresholds: Floats
    tp: Floats
    fp: Floats
    fn: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    ap: Floats
    mean_matched_iou: Floats
    mean_true_iou: Floats
    pq: Floats
    n_true: int
    n_predicted: int
    n_images: int = 1
    n_empty: int = 0
    by: str = "image"

    def at(self, threshold: float) -> dict[str, float]:
        """Every score at one of the thresholds, e.g. ``match(a, b).at(0.5)["f1"]``."""
        found = np.flatnonzero(np.isclose(self.thresholds, threshold))
        if not found.size:
            raise ConfigurationError(
                f"no score at IoU {threshold}; there are scores at {self.thresholds.tolist()}. "
                "Pass thresholds= to match."
            )
        return {name: float(getattr(self, name)[found[0]]) for name in _SCORES}

    def rows(self) -> list[dict[str, float]]:
        """One dictionary per threshold, for a table."""
        return [{"threshold": float(t)} | self.at(float(t)) for t in self.thresholds]


_SCORES = ("tp", "fp", "fn", "precision", "recall", "f1", "ap", "mean_matched_iou", "mean_true_iou", "pq")


@dataclass(frozen=True)
class MatchedObjects:
    """Which object met which, at one threshold.

    Attributes
    ----------
    true_labels, predicted_labels, iou : (pairs,)
        Labels as they stand in the two images, sorted by the true one.
    missed_labels, missed_area_px : (missed,)
        True objects without a partner and their size.
    extra_labels, extra_area_px : (extra,)
        Predicted objects without a partner and their size.
    """

    true_labels: Integers
    predicted_labels: Integers
    iou: Floats
    missed_labels: Integers
    missed_area_px: Integers
    extra_labels: Integers
    extra_area_px: Integers


def match(truth: ArrayLike, prediction: ArrayLike, *, thresholds: Sequence[float] = THRESHOLDS) -> Matching:
    """Match the objects of two label images.

    Parameters
    ----------
    truth, prediction : (Y, X) or (Z, Y, X) integer
        0 is background; ids need not be consecutive.
    thresholds : floats in (0, 1]

    Returns
    -------
    Matching

    Raises
    ------
    DataError
        Shapes differ, or labels are not integers, negative, or beyond int64.
    ConfigurationError
        A threshold is outside (0, 1].

    Examples
    --------
    >>> match([[1, 1, 0, 2]], [[5, 5, 0, 0]]).at(0.5)["f1"]
    0.6666666666666666
    """
    levels = _checked_thresholds(thresholds)
    overlap = overlap_table(truth, prediction)
    matched = [overlap.iou[_pairs(overlap, t)] for t in levels]
    return _scores(
        levels,
        tp=np.array([len(iou) for iou in matched], dtype=np.float64),
        total_iou=np.array([iou.sum() for iou in matched]),
        n_true=overlap.true_labels.size,
        n_predicted=overlap.predicted_labels.size,
    )


def match_objects(truth: ArrayLike, prediction: ArrayLike, *, threshold: float = 0.5) -> MatchedObjects:
    """List the matched pairs and the missed and extra objects at one threshold; arguments as in `match`.

    Examples
    --------
    >>> match_objects([[1, 1, 0, 2]], [[5, 5, 0, 0]]).missed_labels.tolist()
    [2]
    """
    level = _checked_thresholds([threshold])[0]
    overlap = overlap_table(truth, prediction)
    chosen = _pairs(overlap, level)
    row, column = overlap.row[chosen], overlap.column[chosen]
    missed = np.setdiff1d(np.arange(overlap.true_labels.size), row)
    extra = np.setdiff1d(np.arange(overlap.predicted_labels.size), column)
    return MatchedObjects(
        overlap.true_labels[row],
        overlap.predicted_labels[column],
        overlap.iou[chosen],
        overlap.true_labels[missed],
        overlap.true_area[missed],
        overlap.predicted_labels[extra],
        overlap.predicted_area[extra],
    )


def match_dataset(matchings: Iterable[Matching], *, by: Literal["pooled", "mean"] = "pooled") -> Matching:
    """Scores of a data set from those of its images.

    Parameters
    ----------
    matchings : of single images, from `match`, all with the same thresholds
    by : str
        ``pooled`` sums the counts, so that each object weighs the same; ``mean`` averages the scores, so
        that each image does, leaving out (and counting in `Matching.n_empty`) images without any object.

    Examples
    --------
    >>> one, none = match([[1, 1]], [[1, 1]]), match([[0, 0]], [[0, 0]])
    >>> match_dataset([one, none], by="mean").n_empty
    1
    """
    images = list(matchings)
    if by not in ("pooled", "mean"):
        raise ConfigurationError(f"by is {by!r}; allowed are 'pooled' (counts) and 'mean' (of images).")
    if not images:
        raise DataError("data set of matchings is empty; give at least one image.")
    levels = images[0].thresholds
    for number, image in enumerate(images):
        if image.thresholds.shape != levels.shape or not np.allclose(image.thresholds, levels):
            raise DataError(
                f"image {number} was matched at IoU {image.thresholds.tolist()}, the first image at "
                f"{levels.tolist()}; match all with the same thresholds."
            )
    n_true, n_predicted = sum(m.n_true for m in images), sum(m.n_predicted for m in images)
    counted = [m for m in images if m.n_true + m.n_predicted]
    counts: dict[str, Any] = {"n_images": len(images), "n_empty": len(images) - len(counted), "by": by}
    if by == "pooled" or not counted:
        tp = np.sum([m.tp for m in images], axis=0)
        total = np.sum([np.nan_to_num(m.mean_matched_iou) * m.tp for m in images], axis=0)
        return _scores(levels, tp=tp, total_iou=total, n_true=n_true, n_predicted=n_predicted, **counts)
    means: dict[str, Any] = {name: np.mean([getattr(m, name) for m in counted], axis=0) for name in _SCORES}
    return Matching(levels, **means, n_true=n_true, n_predicted=n_predicted, **counts)


def _checked_thresholds(thresholds: Sequence[float]) -> Floats:
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels <= 1)).all():
        raise ConfigurationError(f"IoU thresholds are {levels.tolist()}; each must be above 0 and at most 1.")
    return levels


def _pairs(overlap: Overlap, threshold: float) -> Integers:
    """Give the indices of the overlaps that form the matching at `threshold`, in order of the true label."""
    candidates = np.flatnonzero(overlap.iou >= threshold)
    row, column = overlap.row[candidates], overlap.column[candidates]
    # always all above 0.5: two objects cannot both cover more than half of a third
    alone = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    if alone.all():
        return candidates
    solved = [_assigned(overlap, some) for some in _conflicts(overlap, candidates[~alone])]
    return np.sort(np.concatenate([candidates[alone], *solved]))


def _conflicts(overlap: Overlap, candidates: Integers) -> list[Integers]:
    """Part candidates into groups that have no object in common."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    rows, row = np.unique(overlap.row[candidates], return_inverse=True)
    columns, column = np.unique(overlap.column[candidates], return_inverse=True)
    n_objects = rows.size + columns.size
    links = sparse.coo_matrix((np.ones(row.size), (row, rows.size + column)), (n_objects, n_objects))
    group = connected_components(links, directed=False)[1][row]
    order = np.argsort(group, kind="stable")
    return np.split(candidates[order], np.flatnonzero(np.diff(group[order])) + 1)


def _assigned(overlap: Overlap, candidates: Integers) -> Integers:
    """Choose among candidates that are in conflict."""
    from scipy.optimize import linear_sum_assignment

    rows, row = np.unique(overlap.row[candidates], return_inverse=True)
    columns, column = np.unique(overlap.column[candidates], return_inverse=True)
    table = np.full((rows.size, columns.size), -1, dtype=np.int64)
    table[row, column] = candidates
    # A pair is worth 1, its IoU less than 1 in all pairs together: most pairs first, then the largest IoU.
    worth = np.where(table >= 0, 1 + overlap.iou[table] / (2 * min(table.shape)), 0.0)
    chosen = table[linear_sum_assignment(worth, maximize=True)]
    return chosen[chosen >= 0]


def _scores(
    thresholds: Floats, *, tp: Floats, total_iou: Floats, n_true: int, n_predicted: int, **counts: Any
) -> Matching:
    fp, fn = n_predicted - tp, n_true - tp
    if n_true + n_predicted == 0:
        scores: dict[str, Any] = {name: np.full(tp.shape, np.nan) for name in _SCORES[3:]}
        counts = {"n_empty": 1} | counts
    else:
        scores = {
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "ap": _ratio(tp, tp + fp + fn),
            "mean_matched_iou": _ratio(total_iou, tp),
            "mean_true_iou": _ratio(total_iou, tp + fn),
            "pq": _ratio(total_iou, tp + fp / 2 + fn / 2),
        }
    return Matching(thresholds, tp, fp, fn, **scores, n_true=n_true, n_predicted=n_predicted, **counts)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
