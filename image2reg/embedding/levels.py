"""One model, scored with every group kept whole in turn: nucleus, field, well, plate and batch in one table."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.embedding.crossvalidation import cross_validate
from image2reg.embedding.groups import known_levels
from image2reg.errors import DataError
from image2reg.provenance import json_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe
    from image2reg.embedding.scores import Predictions
    from image2reg.nuclei.crops import Crops

__all__ = ["COLUMNS", "fold_folder", "fold_report", "score_levels", "score_row", "unscored_row"]

COLUMNS = (
    "group kept whole", "groups", "nuclei", "balanced accuracy", "low", "high", "AUC",
    "wells", "well balanced accuracy", "well low", "well high", "well AUC", "chance", "note",
)  # fmt: skip


def score_row(predictions: Predictions, name: str) -> dict[str, Any]:
    """Scores of one cross-validation, for nuclei and for wells, with intervals over the groups kept whole."""
    wells = predictions.by_well()
    nucleus, well = predictions.balanced_accuracy(), wells.balanced_accuracy()
    values = (
        name, len(set(predictions.groups)), len(predictions.labels), nucleus.value, nucleus.low, nucleus.high,
        predictions.auc(), len(wells.labels), well.value, well.low, well.high, wells.auc(),
        1 / len(predictions.classes), "",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def unscored_row(error: DataError, name: str) -> dict[str, Any]:
    """Give the row of what could not be scored: NaN, and why."""
    return dict.fromkeys(COLUMNS, np.nan) | {"group kept whole": name, "note": str(error).partition(". ")[0]}


def fold_report(
    report: Callable[[int, int, str], None] | None, number: int, n_rows: int, n_folds: int, name: str
) -> Callable[[int, int], None]:
    """Tell `report` of row `number` (from 0) and of each of its folds: folds done, folds in all, where that is."""

    def told(done: int, of: int) -> None:
        if report:
            where = f"{name}, fold {done} of {of} done" if done else name
            report(number * n_folds + n_folds * done // of, n_rows * n_folds, where)

    told(0, 1)
    return told


@contextlib.contextmanager
def fold_folder(out: Path | None, row: str) -> Iterator[Path | None]:
    """Give the folder of one row's trainings, under any name of the row; it goes when the row is finished."""
    folder = None if out is None else out / json_sha256(row)[:12]
    yield folder
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def score_levels(
    crops: Crops,
    labels: NDArray[Any],
    recipe: EncoderRecipe,
    *,
    levels: Sequence[str] = (),
    n_folds: int = 3,
    device: str = "cpu",
    kept: MutableMapping[str, dict[str, Any]] | None = None,
    out: Path | None = None,
    report: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Train and score by cross-validation once per level.

    Parameters
    ----------
    crops, labels, recipe, n_folds, device
        As for `cross_validate`.
    levels : sequence of str
        Groups to keep whole; when empty, ``nucleus`` and those of field, well, plate and batch that the metadata tell
        apart. Splitting by nucleus leaks wells and plates: it is there to be seen beside the others.
    kept : mapping, optional
        Finished rows by level: those in it are not made again, new ones are put into it.
    out : Path, optional
        Where the trainings of the row in work are kept, so that an interrupted one goes on; gone with the row's end.
    report : callable, optional
        Given finished and total folds, and which level and fold that is.

    Returns
    -------
    DataFrame, one row per level, columns `COLUMNS`
        A level that cannot be scored has NaN and the reason in ``note``.
    """
    import pandas as pd

    levels = list(levels) or known_levels(crops.metadata)
    kept = {} if kept is None else kept
    for number, level in enumerate(levels):
        if level in kept:
            continue
        told = fold_report(report, number, len(levels), n_folds, level)
        with fold_folder(out, level) as folder:
            try:
                predictions = cross_validate(
                    crops,
                    labels,
                    recipe,
                    group=level,
                    n_folds=n_folds,
                    device=device,
                    out=folder,
                    report=told,
                )
                kept[level] = score_row(predictions, level)
            except DataError as error:
                kept[level] = unscored_row(error, level)
    return pd.DataFrame([kept[level] for level in levels], columns=list(COLUMNS))
