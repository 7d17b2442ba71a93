"""Where does the signal come from? One network on the nucleus, its mask, its surroundings, and on matched nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.embedding.crossvalidation import cross_validate
from image2reg.embedding.levels import COLUMNS, fold_folder, fold_report, score_row, unscored_row
from image2reg.embedding.recipe import VARIANTS
from image2reg.errors import DataError
from image2reg.nuclei.crops import OWN

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe, Variant
    from image2reg.nuclei.crops import Crops

__all__ = ["SHOWN", "ablate", "matched"]

SHOWN: dict[Variant, str] = {
    "both": "nucleus and region",
    "nucleus": "nucleus only",
    "binary": "binarised nucleus",
    "region": "region only, nucleus in it",
    "context": "region, nucleus blanked",
    "binary_both": "binarised nucleus and region",
}
_N_BINS = 20


def matched(values: NDArray[np.floating[Any]], labels: NDArray[Any], *, seed: int = 0) -> NDArray[np.int64]:
    """Choose nuclei so that the classes have the same distribution of a measure.

    Parameters
    ----------
    values : (N,) float
        Size or brightness, say.
    labels : (N,) str
    seed : int

    Returns
    -------
    (kept,) int64
        Ascending positions: in each of 20 quantile bins, as many of every class as the rarest has there.

    Raises
    ------
    DataError
        The classes do not overlap.
    """
    rng = np.random.default_rng(seed)
    edges = np.quantile(values, np.linspace(0, 1, _N_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, values, side="right")
    classes = np.unique(labels.astype(str))
    kept: list[NDArray[np.int64]] = []
    for number in range(_N_BINS):
        members = [np.flatnonzero((bins == number) & (labels.astype(str) == c)) for c in classes]
        n = min(map(len, members))
        kept += [np.sort(rng.permutation(m)[:n]) for m in members]
    chosen = np.sort(np.concatenate(kept))
    if not len(chosen):
        raise DataError(
            f"the classes {list(classes)} share no range of this measure, so they cannot be matched on it."
        )
    return chosen


def ablate(
    crops: Crops,
    labels: NDArray[Any],
    recipe: EncoderRecipe,
    *,
    group: str,
    n_folds: int = 3,
    device: str = "cpu",
    kept: MutableMapping[str, dict[str, Any]] | None = None,
    out: Path | None = None,
    report: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Score every variant of the input with one group kept whole.

    Parameters
    ----------
    crops, labels, recipe, group, n_folds, device
        As for `image2reg.embedding.cross_validate`; all rows train the recipe's network from scratch.
    kept, out, report
        As for `image2reg.embedding.score_levels`, by ``input``.

    Returns
    -------
    DataFrame
        ``input`` and the columns of `image2reg.embedding.score_levels`. The last two rows are ``nucleus only`` on
        nuclei matched between the classes by area, and by integrated brightness of the first channel used. A row
        that cannot be scored (the classes share no size, say) has NaN and the reason in ``note``.
    """
    import pandas as pd

    crops, labels = crops.load(), np.asarray(labels, str).astype(object)
    own = np.asarray(crops.masks) == OWN
    name = (recipe.channels or crops.channels)[0]
    first = np.asarray(crops.images)[:, crops.channels.index(name)]
    measures = {
        "nucleus only, size-matched": own.sum(axis=(1, 2)).astype(float),
        f"nucleus only, {name}-intensity-matched": (first * own).sum(axis=(1, 2), dtype=np.float64),
    }
    tried: list[tuple[str, Variant, NDArray[Any] | None]] = [(SHOWN[v], v, None) for v in VARIANTS]
    tried += [(title, "nucleus", values) for title, values in measures.items()]
    kept = {} if kept is None else kept
    for number, (title, variant, values) in enumerate(tried):
        if title in kept:
            continue
        told = fold_report(report, number, len(tried), n_folds, title)
        with fold_folder(out, title) as folder:
            try:
                part, named = crops, labels
                if values is not None:
                    chosen = matched(values, labels, seed=recipe.training.seed)
                    part, named = crops.rows(chosen), labels[chosen]
                found = cross_validate(
                    part, named, recipe, group=group, variant=variant, n_folds=n_folds, device=device, out=folder,
                    report=told,
                )  # fmt: skip
                kept[title] = {"input": title} | score_row(found, group)
            except DataError as error:
                kept[title] = {"input": title} | unscored_row(error, group)
    return pd.DataFrame([kept[title] for title, _, _ in tried], columns=["input", *COLUMNS])
