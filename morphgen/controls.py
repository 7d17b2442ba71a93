"""A user's own control nuclei on the model's scale of brightness, and what has to be said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.nuclei.crops import Crops
from morphgen.crop_loading import refuse_unlike
from morphgen.descriptors import DESCRIPTORS, describe

if TYPE_CHECKING:
    from morphgen.sample import MorphologyGenerator

__all__ = ["fitting_controls"]

# Controls whose nuclei are so many times brighter or dimmer than those of training are in other units.
_OTHER_UNITS = 10.0
# Of all pixels, where no masks say which show the background: its median, where nuclei fill a third of a crop.
_BACKGROUND_QUANTILE = 1 / 3
_MOST_MEASURED = 2000


def fitting_controls(controls: Crops, model: MorphologyGenerator) -> tuple[NDArray[np.floating], list[str]]:
    """Give control crops in the model's units, and notes.

    Brightness may be the phenotype: controls in other units are brought to the model's as one set, by one background
    and one factor for each channel, so that their nuclei are on average as bright as those of training. What is bright
    among them stays bright.

    Raises
    ------
    DataError
        Crops of other channels, size or pixel size than the model's.
    """
    refuse_unlike(
        controls, channels=model.channels, size_px=model.crop_size, voxel_um=model.voxel_um[1:],
        of="those the model was trained on",
    )  # fmt: skip
    notes = []
    if any(model.voxel_um[1:]) and not all(controls.voxel_um):
        size = " x ".join(f"{um:g}" for um in model.voxel_um[1:] if um)
        notes.append(
            f"{controls.source}: the size of a pixel is unknown and taken to be the model's, {size} um; at another, "
            "nuclei have the wrong size. Say it when crops are cut (image2reg crops --voxel-um)"
        )
    loaded = controls.load()
    images = np.asarray(loaded.images)
    if model.prior is None or not len(images) or not np.isfinite(images).all():
        return images, notes
    usual = model.prior.usual.cpu().numpy()[DESCRIPTORS.index("log_mean") :: len(DESCRIPTORS)]
    quantile = _BACKGROUND_QUANTILE if loaded.masks is None else 0.5
    lines = []
    for c in range(len(model.channels)):
        shown = images[:, c] if loaded.masks is None else images[:, c][loaded.masks == 0]
        background = float(np.quantile(shown, quantile)) if shown.size else float(images[:, c].min())
        lines.append(
            (background, _factor(images[:, c], background, usual[c]) * model.intensity.half_width[c])
        )
    # A single channel may be dim or bright in controls for a reason; units differ in all of them.
    if not all(np.isfinite(factor) and abs(np.log(factor)) > np.log(_OTHER_UNITS) for _, factor in lines):
        return images, notes
    fitted = np.empty(images.shape, np.float32)
    for c, (background, factor) in enumerate(lines):
        low = model.intensity.centre[c] - model.intensity.half_width[c]
        fitted[:, c] = (images[:, c] - background) * factor + low
        notes.append(
            f"{controls.source}: channel {model.channels[c]!r} runs from {images[:, c].min():.4g} to "
            f"{images[:, c].max():.4g}, which are other units than the model's ({low:.4g} to "
            f"{low + 2 * model.intensity.half_width[c]:.4g}). All {len(images)} crops together were brought to them: "
            f"background {background:.4g} became {low:.4g}, and the factor {factor:.4g} makes their nuclei on average "
            "as bright as those of training"
        )
    return fitted, notes


@torch.no_grad()
def _factor(images: NDArray[np.floating], background: float, usual: float) -> float:
    """Give what brings the mean brightness of nuclei, in the mean of its logarithm, to the `usual` one."""
    above = images[:: -(-len(images) // _MOST_MEASURED)].astype(np.float32) - background
    top = float(np.quantile(above, 0.999))
    if top <= 0:
        return float("nan")
    crops = torch.from_numpy(np.clip(above / top, 0, None))[:, None]
    column = describe(2 * crops - 1)[:, DESCRIPTORS.index("log_mean")]
    return float(np.exp(usual - float(column.mean()))) * 2 / top
