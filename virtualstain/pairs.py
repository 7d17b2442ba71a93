"""A predicted image and the real one: their channels paired, their values in one unit, and what a reader must know."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.images.image import Image
from image2reg.images.padding import padding_mask
from image2reg.images.plates import read_plate
from image2reg.images.readers import read
from image2reg.models.spec import Normalisation
from image2reg.wording import counted
from virtualstain.admission import ALIASES
from virtualstain.batch import is_plate
from virtualstain.evaluate import ScoredField
from virtualstain.model import FRAME, OUTPUT, shown_sizes
from virtualstain.normalise import ChannelScale, measure_image_scale

__all__ = ["Pair", "ScoredPair", "open_pairs", "score_pair"]

# Counts of a camera, bright nuclei among them, are above it; their logarithms are below.
LARGEST_LOGARITHM = 20.0
# Values that are this many times more spread than those they are compared with are hardly in their unit.
UNLIKE = 20.0


@dataclass(frozen=True)
class Pair:
    """A predicted image and the real one, of one field.

    Attributes
    ----------
    name, group : str
        Of the field; groups are resampled whole.
    made, real : Image
        Lazy.
    """

    name: str
    group: str
    made: Image
    real: Image

    @property
    def voxel_um(self) -> tuple[float | None, float | None, float | None]:
        """Voxel size: the prediction's, and the real image's where that one says nothing."""
        z, y, x = (
            a if a is not None else b for a, b in zip(self.made.voxel_um, self.real.voxel_um, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class ScoredPair:
    """What can be scored of a pair, whether it was predicted in logarithms, and notes about it."""

    channels: list[ScoredField]
    log: bool = False
    notes: list[str] = field(default_factory=list)


def open_pairs(prediction: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    """Pair two images, or the fields that two plates share.

    Returns
    -------
    pairs, notes
        Notes name the fields of one plate that the other lacks.

    Raises
    ------
    DataError
        An image and a plate, two plates without a common field, or an image that cannot be read.
    """
    plates = [is_plate(path) for path in (prediction, truth)]
    if not any(plates):
        return [Pair(truth.name, truth.name, read(prediction), read(truth))], []
    if not all(plates):
        plate, other = (prediction, truth) if plates[0] else (truth, prediction)
        raise DataError(
            f"{plate}: is a plate, {other} is not. Give two plates, or one field of the plate: "
            f"{plate}/row/column/field."
        )
    made, real = read_plate(prediction), read_plate(truth)
    places, wanted = list(made), set(real)
    common = [place for place in places if place in wanted]
    if not common:
        raise DataError(
            f"{prediction}: none of its {len(places)} fields (the first is {'/'.join(places[0])}) is in {truth} (there "
            f"the first is {'/'.join(next(iter(real)))}). Give the plate it was predicted from."
        )
    notes = [
        f"{counted(len(missing), 'field')} of {of} not in {other}: not scored ({'/'.join(missing[0])} is the first)"
        for missing, of, other in (
            ([p for p in places if p not in wanted], prediction, truth),
            ([p for p in real if p not in set(places)], truth, prediction),
        )
        if missing
    ]
    return [
        Pair(f"{well}/{name}", well, made.image(well, name), real.image(well, name)) for well, name in common
    ], notes


def score_pair(pair: Pair) -> ScoredPair:
    """Pair the channels of two images and bring the real ones to the unit that the prediction says it has.

    Where the prediction's file holds what `StainModel.annotations` says, the range of SSIM, PSNR and NRMSE and their
    floor are those of the model's training set; else the range is six standard deviations of the real image and the
    floor its mean. Zero borders of either image do not count. Label-free channels of the real file are the floor of
    the correlations.

    Raises
    ------
    DataError
        Several time points, no common channel, other shapes, or a real channel that is constant.
    """
    made, real = pair.made, pair.real
    for image in (made, real):
        if image.sizes.get("T", 1) > 1:
            raise DataError(f"{image.source}: has several time points; score them one by one.")
    names, notes = _paired(made, real)
    by = _normalisation(made)
    done = ScoredPair([], by is not None and by.transform == "log1p", notes)
    notes += _voxel_notes(pair)
    if made.annotations.get(FRAME) == "input":
        notes.append(
            "the prediction lies on its input image; for images of the model's training microscope, whose stain camera "
            "is off it, predict without --input-frame"
        )
    predicted = made.to_axes("CZYX").load().data
    stains = real.to_axes("CZYX").load().data
    for one, other in names:
        p, t = predicted[made.channel_index(one)], stains[real.channel_index(other)]
        if p.shape != t.shape:
            raise DataError(
                f"{real.source}: channel '{other}' is {t.shape} (Z, Y, X), the prediction {p.shape}. They must be of "
                "one shape; crop or resample one of them."
            )
    chosen = [real.channel_index(other) for _, other in names]
    empty = padding_mask(predicted) | padding_mask(stains[chosen])
    if empty.any():
        notes.append("zero borders of the prediction or of the real image are not counted")
    inputs = stains[[c for c, name in enumerate(real.channels) if _label_free(name)]]
    valid = None if not empty.any() else ~empty
    for index, (one, other) in enumerate(names):
        p = predicted[made.channel_index(one)].astype(np.float64)
        t, scale = _in_one_unit(
            stains, chosen[index], by, made.channel_index(one), real.source, other, valid, notes
        )
        done.channels.append(
            ScoredField(
                name=pair.name, group=pair.group, channel=one, inputs=inputs, truth=t, prediction=p,
                mask=np.broadcast_to(~empty, t.shape), data_range=6 * scale.scale, typical=scale.centre,
            )
        )  # fmt: skip
        if by is None:
            notes += _unlike(one, p[:, ~empty], t[:, ~empty])
    return done


def _in_one_unit(
    stains: NDArray[np.generic], index: int, by: Normalisation | None, k: int, source: str, name: str,
    valid: NDArray[np.bool_] | None, notes: list[str],
) -> tuple[NDArray[np.float64], ChannelScale]:  # fmt: skip
    """Give a real stain in the prediction's unit, and the typical mean and spread there."""
    t, where = stains[index].astype(np.float64), f"{source}: channel '{name}'"
    spread = float((t if valid is None else t[:, valid]).std())
    if not spread > 0:
        raise DataError(f"{where} is constant or not finite; nothing can be scored against it.")
    if by is None or by.method == "none" or not k < len(by.centre):
        return t, ChannelScale(float((t if valid is None else t[:, valid]).mean()), spread)
    typical = ChannelScale(by.centre[k], by.scale[k])  # the output stays on the transformed scale
    transform = by.transform
    if transform == "log1p" and t.max() < LARGEST_LOGARITHM and stains.dtype.kind == "f":
        transform = "identity"
        notes.append(
            f"the real '{name}' has no value above {LARGEST_LOGARITHM:g}: taken as log(1 + counts), as the "
            "prediction has them"
        )
    elif transform == "log1p":
        notes.append(f"the prediction is in log(1 + counts): the real '{name}' was brought to it")
    if by.scope == "dataset":
        own = ChannelScale(0.0, 1.0, transform)
        return np.asarray(own.apply(t), np.float64), typical
    own = measure_image_scale(stains, index, method=by.method, transform=transform, where=where, valid=valid)
    return np.asarray(typical.invert(own.apply(t)), np.float64), typical


