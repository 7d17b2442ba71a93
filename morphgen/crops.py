"""Nucleus crops beside the signatures they were made under: what a generator is trained on, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.models.spec import Normalisation
from image2reg.provenance import arrays_sha256
from image2reg.tables.profiles import Profiles

__all__ = ["CropSet", "IntensityRange", "refuse_thin_perturbations"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class IntensityRange:
    """Recorded intensities to [-1, 1] and back, per channel.

    Attributes
    ----------
    centre, half_width : tuple of float
        In recorded units.
    """

    centre: tuple[float, ...]
    half_width: tuple[float, ...]

    @classmethod
    def of(cls, images: NDArray[Any], quantiles: tuple[float, float]) -> IntensityRange:
        """Measure over (N, C, *spatial) training crops.

        Raises
        ------
        DataError
            A channel is constant.
        """
        axes = (0, *range(2, images.ndim))
        low, high = np.quantile(np.asarray(images), quantiles, axis=axes)
        constant = np.flatnonzero(high <= low)
        if len(constant):
            raise DataError(
                f"channel {constant[0]} of the crops is constant ({low[constant[0]]:g}); leave it out."
            )
        return cls(tuple(map(float, (high + low) / 2)), tuple(map(float, (high - low) / 2)))

    @classmethod
    def stored(cls, stored: Normalisation) -> IntensityRange:
        """Read from a bundle's description."""
        return cls(stored.centre, stored.scale)

    def refuse(self, images: NDArray[Any], channels: Sequence[str], *, name: str) -> None:
        """Refuse crops (N, C, *spatial) that hold no numbers, or are on another scale than those this was measured on.

        Raises
        ------
        DataError
            A value that is not finite; a channel in which no crop spans a fiftieth of the range, or most span ten times
            as much.
        """
        axes = tuple(range(2, images.ndim))
        high, low = images.max(axes).astype(np.float64), images.min(axes).astype(np.float64)
        if not np.isfinite(high - low).all():
            raise DataError(f"{name}: crops hold values that are not finite. Leave those crops out.")
        share = (high - low) / (2 * np.array(self.half_width))
        for c in np.flatnonzero((share.max(0) < 1 / 50) | (np.median(share, axis=0) > 10)).tolist():
            first, last = (self.centre[c] + sign * self.half_width[c] for sign in (-1, 1))
            raise DataError(
                f"{name}: values of channel {channels[c]!r} run from {low[:, c].min():.4g} to {high[:, c].max():.4g}, "
                f"those the model was trained on from {first:.4g} to {last:.4g}. Give crops in the units of the "
                "training: of the same bit depth, and scaled in the same way."
            )

    def normalisation(self) -> Normalisation:
        """Describe for a bundle."""
        return Normalisation(method="robust", scope="dataset", centre=self.centre, scale=self.half_width)

    def _shaped(self, images: NDArray[Any]) -> tuple[Floats, Floats]:
        shape = (-1, *([1] * (images.ndim - 2)))
        return np.array(self.centre, np.float32).reshape(shape), np.array(
            self.half_width, np.float32
        ).reshape(shape)

    def apply(self, images: NDArray[Any]) -> Floats:
        """Turn recorded units to network units; (N, C, *spatial)."""
        centre, half = self._shaped(images)
        return ((images - centre) / half).astype(np.float32)

    def undo(self, images: Floats) -> Floats:
        """Network units, clipped to the training range, to recorded units."""
        centre, half = self._shaped(images)
        return (np.clip(images, -1, 1) * half + centre).astype(np.float32)


