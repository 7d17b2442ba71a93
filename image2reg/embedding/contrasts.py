"""Control against treated nuclei, measure by measure, with intervals over wells or images: radial profile, spots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from image2reg.embedding.groups import group_of
from image2reg.errors import DataError
from image2reg.nuclei.crops import OWN
from image2reg.nuclei.depth import depth_inside
from image2reg.nuclei.intensity import measure_intensity
from image2reg.nuclei.radial import measure_radial
from image2reg.nuclei.regions import Regions
from image2reg.nuclei.spots import measure_spots
from image2reg.tables.disguise import refuse_disguised
from image2reg.tables.profiles import Profiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.nuclei.crops import Crops

__all__ = ["chromatin_profiles", "contrast"]

_N_BOOTSTRAP, _BATCH = 2000, 512
_PLATE = "Metadata_Plate"


def chromatin_profiles(
    crops: Crops, *, n_bins: int = 5, lamina_px: float = 2.0, spot_sigma_px: float = 1.0
) -> Profiles:
    """Measure where brightness lies in the nuclei of crops, from the lamina inwards, and its spots.

    Parameters
    ----------
    crops : Crops
        With masks.
    n_bins : int
        Shells of equal distance, rim first.
    lamina_px : float
        `LaminaFraction` is the share of brightness no deeper than this.
    spot_sigma_px : float
        Scale of condensation spots; about a fifteenth of the nucleus's diameter, at least 1.

    Returns
    -------
    Profiles
        The crops' metadata and ``Nuclei_RadialDistribution_MeanFrac_DNA_1of5`` …,
        ``Nuclei_RadialDistribution_LaminaFraction_DNA``, ``Nuclei_Chromatin_SpotCount_DNA`` … per channel. Brightness
        counts above the 5th percentile of what lies outside nuclei in the crops of its well (of all crops where wells
        are not named).
    """
    crops, tables = crops.load(), []
    level = _backgrounds(crops)
    for number, part in enumerate(crops.batches(_BATCH)):
        # one under the other: a strip is a field, and each nucleus has its own label
        own = part.masks == OWN
        labels = (own * np.arange(1, len(part) + 1, dtype=np.int32)[:, None, None]).reshape(-1, crops.size_px)
        regions = Regions(labels, where=crops.source)
        if len(regions) < len(part):
            raise DataError(f"{crops.source}: {len(part) - len(regions)} crops have an empty mask.")
        depth, edge = depth_inside(regions), regions.edge()
        columns: dict[str, Any] = {}
        for index, name in enumerate(part.channels):
            above = part.images[:, index] - level[number * _BATCH :][: len(part), index, None, None]
            values = above.reshape(-1)[regions.inside]
            positive = np.maximum(values, 0)
            radial = measure_radial(regions, depth, positive, n_bins=n_bins)
            total = regions.total(positive)
            shallow = regions.total(positive * (depth <= lamina_px))
            brightness = measure_intensity(regions, values, regions.sort_within(values), edge)
            found = {f"RadialDistribution_{k}": v for k, v in radial.items() if k.startswith("MeanFrac")}
            found["RadialDistribution_LaminaFraction"] = np.divide(
                shallow, total, out=np.full(len(total), np.nan), where=total > 0
            )
            found |= {
                f"Chromatin_{k}": v for k, v in measure_spots(regions, values, sigma_px=spot_sigma_px).items()
            }
            found |= {f"Intensity_{k}": brightness[k] for k in ("MeanIntensity", "StdIntensity")}
            for key, column in found.items():
                group, kind, *shell = key.split("_")
                columns["_".join(["Nuclei", group, kind, name, *shell])] = column
        columns["Nuclei_AreaShape_Area"] = regions.counts.astype(float)
        tables.append(pd.concat([part.metadata.reset_index(drop=True), pd.DataFrame(columns)], axis=1))
    return Profiles(pd.concat(tables, ignore_index=True), source=crops.source)


def _backgrounds(crops: Crops) -> NDArray[np.float64]:
    """Level of the empty background in each crop's well, (N, C): not a matter of which crops stand beside it."""
    if crops.masks is None:
        raise DataError(f"{crops.source}: crops have no masks; cut them from labels (image2reg crops).")
    try:
        wells = group_of(crops.metadata, "well", crops.source)
    except DataError:
        wells = np.full(len(crops), "")
    _, number = np.unique(wells.astype(str), return_inverse=True)
    found = np.zeros((len(crops), len(crops.channels)))
    for chosen in np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1]):
        empty = crops.masks[chosen] == 0
        if empty.any():
            values = crops.images[chosen].swapaxes(0, 1)[:, empty].astype(np.float64)
            found[chosen] = np.percentile(values, 5, axis=1)
    return found


