"""A training run of a segmenter, from fields with known nuclei to a bundle with its scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.config import dump_config, settings_by_name
from image2reg.errors import ConfigurationError
from image2reg.models.bundle import Bundle, bundle_of_run, save_bundle
from image2reg.models.record import training_record
from image2reg.models.rounding import restored, rounded
from image2reg.models.spec import (
    Architecture,
    BundleSpec,
    DataSource,
    GoldenSample,
    Metric,
    Port,
    Tile,
)
from image2reg.models.train import fit, refuse_other_settings
from image2reg.nuclei.agreement import pooled_interval
from image2reg.nuclei.match import Matching, match, match_dataset
from image2reg.nuclei.segmenters.appearance import change_appearance
from image2reg.nuclei.segmenters.dense import network_input
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.examples import Scaled
from image2reg.nuclei.segmenters.network import KIND, NetworkSegmenter, load_network
from image2reg.nuclei.segmenters.task import SegmenterTask
from image2reg.nuclei.size import typical_diameter
from image2reg.provenance import arrays_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from image2reg.models.task import FitResult
    from image2reg.nuclei.segmenters.appearance import AugmentSettings
    from image2reg.nuclei.segmenters.designs import Design
    from image2reg.nuclei.segmenters.examples import NucleusField
    from image2reg.nuclei.segmenters.interface import Segmenter
    from image2reg.nuclei.segmenters.recipe import SegmenterRecipe

__all__ = ["Facts", "TrainedSegmenter", "finish_network", "refuse_run", "score_fields", "train_segmenter"]

_LEVELS = (0.5, 0.7, 0.9)
_SAMPLE_PX = 160
# What is fitted to maps sees every field this much larger and smaller: diameters that users give are not exact.
_MAGNIFICATIONS = (0.7, 0.85, 1.0, 1.18, 1.4)


@dataclass(frozen=True)
class Facts:
    """What a bundle has to say that no training run knows by itself: see `image2reg.models.spec.BundleSpec`."""

    command: str
    licence: str = "BSD-3-Clause"
    sources: tuple[DataSource, ...] = ()
    split: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedSegmenter:
    """The bundle, the segmenter in it, and the loop's own result."""

    bundle: Bundle
    segmenter: NetworkSegmenter
    fit: FitResult


def train_segmenter(
    splits: Mapping[str, Sequence[NucleusField]],
    recipe: SegmenterRecipe,
    out: Path,
    *,
    facts: Facts,
    resume: bool = False,
    device: str = "auto",
) -> TrainedSegmenter:
    """Train, score on the test fields and write a bundle to ``out/bundle``.

    Parameters
    ----------
    splits : mapping
        ``train``, ``validation`` and ``test`` to fields. Without validation the last weights are kept; without test
        the bundle holds no score.
    recipe : SegmenterRecipe
    out : Path
        Run directory: checkpoints, ``metrics.jsonl``, ``bundle/``.
    facts : Facts
    resume : bool
        Continue from the newest checkpoint; a finished run is packed again without a step.

    Raises
    ------
    DataError
        Nothing to train on; `out` holds a run or a bundle and `resume` is False, or a bundle without checkpoints.
    ConfigurationError
        The design needs a library that is not there, `recipe.start` is of another design, or the run to be resumed
        began with another recipe, other fields or another split.
    """
    target = bundle_of_run(out, resume=resume)
    design = find_design(recipe.design.name)
    torch.manual_seed(recipe.training.seed)
    network = design.build(**recipe.design.arguments)
    if recipe.start:
        network.load_state_dict(_starting_weights(recipe))
    task = SegmenterTask(
        network, design, splits["train"], splits.get("validation", ()),
        augment=recipe.augment, patch=recipe.patch, batch_size=recipe.training.batch_size,
    )  # fmt: skip
    result = fit(task, recipe.training, out, basis=_basis(recipe, splits), resume=resume, device=device)
    network = design.build(**recipe.design.arguments).eval()
    network.load_state_dict(restored(rounded(result.best_state or result.last_state)))
    finish_network(network, design, [*splits["train"], *splits.get("validation", ())], recipe.augment)
    state = rounded(network.state_dict())
    network.load_state_dict(restored(state))
    example = (splits.get("validation") or splits["train"])[0]
    spec = _specification(recipe, facts, result, reference=splits["train"])
    sample = np.asarray(example.image)[:_SAMPLE_PX, :_SAMPLE_PX]
    segmenter = NetworkSegmenter(recipe.name, recipe.design.name, network)
    spec = spec.model_copy(update={"metrics": tuple(_metrics(segmenter, splits.get("test", ())))})
    files: dict[str, Path | bytes] = {
        "config.yaml": dump_config(recipe).encode(),
        "training.jsonl": result.history_path,
        "sample/input.ome.tif": _tiff(sample),
        "sample/expected.ome.tif": _tiff(segmenter.foreground_map(sample)),
    }
    bundle = save_bundle(target, spec, state, files=files, overwrite=resume)
    return TrainedSegmenter(bundle, load_network(bundle, device=device), result)


def refuse_run(out: Path, recipe: SegmenterRecipe, *, resume: bool) -> None:
    """Refuse what `train_segmenter` would refuse of a run's folder, before the images are read.

    Raises
    ------
    DataError, ConfigurationError
        As `train_segmenter`; other fields and another split it finds itself.
    """
    bundle_of_run(out, resume=resume)
    refuse_other_settings(out, recipe.training, _recipe_basis(recipe))


