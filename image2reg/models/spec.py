"""What a bundle says about itself: ``bundle.json`` as frozen classes, read without torch."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "Architecture",
    "BundleSpec",
    "DataSource",
    "GoldenSample",
    "Metric",
    "Normalisation",
    "NormalisationPair",
    "Port",
    "Tile",
    "Training",
]

AXES = "TCZYX"
# What a bundle may be made of. Formats that can hold code or that are archives are not among them.
SUFFIXES = frozenset(
    {".safetensors", ".json", ".jsonl", ".yaml", ".md", ".txt", ".csv", ".tif", ".tiff", ".png"}
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(max_length=4000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0)]
Offset = Annotated[int, Field(ge=-10_000, le=10_000)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def refuse_file_name(name: str) -> str | None:
    """Say why `name` is no file of a bundle; None when it is one."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name:
        return "leaves the bundle's directory or is not a plain relative path"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,3}", name):
        return "holds a character that is not a letter, digit, '.', '_', '-' or '/'"
    if path.suffix.lower() not in SUFFIXES and path.name not in {"LICENSE", "NOTICE"}:
        return f"is of a kind that is not accepted; accepted are {', '.join(sorted(SUFFIXES))}"
    return None


class Architecture(_Frozen):
    """Network by name, and the arguments it is built with."""

    name: Name
    arguments: dict[str, Any] = {}


class Port(_Frozen):
    """One input or output.

    Attributes
    ----------
    axes : str
        Subset of ``TCZYX``, in that order.
    channels : tuple of str
    dtype : str
        numpy name.
    voxel_um : (z, y, x)
        Micrometres; None where the axis has no meaning for the model.
    voxel_tolerance : float
        Largest relative difference of an image's voxel size that is accepted without resampling.
    n_planes : int or None
        Planes of a stack the model must be given; None: any number.
    offset_px : (z, y, x)
        Of an output: where its frame lies in the frame of the input, in voxels of the model; the value at
        voxel p shows the place that the input shows at p - offset.
    transform : str
        What was done to recorded values before normalisation, in words; empty for nothing.
    """

    axes: str
    channels: tuple[Text, ...] = Field(min_length=1)
    dtype: Literal["uint8", "uint16", "int32", "float16", "float32", "float64"] = "float32"
    voxel_um: tuple[Positive | None, Positive | None, Positive | None] = (None, None, None)
    voxel_tolerance: float = Field(default=0.1, ge=0, le=1)
    n_planes: int | None = Field(default=None, gt=0)
    offset_px: tuple[Offset, Offset, Offset] = (0, 0, 0)
    transform: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> Port:
        if not self.axes or self.axes != "".join(axis for axis in AXES if axis in self.axes):
            raise ValueError(f"axes {self.axes!r}: not a subset of {AXES} in that order")
        if len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channels {list(self.channels)}: a name occurs twice")
        return self


class Tile(_Frozen):
    """Window and stride of tiled prediction, voxels, over the output's spatial axes."""

    window: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=2, max_length=3)
    stride: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=2, max_length=3)

    @model_validator(mode="after")
    def _covers(self) -> Tile:
        if len(self.window) != len(self.stride) or any(
            s > w for s, w in zip(self.stride, self.window, strict=False)
        ):
            raise ValueError(f"stride {self.stride} must be at most window {self.window}, axis by axis")
        return self


class Normalisation(_Frozen):
    """``(transform(x) - centre) / scale`` per channel.

    Attributes
    ----------
    method : "zscore", "robust" or "none"
    scope : "image" or "dataset"
        Over what centre and scale are measured; under "dataset" they are listed here.
    transform : "identity" or "log1p"
    centre, scale : tuple of float
        One per channel, in units of the transformed values; empty when measured at prediction.
    """

    method: Literal["zscore", "robust", "none"] = "none"
    scope: Literal["image", "dataset"] = "dataset"
    transform: Literal["identity", "log1p"] = "identity"
    centre: tuple[float, ...] = ()
    scale: tuple[Positive, ...] = ()


class NormalisationPair(_Frozen):
    """Of what goes in and of what comes out."""

    input: Normalisation = Normalisation()
    output: Normalisation = Normalisation()


class Training(_Frozen):
    """How the weights came about, so that anyone can make them again."""

    command: Text
    config_sha256: Sha256 | None = None
    manifest_sha256: Sha256 | None = None
    git: Text | None = None
    seed: int = Field(ge=0)
    steps: int = Field(ge=0)
    minutes: float = Field(default=0.0, ge=0)
    versions: dict[str, Text] = {}
    split: Text = ""


class Metric(_Frozen):
    """One score, with what it has to be read against.

    `level` is the unit that was resampled for `ci95` and counted in `n` ("field", "well", "block"); `floor`
    is the score of doing nothing clever, `ceiling` the best that repeats of the measurement allow.
    """

    name: Text
    channel: Text | None = None
    value: float
    ci95: tuple[float, float] | None = None
    n: int = Field(gt=0)
    level: Text
    floor: float | None = None
    ceiling: float | None = None
    note: Text = ""

    @model_validator(mode="after")
    def _ordered(self) -> Metric:
        if self.ci95 is not None and self.ci95[0] > self.ci95[1]:
            raise ValueError(f"ci95 {self.ci95}: lower bound first")
        return self


class DataSource(_Frozen):
    """A data set the model was trained or evaluated on."""

    name: Text
    licence: Text
    credit: Text


class GoldenSample(_Frozen):
    """An input and what the model made of it; `tolerance` is relative to the range of the expected values."""

    input: Text = "sample/input.ome.tif"
    expected: Text = "sample/expected.ome.tif"
    tolerance: float = Field(default=1e-3, gt=0, le=1)


class BundleSpec(_Frozen):
    """Content of ``bundle.json``; see each part's class.

    `domain` holds reference statistics of the training inputs, `files` the sha256 of every other file, `sha256` that of
    everything else said here (`image2reg.models.integrity.content_sha256`): None in older bundles, which are read
    without that check.
    """

    schema_version: Literal[1] = 1
    kind: Name
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+(\.\d+){0,2}$")] = "1.0.0"
    summary: Text
    intended_use: Text = ""
    limits: tuple[Text, ...] = ()
    architecture: Architecture
    inputs: tuple[Port, ...] = Field(min_length=1)
    outputs: tuple[Port, ...] = Field(min_length=1)
    tile: Tile | None = None
    normalisation: NormalisationPair = NormalisationPair()
    training: Training
    metrics: tuple[Metric, ...] = ()
    domain: dict[str, Any] = {}
    licence: Text
    data: tuple[DataSource, ...] = ()
    sample: GoldenSample | None = None
    files: dict[str, Sha256] = {}
    sha256: Sha256 | None = None

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if (reason := refuse_file_name(name)) or name == "bundle.json":
                raise ValueError(f"{name!r} {reason or 'cannot list itself'}")
        if len({name.lower() for name in files}) != len(files):
            raise ValueError("two names differ only in upper and lower case")
        return files

    @model_validator(mode="after")
    def _channels_match(self) -> BundleSpec:
        pair = self.normalisation
        for role, ports, by in (("input", self.inputs, pair.input), ("output", self.outputs, pair.output)):
            n = sum(len(port.channels) for port in ports)
            for part, values in (("centre", by.centre), ("scale", by.scale)):
                fixed = by.method != "none" and by.scope == "dataset"
                if len(values) not in ({n} if fixed else {0, n}):
                    raise ValueError(f"normalisation.{role}.{part}: {len(values)} values for {n} channels")
        return self
