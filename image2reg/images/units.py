"""Physical lengths, whatever their unit, as micrometres."""

from __future__ import annotations

import math

__all__ = ["VoxelSize", "micrometres", "voxel_size"]

VoxelSize = tuple[float | None, float | None, float | None]

# Spellings of OME-XML (2016-06 UnitsLength), OME-NGFF (UDUNITS-2) and ImageJ.
_MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
    "å": 1e-4, "angstrom": 1e-4, "ångström": 1e-4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "in": 25400.0, "inch": 25400.0,
}  # fmt: skip


def micrometres(value: float | str | None, unit: str | None) -> float | None:
    """Convert a length to micrometres; None where it is unknown.

    Parameters
    ----------
    value : float, or text of one
    unit : str
        For example ``"nm"``, ``"micrometer"`` or ``"µm"``. A unit that is no length (``"pixel"``,
        ``"reference frame"``, empty) makes the size unknown, never 1.

    Examples
    --------
    >>> micrometres(108.33, "nm")
    0.10833
    >>> micrometres(1.0, "pixel") is None
    True
    """
    if value is None or unit is None:
        return None
    name = unit.strip().replace("\\u00B5", "µ").lower()
    # Whole words may be plural; "ms" is no metre.
    factor = _MICROMETRES.get(name.removesuffix("s") if len(name) > 4 else name)
    try:
        length = float(value)
    except (TypeError, ValueError):
        return None
    if factor is None or not math.isfinite(length) or length <= 0:
        return None
    # Rounded to 15 digits, so that 108.33 nm is 0.10833 and not 0.10833000000000001.
    return length if factor == 1.0 else float(f"{length * factor:.15g}")


def voxel_size(z: float | None, y: float | None, x: float | None) -> VoxelSize:
    """Return the three sizes as plain floats, (z, y, x), None where unknown."""
    z, y, x = (None if size is None else float(size) for size in (z, y, x))
    return z, y, x