def contrast(
    profiles: Profiles,
    label: str,
    *,
    control: str,
    unit: str = "well",
    seed: int = 0,
) -> pd.DataFrame:
    """Compare treated with control nuclei, each unit counting once.

    Parameters
    ----------
    profiles : Profiles of nuclei
    label : str
        Metadata column; every value but `control` is treated. Nuclei without a value are on neither side.
    control : str
    unit : str
        What was treated as a whole: ``well``, ``field`` or a column. Nuclei of one well are no repeats.
    seed : int

    Returns
    -------
    DataFrame, one row per feature
        ``feature, control, treated, difference, low, high, effect`` (difference over the sd of control units),
        ``n_control, n_treated`` (units); mean of unit means, 95 % bootstrap interval over units. With one unit on a
        side there is no interval (NaN): nothing then tells the treatment from the image.

    Raises
    ------
    DataError
        No control, or nothing but controls; several plates of which each holds controls or treated nuclei only, and
        `unit` is smaller than a plate.
    """
    labels = profiles.column(label)
    if (labels == "").any() and (labels != "").any():
        profiles = profiles.rows(labels != "")
        labels = profiles.column(label)
    if unit in ("nucleus", "field", "well") and _PLATE in profiles.frame:
        sides = np.where(labels == control, "control", "treated")
        refuse_disguised(
            sides, profiles.column(_PLATE), label="side of the contrast", group="plate", where=profiles.source,
            remedy="let plates be the units (--unit plate)",
        )  # fmt: skip
    keys = group_of(profiles.metadata, unit, profiles.source)
    frame = profiles.frame[profiles.features].groupby([keys, labels == control]).mean()
    is_control = frame.index.get_level_values(1).to_numpy(bool)
    values = frame.to_numpy()
    groups = values[is_control], values[~is_control]
    if not len(groups[0]) or not len(groups[1]):
        seen = sorted(set(map(str, labels)))[:8]
        raise DataError(
            f"{profiles.source}: {label} must hold {control!r} and something else; it holds {seen}."
        )
    means = [_mean(g) for g in groups]
    low, high = _bootstrap(groups, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = np.isfinite(groups[0]).sum(axis=0)
        spread = np.sqrt(_mean((groups[0] - means[0]) ** 2) * known / np.where(known > 1, known - 1, np.nan))
        effect = (means[1] - means[0]) / spread
    return pd.DataFrame(
        {
            "feature": profiles.features, "control": means[0], "treated": means[1], "difference": means[1] - means[0],
            "low": low, "high": high, "effect": np.where(np.isfinite(effect), effect, np.nan),
            "n_control": len(groups[0]), "n_treated": len(groups[1]),
        }
    )  # fmt: skip


def _bootstrap(
    groups: tuple[NDArray[np.float64], NDArray[np.float64]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval of the difference of means, both sides drawn again."""
    if min(map(len, groups)) < 2:
        empty = np.full(groups[0].shape[1], np.nan)
        return empty, empty
    rng = np.random.default_rng(seed)
    drawn = []
    for values in groups:
        # how often each unit is drawn, so that a mean is a product of matrices
        weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), _N_BOOTSTRAP)
        known = np.isfinite(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append((weights @ np.where(known, values, 0)) / (weights @ known))
    # a feature that no unit of some draw has is NaN: it has no interval
    low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975], axis=0)
    return low, high


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over units that have a value; NaN where none has."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    return np.divide(
        np.where(known, values, 0).sum(axis=0), counts, out=np.full(values.shape[1], np.nan), where=counts > 0
    )
