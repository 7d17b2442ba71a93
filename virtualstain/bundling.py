"""From a trained network to a bundle: rounded weights, scores on held-out fields, card, golden sample."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.config import dump_config
from image2reg.models.bundle import Bundle, save_bundle
from image2reg.models.record import training_record
from image2reg.models.rounding import restored, rounded
from image2reg.models.spec import (
    Architecture,
    BundleSpec,
    DataSource,
    GoldenSample,
    Metric,
    Normalisation,
    NormalisationPair,
    Port,
    Tile,
)
from virtualstain.evaluate import ScoredField, score_table
from virtualstain.model import KIND, StainModel
from virtualstain.networks import build_network
from virtualstain.networks.interface import deploy
from virtualstain.normalise import ChannelScale
from virtualstain.patches import StainField
from virtualstain.recipe import NormalisationSettings, Recipe
from virtualstain.scoring import StainedFields
from virtualstain.staining import OVERLAP

__all__ = ["Facts", "pack"]

Scales = tuple[tuple[ChannelScale, ...], tuple[ChannelScale, ...]]


@dataclass(frozen=True)
class Facts:
    """What a bundle has to say that no training run knows by itself.

    Attributes
    ----------
    command : str
        What makes the weights again.
    licence : str
        Of the weights.
    sources : tuple of DataSource
    split : str
        In words: which groups trained, which tested.
    limits : tuple of str
        When not to trust it.
    """

    command: str
    licence: str = "BSD-3-Clause"
    sources: tuple[DataSource, ...] = ()
    split: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = field(default=())


def _normalisation(settings: NormalisationSettings, scales: Sequence[ChannelScale]) -> Normalisation:
    return Normalisation(
        **settings.model_dump(),
        centre=tuple(s.centre for s in scales),
        scale=tuple(s.scale for s in scales),
    )


def specification(
    recipe: Recipe,
    arguments: Mapping[str, object],
    reference: Scales,
    example: StainField,
    *,
    facts: Facts,
    steps: int,
    minutes: float,
    offset_px: tuple[int, int] = (0, 0),
) -> BundleSpec:
    """Describe a trained network; scores and golden sample are added once it has predicted."""
    arguments = dict(arguments)
    name = str(arguments.pop("name"))
    with torch.device("meta"):
        network = build_network(name, **arguments)
    flat = network.dims == 2
    voxel = example.voxel_um if not (flat and example.inputs.shape[1] == 1) else (None, *example.voxel_um[1:])
    window = tuple(
        max(d, t // d * d) for t, d in zip(recipe.tile[-network.dims :], network.divisor, strict=True)
    )
    own_units = recipe.target_normalisation.scope == "image"
    log = recipe.target_normalisation.transform == "log1p"
    units = "log(1 + counts)" if log else "counts"
    limits, c = facts.limits, recipe.loss.compression
    if c:
        limits += (
            f"Stain beyond {c:g} standard deviations is compressed: compare where it is, not how much.",
        )
    return BundleSpec(
        kind=KIND,
        name=recipe.name,
        summary=recipe.summary or f"{', '.join(recipe.inputs)} to {', '.join(recipe.targets)}",
        intended_use=facts.intended_use,
        limits=limits,
        architecture=Architecture(name=name, arguments=arguments),
        inputs=(
            Port(
                axes="CZYX",
                channels=recipe.inputs,
                voxel_um=voxel,
                voxel_tolerance=recipe.voxel_tolerance,
                n_planes=int(example.inputs.shape[1]) if flat else None,
            ),
        ),
        outputs=(
            Port(
                axes="CZYX",
                channels=recipe.targets,
                voxel_um=voxel,
                offset_px=(0, *offset_px),
                transform=f"{units}, relative: standardised per field, then given the training set's typical mean and "
                "spread; absolute brightness is not predicted" if own_units else f"{units} of the training set",
            ),
        ),
        tile=Tile(window=window, stride=tuple(max(1, int(w * (1 - OVERLAP))) for w in window)),
        normalisation=NormalisationPair(
            input=_normalisation(recipe.input_normalisation, reference[0]),
            output=_normalisation(recipe.target_normalisation, reference[1]),
        ),
        training=training_record(recipe, command=facts.command, steps=steps, minutes=minutes, split=facts.split),
        licence=facts.licence,
        data=facts.sources,
    )  # fmt: skip


def as_model(spec: BundleSpec, state: Mapping[str, Tensor], directory: Path) -> StainModel:
    """Make a model of weights that are not in a bundle yet, to score them before they are written."""
    network = build_network(spec.architecture.name, **spec.architecture.arguments)
    network.load_state_dict(state)
    return StainModel(Bundle(directory, spec), deploy(network))


def metrics_of(table: pd.DataFrame) -> tuple[Metric, ...]:
    """Turn rows of a score table into the bundle's metrics."""

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    if table.empty:
        return ()
    return tuple(
        Metric(
            name=row.metric,
            channel=row.channel,
            value=float(row.value),
            ci95=(float(row.low), float(row.high)) if np.isfinite(row.low) else None,
            n=int(row.n),
            level=row.level,
            floor=number(row.floor),
            ceiling=number(row.ceiling),
        )
        for row in table.itertuples()
        if np.isfinite(row.value)
    )


