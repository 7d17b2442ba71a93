"""Settings of a screen: what is measured on each field, and how wells are judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CallSettings", "MeasureSettings", "ScreenSettings"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MeasureSettings(_Strict):
    """What is done with each field; a change means measuring again.

    Attributes
    ----------
    nuclei : str
        Channel with the nuclei; found by its name (Hoechst, DAPI, DNA …) or being the only one when empty.
    model : str
        Segmenter (`image2reg.nuclei.segmenters`).
    tta : bool
        Average its network over eight poses: eight times the work for outlines that are right to the pixel more often.
    diameter_px, diameter_um : float or None
        Typical nucleus; measured on control fields where neither this nor a pixel size is known.
    ring_px : (gap, width)
        Of the ring around each nucleus, pixels.
    texture_scales : tuple of int
    """

    nuclei: str = ""
    model: str = "nuclei"
    tta: bool = False
    diameter_px: Annotated[float, Field(gt=0)] | None = None
    diameter_um: Annotated[float, Field(gt=0)] | None = None
    ring_px: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] = (1, 4)
    texture_scales: tuple[Annotated[int, Field(ge=1)], ...] = (1, 3)


class CallSettings(_Strict):
    """How wells become hits; a change costs seconds.

    Attributes
    ----------
    keep_out : tuple of str
        Flags of `image2reg.nuclei.quality.field_quality` that keep a field out. An empty field is no fault: it counts
        as no nuclei.
    min_nuclei : int
        A well with fewer that touch no border has no value but its count.
    readouts : tuple of str
        Features to judge; when empty, the number of nuclei, their area, and the ratio of nucleus to ring of every
        channel besides the nuclear one.
    group_by : tuple of str
        Wells equal in these columns are replicates; when empty, ``Metadata_Perturbation`` and the dose.
    dose : str
        Column of doses; ``Metadata_Dose_uM`` when it is filled.
    normalise : str
        Score that hits are called on; both are in the tables.
    null, fdr, min_replicates, seed
        See `image2reg.screen.hits.call_hits`.
    min_score : float
        Robust z (or B-score) that the mean of a hit, and each well called with it, must reach besides the test.
    rule : str
        Published rule to print beside (`image2reg.screen.rules`).
    gene : str
        Column with the gene of a reagent; filled, hits are gathered by gene, and pathways are tested.
    gallery : int
        Hits shown with crops.
    """

    keep_out: tuple[Literal["saturated", "blurred", "empty"], ...] = ("saturated", "blurred")
    min_nuclei: Annotated[int, Field(ge=1)] = 5
    readouts: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    dose: str = ""
    normalise: Literal["robust-z", "b-score"] = "robust-z"
    null: Literal["controls", "plates"] = "controls"
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_replicates: Annotated[int, Field(ge=1)] = 2
    min_score: Annotated[float, Field(ge=0)] = 3.0
    rule: str = ""
    gene: str = "Metadata_Gene"
    gallery: Annotated[int, Field(ge=0, le=24)] = 6
    seed: Annotated[int, Field(ge=0)] = 0


class ScreenSettings(_Strict):
    """Everything of a screen that a recipe may say."""

    measure: MeasureSettings = MeasureSettings()
    call: CallSettings = CallSettings()
