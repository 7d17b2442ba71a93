"""Scores over held-out compounds: what the calls are worth, beside what chance and noise would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.intervals import bootstrap_interval
from image2reg.randomness import generator
from image2reg.retrieval.calibration import (
    abstention_curve,
    calibration_floor,
    expected_calibration_error,
    reliability,
)
from image2reg.retrieval.significance import label_permutation_test

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.retrieval.scores import Gallery

__all__ = ["held_out_summary", "table_test"]

_LARGEST_TEST = 2000


def table_test(gallery: Gallery, *, seed: int) -> dict[str, float]:
    """Test mean average precision of a table against mechanisms permuted among compounds, 200 times.

    Above 2,000 labelled rows, 2,000 drawn at random stand for all.
    """
    rows = np.flatnonzero(gallery.members.any(axis=1))
    if len(rows) > _LARGEST_TEST:
        rows = np.sort(generator(seed, "rows of the table test").choice(rows, _LARGEST_TEST, replace=False))
    members = gallery.members[rows].astype(np.float32)
    compounds = gallery.compounds[rows]
    return label_permutation_test(
        gallery.similarity[np.ix_(rows, rows)], np.asarray(members @ members.T) > 0,
        compounds[:, None] != compounds[None], n=200, seed=seed, units=compounds,
    )  # fmt: skip


def held_out_summary(
    calls: pd.DataFrame,
    gallery: Gallery,
    compound: NDArray[Any],
    test: dict[str, float],
    *,
    alpha: float,
    seed: int,
) -> dict[str, Any]:
    """Summarise the calls of labelled queries.

    Parameters
    ----------
    calls : DataFrame
        As `image2reg.retrieval.calling.Retrieval.calls`.
    gallery : Gallery
        Of the first arm.
    compound : (n,) labels
        Unit of the intervals.
    test : dict
        As `table_test` gives.
    alpha : float
        Above it a treatment does not differ from the controls.
    seed : int

    Returns
    -------
    dict
        ``n_tested`` (of all profiles, against the controls) and ``n_inactive`` (not different from them), ``n_queries``
        (labelled), ``n_possible`` (another compound shares the mechanism), ``accuracy`` of the most
        probable mechanism over possible queries, ``majority`` (always the most frequent mechanism), ``coverage`` and
        ``accuracy_called``, ``ece`` with ``ece_floor`` (mean and 95th percentile by simulation), ``reliability``
        and ``abstention`` curves, ``nearest`` (accuracy of the nearest neighbour), ``map`` with its permutation test;
        each accuracy with an interval over compounds.
    """
    use = (calls["possible"] & (calls["known"] != "")).to_numpy()
    correct = calls["correct"].to_numpy()[use].astype(bool)
    confidence = calls["probability"].to_numpy(float)[use]
    called = calls["called"].to_numpy()[use]
    units = compound[use]
    floor, floor_95 = calibration_floor(confidence, seed=seed)
    curve = reliability(confidence, correct)
    coverage, accuracy, threshold = abstention_curve(confidence, correct)
    members = gallery.members
    labelled = np.asarray(members.any(axis=1))
    shared = np.asarray(members.astype(np.float32) @ members.astype(np.float32).T) > 0
    apart = gallery.compounds[:, None] != gallery.compounds[None]
    candidate = apart & labelled[:, None] & labelled[None, :]
    nearest = np.where(candidate, gallery.similarity, -np.inf).argmax(axis=1)
    hits = shared[np.arange(len(members)), nearest][use]
    return {
        "n_tested": int(calls["activity_p"].notna().sum()),
        "n_inactive": int((calls["activity_p"] > alpha).sum()),
        "n_queries": int(labelled.sum()),
        "n_possible": int(use.sum()),
        "n_compounds": len(np.unique(units)),
        "n_mechanisms": len(gallery.labels),
        "accuracy": bootstrap_interval(correct, seed=seed, groups=units).as_dict(),
        "nearest": bootstrap_interval(hits, seed=seed, groups=units).as_dict(),
        "majority": float(members[use].mean(axis=0).max()),
        "coverage": float(called.mean()),
        "accuracy_called": (
            bootstrap_interval(correct[called], seed=seed, groups=units[called]).as_dict() if called.any() else None
        ),
        "ece": expected_calibration_error(confidence, correct),
        "ece_floor": floor,
        "ece_floor_95": floor_95,
        "reliability": {
            "confidence": curve.confidence.tolist(),
            "accuracy": curve.accuracy.tolist(),
            "count": curve.count.tolist(),
        },
        "abstention": {
            "coverage": coverage.tolist(), "accuracy": accuracy.tolist(), "threshold": threshold.tolist(),
        },
        "map": test,
    }  # fmt: skip
