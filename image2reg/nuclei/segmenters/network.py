"""A trained network as a segmenter: any magnification, any image size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from image2reg.errors import BundleError, ConfigurationError
from image2reg.images.padding import continue_data
from image2reg.nuclei.segmenters.dense import foreground_map, label_standardised
from image2reg.nuclei.segmenters.designs import find_design
from image2reg.nuclei.segmenters.interface import VoxelSize, checked_plane, diameter_in_pixels
from image2reg.nuclei.segmenters.scaling import WORKING_DIAMETER_PX, brightness_range, standardise
from image2reg.nuclei.segmenters.stitching import label_blocks
from image2reg.nuclei.size import typical_diameter, without_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from image2reg.models.bundle import Bundle

__all__ = ["KIND", "NetworkSegmenter", "load_network"]

KIND = "segmenter"

Labels = NDArray[np.int32]

# Pixels at the working size that go through the network at once, and what a block needs to see around it.
_BLOCK_PIXELS = 1280
_HALO_DIAMETERS = 3.0
# A diameter is trusted when nuclei are found within this of it. They are looked at a little closer than that: where
# nuclei look too small they merge, and a diameter that is too large confirms itself.
_TRUSTED_RATIO, _CLOSER = 1.04, 0.84
# At most so many looks; where there are many nuclei, at about so many of them.
_PASSES, _ENOUGH = 6, 100
_SMALLEST_GUESS_PX, _LARGEST_GUESS_PX = 6.0, 300.0
# Seen five times too large, nuclei are no longer seen: where they do not cover the bright pixels, the next first guess
# is tried.
_FIRST_GUESSES_PX, _COVERED = (WORKING_DIAMETER_PX, 4 * WORKING_DIAMETER_PX), 0.5


class NetworkSegmenter:
    """A network of one design, ready to segment.

    Parameters
    ----------
    name : str
    design : str
        One of `image2reg.nuclei.segmenters.designs.NAMES`.
    network : nn.Module
        In evaluation mode.
    identity : str, optional
        Equal for those that label alike: name, version, weights and poses; the name when empty.
    """

    def __init__(self, name: str, design: str, network: nn.Module, *, identity: str = "") -> None:
        self.name, self.network, self.identity = name, network, identity or name
        self._design = find_design(design)

    def segment(
        self,
        image: ArrayLike,
        *,
        diameter_px: float | None = None,
        diameter_um: float | None = None,
        voxel_um: VoxelSize = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Labels:
        """Label nuclei; arguments, result and errors as in `Segmenter.segment`.

        Larger images than about 46 x 46 nuclei are cut into blocks that see three nucleus diameters around
        them; the labels are all that is held of the whole image. What registration padded is left out of an image
        in memory.
        """
        values, padded = continue_data(checked_plane(image))
        light = brightness_range(values)
        diameter = diameter_in_pixels(diameter_px, diameter_um, voxel_um)
        if diameter is None:
            diameter = self.measure_diameter(values, light)
        labels = label_blocks(
            lambda box: self._label(values[box], light, diameter),
            values.shape,
            block=max(64, round(_BLOCK_PIXELS * diameter / WORKING_DIAMETER_PX)),
            halo=math.ceil(_HALO_DIAMETERS * diameter),
            progress=progress,
        )
        return labels if padded is None else without_small(np.where(padded, 0, labels), 1)

    def _label(
        self, values: NDArray[Any], light: tuple[float, float], diameter: float, *, roughly: bool = False
    ) -> Labels:
        values = checked_plane(np.asarray(values))
        if values.min() == values.max():
            return np.zeros(values.shape, dtype=np.int32)
        image = standardise(values, *light)
        return label_standardised(self.network, self._design, image, diameter, roughly=roughly)

    def foreground_map(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Give the map outlines are read from, taking nuclei for 28 px: what a golden sample compares."""
        return foreground_map(self.network, self._design, values, WORKING_DIAMETER_PX)

    def measure_diameter(self, values: NDArray[Any], light: tuple[float, float] | None = None) -> float:
        """Measure the nucleus diameter, in pixels, by segmenting the middle of the image until the size agrees.

        All of the middle is looked at once, then as much of it as holds about a hundred nuclei.

        Parameters
        ----------
        values : (Y, X)
        light : (dark, bright), optional
            Values that become 0 and 1; measured when None.

        Returns
        -------
        float
            28 where nothing is found.
        """
        if light is None:
            values, _ = continue_data(values)
            light = brightness_range(values)
        diameter, covered = WORKING_DIAMETER_PX, 0.0
        for guess in _FIRST_GUESSES_PX:
            settled, share = self._settle(values, light, guess)
            if share > covered:
                diameter, covered = settled, share
            if covered > _COVERED:
                break
        return diameter

    def _settle(
        self, values: NDArray[Any], light: tuple[float, float], diameter: float
    ) -> tuple[float, float]:
        """Look until the diameter agrees; give it, and the share of bright pixels that is in what was found last."""
        enough_px, share = math.inf, 0.0
        for _ in range(_PASSES):
            taken_for = _CLOSER * diameter
            reach = round(min(_BLOCK_PIXELS * taken_for / WORKING_DIAMETER_PX, enough_px) / 2)
            middle = tuple(slice(max(0, n // 2 - reach), n // 2 + reach) for n in values.shape)
            labels = self._label(values[middle], light, taken_for, roughly=True)
            found = typical_diameter(labels)
            if not math.isfinite(found):
                return diameter, 0.0
            share = _share_of_bright(values[middle], labels)
            enough_px = math.sqrt(_ENOUGH * labels.size / labels.max())
            found = min(max(found, _SMALLEST_GUESS_PX), _LARGEST_GUESS_PX)
            agrees = max(found / diameter, diameter / found) < _TRUSTED_RATIO
            diameter = found
            if agrees:
                break
        return diameter, share


def _share_of_bright(values: NDArray[Any], labels: Labels) -> float:
    """Give the share of the pixels above Otsu's threshold that are in an object."""
    from skimage.filters import threshold_otsu

    plain = values.astype(np.float32)
    bright = plain > threshold_otsu(plain)
    return float((labels[bright] > 0).mean()) if bright.any() else 0.0


def load_network(bundle: Bundle, *, device: str = "auto", tta: bool = False) -> NetworkSegmenter:
    """Make a segmenter of a bundle; arguments as in `image2reg.nuclei.segmenters.catalogue.load_segmenter`.

    Raises
    ------
    BundleError
        The bundle is no segmenter, or its weights do not fit.
    ConfigurationError
        The design needs a library that is not there, the device is not, or `tta` for maps that do not turn.
    """
    from image2reg.models.networks.interface import ImageNetwork, deploy
    from image2reg.nuclei.segmenters.designs import NAMES

    if bundle.spec.kind != KIND:
        raise BundleError(
            f"{bundle.directory}: is a bundle of kind {bundle.spec.kind!r}; segmenting needs one of kind {KIND!r}."
        )
    name = bundle.spec.architecture.name
    builders = {name: find_design(name).build} if name in NAMES else {}
    network = bundle.build(builders)
    if isinstance(network, ImageNetwork):
        network = deploy(network)
    if tta:
        network = _in_eight_poses(network, name)
    spec = bundle.spec
    identity = f"{spec.name} {spec.version} {spec.files.get('model.safetensors', '')}{' tta' if tta else ''}"
    return NetworkSegmenter(spec.name, name, network.to(_device(device)), identity=identity)


def _in_eight_poses(network: nn.Module, design: str) -> nn.Module:
    from image2reg.models.networks.interface import ImageNetwork
    from image2reg.models.networks.poses import EightPoses

    if not (isinstance(network, ImageNetwork) and find_design(design).turns):
        raise ConfigurationError(
            f"test-time augmentation: what {design} predicts does not turn with the image, so poses cannot be "
            "averaged. Leave it out (--tta)."
        )
    return EightPoses(network)


def _device(name: str) -> str:
    import torch

    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigurationError(f"device {name!r} is unknown; allowed: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f"device 'cuda': torch {torch.__version__} sees none here. Use cpu or auto.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
