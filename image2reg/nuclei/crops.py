"""Crops: one small image per nucleus, with its mask and where it came from, in memory or on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_directory
from image2reg.errors import ConfigurationError, DataError
from image2reg.images.image import Image
from image2reg.nuclei.field import checked_channels
from image2reg.nuclei.regions import dense_labels
from image2reg.nuclei.voxels import other_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["OTHER", "OWN", "Crops", "cut_crops", "refuse_size", "write_crops"]

# In a mask: the nucleus the crop is about, and any other one that it shows.
OWN, OTHER = 1, 2
_CHUNK_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Crops:
    """Equally large crops of nuclei.

    Parameters
    ----------
    images : (N, C, Y, X) uint8, uint16 or float32, array or lazy array
        Values of the image they were cut from.
    metadata : DataFrame of N rows
        ``Metadata_*`` columns, text: plate, well, site, object and whatever else is known.
    masks : (N, Y, X) uint8, optional
        0 background, 1 the nucleus itself, 2 another nucleus.
    channels : tuple of str
    voxel_um : (y, x), micrometres
        None where unknown.
    source : str
        What messages call them.

    Raises
    ------
    DataError
        The parts do not fit together.
    """

    images: Any
    metadata: pd.DataFrame
    masks: Any = None
    channels: tuple[str, ...] = ("DNA",)
    voxel_um: tuple[float | None, float | None] = (None, None)
    source: str = "crops"

    def __post_init__(self) -> None:
        """Check lengths; make the metadata text."""
        shape = tuple(self.images.shape)
        n, n_channels = (shape[0], shape[1]) if len(shape) == 4 else (-1, -1)
        fits = n == len(self.metadata) and n_channels == len(self.channels)
        if not fits or (self.masks is not None and tuple(self.masks.shape) != (n, *shape[2:])):
            masks = None if self.masks is None else tuple(self.masks.shape)
            raise DataError(
                f"{self.source}: images {shape}, masks {masks}, {len(self.metadata)} rows of metadata and channels "
                f"{list(self.channels)} do not fit; images are (N, C, Y, X), masks (N, Y, X), one row each."
            )
        wrong = [name for name in self.metadata.columns if not str(name).startswith("Metadata_")]
        if wrong:
            raise DataError(f"{self.source}: metadata columns start with Metadata_; found {wrong[:5]}.")
        text = self.metadata.reset_index(drop=True).astype(str)
        object.__setattr__(self, "metadata", text)

    def __len__(self) -> int:
        """Count the nuclei."""
        return int(self.images.shape[0])

    @property
    def size_px(self) -> int:
        """Edge length of a crop."""
        return int(self.images.shape[-1])

    def column(self, name: str) -> NDArray[Any]:
        """Give one metadata column as an object array of str; one that is missing is a `DataError`."""
        if name not in self.metadata:
            raise DataError(
                f"{self.source}: no metadata column {name!r}; there are {list(self.metadata.columns)}."
            )
        return self.metadata[name].to_numpy(object)

    def rows(self, chosen: NDArray[Any]) -> Crops:
        """Keep crops by boolean mask or position; lazy ones are read for it."""
        where = np.flatnonzero(chosen) if np.asarray(chosen).dtype == np.bool_ else np.asarray(chosen)
        loaded = self.load()
        return dataclasses.replace(
            loaded,
            images=loaded.images[where],
            masks=None if loaded.masks is None else loaded.masks[where],
            metadata=loaded.metadata.iloc[where],
        )

    def load(self) -> Crops:
        """Read everything into memory."""
        if isinstance(self.images, np.ndarray) and (self.masks is None or isinstance(self.masks, np.ndarray)):
            return self
        masks = None if self.masks is None else np.asarray(self.masks[...])
        return dataclasses.replace(self, images=np.asarray(self.images[...]), masks=masks)

    def digest(self) -> str:
        """Hash of pixels and masks (sha256): equal for the same nuclei in the same order, wherever they lie."""
        found = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for part in self.batches():
            for values in (part.images, part.masks):
                if values is not None:
                    found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()

    def batches(self, size: int = 1024) -> Iterator[Crops]:
        """Give the crops in order, `size` at a time and in memory: what is on disk streams."""
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            masks = None if self.masks is None else np.asarray(self.masks[part])
            yield dataclasses.replace(
                self, images=np.asarray(self.images[part]), masks=masks, metadata=self.metadata.iloc[part]
            )

    @classmethod
    def concat(cls, parts: Sequence[Crops]) -> Crops:
        """Put crops of one size, type and pixel size and the same channels one after the other, in memory."""
        import pandas as pd

        if not parts:
            raise DataError("no crops to put together.")
        parts = [part.load() for part in parts]
        for part in parts:
            _refuse_other(parts[0], part)
        masks = [part.masks for part in parts]
        return dataclasses.replace(
            parts[0],
            images=np.concatenate([part.images for part in parts]),
            masks=None if any(mask is None for mask in masks) else np.concatenate(masks),
            metadata=pd.concat([part.metadata for part in parts], ignore_index=True).fillna(""),
        )

    @classmethod
    def read(cls, path: Path | str) -> Crops:
        """Open a ``.zarr`` directory of crops; images and masks stay on disk.

        Raises
        ------
        DataError
            Missing, damaged, or not one that `write` made.
        """
        import pandas as pd

        from image2reg.images.zarr_store import ZarrArray, group_attributes

        path = Path(path)
        table = path / "metadata.parquet"
        if not table.is_file():
            raise DataError(
                f"{path}: not a directory of crops (no metadata.parquet). Cut crops with: image2reg crops."
            )
        facts = group_attributes(path)
        masks = ZarrArray(path / "masks") if (path / "masks").is_dir() else None
        try:
            metadata = pd.read_parquet(table)
        except Exception as error:  # the door: pyarrow raises a dozen kinds for damaged files
            raise DataError(f"{table}: cannot be read ({type(error).__name__}: {error}).") from error
        y, x = (facts.get("voxel_um") or (None, None))[:2]
        channels = tuple(map(str, facts.get("channels", ())))
        return cls(ZarrArray(path / "images"), metadata, masks, channels, (y, x), str(path))

    def write(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write as one ``.zarr`` directory, atomically; see `write_crops`."""
        write_crops(path, self.batches(), n=len(self), overwrite=overwrite)


