"""Labels in files against true labels in files: every score of a data set, for a table or as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from image2reg.errors import DataError
from image2reg.nuclei.agreement import aggregated_jaccard, pixel_jaccard, pooled_interval
from image2reg.nuclei.match import THRESHOLDS, Matching, match, match_dataset
from image2reg.nuclei.pairs import labelled_fields, unpaired_labels
from image2reg.wording import counted

__all__ = ["compare_labels", "comparison_lines", "dataset_scores"]

_SCORES = ("precision", "recall", "f1", "ap", "pq")


def dataset_scores(matchings: Sequence[Matching]) -> dict[str, Any]:
    """Give the scores of a data set as plain numbers.

    Returns
    -------
    dict
        ``images``, ``true``, ``predicted``; ``pooled`` (counts summed) and ``by_image`` (mean of images), each from
        threshold to score; ``f1_interval``, the pooled F1's 95 % interval over images, by threshold.
    """
    pooled, mean = match_dataset(matchings), match_dataset(matchings, by="mean")
    levels = [float(t) for t in pooled.thresholds]
    return {
        "images": len(matchings),
        "true": pooled.n_true,
        "predicted": pooled.n_predicted,
        "pooled": {f"{t:g}": {name: pooled.at(t)[name] for name in _SCORES} for t in levels},
        "by_image": {f"{t:g}": {name: mean.at(t)[name] for name in _SCORES} for t in levels},
        "f1_interval": {f"{t:g}": pooled_interval(matchings, t) for t in levels},
    }


def compare_labels(labels: Path, truth: Path, *, thresholds: Sequence[float] | None = None) -> dict[str, Any]:
    """Compare label files with true ones of the same names.

    Parameters
    ----------
    labels, truth : Path
        Two images, or two folders.
    thresholds : sequence of float, optional
        IoU; 0.5 to 0.9 in steps of 0.05 when None.

    Returns
    -------
    dict
        `dataset_scores`; ``aji`` and ``pixel_jaccard``, means over images that hold an object; ``unscored``, the files
        of true labels that are not scored, because `labels` has none of their name.

    Raises
    ------
    DataError
        Labels without a truth, labels of another size than the truth, values that are no labels.
    """
    matchings, aji, jaccard = [], [], []
    fields = labelled_fields(labels, truth)
    for field in fields:
        image = field.image()
        found = np.asarray(image.to_axes("ZYX" if image.sizes.get("Z", 1) > 1 else "YX").data)
        true = field.labels(numbered=False)  # masks have a pixel Jaccard
        try:
            matchings.append(match(true, found, thresholds=thresholds or THRESHOLDS))
        except DataError as error:
            raise DataError(f"{field.name}: {error}") from error
        aji.append(aggregated_jaccard(true, found))
        jaccard.append(pixel_jaccard(true, found))
    unscored = [str(path) for path in unpaired_labels(fields, Path(truth))]
    return dataset_scores(matchings) | {
        "aji": _mean(aji),
        "pixel_jaccard": _mean(jaccard),
        "unscored": unscored,
    }


def _mean(values: list[float]) -> float:
    counted = [value for value in values if np.isfinite(value)]
    return float(np.mean(counted)) if counted else float("nan")


def comparison_lines(found: dict[str, Any]) -> str:
    """Print the scores for a terminal."""
    lines = [
        f"{counted(found['images'], 'image')}, {counted(found['true'], 'true object')}, {found['predicted']:,} found; "
        f"AJI {found['aji']:.3f}, pixel Jaccard {found['pixel_jaccard']:.3f}",
        "IoU    precision  recall  F1 (95 % over images)   AP     PQ     F1 by image",
    ]
    for level, row in found["pooled"].items():
        low, high = found["f1_interval"][level]
        lines.append(
            f"{level:<6} {row['precision']:<10.3f} {row['recall']:<7.3f} {row['f1']:.3f} ({low:.3f} to {high:.3f})  "
            f"{row['ap']:<6.3f} {row['pq']:<6.3f} {found['by_image'][level]['f1']:.3f}"
        )
    if unscored := found["unscored"]:
        files = counted(len(unscored), "file")
        lines.append(
            f"{files} of true labels not scored, without labels of that name here, such as {unscored[0]}"
        )
    return "\n".join(lines)
