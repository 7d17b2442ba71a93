"""What the programs of microscopes say in their own TIFFs: MetaXpress and MetaMorph (also STK), and Zeiss LSM."""

from __future__ import annotations

import contextlib
import dataclasses
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.images.units import VoxelSize, micrometres

if TYPE_CHECKING:
    import tifffile

__all__ = ["MakerMetadata", "maker_metadata"]

# A step down is stored as a number without a sign, and then seems to be metres long.
_LONGEST_STEP_UM = 1000.0


@dataclasses.dataclass(frozen=True)
class MakerMetadata:
    """Voxel size (z, y, x) in micrometres, None where the program gives none, names of channels, planes promised."""

    voxel_um: VoxelSize
    channels: tuple[str, ...] = ()
    n_planes: int | None = None


def maker_metadata(tif: tifffile.TiffFile, description: str) -> MakerMetadata | None:
    """Read what a microscope's program wrote beside standard TIFF; None for a file of another kind.

    Parameters
    ----------
    tif : tifffile.TiffFile
    description : str
        Of its first page.
    """
    if tif.is_lsm:
        return _lsm(tif.lsm_metadata or {})
    stk = _stk(tif.stk_metadata or {}) if tif.is_stk else None
    # A stack has one description per plane, each closed by NUL.
    said = _properties(description.partition("\0")[0])
    if not said:
        return stk
    z, y, x = stk.voxel_um if stk else (None, None, None)
    if "spatial-calibration-state" in said:
        is_on, unit = said["spatial-calibration-state"] == "on", said.get("spatial-calibration-units")
        y, x = (
            micrometres(said.get(f"spatial-calibration-{axis}") if is_on else None, unit) for axis in "yx"
        )
    name = _one_line(said.get("_IllumSetting_") or said.get("image-name") or "")
    return MakerMetadata((z, y, x), (name,) if name else (), stk.n_planes if stk else None)


def _properties(text: str) -> dict[str, str]:
    """Properties of MetaMorph's XML; none of a damaged one, whose planes are the same without it."""
    if not text.startswith("<MetaData>"):  # nothing may stand before it, so it declares no entity
        return {}
    with contextlib.suppress(ET.ParseError):
        return {item.get("id", ""): item.get("value", "") for item in ET.fromstring(text).iter("prop")}
    return {}


def _stk(said: dict[str, Any]) -> MakerMetadata:
    unit = str(said.get("CalibrationUnits", "")) if said.get("SpatialCalibration") == 1 else None
    y, x = (micrometres(said.get(f"{axis}Calibration"), unit) for axis in "YX")
    steps = np.unique(np.asarray(said.get("ZDistance", ()), dtype=float))
    # Of z no unit is given: it is that of the calibration, which we take for micrometres only where that is.
    z = micrometres(steps[0], unit) if len(steps) == 1 and micrometres(1, unit) == 1 else None
    z = None if z is not None and z > _LONGEST_STEP_UM else z
    return MakerMetadata((z, y, x), n_planes=int(said.get("NumberPlanes", 1)))


def _lsm(said: dict[str, Any]) -> MakerMetadata:
    z, y, x = (micrometres(said.get(f"VoxelSize{axis}"), "m") for axis in "ZYX")
    names = (said.get("ChannelColors") or {}).get("ColorNames", ())
    return MakerMetadata((z, y, x), tuple(_one_line(str(name)) for name in names))


def _one_line(name: str) -> str:
    return " ".join(name.split())
