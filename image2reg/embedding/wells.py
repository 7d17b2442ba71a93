"""From nuclei to wells: the mean, or gated attention over the nuclei and where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.embedding.groups import group_of, refuse_untestable, stratified_folds
from image2reg.embedding.scores import Predictions
from image2reg.errors import ConfigurationError, DataError
from image2reg.models.settings import TrainingSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.tables.profiles import Profiles

__all__ = ["cross_validate_wells", "mean_by_well"]

_CENTRES = ("Metadata_CenterY_px", "Metadata_CenterX_px")
SETTINGS = TrainingSettings(
    steps=150, batch_size=8, learning_rate=1e-2, weight_decay=0.05, warmup_steps=10, workers=0, validate_every=150,
    checkpoint_every=150,
)  # fmt: skip


def mean_by_well(profiles: Profiles) -> Profiles:
    """Average nuclei to wells; metadata that differ within a well go, the number of nuclei comes.

    Returns
    -------
    Profiles
        One row per plate and well, in order of appearance; ``Metadata_Count`` is its number of nuclei.
    """
    keys = group_of(profiles.metadata, "well", profiles.source)
    grouped = profiles.frame.groupby(keys, sort=False)
    metadata = profiles.metadata.groupby(keys, sort=False)
    constant = [name for name, n in metadata.nunique().max().items() if n == 1]
    frame = metadata[constant].first().assign(Metadata_Count=grouped.size().astype(str))
    for_features = grouped[profiles.features].mean()
    return profiles.replace(frame.join(for_features).reset_index(drop=True))


def cross_validate_wells(
    profiles: Profiles,
    labels: NDArray[Any],
    *,
    group: str = "plate",
    how: str = "attention",
    positions: bool = False,
    n_folds: int = 3,
    settings: TrainingSettings = SETTINGS,
) -> Predictions:
    """Predict a label of wells from their nuclei, with whole plates (or another group) held out.

    Parameters
    ----------
    profiles : Profiles of nuclei
        Embeddings or features. Standardised by the training wells of each fold.
    labels : (N,) str
        The same for all nuclei of a well.
    group : str
        What is kept whole: ``plate`` unless there is a reason.
    how : str
        ``mean`` (logistic regression on well means) or ``attention``: gated attention pooling, Ilse, Tomczak & Welling
        (2018), equation 9.
    positions : bool
        Let attention see where nuclei lie in their field (Metadata_CenterY_px, X_px).
    n_folds : int
    settings : TrainingSettings
        Of the attention network; ``batch_size`` counts wells.

    Returns
    -------
    Predictions
        One row per well.

    Raises
    ------
    DataError
        A well with two labels, labels that cannot be told from the group, or values that are not finite.
    ConfigurationError
        `how` is unknown, or `positions` for the mean, which has none.
    """
    from image2reg.embedding.crossvalidation import probe

    if how not in ("mean", "attention") or (positions and how == "mean"):
        raise ConfigurationError(
            f"how is {how!r} with positions={positions}; allowed are 'mean', and 'attention' with positions or without."
        )
    keys = group_of(profiles.metadata, "well", profiles.source)
    groups = group_of(profiles.metadata, group, profiles.source)
    wells, first, number = np.unique(keys.astype(str), return_index=True, return_inverse=True)
    labels = np.asarray(labels, str).astype(object)
    mixed = wells[np.bincount(number, labels != labels[first][number], len(wells)) > 0]
    if len(mixed):
        raise DataError(
            f"{profiles.source}: {len(mixed)} wells hold nuclei of several labels, such as {mixed[0]}."
        )
    truth, units = labels[first], groups[first]
    refuse_untestable(truth, units, group=group, where=profiles.source)
    values = profiles.values
    if positions:
        centres = np.stack([profiles.numbers(name) for name in _CENTRES], axis=1)
        values = np.concatenate([values, centres], axis=1)
    if not np.isfinite(values).all():
        raise DataError(
            f"{profiles.source}: {int((~np.isfinite(values)).any(axis=1).sum())} of {len(values)} nuclei have values "
            "that are not finite. Leave out those nuclei or features, or fill them."
        )
    classes = tuple(sorted(set(truth)))
    found = np.zeros((len(wells), len(classes)))
    for train, test in stratified_folds(truth, units, n_folds):
        known = np.isin(number, train)
        centre, spread = values[known].mean(axis=0), values[known].std(axis=0) + 1e-6
        scaled = ((values - centre) / spread).astype(np.float32)
        if how == "mean":
            sums = np.zeros((len(wells), scaled.shape[1]))
            np.add.at(sums, number, scaled)
            mean = sums / np.bincount(number)[:, None]
            found[test] = probe(mean[train], truth[train], mean[test])
        else:
            bags = np.split(scaled[np.argsort(number, kind="stable")], np.cumsum(np.bincount(number))[:-1])
            numbers = np.searchsorted(classes, truth)
            found[test] = _attention(bags, numbers, train, test, len(classes), settings)
    return Predictions(truth, classes, found, units, wells.astype(object))


def _attention(
    bags: list[NDArray[np.float32]],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    n_classes: int,
    settings: TrainingSettings,
) -> NDArray[np.float64]:
    import torch

    from image2reg.embedding.attention import AttentionTask, GatedAttention
    from image2reg.models.train import fit_unkept
    from image2reg.randomness import integer_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(settings.seed, "attention"))
        network = GatedAttention(bags[0].shape[1], n_classes)
    task = AttentionTask(network, [bags[i] for i in train], labels[train], settings.batch_size)
    fit_unkept(task, settings, device="cpu")
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(bags[i])[None]) for i in test])
        return torch.softmax(logits, dim=1).double().numpy()
