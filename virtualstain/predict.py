"""Prediction of images of any size: the right channels, the right voxel size, tile by tile, in memory or to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError, ResourceError
from image2reg.images.image import PREDICTED_FROM, Image
from image2reg.images.limits import default_max_bytes
from image2reg.images.padding import nearest_data, padding_mask
from virtualstain.admission import (
    COARSEST,
    FINEST,
    GIVE_VOXELS,
    SMALL,
    choose_channels,
    fluorescent,
    resamplable,
)
from virtualstain.model import FRAME, StainModel, shown_sizes
from virtualstain.stack import ChannelStack

__all__ = ["Prediction", "predict", "predict_to"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """A predicted stain and what has to be known about it.

    Attributes
    ----------
    image : Image
        float32, channels named after the stains, with the axes and voxel size of the input; its annotations say
        which model made it and in what unit.
    flags : tuple of str
        What was found on the way (padding, saturation, resampling); empty when nothing was.
    """

    image: Image
    flags: tuple[str, ...]


def predict(
    model: StainModel,
    image: Image,
    *,
    channels: Sequence[str | int] = (),
    resample: bool = False,
    tile: tuple[int, int, int] | None = None,
    tta: bool = False,
    input_frame: bool = False,
    progress: Progress | None = None,
) -> Prediction:
    """Predict one image into memory.

    Parameters
    ----------
    model : StainModel
    image : Image
        Any of the axes TCZYX with Y and X; may be lazy. Time points are predicted one by one.
    channels : sequence of str or int
        Which channels of `image` to use, in the order of ``model.inputs``; found by name when not given.
    resample : bool
        Bring an image of another voxel size to the model's, and the prediction back to the image's grid.
    tile : (z, y, x), optional
        Largest window given to the network at once.
    tta : bool
        Average over the eight turns and mirrorings of Y and X, at eight times the cost.
    input_frame : bool
        Register the stain to the input, instead of where the training microscope's stain camera would record it
        (`virtualstain.model.StainModel.offset_px`; the same for models without an offset).
    progress : callable
        Called with (finished, total) tiles.

    Raises
    ------
    DataError
        Missing channel, unknown or foreign voxel size, wrong number of planes, constant or non-finite image.
    ResourceError
        The prediction does not fit in memory; `predict_to` with an OME-Zarr streams.
    """
    ready = _Prepared(model, image, channels=channels, resample=resample, input_frame=input_frame)
    n_bytes = 4 * int(np.prod(ready.output_shape))
    if n_bytes > default_max_bytes():
        raise ResourceError(
            f"{ready.where}: the prediction has {n_bytes / 1e9:.1f} GB, more than the "
            f"{default_max_bytes() / 1e9:.1f} GB allowed in memory. Write to an .ome.zarr, which is streamed."
        )
    out = np.zeros(ready.output_shape, np.float32)

    def sink(time: int, box: tuple[slice, ...], values: NDArray[np.float32]) -> None:
        part: tuple[Any, ...] = (time, slice(None), *box)
        out[part] = values

    ready.run(sink, hold=True, tile=tile, tta=tta, progress=progress)
    result, flags = ready.image_of(out), tuple(ready.flags)
    return Prediction(result, flags)


def predict_to(
    model: StainModel,
    image: Image,
    path: Path,
    *,
    channels: Sequence[str | int] = (),
    resample: bool = False,
    tile: tuple[int, int, int] | None = None,
    tta: bool = False,
    input_frame: bool = False,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Predict one image into a file; an OME-Zarr is streamed, so that memory does not grow with the stack.

    Parameters and errors as `predict`. Nothing appears under `path` before it is complete.

    Returns
    -------
    tuple of str
        The flags of `Prediction`.
    """
    from image2reg.atomic import refuse_existing
    from image2reg.images import OmeZarrWriter
    from image2reg.images.writers import refuse_unwritable

    refuse_unwritable(path)
    refuse_existing(path, overwrite=overwrite)
    if path.suffix != ".zarr" or resample:
        done = predict(
            model, image, channels=channels, resample=resample, tile=tile, tta=tta, input_frame=input_frame,
            progress=progress,
        )  # fmt: skip
        done.image.write(path, overwrite=overwrite)
        return done.flags
    ready = _Prepared(model, image, channels=channels, resample=False, input_frame=input_frame)
    timed = "T" in image.axes
    shape = ready.output_shape if timed else ready.output_shape[1:]
    with OmeZarrWriter(
        path, shape=shape, axes="TCZYX" if timed else "CZYX", dtype=np.dtype(np.float32), voxel_um=image.voxel_um,
        channels=model.outputs, annotations=ready.annotations, overwrite=overwrite,
    ) as writer:  # fmt: skip

        def sink(time: int, box: tuple[slice, ...], values: NDArray[np.float32]) -> None:
            key = (slice(0, len(model.outputs)), *box)
            if timed:
                writer[(slice(time, time + 1), *key)] = values[None]
            else:
                writer[key] = values

        ready.run(sink, hold=False, tile=tile, tta=tta, progress=progress)
    return tuple(ready.flags)


