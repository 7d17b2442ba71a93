"""Networks behind one interface: (B, C, *spatial) to (B, K, *spatial), with `dims` and `divisor` stated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from virtualstain.networks.interface import StainNetwork

__all__ = ["NAMES", "build_network"]

NAMES = ("shuffle_unet", "fnet3d", "monai_unet", "ensemble")


def build_network(name: str, **arguments: Any) -> StainNetwork:
    """Build a network by its name in recipes and bundles.

    Raises
    ------
    ConfigurationError
        An unknown name, or arguments the network does not take.
    """
    from image2reg.models.networks.shuffle_unet import ShuffleUNet
    from virtualstain.networks.ensemble import Ensemble
    from virtualstain.networks.fnet3d import FNet3D
    from virtualstain.networks.monai_unet import MonaiUNet

    table: dict[str, type[StainNetwork]] = {
        "shuffle_unet": ShuffleUNet,
        "fnet3d": FNet3D,
        "monai_unet": MonaiUNet,
        "ensemble": Ensemble,
    }
    if name not in table:
        raise ConfigurationError(f"network '{name}' is not known. Choose one of {', '.join(NAMES)}.")
    try:
        return table[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"network '{name}' cannot be built with {arguments}: {error}") from error
