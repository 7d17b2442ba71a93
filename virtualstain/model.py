"""A staining bundle ready to use: what it takes, what it gives, and the prediction of one stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.images.tiling import read_box
from image2reg.models.bundle import Bundle
from image2reg.models.registry import find_bundle
from virtualstain.normalise import ChannelScale, measure_image_scale

__all__ = ["FRAME", "KIND", "OUTPUT", "StainModel", "from_bundle", "load", "roots", "shown_sizes"]

KIND = "stain"
FRAME = "frame"  # key of an annotation: what a prediction of a model with an offset is registered to
OUTPUT = "output normalisation"  # key of an annotation: `image2reg.models.spec.Normalisation` as JSON
if TYPE_CHECKING:
    from image2reg.images.image import Image
    from virtualstain.networks.interface import StainNetwork
    from virtualstain.predict import Prediction

Box = tuple[slice, ...]
Sink = Callable[[Box, NDArray[np.float32]], None]


def roots() -> list[Path]:
    """Folders in which bundles are looked for by name: those shipped with the package first."""
    return [Path(__file__).parent / "weights"]


def load(model: str | Path, *, device: str = "cpu") -> StainModel:
    """Load a staining model by name, or by the directory of its bundle.

    Parameters
    ----------
    model : str or Path
        ``"brightfield-nuclei"``, or a directory that holds ``bundle.json``.
    device : str
        "cpu", "cuda" or "auto".

    Raises
    ------
    BundleError
        Unknown name (the known ones are listed), damaged bundle, or a bundle of another kind.
    ConfigurationError
        No such device.
    """
    bundle = find_bundle(model, roots())
    if bundle.spec.kind != KIND:
        raise BundleError(
            f"{bundle.directory}: is a bundle of kind '{bundle.spec.kind}'; virtualstain runs kind '{KIND}'. "
            "`virtualstain models` lists those that fit."
        )
    return from_bundle(bundle, device=device)


def from_bundle(bundle: Bundle, *, device: str = "cpu") -> StainModel:
    """Build the network of a bundle that is already loaded.

    Raises
    ------
    BundleError
        Weights or description do not fit each other.
    ConfigurationError
        No such device.
    """
    from virtualstain.networks import NAMES, build_network
    from virtualstain.networks.interface import StainNetwork, deploy

    place = _device(device)
    network = bundle.build({name: partial(build_network, name) for name in NAMES})
    assert isinstance(network, StainNetwork)
    by, stains = bundle.spec.normalisation.output, bundle.spec.outputs[0].channels
    if not len(by.centre) == len(by.scale) == len(stains):
        raise BundleError(
            f"{bundle.directory}: normalisation.output in bundle.json has {len(by.centre)} centres and {len(by.scale)} "
            f"scales for {len(stains)} stains. Get the bundle again from where it came from."
        )
    return StainModel(bundle, deploy(network).to(place))


def _device(name: str) -> str:
    import torch

    has_gpu = torch.cuda.is_available()
    if name not in {"auto", "cpu", "cuda"} or (name == "cuda" and not has_gpu):
        raise ConfigurationError(
            f"device {name!r} is unknown or not there; allowed: auto, cpu, cuda (with a GPU)."
        )
    return "cuda" if has_gpu and name != "cpu" else "cpu"


def shown_sizes(voxel_um: Sequence[float | None]) -> str:
    """Voxel sizes for a message: ``? x 0.5 x 0.5``."""
    return " x ".join("?" if v is None else f"{v:.4g}" for v in voxel_um)


@dataclass(frozen=True, repr=False)
class StainModel:
    """A loaded bundle.

    Attributes
    ----------
    bundle : Bundle
    network : StainNetwork
        Deployed, on its device.
    """

    bundle: Bundle
    network: StainNetwork

    def __repr__(self) -> str:
        """Give name, version, channels and voxel size; not the layers."""
        spec = self.bundle.spec
        return (
            f"StainModel({spec.name!r} {spec.version}: {', '.join(self.inputs)} to {', '.join(self.outputs)}, "
            f"voxel {shown_sizes(self.voxel_um)} um (z, y, x), {self.network.dims}D)"
        )

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.spec.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the label-free channels it takes."""
        return self.bundle.spec.inputs[0].channels

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the stains it predicts."""
        return self.bundle.spec.outputs[0].channels

    @property
    def planes(self) -> int | None:
        """Planes a stack must have; None for any number, 1 for a model of single planes."""
        return self.bundle.spec.inputs[0].n_planes

    @property
    def voxel_um(self) -> tuple[float | None, float | None, float | None]:
        """Voxel size (z, y, x) it was trained at."""
        return self.bundle.spec.inputs[0].voxel_um

    @cached_property
    def output_scale(self) -> tuple[ChannelScale, ...]:
        """From network units to the units of the output, per stain."""
        by = self.bundle.spec.normalisation.output
        # The output stays on the transformed scale (log counts): exponentiating would amplify every error of a
        # bright nucleus, and the bundle says which scale it is.
        return tuple(ChannelScale(c, s) for c, s in zip(by.centre, by.scale, strict=True))

    @property
    def offset_px(self) -> tuple[int, int, int]:
        """Displacement (z, y, x) of the stain against the input on the microscope it was trained for, voxels."""
        return self.bundle.spec.outputs[0].offset_px

    @property
    def unit(self) -> str:
        """What the values of its predictions are, in words."""
        return self.bundle.spec.outputs[0].transform or "not stated"

    @property
    def annotations(self) -> dict[str, str]:
        """What a file with a prediction of this model says about its values (`Image.annotations`)."""
        spec = self.bundle.spec
        return {
            "model": f"{spec.name} {spec.version}",
            "unit": self.unit,
            OUTPUT: spec.normalisation.output.model_dump_json(),
        }

    @property
    def identity(self) -> str:
        """Name, version and hash of the weights: equal for models that predict the same."""
        spec = self.bundle.spec
        return f"{spec.name} {spec.version} {spec.files.get('model.safetensors', '')}"

    def input_scale(self, stack: Any, valid: NDArray[np.bool_] | None, where: str) -> list[ChannelScale]:
        """Scale of each input channel, measured on this stack or taken from the training set, as the bundle says.

        A stack that nothing can be predicted from is refused either way.
        """
        by = self.bundle.spec.normalisation.input
        fixed = by.scope == "dataset" and by.method != "none"
        found = [
            measure_image_scale(
                stack,
                c,
                method="zscore" if fixed else by.method,
                transform=by.transform,
                where=f"{where}: channel '{name}'",
                valid=valid,
            )
            for c, name in enumerate(self.inputs)
        ]
        if not fixed:
            return found
        return [ChannelScale(c, s, by.transform) for c, s in zip(by.centre, by.scale, strict=True)]

    def foreign_axes(
        self, voxel_um: Sequence[float | None], *, planes: int, where: str, remedy: str
    ) -> list[str]:
        """Axes along which an image's voxel size is not the model's, within its tolerance.

        Parameters
        ----------
        voxel_um : (z, y, x) micrometres
        planes : int
            Of the image; one plane has no size along Z to compare.
        where, remedy : str
            What errors call the image, and what they advise.

        Raises
        ------
        DataError
            The size is unknown along an axis that matters to the model.
        """
        tolerance, off = self.bundle.spec.inputs[0].voxel_tolerance, []
        for letter, want, have in zip("ZYX", self.voxel_um, voxel_um, strict=True):
            if want is None or (letter == "Z" and planes == 1):
                continue
            if have is None:
                raise DataError(
                    f"{where}: no voxel size in the file along {letter}; model '{self.name}' expects "
                    f"{shown_sizes(self.voxel_um)} um (z, y, x) within {tolerance:.0%}. {remedy}"
                )
            if abs(have / want - 1) > tolerance:
                off.append(letter)
        return off

    def predict(self, image: Image, **options: Any) -> Prediction:
        """Predict one image into memory: `virtualstain.predict.predict` with this model."""
        from virtualstain.predict import predict  # that module builds on this one

        return predict(self, image, **options)

    def output_planes(self, planes: int) -> int:
        """Planes of the prediction of a stack of `planes`: 1 where the model projects a stack to one plane."""
        return 1 if self.network.dims == 2 and (self.planes or 1) > 1 else planes

    def predict_array(self, stack: Any, *, where: str, **options: Any) -> NDArray[np.float32]:
        """Predict one (C, Z, Y, X) stack into memory: (K, Z, Y, X) float32; arguments as `predict_stack`."""
        out = np.empty((len(self.outputs), self.output_planes(stack.shape[1]), *stack.shape[2:]), np.float32)

        def sink(box: Box, values: NDArray[np.float32]) -> None:
            part: tuple[slice, ...] = (slice(None), *box)
            out[part] = values

        self.predict_stack(stack, sink, where=where, **options)
        return out

    def predict_stack(
        self,
        stack: Any,
        sink: Sink,
        *,
        where: str,
        valid: NDArray[np.bool_] | None = None,
        tile: tuple[int, int, int] | None = None,
        input_frame: bool = False,
        **options: Any,
    ) -> None:
        """Predict one (C, Z, Y, X) stack block by block.

        Parameters
        ----------
        stack : (C, Z, Y, X) array or lazy array
            Recorded units; channels in the order of `inputs`.
        sink : callable
            Receives (box in Z, Y, X; (K, z, y, x) float32 in output units), every voxel once.
        where : str
            What errors call the stack.
        valid : (Y, X) bool, optional
            False where registration padded; the output is 0 there.
        tile : (z, y, x), optional
            Largest window; the bundle's own by default.
        input_frame : bool
            Leave the stain registered to the input, as `virtualstain.predict.predict` does. By default it lies where
            the stain's camera of the training microscope would record it (`offset_px`; zero for most models), as
            scores and golden samples need it.
        **options
            ``tta``, ``batch_size``, ``skip``, ``progress`` of `virtualstain.staining.stain_field`.

        Raises
        ------
        DataError
            The stack is thinner than the model, constant or not finite; or what is predicted is not finite.
        """
        from virtualstain.staining import stain_field

        _, z, height, width = stack.shape
        if self.planes is not None and self.planes > 1 and z != self.planes:
            raise DataError(
                f"{where}: {z} plane{'s' if z != 1 else ''} in Z, but model '{self.name}' was trained on stacks of "
                f"{self.planes}. Select {self.planes} consecutive planes, or choose another model "
                "(`virtualstain models`)."
            )
        offset = (0, 0, 0) if input_frame else self.offset_px
        one_by_one = self.planes == 1 and z > 1
        for z0 in range(z if one_by_one else 1):
            # A plane of such a stack is predicted as it would be alone, on a scale of its own.
            part = stack[:, z0 : z0 + 1] if one_by_one else stack
            scales = self.input_scale(part, valid, f"{where}, plane {z0}" if one_by_one else where)

            def read(box: Box, part: Any = part, scales: list[ChannelScale] = scales) -> NDArray[np.float32]:
                box = tuple(slice(b.start - o, b.stop - o) for b, o in zip(box, offset, strict=True))
                raw = read_box(part, box, axes_before=1)
                return np.stack([s.apply(c) for s, c in zip(scales, raw, strict=True)])

            def write(box: Box, values: NDArray[np.float32], z0: int = z0) -> None:
                if not np.isfinite(values).all():
                    raise DataError(
                        f"{where}: model '{self.name}' gives NaN or infinite values. The image is far from those it "
                        "was trained on (its unit?), or its weights are damaged: `virtualstain models --verify`."
                    )
                out = np.stack([s.invert(c) for s, c in zip(self.output_scale, values, strict=True)])
                if valid is not None:
                    out *= valid[box[1:]]
                sink((slice(z0, z0 + 1), *box[1:]) if one_by_one else box, out)

            shape = (part.shape[1], height, width)
            stain_field(
                self.network, read, shape, n_outputs=len(self.outputs), tile=tile or self.default_tile,
                sink=write, **options,
            )  # fmt: skip

    @property
    def default_tile(self) -> tuple[int, int, int]:
        """Largest (z, y, x) window the bundle recommends."""
        tile = self.bundle.spec.tile
        window = tile.window if tile else (32, 512, 512)
        return (1, *window) if len(window) == 2 else tuple(window)  # type: ignore[return-value]
