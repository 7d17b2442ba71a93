"""Autoencoders and generators on disk, each with a golden sample: what its own rounded weights make of an input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.models.bundle import Bundle, save_bundle
from image2reg.models.spec import BundleSpec, GoldenSample
from image2reg.tables.profiles import Profiles
from morphgen.bundling import golden_options, load_autoencoder, tiff_bytes
from morphgen.sample import MorphologyGenerator

__all__ = ["save_autoencoder", "save_generator"]


def save_autoencoder(
    directory: Path,
    spec: BundleSpec,
    files: dict[str, Any],
    x: NDArray[np.float32],
    channels: tuple[str, ...],
    *,
    overwrite: bool,
) -> Bundle:
    """Write the bundle twice: the golden sample is what the rounded weights make of the input."""
    files["sample/input.ome.tif"] = tiff_bytes(x, channels)
    first = save_bundle(directory, spec, None, files=files, overwrite=overwrite)
    with torch.no_grad():
        expected = load_autoencoder(first)(torch.from_numpy(x)).numpy()
    files["sample/expected.ome.tif"] = tiff_bytes(expected, channels)
    spec = spec.model_copy(update={"sample": GoldenSample(tolerance=1e-3)})
    return save_bundle(directory, spec, None, files=files, overwrite=True)


def save_generator(
    directory: Path,
    spec: BundleSpec,
    files: dict[str, Any],
    signature: Profiles,
    control: NDArray[np.float32] | None,
    *,
    overwrite: bool,
) -> Bundle:
    """Write the bundle, draw its golden sample from one signature (and controls), write it with that."""
    files["sample/input.csv"] = signature.frame.to_csv(index=False).encode()
    if control is not None:
        files["sample/control.ome.tif"] = tiff_bytes(control, spec.outputs[0].channels)
    first = save_bundle(directory, spec, None, files=files, overwrite=overwrite)
    drawn = [images for images, _ in MorphologyGenerator(first).draw(signature, n=4, **golden_options(first))]
    files["sample/expected.ome.tif"] = tiff_bytes(np.concatenate(drawn), spec.outputs[0].channels)
    golden = GoldenSample(input="sample/input.csv", tolerance=5e-3)
    return save_bundle(
        directory, spec.model_copy(update={"sample": golden}), None, files=files, overwrite=True
    )
