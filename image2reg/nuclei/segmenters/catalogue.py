"""Segmenters by name: without a network, shipped bundles, and the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.models.bundle import Bundle
from image2reg.models.golden import verdict, verify
from image2reg.models.registry import find_bundle, list_bundles
from image2reg.provenance import file_sha256

if TYPE_CHECKING:
    from image2reg.nuclei.segmenters.interface import Segmenter

__all__ = [
    "WITHOUT_NETWORK",
    "find_segmenter_bundle",
    "list_segmenters",
    "load_segmenter",
    "segmenter_sha256",
    "weights_root",
]

WITHOUT_NETWORK = ("classical", "texture")


def weights_root() -> Path:
    """Folder of the bundles shipped in image2reg."""
    return Path(__file__).resolve().parents[2] / "weights"


def find_segmenter_bundle(name: str | Path) -> Bundle:
    """Load the bundle of that name or in that directory; raises BundleError where there is none."""
    return find_bundle(name, [weights_root()])


def segmenter_sha256(name: str) -> str:
    """Hash of a bundle's description, which holds those of its files; the name itself for one without weights."""
    if name in WITHOUT_NETWORK:
        return name
    return file_sha256(find_segmenter_bundle(name).directory / "bundle.json")


def load_segmenter(name: str | Path = "nuclei", *, device: str = "auto", tta: bool = False) -> Segmenter:
    """Make a segmenter.

    Parameters
    ----------
    name : str or Path
        ``classical`` (stained nuclei, no training), ``texture`` (cells in phase contrast, by local contrast), a bundle
        (``nuclei`` is shipped) or a bundle's directory.
    device : "auto", "cpu" or "cuda"
    tta : bool
        Average a network's maps over the image's eight turns and mirrorings: outlines to the pixel are drawn better, at
        eight times the cost.

    Raises
    ------
    BundleError
        No such bundle, a damaged one, or one that is no segmenter.
    ConfigurationError
        `tta` for a segmenter without a network, or for a network whose maps do not turn with the image.
    """
    if tta and name in WITHOUT_NETWORK:
        raise ConfigurationError(
            f"test-time augmentation: {name!r} has no network whose maps could be averaged. Leave it out (--tta)."
        )
    if name == "classical":
        from image2reg.nuclei.segmenters.classical import ClassicalSegmenter

        return ClassicalSegmenter()
    if name == "texture":
        from image2reg.nuclei.segmenters.phase import TextureSegmenter

        return TextureSegmenter()
    from image2reg.nuclei.segmenters.network import load_network

    bundle = find_bundle(name, [weights_root()], also=WITHOUT_NETWORK)
    return load_network(bundle, device=device, tta=tta)


def list_segmenters(*, check: bool = False) -> list[dict[str, Any]]:
    """Describe shipped and own bundles of image2reg.

    Parameters
    ----------
    check : bool
        Check all hashes and rerun the golden sample of every segmenter; ``problem`` says what differs.

    Returns
    -------
    list of dict
        ``name, kind, path, summary, metrics, verified, problem``.
    """
    rows = []
    for entry in list_bundles([weights_root()]):
        row: dict[str, Any] = {
            "name": entry.name, "kind": None, "path": str(entry.path), "summary": "", "metrics": [], "verified": None,
            "problem": entry.problem,
        }  # fmt: skip
        if entry.spec is not None:
            row |= {"kind": entry.spec.kind, "summary": entry.spec.summary}
            row["metrics"] = [metric.model_dump(mode="json") for metric in entry.spec.metrics]
            if check:
                row |= _checked(entry.path, entry.spec.kind)
        rows.append(row)
    return rows


def _checked(path: Path, kind: str) -> dict[str, Any]:
    from image2reg.nuclei.segmenters.network import KIND

    mine = kind == KIND  # another's sample is for the package it belongs to
    return verdict(path, (lambda bundle: verify(bundle, _run_sample)) if mine else None)


def _run_sample(bundle: Bundle, path: Path) -> NDArray[np.float32]:
    import tifffile

    from image2reg.nuclei.segmenters.network import load_network

    return load_network(bundle, device="cpu").foreground_map(tifffile.imread(path))
