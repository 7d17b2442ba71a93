"""A trained generator: signatures (and control nuclei) in, crops out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression.signatures import SIGNATURE
from image2reg.models.bundle import Bundle
from image2reg.models.registry import find_bundle
from image2reg.nuclei.crops import Crops
from image2reg.randomness import integer_seed
from image2reg.tables.profiles import Profiles
from morphgen.bundling import load_autoencoder, load_denoiser, load_prior
from morphgen.condition import Condition
from morphgen.correction import corrected
from morphgen.crops import IntensityRange
from morphgen.descriptors import describe
from morphgen.domain import LIMIT, SignatureDomain
from morphgen.recipe import DiffusionRecipe
from morphgen.residual import ResidualTexture
from morphgen.samplers import denoise, flow, invert, noise_to
from morphgen.sampling import Sampling, settled
from morphgen.signature_condition import condition_of, signature_names

__all__ = ["MorphologyGenerator", "load", "roots"]

_SAMPLED = (
    "process", "source", "source_noise", "sampler", "steps", "guidance", "strength", "residual", "corrections",
)  # fmt: skip


def roots() -> list[Path]:
    """Folders of the shipped generators."""
    return [Path(__file__).parent / "weights"]


def load(name: str | Path, *, device: str = "auto") -> MorphologyGenerator:
    """Load a generator by its name or directory; device "auto" takes the GPU where torch sees one.

    Raises
    ------
    ConfigurationError
        The device is unknown or absent.
    BundleError
        No such model, a damaged one, or one that is no generator.
    """
    if device not in {"auto", "cpu", "cuda"} or (device == "cuda" and not torch.cuda.is_available()):
        raise ConfigurationError(
            f"device {device!r} is unknown or not there; allowed: auto, cpu, cuda (with a GPU)."
        )
    chosen = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
    return MorphologyGenerator(find_bundle(name, roots()), device=chosen)


class _Controls(NamedTuple):
    """Control nuclei that images begin at.

    Attributes
    ----------
    latents : (M, z, *latent)
    morphology : (M, K) or None
        What each measures, standardised.
    """

    latents: Tensor
    morphology: Tensor | None


class MorphologyGenerator:
    """Draws nuclei under expression signatures.

    Parameters
    ----------
    bundle : Bundle
        Of kind ``morphgen-diffusion``.
    device : str

    Attributes
    ----------
    genes : tuple of str
        What a signature must hold, by name.
    channels : tuple of str
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self.bundle, self.device = bundle, torch.device(device)
        self.autoencoder = load_autoencoder(bundle).to(self.device)
        self.denoiser = load_denoiser(bundle).to(self.device)
        prior = load_prior(bundle)
        self.prior = None if prior is None else prior.to(self.device)
        with bundle.described("architecture.arguments"):
            arguments = bundle.spec.architecture.arguments
            told = {name: arguments["sampling"][name] for name in _SAMPLED}
            dropout = float(arguments["sampling"]["dropout"])
            checked = DiffusionRecipe(**told)  # the same options, with their kinds and limits
            self.sampling: dict[str, Any] = {k: getattr(checked, k) for k in told} | {"dropout": dropout}
            self.crop_size = tuple(arguments["crop_size"])
        self.intensity = IntensityRange.stored(bundle.spec.normalisation.output)
        self.genes = self.denoiser.condition.genes
        self.channels = bundle.spec.outputs[0].channels
        self.voxel_um = bundle.spec.outputs[0].voxel_um
        with bundle.described("domain"):
            residual = bundle.spec.domain.get("residual")
            self.residual = ResidualTexture(**residual) if residual else None
            references = bundle.state_dict("condition/references.safetensors")["references"].numpy()
            quantiles = np.array(bundle.spec.domain["signature_quantiles"], dtype=np.float64)
            self.domain = SignatureDomain(references, quantiles)

    def outside(self, signatures: Profiles) -> NDArray[np.float64]:
        """Say how far each signature lies from those of training (`SignatureDomain.quantile`); above 0.99: outside."""
        expression = condition_of(signatures, self.genes).expression
        assert expression is not None
        return self.domain.quantile(
            self.denoiser.condition.standardise(expression.to(self.device))[0].cpu().numpy()
        )

    def generate(
        self, signatures: Profiles, *, n: int, control: NDArray[Any] | None = None, **sampling: Any
    ) -> Crops:
        """Draw exactly `n` crops under each signature, in memory; `stream` does the same part by part.

        Parameters
        ----------
        signatures : Profiles
            One row per perturbation, gene symbols as columns.
        n : int
        control : (M, C, Y, X), optional
            Control nuclei in recorded units: image i begins at control i modulo M.
        **sampling
            Fields of `Sampling`.
        """
        return Crops.concat(list(self.stream(signatures, n=n, control=control, **sampling)))

    def stream(
        self,
        signatures: Profiles,
        *,
        n: int,
        control: NDArray[Any] | None = None,
        strict: bool = False,
        **sampling: Any,
    ) -> Iterator[Crops]:
        """Give crops of planes batch by batch, signature after signature; see `draw`."""
        for images, metadata in self.draw(signatures, n=n, control=control, strict=strict, **sampling):
            yield Crops(
                images, metadata, channels=self.channels, voxel_um=(self.voxel_um[1], self.voxel_um[2]),
                source=self.bundle.spec.name,
            )  # fmt: skip

    def draw(
        self,
        signatures: Profiles,
        *,
        n: int,
        control: NDArray[Any] | None = None,
        strict: bool = False,
        **sampling: Any,
    ) -> Iterator[tuple[NDArray[np.float32], pd.DataFrame]]:
        """Give images (B, C, *spatial) in recorded units and their metadata, batch by batch.

        Each image has a random generator of its own, named after seed, signature and its number: which images are
        drawn together makes no difference but rounding.

        Raises
        ------
        ConfigurationError
            Guidance on a model trained without dropout of the condition; a sampler that does not fit the model; a
            route the model was not trained for; numbers out of range.
        DataError
            Genes missing; signatures that nothing tells apart; with `strict`, one outside the training range; control
            crops that do not fit.
        """
        options = settled(
            Sampling(**sampling),
            self.sampling,
            n=n,
            has_control=control is not None,
            name=self.bundle.spec.name,
        )
        condition = condition_of(signatures, self.genes, self.denoiser.condition.cell_lines)
        distances = self.outside(signatures)
        names = signature_names(signatures)
        called = signatures.column(SIGNATURE).tolist() if SIGNATURE in signatures.frame else names
        self._warn(distances, called, strict=strict)
        start = None if control is None else self._controls(control)
        for row, name in enumerate(names):
            for first in range(0, n, options["batch"]):
                numbers = range(first, min(first + options["batch"], n))
                same = condition.rows(torch.full((len(numbers),), row))
                images = self._draw(same, name, numbers, start, options)
                metadata = pd.concat([signatures.metadata.iloc[[row]]] * len(numbers), ignore_index=True)
                metadata["Metadata_Object"] = [str(k + 1) for k in numbers]
                metadata["Metadata_Origin"] = "generated"
                metadata["Metadata_Model"] = self.bundle.spec.name
                metadata["Metadata_SignatureQuantile"] = f"{distances[row]:.4g}"
                yield self.intensity.undo(images), metadata

    def _warn(self, distances: NDArray[np.float64], names: Sequence[str], *, strict: bool) -> None:
        far = np.flatnonzero(distances > LIMIT)
        if not len(far):
            return
        worst = far[distances[far].argmax()]
        text = (
            f"{len(far)} of {len(names)} signatures lie outside the range {self.bundle.spec.name!r} was trained on "
            f"(beyond {LIMIT:.0%} of its training signatures); the farthest is {names[worst]!r} at "
            f"{distances[worst]:.3g}"
        )
        if strict:
            raise DataError(f"{text}. Leave them out, or generate without --strict and distrust the images.")
        warnings.warn(f"{text}. Their images are extrapolations.", stacklevel=3)

    def _controls(self, control: NDArray[Any]) -> _Controls:
        control = np.asarray(control)
        expected = (len(self.channels), *self.crop_size)
        if control.shape[1:] != expected or not len(control):
            raise DataError(
                f"control crops {control.shape}: the model needs (N, {', '.join(map(str, expected))})."
            )
        self.intensity.refuse(control, self.channels, name="control crops")
        parts = torch.from_numpy(self.intensity.apply(control)).to(self.device).split(64)
        with torch.no_grad():
            latents = torch.cat([self.autoencoder.encode(part) for part in parts])
            if self.prior is None:
                return _Controls(latents, None)
            measured = torch.cat([describe(part) for part in parts])
            return _Controls(latents, self.prior.standardise(measured))

    @torch.no_grad()
    def _draw(
        self,
        condition: Condition,
        name: str,
        numbers: range,
        start: _Controls | None,
        options: dict[str, Any],
    ) -> NDArray[np.float32]:
        condition = condition.to(self.device)
        if self.prior is not None and start is None:
            drawn = [_noise((self.prior.n_kept,), options["seed"], f"morphology {name}", k) for k in numbers]
            uniform = torch.special.ndtr(torch.stack(drawn)).clamp(1e-7, 1 - 1e-7)
            condition = self.prior.draw(condition, uniform.to(self.device))
        shape = self.denoiser.latent_shape
        noise = torch.stack([_noise(shape, options["seed"], name, k) for k in numbers]).to(self.device)
        plain = {"steps": options["steps"], "guidance": options["guidance"], "sampler": options["sampler"]}
        process, strength = options["process"], options["strength"]
        if start is None:
            z = self._run(noise, condition, process, plain)
        else:
            rows = torch.tensor([k % len(start.latents) for k in numbers], device=self.device)
            begin = start.latents[rows]
            if options["route"] == "sdedit" and strength == 0:
                return self.autoencoder.decode(begin).float().cpu().numpy()
            before = None if self.sampling["dropout"] else condition
            if self.prior is not None and start.morphology is not None and options["guidance"]:
                before = replace(condition, morphology=start.morphology[rows])
                condition = self.prior.carried(condition, start.morphology[rows] - start.morphology.mean(0))
            z = self._from_control(begin, noise, (before, condition), options, plain)
        if condition.morphology is not None and options["guidance"]:
            z = corrected(z, condition.morphology, self._measured, steps=options["corrections"])
        decoded = self.autoencoder.decode(z).float()
        if self.residual is not None and options["residual"]:
            shape = (len(self.channels), *self.crop_size)
            white = torch.stack([_noise(shape, options["seed"], f"texture {name}", k) for k in numbers])
            decoded = self.residual.draw(decoded, options["residual"] * white.to(self.device))
        return decoded.cpu().numpy()

    def _measured(self, z: Tensor) -> Tensor:
        assert self.prior is not None
        return self.prior.standardise(describe(self.autoencoder.decode(z).float()))

    def _from_control(
        self,
        begin: Tensor,
        noise: Tensor,
        conditions: tuple[Condition | None, Condition],
        options: dict[str, Any],
        plain: dict[str, Any],
    ) -> Tensor:
        before, condition = conditions
        process, strength = options["process"], options["strength"]
        if options["route"] == "flow":
            return self._run(begin + self.sampling["source_noise"] * noise, condition, process, plain)
        same = {"process": process, "steps": options["steps"], "sampler": options["sampler"]}
        if options["route"] == "inversion":
            return self._run(invert(self.denoiser, begin, before, **same), condition, process, plain)
        noisy = noise_to(begin, noise, strength=strength, **same)
        return self._run(noisy, condition, process, plain, strength=strength)

    def _run(
        self, z: Tensor, condition: Condition, process: str, plain: dict[str, Any], *, strength: float = 1.0
    ) -> Tensor:
        if process == "flow":
            return flow(self.denoiser, z, condition, start=1 - strength, **plain)
        return denoise(self.denoiser, z, condition, process=process, strength=strength, **plain)


def _noise(shape: tuple[int, ...], seed: int, name: str, number: int) -> Tensor:
    own = torch.Generator().manual_seed(integer_seed(seed, "image", name, number))
    return torch.randn(shape, generator=own)
