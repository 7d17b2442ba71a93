"""Encoders as bundles, foreign encoders by a small interface, and the embedding of crops by either."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

import numpy as np

from image2reg.config import dump_config, load_config
from image2reg.errors import BundleError, DataError
from image2reg.tables.cells import write_csv
from image2reg.tables.profiles import ORIGINS, Profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from image2reg.embedding.training import TrainedEncoder
    from image2reg.models.bundle import Bundle
    from image2reg.nuclei.crops import Crops

__all__ = ["KIND", "TileEncoder", "embed", "load_encoder", "save_encoder"]

KIND = "nucleus-encoder"


@runtime_checkable
class TileEncoder(Protocol):
    """What any encoder of crops must have to be used here: one method.

    A frozen vision transformer of timm (Prov-GigaPath style) is plugged in with a dozen lines of yours::

        class Gigapath:
            def __init__(self, network, device="cuda"):           # network: timm.create_model(..., num_classes=0)
                self.network, self.device = network.eval().to(device), device

            def embed(self, crops):                                # crops.images: (N, C, Y, X) of recorded values
                x = torch.from_numpy(crops.images[:, [0, 0, 0]].astype("float32")).to(self.device)
                x = (x / x.amax(dim=(2, 3), keepdim=True) - MEAN) / SD
                x = torch.nn.functional.interpolate(x, size=224, mode="bicubic")
                with torch.inference_mode():
                    return self.network(x).float().cpu().numpy()   # (N, D)

        profiles = image2reg.embedding.embed(crops, Gigapath(network))

    Everything after the embedding (`probe`, wells, linking, retrieval) is the same for all encoders.
    """

    def embed(self, crops: Crops) -> NDArray[np.floating[Any]]:
        """Give (N, D) finite numbers for crops in memory."""


def embed(
    crops: Crops,
    encoder: TileEncoder,
    *,
    origin: str = "real",
    batch: int = 1024,
    report: Callable[[int, int], None] | None = None,
) -> Profiles:
    """Embed crops, read from disk batch by batch.

    Parameters
    ----------
    crops : Crops
    encoder : TileEncoder
        From `load_encoder`, or anything with its method.
    origin : str
        ``real``, ``predicted`` (virtually stained) or ``generated``; for crops that do not say (Metadata_Origin).
    batch : int
    report : callable, optional
        Given finished and total nuclei.

    Returns
    -------
    Profiles
        The crops' metadata and ``Nuclei_Embedding_000`` …

    Raises
    ------
    DataError
        The encoder gave another shape, or numbers that are not finite.
    """
    import pandas as pd

    if origin not in ORIGINS:
        raise DataError(f"origin is {origin!r}; allowed are {list(ORIGINS)}.")
    found: list[NDArray[Any]] = []
    for part in crops.batches(batch):
        values = np.asarray(encoder.embed(part), np.float64)
        if values.ndim != 2 or len(values) != len(part) or not np.isfinite(values).all():
            raise DataError(
                f"{crops.source}: the encoder gave {values.shape} for {len(part)} nuclei, "
                f"{int((~np.isfinite(values)).sum())} numbers not finite; it must give one finite row per nucleus."
            )
        found.append(values)
        if report:
            report(sum(map(len, found)), len(crops))
    if not found:
        raise DataError(f"{crops.source}: no nucleus to embed.")
    values = np.concatenate(found)
    names = [f"Nuclei_Embedding_{i:03d}" for i in range(values.shape[1])]
    metadata: pd.DataFrame = crops.metadata
    if "Metadata_Origin" not in metadata:
        metadata = metadata.assign(Metadata_Origin=origin)
    return Profiles(pd.concat([metadata, pd.DataFrame(values, columns=names)], axis=1), source=crops.source)


def save_encoder(
    encoder: TrainedEncoder,
    directory: Path | str,
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    command: str = "image2reg train encoder",
    split: str = "",
    licence: str = "that of the training images",
    overwrite: bool = False,
) -> Bundle:
    """Write a trained encoder as a bundle.

    Parameters
    ----------
    encoder : TrainedEncoder
    directory : Path
    tables : mapping of DataFrame, optional
        Become files of the bundle (``levels.csv``). One called ``levels``, from `image2reg.embedding.score_levels`,
        also becomes the bundle's scores.
    command, split, licence : str
        For the model card.
    overwrite : bool
    """
    from image2reg.embedding.training import network_arguments
    from image2reg.models.bundle import save_bundle
    from image2reg.models.record import training_record
    from image2reg.models.spec import Architecture, BundleSpec, Port

    tables = tables or {}
    recipe, network = encoder.recipe, encoder.network
    arguments = network_arguments(recipe, tuple(network.branches), max(2, len(encoder.classes)))
    n_features = int(arguments["n_features"])
    y, x = encoder.voxel_um
    shown = ", ".join(recipe.channels)
    spec = BundleSpec(
        kind=KIND,
        name=recipe.name,
        summary=f"{shown} nuclei to {n_features} numbers ({recipe.variant}, {recipe.objective})",
        limits=("Scores hold for plates like those it was cross-validated on, at the level named beside each.",),
        architecture=Architecture(name=recipe.design, arguments=arguments),
        inputs=(Port(axes="CYX", channels=recipe.channels, voxel_um=(None, y, x)),),
        outputs=(Port(axes="C", channels=tuple(f"Nuclei_Embedding_{i:03d}" for i in range(n_features))),),
        training=training_record(
            recipe, command=command, steps=encoder.steps, minutes=encoder.seconds / 60, split=split
        ),
        metrics=_metrics(tables["levels"]) if "levels" in tables else (),
        domain={
            "background": list(encoder.scale.background), "nuclear": list(encoder.scale.nuclear),
            "scaled_channels": list(encoder.crop_channels), "classes": list(encoder.classes),
            "crop_px": encoder.crop_px, "trained_on": encoder.trained_on,
        },
        licence=licence,
    )  # fmt: skip
    files: dict[str, Path | bytes] = {"config.yaml": dump_config(recipe).encode()}
    if encoder.log:
        files["training.jsonl"] = encoder.log
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            files[f"{name}.csv"] = Path(folder) / f"{name}.csv"
            write_csv(table, Path(folder) / f"{name}.csv")
        return save_bundle(directory, spec, network.state_dict(), files=files, overwrite=overwrite)


def _metrics(levels: pd.DataFrame) -> tuple[Any, ...]:
    from image2reg.models.spec import Metric

    return tuple(
        Metric(
            name="balanced accuracy of nuclei", channel="", value=float(row["balanced accuracy"]),
            ci95=(float(row["low"]), float(row["high"])), n=int(row["groups"]), level=str(row["group kept whole"]),
            floor=float(row["chance"]),
        )
        for _, row in levels.iterrows()
        if np.isfinite(row["balanced accuracy"]) and np.isfinite(row["low"])
    )  # fmt: skip


def load_encoder(path: Path | str) -> TrainedEncoder:
    """Load an encoder's bundle.

    Raises
    ------
    BundleError
        Damaged, or a bundle of another kind.
    """
    from image2reg.embedding.inputs import Scale
    from image2reg.embedding.networks import build_encoder
    from image2reg.embedding.recipe import EncoderRecipe
    from image2reg.embedding.training import TrainedEncoder
    from image2reg.models.bundle import load_bundle

    bundle = load_bundle(path)
    spec = bundle.spec
    if spec.kind != KIND:
        raise BundleError(f"{path}: this bundle is of kind {spec.kind!r}; an encoder of nuclei is {KIND!r}.")
    recipe = load_config(EncoderRecipe, bundle.file("config.yaml"))
    designs = get_args(EncoderRecipe.model_fields["design"].annotation)
    network: Any = bundle.build({name: partial(build_encoder, name) for name in designs})
    with bundle.described("domain"):
        background, nuclear = (tuple(map(float, spec.domain[name])) for name in ("background", "nuclear"))
        channels = spec.domain["scaled_channels"]
        if len({len(background), len(nuclear), len(channels)}) > 1:
            raise ValueError("background, nuclear and scaled_channels differ in length")
        if not all(isinstance(name, str) for name in channels):
            raise ValueError(f"scaled_channels {channels} are no names")
        scale = Scale(background, nuclear)
        return TrainedEncoder(
            network, scale, recipe, spec.domain["classes"], crop_channels=channels,
            crop_px=spec.domain.get("crop_px", 0), voxel_um=spec.inputs[0].voxel_um[1:],
            trained_on=spec.domain.get("trained_on", ""),
        )  # fmt: skip
