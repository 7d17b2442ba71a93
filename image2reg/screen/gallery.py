"""Crops of hits: nuclei typical of a hit's well beside nuclei typical of a control well of its plate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.images.image import Image

__all__ = ["N_CROPS", "Exhibit", "cut", "typical_nuclei"]

N_CROPS = 8
_LARGEST_PX = 96


@dataclass(frozen=True)
class Exhibit:
    """Crops of one hit and of a control.

    Attributes
    ----------
    name, well, control_well, readout : str
        Wells as plate/well.
    crops, control_crops : (n, C, Y, X) float32
    channels : tuple of str
    """

    name: str
    well: str
    control_well: str
    readout: str
    crops: NDArray[np.float32]
    control_crops: NDArray[np.float32]
    channels: tuple[str, ...]


def typical_nuclei(nuclei: pd.DataFrame, readout: str, n: int = N_CROPS) -> pd.DataFrame:
    """Nuclei whose readout is nearest to the median, inside the field; by area when the readout is no nucleus's own."""
    inside = nuclei[nuclei["Metadata_TouchesBorder"].to_numpy(object) != "True"]
    inside = inside if len(inside) else nuclei
    name = readout if readout in inside else "Nuclei_AreaShape_Area"
    values = inside[name].to_numpy(np.float64)
    distance = np.abs(values - np.nanmedian(values)) if np.isfinite(values).any() else np.arange(len(inside))
    return inside.iloc[np.argsort(distance, kind="stable")[:n]]


def crop_size(nuclei: pd.DataFrame) -> int:
    """Edge length that shows a nucleus and its surroundings, even, pixels."""
    diameter = 2 * np.sqrt(float(nuclei["Nuclei_AreaShape_Area"].median()) / np.pi)
    return int(min(2 * round(1.25 * diameter), _LARGEST_PX))


def cut(
    nuclei: pd.DataFrame, images: Mapping[str, Image], site: Sequence[str], size: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Cut squares around the centres of nuclei, mirrored beyond the border.

    Parameters
    ----------
    nuclei : DataFrame
        ``Metadata_CenterY_px``, ``Metadata_CenterX_px``.
    images : mapping of field name to (C, Y, X) Image
    site : (nuclei,) str
        Name of each nucleus's field.
    size : int

    Returns
    -------
    (n, C, size, size) float32, channel names
    """
    if not len(nuclei):
        raise DataError("gallery: no nucleus to show.")
    first = next(iter(images.values()))
    made = np.empty((len(nuclei), len(first.channels), size, size), np.float32)
    centres = nuclei[["Metadata_CenterY_px", "Metadata_CenterX_px"]].to_numpy(np.float64)
    for number, (name, (y, x)) in enumerate(zip(site, centres, strict=True)):
        data = np.pad(np.asarray(images[name].data), ((0, 0), (size, size), (size, size)), mode="symmetric")
        top, left = round(y) + size - size // 2, round(x) + size - size // 2
        made[number] = data[:, top : top + size, left : left + size]
    return made, first.channels
