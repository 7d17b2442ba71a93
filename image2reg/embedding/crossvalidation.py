"""Encoders trained once per fold, every nucleus predicted by the one that saw nothing of its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.embedding.groups import group_of, refuse_untestable, stratified_folds
from image2reg.embedding.scores import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe, Variant
    from image2reg.nuclei.crops import Crops

__all__ = ["cross_validate", "probe"]


def cross_validate(
    crops: Crops,
    labels: NDArray[Any],
    recipe: EncoderRecipe,
    *,
    group: str,
    variant: Variant | None = None,
    n_folds: int = 3,
    device: str = "cpu",
    out: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Train on all groups but some, predict those, in turn.

    Parameters
    ----------
    crops : Crops
    labels : (N,) str
    recipe : EncoderRecipe
        With any objective but classification, a logistic regression on the training folds' embeddings predicts.
    group : str
        ``nucleus``, ``field``, ``well``, ``plate``, ``batch`` or a metadata column.
    variant : str, optional
        Instead of the recipe's.
    n_folds : int
        At most; fewer where the rarest label has fewer groups.
    device : str
    out : Path, optional
        Folder of the folds' trainings, each taken up again where an interruption left it; the caller removes it. A
        temporary one when not given.
    report : callable, optional
        Given finished and total folds.

    Returns
    -------
    Predictions
        Out of fold, in the order of `crops`.

    Raises
    ------
    DataError
        The label cannot be told from the group (the confusion table is given).
    """
    from image2reg.embedding.training import train_encoder

    crops = crops.load()
    labels = np.asarray(labels, str).astype(object)
    keys = group_of(crops.metadata, group, crops.source)
    refuse_untestable(labels, keys, group=group, where=crops.source)
    folds = stratified_folds(labels, keys, n_folds, seed=recipe.training.seed)
    classes = tuple(sorted(set(labels)))
    found = np.zeros((len(crops), len(classes)))
    for number, (train, test) in enumerate(folds, 1):
        named: dict[str, Any] = {"variant": variant, "device": device}
        if out is not None:
            named |= {"out": out / f"fold-{number}", "resume": True}
        if recipe.objective == "classification":
            model = train_encoder(crops.rows(train), labels[train], recipe, **named)
            found[test] = model.probabilities(crops.rows(test))
        else:
            seen = None if recipe.objective == "self_supervised" else labels[train]
            model = train_encoder(crops.rows(train), seen, recipe, **named)
            embedded = model.embed(crops)
            found[test] = probe(embedded[train], labels[train], embedded[test])
        if report:
            report(number, len(folds))
    units = np.arange(len(crops)).astype(str).astype(object) if group == "nucleus" else keys
    return Predictions(labels, classes, found, units, _wells(crops))


def probe(train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any]) -> NDArray[np.float64]:
    """Class probabilities of test rows, by logistic regression on standardised training rows, classes equally heavy."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    model = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
    model.fit((train - centre) / spread, labels.astype(str))
    found: NDArray[np.float64] = model.predict_proba((test - centre) / spread)
    return found


def _wells(crops: Crops) -> NDArray[Any]:
    try:
        return group_of(crops.metadata, "well", crops.source)
    except ValueError:
        return group_of(crops.metadata, "nucleus")
