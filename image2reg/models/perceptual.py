"""LPIPS (Zhang 2018) through the `lpips` package, for a loss or a score; an extra, because of what it drags in.

The package ships its linear heads but downloads its backbone, and imports torchvision, whose public wheel does not
load beside a CPU build of torch. Nothing is downloaded here: the backbone is a safetensors file the user gives.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from image2reg.errors import BundleError, ConfigurationError

__all__ = ["lpips_distance", "torchvision_problem"]

_INSTALL = "pip install 'virtualstain[perceptual]'"


def torchvision_problem() -> str | None:
    """Say why torchvision cannot be used; None when it is absent or loads.

    diffusers imports torchvision whenever it is installed, so a wheel built for another torch breaks it too.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # noqa: BLE001  RuntimeError from the operator table, OSError from a missing library
        return (
            f"torchvision is installed but does not load with torch {torch.__version__} ({error}). It has to load or "
            "be absent: `pip uninstall torchvision`, or install the build that matches torch."
        )
    return None


def lpips_distance(backbone: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Build LPIPS (AlexNet heads, version 0.1) on a backbone file.

    Parameters
    ----------
    backbone : Path
        safetensors with torchvision's AlexNet keys (``features.0.weight`` ...).

    Returns
    -------
    callable
        (B, 3, Y, X) pairs in [-1, 1] to (B,) distances.

    Raises
    ------
    ConfigurationError
        The extra is missing or torchvision does not load.
    BundleError
        The backbone file is missing, damaged or of another network.
    """
    if importlib.util.find_spec("lpips") is None:
        raise ConfigurationError(f"LPIPS needs the package 'lpips', which is not installed: {_INSTALL}.")
    if problem := torchvision_problem():
        raise ConfigurationError(f"LPIPS needs torchvision: {problem}")
    if not backbone.is_file():
        raise BundleError(
            f"{backbone}: no LPIPS backbone there. Give a safetensors file with torchvision's AlexNet weights."
        )
    import lpips
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        weights = load_file(backbone)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{backbone}: not a readable safetensors file ({error}).") from error
    # lpips cuts AlexNet into five slices but keeps torchvision's layer numbers inside them.
    wanted = {name: name.split(".", 1)[1] for name in model.net.state_dict()}
    missing = sorted(f"features.{tail}" for tail in wanted.values() if f"features.{tail}" not in weights)
    if missing:
        raise BundleError(
            f"{backbone}: not an AlexNet: {len(missing)} weights missing, the first is '{missing[0]}'."
        )
    model.net.load_state_dict({name: weights[f"features.{tail}"] for name, tail in wanted.items()})
    model.eval().requires_grad_(requires_grad=False)

    def distance(first: Tensor, second: Tensor) -> Tensor:
        return model.to(first.device)(first, second).flatten()

    return distance