def _normalisation(made: Image) -> Normalisation | None:
    text = made.annotations.get(OUTPUT)
    if text is None:
        return None
    try:
        return Normalisation.model_validate_json(text)
    except ValueError as error:
        raise DataError(
            f"{made.source}: what it says about its unit is damaged ({OUTPUT}: {text[:60]!r}). Predict it again."
        ) from error


def _label_free(name: str) -> bool:
    return any(name.lower().strip() in names for names in ALIASES.values())


def _paired(made: Image, real: Image) -> tuple[list[tuple[str, str]], list[str]]:
    """Pair channels by name, whatever their case; or the only stains with each other."""
    stains = [name for name in real.channels if not _label_free(name)] or list(real.channels)
    known = {name.lower().strip(): name for name in stains}
    pairs = [(name, known[key]) for name in made.channels if (key := name.lower().strip()) in known]
    notes: list[str] = []
    if not pairs and len(made.channels) == len(stains) == 1:
        pairs = [(made.channels[0], stains[0])]
        if stains[0] != "channel_0":
            notes.append(
                f"predicted '{made.channels[0]}' is compared with '{stains[0]}', the only stain there is"
            )
    if not pairs:
        raise DataError(
            f"{made.source}: channels {list(made.channels)} share no name with {list(real.channels)} of {real.source}. "
            "Name the channels of the real image as the prediction's."
        )
    paired = [{pair[side] for pair in pairs} for side in (0, 1)]
    left = [
        [n for n in names if n not in taken]
        for names, taken in zip((made.channels, stains), paired, strict=True)
    ]
    if left[0]:
        notes.append(
            f"not scored: {', '.join(left[0])}, which the real image has not under that name"
            + (f" (it has {', '.join(left[1])})" if left[1] else "")
        )
    return pairs, notes


def _voxel_notes(pair: Pair) -> list[str]:
    sizes = [
        (a, b)
        for letter, a, b in zip("ZYX", pair.made.voxel_um, pair.real.voxel_um, strict=True)
        if a is not None and b is not None and (letter != "Z" or pair.made.sizes.get("Z", 1) > 1)
    ]
    if all(abs(a / b - 1) <= 0.01 for a, b in sizes):
        return []
    return [
        f"voxel sizes differ: {shown_sizes(pair.made.voxel_um)} um (z, y, x) of the prediction, "
        f"{shown_sizes(pair.real.voxel_um)} um of the real image; scores hold if their voxels show the same places"
    ]


def _unlike(channel: str, prediction: NDArray[np.float64], truth: NDArray[np.float64]) -> list[str]:
    spreads = [float(values.std()) for values in (prediction, truth)]
    if not min(spreads) > 0 or max(spreads) / min(spreads) < UNLIKE:
        return []
    return [
        f"'{channel}': the prediction has values from {prediction.min():.4g} to {prediction.max():.4g}, the real "
        f"image from {truth.min():.4g} to {truth.max():.4g}, which can hardly be one unit, and the prediction's file "
        "does not say its own: SSIM, PSNR and NRMSE mean nothing here, and Pearson's r only if one is a multiple of "
        "the other"
    ]
