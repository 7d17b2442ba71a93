"""Many images to disk: crops part by part, and a table of what was measured on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from image2reg.atomic import atomic_directory
from image2reg.engine import Shard
from image2reg.errors import ConfigurationError
from image2reg.nuclei.crops import Crops, write_crops
from image2reg.tables.profiles import Profiles
from morphgen.controls import fitting_controls
from morphgen.crop_features import crop_features
from morphgen.sample import MorphologyGenerator
from morphgen.signature_condition import signature_names

__all__ = ["generate_to", "shard_name"]


def shard_name(shard: Shard) -> str:
    """Name the folder of one part of several: ``part-2-of-5``; empty where there is one part."""
    return "" if shard.of == 1 else f"part-{shard.index}-of-{shard.of}"


def generate_to(
    out: Path,
    model: MorphologyGenerator,
    signatures: Profiles,
    *,
    n: int,
    control: Crops | None = None,
    shard: Shard | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """Write ``crops.zarr`` and ``profiles.parquet`` into `out`; both appear together or not at all.

    Parameters
    ----------
    out : Path
        With a shard, ``part-I-of-N`` in it.
    model : MorphologyGenerator
    signatures : Profiles
    n : int
        Images per signature.
    control : Crops, optional
        Begin at these nuclei instead of noise; see `morphgen.controls.fitting_controls` for those in other units.
    shard : Shard, optional
        Only this part of the signatures. Parts together hold the very images of one call.
    strict : bool
        Refuse signatures outside the training range.
    **sampling
        Fields of `morphgen.sampling.Sampling`.

    Returns
    -------
    dict
        ``crops, profiles`` (paths), ``n_images``, ``n_signatures``, ``warnings`` (signatures out of range),
        ``notes`` (on the controls).

    Raises
    ------
    ConfigurationError, DataError
        As `MorphologyGenerator.stream`; a stack model; more parts than signatures.
    """
    shard = shard or Shard()
    if len(model.crop_size) == 3:
        raise ConfigurationError(
            f"{model.bundle.spec.name!r} draws stacks of {model.crop_size}; files of crops hold planes. Use "
            "MorphologyGenerator.draw in Python."
        )
    rows = shard.positions(len(signatures))
    if not len(rows):
        raise ConfigurationError(
            f"--shard {shard.index}/{shard.of}: no signature of {len(signatures)} is in this part."
        )
    signature_names(signatures)  # refused in every part, not only in the one that holds both
    chosen = signatures.rows(np.arange(rows.start, rows.stop))
    total, tables = n * len(chosen), []
    begin, notes = (None, []) if control is None else fitting_controls(control, model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = model.stream(
            chosen,
            n=n,
            control=begin,
            strict=strict,
            **sampling,
        )

        def parts() -> Iterator[Crops]:
            done = 0
            for part in stream:
                measured = crop_features(part.images, channels=part.channels)
                tables.append(pd.concat([part.metadata, measured], axis=1))
                done += len(part)
                if progress:
                    progress(done, total)
                yield part

        folder = out / shard_name(shard)
        with atomic_directory(folder, overwrite=overwrite) as partial:
            write_crops(partial / "crops.zarr", parts(), n=total)
            Profiles(pd.concat(tables, ignore_index=True), source=str(out)).write(
                partial / "profiles.parquet"
            )
    return {
        "crops": folder / "crops.zarr", "profiles": folder / "profiles.parquet", "n_images": total,
        "n_signatures": len(chosen), "warnings": [str(w.message) for w in caught if w.category is UserWarning],
        "notes": notes,
    }  # fmt: skip