def _refuse_other(first: Crops, part: Crops) -> None:
    if part.channels != first.channels or part.images.shape[1:] != first.images.shape[1:]:
        raise DataError(
            f"{part.source}: crops of {part.images.shape[1:]} with channels {list(part.channels)} do not go "
            f"together with {first.images.shape[1:]} and {list(first.channels)}."
        )
    if part.images.dtype != first.images.dtype:
        raise DataError(
            f"{part.source}: holds {part.images.dtype}, {first.source} {first.images.dtype}, so that their brightness "
            "is no comparison. Give all images one type, from one export, or cut crops of each kind apart."
        )
    if other_pixels(part.voxel_um, first.voxel_um):
        raise DataError(
            f"{part.source}: pixels of {part.voxel_um} um (y, x), those of {first.source} of {first.voxel_um} um: "
            "nuclei would have other sizes. Resample the images to one pixel size, or cut crops of each kind apart."
        )


def write_crops(path: Path | str, parts: Iterable[Crops], *, n: int, overwrite: bool = False) -> None:
    """Write crops part by part: memory holds one part.

    Parameters
    ----------
    path : Path
        Ends in ``.zarr``. It holds the arrays ``images`` and ``masks`` (zarr format 3) and ``metadata.parquet``.
    parts : iterable of Crops
        At least one nucleus in all.
    n : int
        Nuclei in all parts.

    Raises
    ------
    DataError
        No nucleus, another number than `n`, or parts that do not fit together.
    """
    import pandas as pd

    from image2reg.images.zarr_store import create_array, create_group

    path = Path(path)
    if path.suffix != ".zarr":
        raise ConfigurationError(f"{path}: crops are written to a directory whose name ends in .zarr.")
    with atomic_directory(path, overwrite=overwrite) as partial:
        first: Crops | None = None
        done, tables, images, masks = 0, [], None, None
        for part in parts:
            if not len(part):
                continue
            if first is None:
                first = part
                per_chunk = max(1, _CHUNK_BYTES // max(1, part.images[:1].nbytes))
                shape = part.images.shape[1:]
                facts = {"channels": list(part.channels), "voxel_um": list(part.voxel_um)}
                create_group(partial, facts)
                kind = part.images.dtype
                images = create_array(
                    partial / "images", (n, *shape), kind, (per_chunk, *shape), list("ncyx")
                )
                if part.masks is not None:
                    plane = shape[1:]
                    masks = create_array(
                        partial / "masks", (n, *plane), "u1", (per_chunk, *plane), list("nyx")
                    )
            _refuse_other(first, part)
            end = done + len(part)
            if end > n:
                break
            if images is not None:
                images[done:end] = part.images
            if masks is not None:
                masks[done:end] = part.masks
            tables.append(part.metadata)
            done = end
        if done != n or not tables:
            raise DataError(f"{path}: {done} nuclei came, {n} were announced; crops need at least one.")
        table = pd.concat(tables, ignore_index=True).fillna("").astype(str)
        table.to_parquet(partial / "metadata.parquet", index=False)


def refuse_size(size_px: int) -> None:
    """Raise `ConfigurationError` for an edge length that crops cannot have."""
    if size_px < 2 or size_px % 2:
        raise ConfigurationError(
            f"a crop of {size_px} px; the edge length is even and 2 or more. Take {max(2, size_px + size_px % 2)}."
        )


def cut_crops(
    image: Image | NDArray[Any],
    labels: NDArray[Any],
    *,
    size_px: int = 64,
    channels: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    whole: bool = False,
) -> Crops | None:
    """Cut a square around the centre of each nucleus of a field.

    Parameters
    ----------
    image : Image of one plane, or (C, Y, X) or (Y, X) array
    labels : (Y, X) integer
        0 is background.
    size_px : int
        Edge length, even. Beyond the field's edge the crop repeats the edge pixel, and its mask is 0.
    channels : sequence of str, optional
    metadata : mapping, optional
        ``Metadata_*`` values of the field.
    whole : bool
        Leave out nuclei whose crop would reach beyond the field's edge: what is repeated there shows as stripes.

    Returns
    -------
    Crops or None
        In the order of the labels, with ``Metadata_Object``, ``Metadata_CenterY_px`` and ``Metadata_CenterX_px``;
        None for a field without a nucleus (or, with `whole`, none far enough from the edge).

    Raises
    ------
    DataError
        Sizes differ, the image is a volume, or voxels are NaN, infinite, beyond float32 or no real numbers.
    """
    import pandas as pd

    refuse_size(size_px)
    if not isinstance(image, Image):
        array = np.asarray(image)
        given = tuple(channels or (("DNA",) if array.ndim == 2 else ()))
        image = Image(array, "YX" if array.ndim == 2 else "CYX", channels=given)
    where = image.source or "image"
    if (n_planes := image.sizes.get("Z", 1)) > 1:
        raise DataError(f"{where}: a stack of {n_planes} planes; crops are cut of one. Project it first.")
    data = checked_channels(image, labels, "CYX")
    if data.dtype not in (np.uint8, np.uint16, np.float32):
        data = data.astype(np.float32)
    dense, ids = dense_labels(labels, where)
    if not len(ids):
        return None
    half = size_px // 2
    flat = np.flatnonzero(dense)
    region = dense.reshape(-1)[flat] - 1
    counts = np.bincount(region)
    centre = [np.bincount(region, axis) / counts for axis in np.unravel_index(flat, dense.shape)]
    y, x = (np.rint(axis).astype(np.int64) for axis in centre)
    number = np.arange(1, len(ids) + 1, dtype=np.int32)
    if whole:
        fits = [(at >= half) & (at + half <= n) for at, n in zip((y, x), dense.shape, strict=True)]
        kept = np.flatnonzero(fits[0] & fits[1])
        if not len(kept):
            return None
        y, x, ids, number, centre = y[kept], x[kept], ids[kept], number[kept], [c[kept] for c in centre]
    edges = ((half, half), (half, half))
    windows = np.lib.stride_tricks.sliding_window_view
    shown = windows(np.pad(data, ((0, 0), *edges), mode="edge"), (size_px, size_px), (1, 2))[:, y, x]
    numbers = windows(np.pad(dense, edges), (size_px, size_px))[y, x]
    own = numbers == number[:, None, None]
    masks = np.where(own, OWN, np.where(numbers > 0, OTHER, 0)).astype(np.uint8)
    table = {
        **dict(metadata or {}),
        "Metadata_Object": ids.astype(str),
        "Metadata_CenterY_px": np.round(centre[0], 3).astype(str),
        "Metadata_CenterX_px": np.round(centre[1], 3).astype(str),
    }
    images = np.ascontiguousarray(shown.transpose(1, 0, 2, 3))
    voxel = image.voxel_um[1:]
    return Crops(images, pd.DataFrame(table), masks, image.channels, (voxel[0], voxel[1]), where)
