"""Device and precision of a training run, through accelerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from image2reg.models.settings import TrainingSettings

__all__ = ["accelerator_for"]


def accelerator_for(settings: TrainingSettings, device: str) -> Accelerator:
    """Give the accelerator of one run.

    Parameters
    ----------
    settings : TrainingSettings
        Gives precision and accumulation.
    device : "auto", "cpu" or "cuda"
        "auto" takes the GPU where torch sees one.

    Raises
    ------
    ConfigurationError
        The device is unknown or absent, or cannot compute in the precision asked for.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigurationError(f"device {device!r} is unknown; allowed: auto, cpu, cuda.")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigurationError(f"device 'cuda': torch {torch.__version__} sees none here. Use cpu or auto.")
    on_cpu = device == "cpu" or not has_gpu
    if on_cpu and settings.precision == "fp16":
        raise ConfigurationError("precision 'fp16' needs a GPU; on a CPU use 'fp32' or 'bf16'.")
    if not PartialState._shared_state or not PartialState().use_distributed:
        # accelerate keeps device and precision once per process and refuses a second run with others.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    precision = "no" if settings.precision == "fp32" else settings.precision
    return Accelerator(cpu=on_cpu, mixed_precision=precision, gradient_accumulation_steps=settings.accumulate)