class _Prepared:
    """An image that was checked against a model, with its channels in the model's order."""

    def __init__(
        self,
        model: StainModel,
        image: Image,
        *,
        channels: Sequence[str | int],
        resample: bool,
        input_frame: bool,
    ) -> None:
        if not isinstance(image, Image):
            raise DataError(
                f"predict takes an Image, not {type(image).__name__}: it has to know axes and voxel size. Use "
                "read(path), or Image(array, 'YX', voxel_um=(None, 0.65, 0.65)) with letters of 'TCZYX' for the axes."
            )
        self.model, self.where = model, image.source or "image"
        self.flags: list[str] = []
        self.input_frame = input_frame
        self.annotations = dict(model.annotations)
        if PREDICTED_FROM in image.annotations:
            self.annotations[PREDICTED_FROM] = image.annotations[PREDICTED_FROM]
        if any(model.offset_px):
            y, x = model.offset_px[1:]
            there = (
                f"the training microscope's stain camera, {y}, {x} pixels of the model (y, x) off the input"
            )
            self.annotations[FRAME] = "input" if input_frame else there
            self.flags.append(
                f"the stain lies on the input image, not in the frame of {there}"
                if input_frame
                else f"the stain lies in the frame of {there} (--input-frame lays it on the image)"
            )
        self.source, self.padding = image, dict[int, NDArray[np.bool_]]()
        chosen = [image.find_channel(c) for c in choose_channels(model, image, channels)]
        self.recorded = [image.select(channel=index) for index in chosen]
        self.parts = parts = self._match_voxels(self.recorded, resample=resample)
        self.resampled = parts[0].voxel_um != image.voxel_um
        sizes = parts[0].sizes
        if min(sizes["Y"], sizes["X"]) < SMALL:
            self.flags.append(
                f"only {sizes['Y']} x {sizes['X']} pixels at the model's scale: less than it looks at around each "
                "pixel, so expect little"
            )
        if sizes.get("Z", 1) == 1 and model.network.dims == 3:
            self.flags.append(f"one plane, and model '{model.name}' was trained on stacks: expect little")
        self.times, self.planes = sizes.get("T", 1), sizes.get("Z", 1)
        z_out = model.output_planes(self.planes)
        self.output_shape = (self.times, len(model.outputs), z_out, sizes["Y"], sizes["X"])

    def _match_voxels(self, parts: list[Image], *, resample: bool) -> list[Image]:
        """Compare voxel sizes with the model's; resample only when asked to."""
        wanted, found = self.model.voxel_um, parts[0].voxel_um
        tolerance = self.model.bundle.spec.inputs[0].voxel_tolerance
        off = self.model.foreign_axes(
            found, planes=parts[0].sizes.get("Z", 1), where=self.where, remedy=GIVE_VOXELS
        )
        if not off:
            return parts
        sizes = zip("ZYX", found, wanted, strict=True)
        if not all(resamplable(have / want) for axis, have, want in sizes if axis in off and have and want):
            least, most = ([None if w is None else w * r for w in wanted] for r in (1 / FINEST, COARSEST))
            raise DataError(
                f"{self.where}: voxel size {shown_sizes(found)} um (z, y, x) is too far from the "
                f"{shown_sizes(wanted)} um of model '{self.model.name}' along {', '.join(off)}; with --resample it "
                f"takes {shown_sizes(least)} to {shown_sizes(most)} um. Check the voxel size, or choose another model."
            )
        if not resample:
            raise DataError(
                f"{self.where}: voxel size {shown_sizes(found)} um (z, y, x) is outside what model '{self.model.name}' "
                f"accepts along {', '.join(off)}: {shown_sizes(wanted)} um within {tolerance:.0%}. Pass --resample to "
                "bring the image to the model's voxel size and the prediction back, or choose another model."
            )
        from image2reg.images.resampling import resample as resample_image

        z, y, x = (have if want is None else want for want, have in zip(wanted, found, strict=True))
        target = (z, y, x)
        self.flags.append(
            f"resampled from {shown_sizes(found)} to {shown_sizes(target)} um (z, y, x) and back"
        )
        return [resample_image(part, target) for part in parts]

    def run(
        self,
        sink: Callable[[int, tuple[slice, ...], NDArray[np.float32]], None],
        *,
        hold: bool,
        tile: tuple[int, int, int] | None,
        tta: bool,
        progress: Progress | None,
    ) -> None:
        """Predict every time point; `hold` reads one at once, where it fits: else each tile decodes its planes."""
        padded = []
        for time in range(self.times):
            stack: Any = _at(time, self.parts)
            if hold and stack.nbytes <= default_max_bytes():
                stack = np.asarray(stack)
            padding = padding_mask(stack)
            self._check(stack, ... if not padding.any() else ~padding)
            if padding.any():
                padded.append(f"{padding.mean():.1%}")
                if self.resampled:
                    self.padding[time] = padding
            where = f"{self.where}, time {time}" if self.times > 1 else self.where
            self.model.predict_stack(
                stack,
                partial(sink, time),
                where=where,
                valid=~padding if padding.any() else None,
                tile=tile,
                tta=tta,
                input_frame=self.input_frame,
                progress=progress,
            )
        if padded:
            most = max(padded, key=lambda share: float(share[:-1]))
            self._flag(
                f"{'up to ' if len(set(padded)) > 1 else ''}{most} of the field is exactly zero at the border "
                "(registration padding): predicted as 0"
            )

    def _check(self, stack: Any, recorded: Any) -> None:
        """Flag what the middle plane shows: light of another kind, voxels at the largest value of an integer type."""
        middle, dtype = np.asarray(stack[:, stack.shape[1] // 2]), np.dtype(stack.dtype)
        for name, part, plane in zip(self.model.inputs, self.recorded, middle, strict=True):
            if fluorescent(name, plane[recorded]):
                self._flag(
                    f"channel '{part.channels[0]}' looks like fluorescence (dark, with few bright places) and model "
                    f"'{self.model.name}' takes {name}: check the channel (--channel)"
                )
        if dtype.kind != "u":
            return
        top = np.iinfo(dtype).max
        share = float((middle[:, recorded] == top).mean())
        if share > 0.05:
            self._flag(f"{share:.0%} of the middle plane is saturated ({top}): expect nothing there")

    def _flag(self, found: str) -> None:
        if found not in self.flags:  # by an earlier time point
            self.flags.append(found)

    def image_of(self, out: NDArray[np.float32]) -> Image:
        """Wrap the (T, K, Z, Y, X) result, back on the input's grid when it was resampled."""
        source = self.source
        made = Image(out, "TCZYX", self.parts[0].voxel_um, self.model.outputs, annotations=self.annotations)
        if self.resampled:
            from image2reg.images.resampling import resample as resample_image

            for time, padding in self.padding.items():  # zeros are not to be mixed with the stain beside them
                out[time] = out[time][..., *nearest_data(padding)]
            planes = source.sizes.get("Z", 1) if out.shape[2] > 1 else 1
            made = resample_image(made, source.voxel_um, shape=(planes, source.sizes["Y"], source.sizes["X"]))
            for time in self.padding:
                made.data[time][..., padding_mask(_at(time, self.recorded))] = 0
        made = made.replace(voxel_um=source.voxel_um, source=f"{self.model.name} of {self.where}")
        return made if "T" in source.axes else made.to_axes("CZYX")


def _at(time: int, parts: Sequence[Image]) -> ChannelStack:
    """One time point of images of one channel each."""
    chosen = [part.select(time=time) if "T" in part.axes else part for part in parts]
    return ChannelStack([part.to_axes("CZYX").data for part in chosen])
