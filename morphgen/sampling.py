"""How images are drawn: the options of a draw, a model's own for those not given, and what does not fit the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from image2reg.errors import ConfigurationError
from morphgen.recipe import SAMPLERS

__all__ = ["FROM_CONTROL", "Sampling", "settled"]

Route = Literal["sdedit", "inversion", "flow"]

FROM_CONTROL: dict[str, Any] = {"route": "inversion", "guidance": 1.5, "corrections": 6}
"""From a control to the same nucleus perturbed: settled on the validation genes of the planted benchmark."""


@dataclass(frozen=True)
class Sampling:
    """How images are drawn; None takes what the model was made for.

    Attributes
    ----------
    steps : int
    sampler : "multistep", "heun", "euler", "ddim" or "dpm"
    guidance : float
        1: the plain conditional model; 0: the unconditional one.
    route : "sdedit", "inversion" or "flow"
        From control nuclei: noise and denoise; run the model backwards and forwards again; a flow that was trained to
        begin at controls. Where the model has a prior, each control is told what the signature lets one expect and its
        own deviation from the mean of all the controls given; inversion runs backwards under what it measures.
    strength : float
        Of the noise of "sdedit", 0 to 1. At 0 the control's round trip through the autoencoder comes back.
    residual : float
        How much of the fine texture that the autoencoder does not keep is drawn (`morphgen.residual`); 0 for none.
    corrections : int
        Steps by which a drawn nucleus is pulled to its told morphology (`morphgen.correction`), if the model has one.
    seed : int
    batch : int
        Images at once. Decides memory and time, and nothing else.
    """

    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    route: Route = "sdedit"
    strength: float | None = None
    residual: float | None = None
    corrections: int | None = None
    seed: int = 0
    batch: int = 32


def settled(given: Sampling, own: dict[str, Any], *, n: int, has_control: bool, name: str) -> dict[str, Any]:
    """Fill in what is not given from the model's `own` options, and refuse what does not fit the model `name`.

    Raises
    ------
    ConfigurationError
        As `morphgen.sample.MorphologyGenerator.draw`.
    """
    options = {
        k: (own[k] if getattr(given, k) is None else getattr(given, k))
        for k in ("steps", "sampler", "guidance", "strength", "residual", "corrections")
    }
    options |= {"seed": given.seed, "batch": given.batch, "route": given.route, "process": own["process"]}
    few = n < 1 or options["steps"] < 1 or given.batch < 1 or options["corrections"] < 0
    finite = all(math.isfinite(options[k]) and options[k] >= 0 for k in ("guidance", "residual"))
    if few or not finite or not 0 <= options["strength"] <= 1:
        raise ConfigurationError(
            f"n={n}, steps={options['steps']}, batch={given.batch}, strength={options['strength']}, "
            f"corrections={options['corrections']}, guidance={options['guidance']}, residual={options['residual']}: "
            "the first three are at least 1, strength lies between 0 and 1, the others are 0 or more."
        )
    if not has_control and (given.route == "inversion" or given.strength is not None):
        raise ConfigurationError(
            f"route={given.route}, strength={given.strength}: these say how to begin at control nuclei, and there are "
            "none. Give them (--control crops.zarr), or leave --route and --strength out."
        )
    if options["guidance"] != 1 and not own["dropout"]:
        raise ConfigurationError(
            f"guidance {options['guidance']:g} on {name!r}: it was trained without dropping conditions "
            "(condition.drop=0), so it has no unconditional prediction to guide away from. Use --guidance 1, or "
            "train with condition.drop=0.1."
        )
    fits = SAMPLERS[own["process"]]
    if options["sampler"] not in fits:
        raise ConfigurationError(
            f"sampler {options['sampler']!r} on {name!r}, process {own['process']}: choose {' or '.join(fits)}."
        )
    needs_control = own["source"] == "control"
    if (given.route == "flow" or needs_control) and not (
        needs_control and given.route == "flow" and has_control
    ):
        raise ConfigurationError(
            f"{name!r} was trained to begin at {own['source']}: "
            + (
                "give control crops and --route flow."
                if needs_control
                else "--route flow needs a model trained with source=control; use sdedit or inversion."
            )
        )
    return options
