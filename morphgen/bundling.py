"""Trained generators as bundles in diffusers' folder layout, and back: ``vae/ unet/ condition/ prior/ scheduler/``."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from image2reg.config import dump_config
from image2reg.errors import BundleError
from image2reg.models.bundle import Bundle
from image2reg.models.record import training_record
from image2reg.models.rounding import rounded
from image2reg.models.spec import (
    Architecture,
    BundleSpec,
    DataSource,
    Metric,
    NormalisationPair,
    Port,
)
from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.condition import ConditionEncoder
from morphgen.crops import IntensityRange
from morphgen.denoiser import ConditionalDenoiser
from morphgen.prior import MorphologyPrior
from morphgen.recipe import DiffusionRecipe, VaeRecipe

__all__ = [
    "DIFFUSION_KIND",
    "VAE_KIND",
    "Facts",
    "crops_of",
    "golden_options",
    "load_autoencoder",
    "load_denoiser",
    "load_prior",
    "part_files",
    "refuse_kind",
    "specification",
]

VAE_KIND, DIFFUSION_KIND = "morphgen-vae", "morphgen-diffusion"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE, UNET, CONDITION, PRIOR = (f"{part}/{WEIGHTS}" for part in ("vae", "unet", "condition", "prior"))
SHORTCUT = "vae/shortcut.safetensors"


@dataclass(frozen=True)
class Facts:
    """What a bundle has to say that no training run knows by itself; see `image2reg.models.spec`."""

    command: str
    licence: str = "unstated: the trainer's own"
    sources: tuple[DataSource, ...] = ()
    split: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()


def _weights(module: nn.Module) -> bytes:
    from safetensors.torch import save

    from image2reg.models.state import cpu_copy

    return save(rounded(cpu_copy(module.state_dict())), metadata={"format": "pt"})


def _config(module: nn.Module, arguments: Mapping[str, Any]) -> bytes:
    """Give diffusers' own ``config.json`` where the network is one of its; our arguments elsewhere."""
    to_json: Any = getattr(module, "to_json_string", None)
    return (to_json() if to_json else json.dumps(dict(arguments), indent=1)).encode()


