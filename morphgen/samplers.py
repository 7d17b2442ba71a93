"""From noise or a control latent to a generated one: multistep, Euler and Heun on flows, DDIM and DPM on diffusion.

Time runs from 0 (source) to 1 (data) for flows. All samplers here are deterministic once the first latent is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from image2reg.errors import ConfigurationError
from morphgen.condition import Condition
from morphgen.denoiser import ConditionalDenoiser
from morphgen.diffusion import SCHEDULE

__all__ = ["denoise", "evaluations", "flow", "invert", "noise_to"]

Predict = Callable[[Tensor, Tensor], Tensor]

_GRID = 1.5
"""Steps are even in t to the power 1 / 1.5: a path bends most where it leaves the noise, and short steps go there."""


def evaluations(sampler: str, steps: int, guidance: float) -> int:
    """Count network evaluations per image: Heun has two per step but the last, guidance doubles them."""
    return (2 * steps - 1 if sampler == "heun" else steps) * (1 if guidance in (0.0, 1.0) else 2)


def _told(model: ConditionalDenoiser, condition: Condition | None, guidance: float) -> Predict:
    def predict(z: Tensor, time: Tensor) -> Tensor:
        return model.predict(z, time.expand(len(z)), condition, guidance=guidance).float()

    return predict


def flow(
    model: ConditionalDenoiser,
    z: Tensor,
    condition: Condition | None,
    *,
    steps: int,
    guidance: float = 1.0,
    sampler: str = "multistep",
    start: float = 0.0,
    end: float = 1.0,
) -> Tensor:
    """Integrate ``dz/dt = velocity`` from `start` to `end`; backwards when `end` is the smaller.

    "multistep" is Adams and Bashforth's second-order rule for uneven steps: one evaluation per step, and the change
    since the step before (as DPM-Solver++(2M), Lu et al. 2022, on a diffusion). "heun" has two evaluations per step
    (Karras et al. 2022, algorithm 1 without noise), "euler" is of first order. As in Heun's rule there, a step that
    ends at the data is not corrected: at t = 1 nothing is left to go, and a velocity means nothing.
    """
    predict = _told(model, condition, guidance)
    begin, finish = start ** (1 / _GRID), end ** (1 / _GRID)
    times = torch.linspace(begin, finish, steps + 1, device=z.device) ** _GRID
    last = None
    for now, then in pairwise(times):
        step = then - now
        velocity = slope = predict(z, 1000 * now)
        if sampler == "multistep" and last is not None:
            slope = velocity + step / (2 * last[1]) * (velocity - last[0])
        elif sampler == "heun" and then < 1:
            slope = 0.5 * (velocity + predict(z + step * velocity, 1000 * then))
        last = velocity, step
        z = z + step * slope
    return z


def _scheduler(sampler: str, process: str) -> object:
    from diffusers import DDIMInverseScheduler, DDIMScheduler, DPMSolverMultistepScheduler

    kind = {"v": "v_prediction", "epsilon": "epsilon"}[process]
    if sampler == "ddim":
        return DDIMScheduler(
            **SCHEDULE, prediction_type=kind, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        )
    if sampler == "inverse":
        return DDIMInverseScheduler(
            **SCHEDULE, prediction_type=kind, clip_sample=False, set_alpha_to_one=False
        )
    return DPMSolverMultistepScheduler(
        **SCHEDULE, prediction_type=kind, algorithm_type="dpmsolver++", solver_order=2
    )


def denoise(
    model: ConditionalDenoiser,
    z: Tensor,
    condition: Condition | None,
    *,
    process: str,
    steps: int,
    guidance: float = 1.0,
    sampler: str = "ddim",
    strength: float = 1.0,
) -> Tensor:
    """Run the last `strength` of the diffusion backwards, from `z` at its beginning.

    DDIM with eta 0 (Song et al. 2021) or DPM-Solver++ of second order (Lu et al. 2022), as diffusers has them.

    Parameters
    ----------
    z : (B, z, *latent)
        Pure noise for strength 1, else `noise_to` of a latent.
    """
    scheduler = _scheduler(sampler, process)
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    times = scheduler.timesteps  # type: ignore[attr-defined]
    begin = steps - max(1, round(strength * steps))
    scheduler.set_begin_index(begin) if sampler == "dpm" else None  # type: ignore[attr-defined]
    predict = _told(model, condition, guidance)
    for time in times[begin:]:
        z = scheduler.step(predict(z, time.float()), time, z).prev_sample  # type: ignore[attr-defined]
    return z


def noise_to(z: Tensor, noise: Tensor, *, process: str, strength: float, steps: int, sampler: str) -> Tensor:
    """Noise latents to where `strength` of the way from data to noise lies (SDEdit, Meng et al. 2022).

    For a diffusion the level is the one at which `denoise` with the same numbers begins.
    """
    if process == "flow":
        return torch.lerp(noise, z, 1 - strength)
    scheduler = _scheduler(sampler, process)
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    begin = steps - max(1, round(strength * steps))
    alphas = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    alpha = alphas[int(scheduler.timesteps[begin])]  # type: ignore[attr-defined]
    return alpha.sqrt() * z + (1 - alpha).sqrt() * noise


def invert(
    model: ConditionalDenoiser,
    z: Tensor,
    condition: Condition | None,
    *,
    process: str,
    steps: int,
    sampler: str,
) -> Tensor:
    """Find the noise that leads to `z` without guidance: the flow, or DDIM, run backwards."""
    if process == "flow":
        return flow(model, z, condition, steps=steps, sampler=sampler, start=1.0, end=0.0)
    if sampler != "ddim":
        raise ConfigurationError(
            f"inversion runs DDIM backwards; sampler is {sampler!r}. Choose --sampler ddim."
        )
    scheduler = _scheduler("inverse", process)
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    predict = _told(model, condition, 1.0)
    for time in scheduler.timesteps:  # type: ignore[attr-defined]
        z = scheduler.step(predict(z, time.float()), time, z).prev_sample  # type: ignore[attr-defined]
    return z
