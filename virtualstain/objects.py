"""Nuclei in a predicted stain against nuclei in the real one, found by the same segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from image2reg.intervals import bootstrap_interval
from image2reg.models.spec import Metric
from image2reg.nuclei.match import Matching, match, match_dataset
from image2reg.nuclei.segment import segment
from virtualstain.evaluate import ScoredField

__all__ = ["NUCLEAR", "nuclei_metrics", "score_nuclei"]

NUCLEAR = ("hoechst", "dapi", "dna", "nuclei", "nucleus")  # stains in which nuclei are looked for
THRESHOLDS = (0.5, 0.7, 0.9)

Labels = NDArray[np.integer]


def _planes(item: ScoredField) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Truth, prediction and mask of the plane with the most stain; the only plane of a flat target."""
    z = int(np.argmax(item.truth.mean(axis=(1, 2))))
    return item.truth[z], item.prediction[z], item.mask[z]


def score_nuclei(
    scored: Sequence[ScoredField],
    *,
    diameter_px: float,
    masks: Sequence[Labels | None] | None = None,
    intensity: Literal["linear", "log"] = "linear",
) -> dict[str, Any]:
    """Segment predicted and real stain of every field and match what is found.

    Parameters
    ----------
    scored : sequence of ScoredField
        One nuclear channel per field.
    diameter_px : float
        Typical nucleus.
    masks : sequence of (Y, X) labels or None
        Annotated nuclei. Without them nuclei found in the real stain are the truth.
    intensity : "linear" or "log"
        Scale of the stain's values.

    Returns
    -------
    dict
        ``predicted_against_real``: pooled `Matching` of predicted to real stain. With masks also ``predicted`` and
        ``real``: `Matching` of each field against its annotation (``*_by_field``: lists).
    """
    against: list[Matching] = []
    found: dict[str, list[Matching]] = {"predicted": [], "real": []}
    for item, mask in zip(scored, masks or [None] * len(scored), strict=True):
        truth, prediction, valid = _planes(item)
        labels = {
            name: segment(image, diameter_px=diameter_px, mask=valid, intensity=intensity)
            for name, image in (("predicted", prediction), ("real", truth))
        }
        against.append(match(labels["real"], labels["predicted"], thresholds=THRESHOLDS))
        if mask is not None:
            for name, made in labels.items():
                found[name].append(match(np.where(valid, mask, 0), made, thresholds=THRESHOLDS))
    result: dict[str, Any] = {"predicted_against_real": match_dataset(against), "by_field": against}
    if found["real"]:
        result |= {name: match_dataset(values) for name, values in found.items()}
        result |= {f"{name}_by_field": values for name, values in found.items()}
    return result


def nuclei_metrics(result: dict[str, Any], channel: str) -> list[Metric]:
    """Turn `score_nuclei` into a bundle's metrics, with bootstrap intervals over fields.

    With annotations: recall of the annotated nuclei at IoU 0.5 on the predicted stain; its ceiling is the same
    segmenter's recall on the real stain. Precision is left out where unannotated nuclei are visible, which the
    caller knows; F1 and AP are those of predicted against real.
    """
    pooled: Matching = result["predicted_against_real"]
    metrics = []
    for name in ("f1", "ap"):
        values = [getattr(m, name)[0] for m in result["by_field"]]
        interval = bootstrap_interval(values, seed=0)
        metrics.append(
            Metric(
                name=f"nuclei {name} at IoU 0.5",
                channel=channel,
                value=float(getattr(pooled, name)[0]),
                ci95=(interval.low, interval.high) if np.isfinite(interval.low) else None,
                n=len(values),
                level="field",
                note="found in the predicted against found in the real stain, pooled; interval of the field mean",
            )
        )
    if "real" in result:
        values = [m.recall[0] for m in result["predicted_by_field"] if m.n_true]
        interval = bootstrap_interval(values, seed=0)
        metrics.append(
            Metric(
                name="annotated nuclei found (recall at IoU 0.5)",
                channel=channel,
                value=float(result["predicted"].recall[0]),
                ci95=(interval.low, interval.high) if np.isfinite(interval.low) else None,
                n=len(values),
                level="field",
                ceiling=float(result["real"].recall[0]),
                note=f"{result['real'].n_true} nuclei; ceiling: the same segmenter on the real stain",
            )
        )
    return metrics
