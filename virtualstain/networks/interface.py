"""What every staining network is: an image-to-image network of `image2reg.models.networks`."""

from __future__ import annotations

from image2reg.models.networks.interface import ImageNetwork as StainNetwork
from image2reg.models.networks.interface import deploy

__all__ = ["StainNetwork", "deploy"]