def part_files(
    autoencoder: MorphologyAutoencoder | None,
    denoiser: ConditionalDenoiser | None,
    arguments: Mapping[str, Mapping[str, Any]],
    *,
    prior: MorphologyPrior | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Files of the parts: a ``config.json`` and weights for each; a scheduler has no weights."""
    files: dict[str, bytes] = {}
    if autoencoder is not None:
        if hasattr(autoencoder.network, "register_to_config"):
            autoencoder.network.register_to_config(scaling_factor=float(autoencoder.latent_scale))
        files["vae/config.json"] = _config(autoencoder.network, arguments["vae"])
        files[VAE] = _weights(autoencoder.network)
        if autoencoder.shortcut is not None:
            files[SHORTCUT] = _weights(autoencoder.shortcut)
    if denoiser is not None:
        files["unet/config.json"] = _config(denoiser.unet, arguments["unet"])
        files[UNET] = _weights(denoiser.unet)
        files["condition/config.json"] = json.dumps(dict(arguments["condition"]), indent=1).encode()
        files[CONDITION] = _weights(denoiser.condition)
    if prior is not None:
        files["prior/config.json"] = json.dumps(dict(arguments["prior"]), indent=1).encode()
        files[PRIOR] = _weights(prior)
    if scheduler is not None:
        files["scheduler/config.json"] = json.dumps(dict(scheduler), indent=1).encode()
    return files


def _part(bundle: Bundle, name: str, factory: Callable[..., nn.Module], weights: str) -> nn.Module:
    """Build one part with the checks of `Bundle.build`: names, shapes, finite values, hashes."""
    arguments = bundle.spec.architecture.arguments.get(name)
    if not isinstance(arguments, dict):
        raise BundleError(
            f"{bundle.directory}: architecture.arguments has no part {name!r}. Get the bundle again."
        )
    spec = bundle.spec.model_copy(update={"architecture": Architecture(name=name, arguments=arguments)})
    return dataclasses.replace(bundle, spec=spec).build({name: factory}, name=weights)


def load_autoencoder(bundle: Bundle) -> MorphologyAutoencoder:
    """Rebuild the autoencoder of a VAE or diffusion bundle.

    Raises
    ------
    BundleError
        Another kind of bundle, or parts that do not fit.
    """
    refuse_kind(bundle, VAE_KIND, DIFFUSION_KIND)
    network = _part(bundle, "vae", lambda **a: MorphologyAutoencoder(**a).network, VAE)
    model = MorphologyAutoencoder(**bundle.spec.architecture.arguments["vae"])
    model.network = network
    if model.shortcut is not None:
        model.shortcut = _part(bundle, "vae", lambda **a: MorphologyAutoencoder(**a).shortcut, SHORTCUT)  # type: ignore[arg-type, assignment]
    return model.eval()


def load_denoiser(bundle: Bundle) -> ConditionalDenoiser:
    """Rebuild U-Net and condition encoder of a diffusion bundle."""
    refuse_kind(bundle, DIFFUSION_KIND)
    arguments = bundle.spec.architecture.arguments
    condition = _part(bundle, "condition", ConditionEncoder, CONDITION)
    minimal = {"genes": ["a"], "width": arguments["condition"].get("width", 64), "tokens": 1, "hidden": 1}

    def unet_of(**a: Any) -> nn.Module:
        return ConditionalDenoiser(**a, condition=minimal).unet

    unet = _part(bundle, "unet", unet_of, UNET)
    model = ConditionalDenoiser(**arguments["unet"], condition=minimal)
    model.unet, model.condition = unet, condition  # type: ignore[assignment]
    return model.eval()


def load_prior(bundle: Bundle) -> MorphologyPrior | None:
    """Rebuild what expects a morphology of a signature; None for a generator without."""
    if "prior" not in bundle.spec.architecture.arguments:
        return None
    return _part(bundle, "prior", MorphologyPrior, PRIOR).eval()  # type: ignore[return-value]


def refuse_kind(bundle: Bundle, *kinds: str) -> None:
    """Refuse a bundle of another kind with a `BundleError`."""
    if bundle.spec.kind not in kinds:
        raise BundleError(
            f"{bundle.directory}: is a bundle of kind {bundle.spec.kind!r}; needed is {' or '.join(kinds)}."
        )


def specification(
    recipe: VaeRecipe | DiffusionRecipe,
    arguments: Mapping[str, Any],
    *,
    channels: Sequence[str],
    dims: int,
    voxel_um: tuple[float | None, float | None, float | None],
    intensity: IntensityRange,
    facts: Facts,
    steps: int,
    minutes: float,
    domain: Mapping[str, Any] | None = None,
) -> BundleSpec:
    """Describe a trained autoencoder or generator."""
    crops = Port(axes="CZYX" if dims == 3 else "CYX", channels=tuple(channels), voxel_um=voxel_um)
    signature = Port(axes="C", channels=("expression signature",))
    vae = recipe.kind == VAE_KIND
    scaled = intensity.normalisation()
    return BundleSpec(
        kind=recipe.kind,
        name=recipe.name,
        summary=recipe.summary
        or ("Crops to latents and back" if vae else "Expression signatures to nucleus crops"),
        intended_use=facts.intended_use,
        limits=facts.limits,
        architecture=Architecture(
            name="morphology-vae" if vae else "latent-diffusion", arguments=dict(arguments)
        ),
        inputs=(crops if vae else signature,),
        outputs=(crops,),
        normalisation=NormalisationPair(input=scaled, output=scaled)
        if vae
        else NormalisationPair(output=scaled),
        training=training_record(
            recipe, command=facts.command, steps=steps, minutes=minutes, split=facts.split
        ),
        metrics=facts.metrics,
        domain=dict(domain or {}),
        licence=facts.licence,
        data=facts.sources,
    )


def tiff_bytes(array: NDArray[Any], channels: Sequence[str]) -> bytes:
    """Crops (N, C, [Z,] Y, X) as an OME-TIFF with N as time."""
    import tifffile

    axes = "TCYX" if array.ndim == 4 else "TCZYX"
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.asarray(array, np.float32), ome=True, photometric="minisblack", compression="zlib",
        metadata={"axes": axes, "Channel": {"Name": list(channels)}},
    )  # fmt: skip
    return buffer.getvalue()


def crops_of(array: NDArray[Any], bundle: Bundle) -> NDArray[np.float32]:
    """(N, C, *spatial): TIFF readers drop axes of length 1."""
    port = bundle.spec.outputs[0]
    spatial = array.shape[-(len(port.axes) - 1) :]
    return np.asarray(array, np.float32).reshape(-1, len(port.channels), *spatial)


def golden_options(bundle: Bundle) -> dict[str, Any]:
    """How the golden sample is drawn: seed 0, from the bundle's control nuclei where it begins at those."""
    import tifffile

    if "sample/control.ome.tif" not in bundle.spec.files:
        return {"seed": 0}
    control = crops_of(tifffile.imread(bundle.file("sample/control.ome.tif")), bundle)
    return {"seed": 0, "control": control, "route": "flow"}


def recipe_file(recipe: VaeRecipe | DiffusionRecipe, history: Path) -> dict[str, Path | bytes]:
    """Recipe and training log, as every bundle carries them."""
    return {"config.yaml": dump_config(recipe).encode(), "training.jsonl": history}
