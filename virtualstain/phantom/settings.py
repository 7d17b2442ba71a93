"""What a phantom is made of: the stack, the microscope, the cells and the camera."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PhantomSettings"]

_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=1)]


class PhantomSettings(BaseModel):
    """Settings of one phantom. The defaults are a 20-40x/0.75 objective over a sparse adherent culture.

    Attributes
    ----------
    shape : (z, y, x)
        Voxels of the returned stack. A stack thinner than a cell is a window into the whole cell.
    voxel_um : (z, y, x), micrometres
        ``y`` and ``x`` must resolve the brightfield cut-off (`virtualstain.phantom.optics.check_sampling`).
    numerical_aperture, condenser_aperture : float
        Objective and condenser; the condenser may not exceed the objective (bright field, not dark field).
    wavelength_um : float
        Vacuum wavelength of the transmitted light, narrow band.
    medium_index : float
        Refractive index of the culture medium; also the index that the apertures refer to.
    fluorescence : {"confocal", "widefield"}
        Which point spread function blurs the stains.
    cells_per_mm2, rounded_fraction, debris_per_mm2 : float
        Culture density, the share of rounded (dividing) cells, and absorbing specks of dirt.
    focus_um, focus_jitter_um : float
        Height of the stack's middle over the substrate, and half the range it varies in from seed to seed.
    illumination_variation : float
        Peak relative deviation of the lamp's field from flat.
    brightfield_electrons, hoechst_electrons, membrane_electrons, mitochondria_electrons : float
        Mean photo-electrons per voxel of the empty bright field, and of a large object at stain density 1.
    background_electrons, read_noise_electrons, gain, offset : float
        Fluorescence background, Gaussian read noise (sd), counts per electron, and counts in the dark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[_Count, _Count, _Count] = (32, 256, 256)
    voxel_um: tuple[_Positive, _Positive, _Positive] = (0.5, 0.25, 0.25)

    numerical_aperture: _Positive = 0.75
    condenser_aperture: _Positive = 0.4
    wavelength_um: _Positive = 0.6
    medium_index: Annotated[float, Field(ge=1.0, le=1.6)] = 1.337
    fluorescence: Literal["confocal", "widefield"] = "confocal"

    cells_per_mm2: _NotNegative = 1800.0
    rounded_fraction: Annotated[float, Field(ge=0, le=1)] = 0.08
    debris_per_mm2: _NotNegative = 700.0
    focus_um: float = 4.0
    focus_jitter_um: _NotNegative = 1.0

    illumination_variation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    brightfield_electrons: _Positive = 8000.0
    hoechst_electrons: _Positive = 400.0
    membrane_electrons: _Positive = 250.0
    mitochondria_electrons: _Positive = 300.0
    background_electrons: _NotNegative = 4.0
    read_noise_electrons: _NotNegative = 1.6
    gain: _Positive = 1.0
    offset: _NotNegative = 100.0