def _recipe_basis(recipe: SegmenterRecipe) -> dict[str, Any]:
    return settings_by_name(recipe, without=("training", "name", "summary"))


def _basis(recipe: SegmenterRecipe, splits: Mapping[str, Sequence[NucleusField]]) -> dict[str, Any]:
    """Say what must stay when a run is resumed; also the split: the best weights were chosen on its validation."""
    basis = _recipe_basis(recipe)
    for name, fields in splits.items():
        digest = arrays_sha256(array for field in fields for array in (field.image, field.labels))
        basis[f"{name} fields"] = f"{len(fields)}, sha256 {digest[:12]}"
    return basis


def finish_network(
    network: nn.Module, design: Design, fields: Sequence[NucleusField], augment: AugmentSettings
) -> bool:
    """Fit what a design learns from the maps of its trained network; False when there is nothing, or too little.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode; what is fitted changes in place.
    design : Design
    fields : sequence of NucleusField
        Those the network was trained or validated on, never the ones it is tested on.
    augment : AugmentSettings
        How fields are changed where they are shown changed, the same each time.
    """
    if design.finish is None:
        return False

    def views(*, changed: bool) -> Iterator[tuple[Tensor, NDArray[np.int32]]]:
        rng = np.random.default_rng(0)
        for field, factor in product(fields, _MAGNIFICATIONS):
            diameter = field.diameter_px or typical_diameter(field.labels)
            scaled = Scaled.of(replace(field, diameter_px=diameter * factor))
            image = change_appearance(scaled.image, scaled.labels, augment, rng) if changed else scaled.image
            yield network_input(network, image), scaled.labels

    return design.finish(network, views)


def score_fields(
    segmenter: Segmenter, fields: Sequence[NucleusField], *, thresholds: Sequence[float] = _LEVELS
) -> list[Matching]:
    """Segment fields, each with its own `diameter_px` where it has one, and match with the truth."""
    return [
        match(
            field.labels, segmenter.segment(field.image, diameter_px=field.diameter_px), thresholds=thresholds
        )
        for field in fields
    ]


def _starting_weights(recipe: SegmenterRecipe) -> dict[str, torch.Tensor]:
    from image2reg.nuclei.segmenters.catalogue import find_segmenter_bundle

    bundle = find_segmenter_bundle(recipe.start)
    held = bundle.spec.architecture
    if (held.name, held.arguments) != (recipe.design.name, recipe.design.arguments):
        raise ConfigurationError(
            f"start: {recipe.start} holds {held.name} {held.arguments}, the recipe asks for {recipe.design.name} "
            f"{recipe.design.arguments}. Set design to what the bundle holds."
        )
    return bundle.state_dict()


def _metrics(segmenter: Segmenter, fields: Sequence[NucleusField]) -> list[Metric]:
    """Pooled F1 and AP per source, with an interval over fields; beside them the classical segmenter as floor."""
    from image2reg.nuclei.segmenters.classical import ClassicalSegmenter

    rows = []
    for source in sorted({field.source for field in fields}):
        own = [field for field in fields if field.source == source]
        ours, floor = (score_fields(s, own) for s in (segmenter, ClassicalSegmenter()))
        for t in _LEVELS:
            for score in ("f1", "ap"):
                low, high = pooled_interval(ours, t, score)
                rows.append(
                    Metric(
                        name=f"{score}@{t}",
                        channel=source or None,
                        value=match_dataset(ours).at(t)[score],
                        ci95=(low, high) if np.isfinite(low) else None,
                        n=len(own),
                        level="field",
                        floor=match_dataset(floor).at(t)[score],
                        note="pooled over fields, every object counts; floor: the classical segmenter",
                    )
                )
    return rows


def _specification(
    recipe: SegmenterRecipe, facts: Facts, result: FitResult, *, reference: Sequence[NucleusField]
) -> BundleSpec:
    return BundleSpec(
        kind=KIND,
        name=recipe.name,
        summary=recipe.summary or f"{recipe.channel} to labels of nuclei",
        intended_use=facts.intended_use,
        limits=facts.limits,
        architecture=Architecture(name=recipe.design.name, arguments=dict(recipe.design.arguments)),
        inputs=(Port(axes="YX", channels=(recipe.channel,), voxel_tolerance=1.0),),
        outputs=(Port(axes="YX", channels=("nuclei",), dtype="int32", voxel_tolerance=1.0),),
        tile=Tile(window=(1280, 1280), stride=(1280, 1280)),
        training=training_record(
            recipe,
            command=facts.command,
            steps=result.best_step or result.steps_done,
            minutes=result.seconds / 60,
            split=facts.split,
        ),
        domain={"nucleus_diameter_px": [round(d, 1) for d in _diameters(reference)]},
        sample=GoldenSample(tolerance=1e-3),
        licence=facts.licence,
        data=facts.sources,
    )


def _diameters(fields: Sequence[NucleusField]) -> list[float]:
    """Smallest, median and largest typical nucleus diameter of the training fields, in their own pixels."""
    measured = np.array([field.diameter_px or typical_diameter(field.labels) for field in fields])
    return [float(v) for v in np.nanpercentile(measured, [0, 50, 100])] if np.isfinite(measured).any() else []


def _tiff(array: NDArray[Any]) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, array, ome=True, photometric="minisblack", compression="zlib", metadata={"axes": "YX"}
    )
    return buffer.getvalue()