@dataclass(frozen=True)
class CropSet:
    """Crops of one size and the signature of each.

    Attributes
    ----------
    images : (N, C, Y, X) or (N, C, Z, Y, X)
        Recorded units.
    channels : tuple of str
    voxel_um : (z, y, x)
        None where unknown or without meaning.
    signature_index : (N,) int64
        Row of `signatures`; -1 for none. Empty where there are no signatures.
    signatures : Profiles, optional
        One row per perturbation, one column per gene.
    controls : (M, C, ...), optional
        Crops of unperturbed cells.
    name : str

    Raises
    ------
    DataError
        Crops of mixed size, a number of channels that is not that of their names, a value that is not finite, an index
        that no signature has.
    """

    images: NDArray[Any]
    channels: tuple[str, ...]
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    signature_index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    signatures: Profiles | None = None
    controls: NDArray[Any] | None = None
    name: str = "crops"

    def __post_init__(self) -> None:
        """Check what the class promises."""
        if self.images.dtype == object or self.images.ndim not in (4, 5):
            sizes = sorted({tuple(np.shape(crop)) for crop in self.images})
            raise DataError(
                f"{self.name}: crops of mixed size {sizes[:4]}; a generator needs one. Cut them with one window "
                "(N, C, Y, X) or (N, C, Z, Y, X)."
            )
        if self.images.shape[1] != len(self.channels):
            raise DataError(
                f"{self.name}: crops have {self.images.shape[1]} channels, names are {list(self.channels)}. Give one "
                "name per channel."
            )
        if self.images.dtype.kind == "f" and not np.isfinite(self.images).all():
            bad = ~np.isfinite(self.images).reshape(len(self.images), -1).all(1)
            raise DataError(
                f"{self.name}: {int(bad.sum())} crops hold values that are not finite, first {int(bad.argmax())}."
            )
        n = len(self.signatures) if self.signatures is not None else 0
        index = self.signature_index
        if len(index) not in (0, len(self.images)) or (len(index) and int(index.max()) >= max(n, 1)):
            raise DataError(
                f"{self.name}: {len(index)} signature positions up to {index.max(initial=-1)} for {len(self.images)} "
                f"crops and {n} signatures; give each crop the row of its signature."
            )
        if self.controls is not None and self.controls.shape[1:] != self.images.shape[1:]:
            raise DataError(
                f"{self.name}: control crops are {self.controls.shape[1:]}, the others {self.images.shape[1:]} "
                "(channels and size must agree)."
            )

    @property
    def dims(self) -> int:
        """Spatial axes: 2 or 3."""
        return self.images.ndim - 2

    def __len__(self) -> int:
        """Count the crops."""
        return len(self.images)

    def digest(self) -> str:
        """Hash of all that a training learns from (sha256): pixels, and which signature each crop has."""
        parts = [self.images, self.signature_index]
        if self.controls is not None:
            parts.append(self.controls)
        if self.signatures is not None:
            table = self.signatures
            parts += [table.values, np.array(table.features), table.metadata.to_numpy().astype(str)]
        return arrays_sha256(parts)

    def rows(self, chosen: NDArray[np.integer]) -> CropSet:
        """Keep crops by position; signatures and controls stay."""
        index = self.signature_index[chosen] if len(self.signature_index) else self.signature_index
        return replace(self, images=self.images[chosen], signature_index=index)

    def matched(self) -> CropSet:
        """Keep the crops that have a signature, and the signatures that have crops: what a training has seen.

        Raises
        ------
        DataError
            No crop has a signature.
        """
        kept = np.flatnonzero(self.signature_index >= 0)
        if self.signatures is None or not len(kept):
            raise DataError(
                f"{self.name}: no signatures; a generator needs the signature of each crop. Give them, and the row of "
                "its own to each crop."
            )
        seen, place = np.unique(self.signature_index[kept], return_inverse=True)
        images = self.images if len(kept) == len(self) else self.images[kept]
        return replace(self, images=images, signature_index=place, signatures=self.signatures.rows(seen))


def refuse_thin_perturbations(crops: CropSet, *, least: int = 2) -> None:
    """Refuse perturbations with a single cell: their spread cannot be learned, nor told from noise.

    Raises
    ------
    DataError
        Most perturbations have fewer than `least` cells.
    """
    assert crops.signatures is not None
    counts = np.bincount(crops.signature_index[crops.signature_index >= 0], minlength=len(crops.signatures))
    counts = counts[counts > 0]
    thin = int((counts < least).sum())
    if 2 * thin > len(counts):
        raise DataError(
            f"{crops.name}: {thin} of {len(counts)} perturbations have fewer than {least} cells (median "
            f"{np.median(counts):g}). A generator learns a distribution of cells: pool wells of a perturbation, or "
            "image more cells."
        )