def _tiff(array: np.ndarray, channels: Sequence[str], axes: str) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, array, ome=True, photometric="minisblack", compression="zlib",
        metadata={"axes": axes, "Channel": {"Name": list(channels)}},
    )  # fmt: skip
    return buffer.getvalue()


def _golden_crop(inputs: Any, *, whole_stack: bool) -> NDArray[Any]:
    """Cut the liveliest of nine windows of a (C, Z, Y, X) input: a corner may be empty, and then gives nothing."""
    planes = slice(None) if whole_stack else slice(0, 16)
    starts = [sorted({0, (n - 96) // 2, n - 96}) if n > 96 else [0] for n in inputs.shape[2:]]
    crops = (np.asarray(inputs[:, planes, y : y + 96, x : x + 96]) for y, x in product(*starts))
    return max(crops, key=lambda crop: float(crop.std(dtype=np.float64)))


def pack(
    directory: Path,
    recipe: Recipe,
    arguments: Mapping[str, object],
    state: Mapping[str, Tensor],
    reference: Scales,
    *,
    example: StainField,
    golden: NDArray[Any] | None = None,
    test: Sequence[StainField],
    facts: Facts,
    steps: int,
    minutes: float,
    offset_px: tuple[int, int] = (0, 0),
    extra: Callable[[Sequence[list[ScoredField]]], Sequence[Metric]] | None = None,
    files: Mapping[str, Path | bytes] | None = None,
    overwrite: bool = False,
) -> tuple[Bundle, pd.DataFrame, StainedFields]:
    """Score the rounded weights on held-out fields and write the bundle.

    Parameters
    ----------
    directory : Path
    arguments : mapping
        ``name`` and arguments of the network (`virtualstain.train.network_arguments`).
    state : mapping of str to Tensor
    reference : (input scales, target scales)
    example : StainField
        Standardised; gives planes and voxel size.
    golden : (C, Z, Y, X) array, optional
        Input of the golden sample, which ships with the bundle; a crop of `example` when not given. Give a synthetic
        one where the images may not be passed on.
    test : sequence of StainField
        Standardised; nothing of them may have been trained on. Empty: the bundle holds no score.
    facts : Facts
    offset_px : (y, x)
        Typical displacement of the training pairs (`virtualstain.registration`).
    extra : callable
        Given the predicted test fields, scores the table has no column for (nuclei found, for instance).
    files : mapping
        Further files, the training log for instance.

    Returns
    -------
    bundle, table, scored
        The table of `summarise`, and the fields, predicted anew for a report.
    """
    stored = rounded(state, recipe.weights)
    spec = specification(
        recipe, arguments, reference, example, facts=facts, steps=steps, minutes=minutes, offset_px=offset_px
    )
    model = as_model(spec, restored(stored), directory)
    scored = StainedFields(model, test)
    table = score_table(item for row in scored for item in row) if test else pd.DataFrame()
    crop = _golden_crop(example.inputs, whole_stack=model.network.dims == 2) if golden is None else golden
    crop = np.asarray(crop)
    if crop.dtype.name not in ("uint8", "uint16", "float32"):  # OME-TIFF does not hold every type
        crop = crop.astype(np.float32)
    expected = model.predict_array(crop, where="golden sample")
    spec = spec.model_copy(
        update={
            "metrics": (*metrics_of(table), *(extra(scored) if extra else ())),
            "sample": GoldenSample(tolerance=1e-3),
        }
    )
    content: dict[str, Path | bytes] = {
        "config.yaml": dump_config(recipe).encode(),
        "sample/input.ome.tif": _tiff(crop, recipe.inputs, "CZYX"),
        "sample/expected.ome.tif": _tiff(expected, recipe.targets, "CZYX"),
        **(files or {}),
    }
    bundle = save_bundle(directory, spec, stored, files=content, overwrite=overwrite)
    return bundle, table, scored
