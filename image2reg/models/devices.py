"""Device and precision of a training run, through accelerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from image2reg.models.settings import TrainingSettings

__all__ = ["accelerator_for", "refuse_device"]


def accelerator_for(settings: TrainingSettings, device: str) -> Accelerator:
    """Give the accelerator of one run.

    Parameters
    ----------
    settings : TrainingSettings
        Gives precision and accumulation.
    device : "auto", "cpu" or "cuda"
        "auto" takes the GPU where torch sees one.

    Notes
    -----
    A processor without instructions for bfloat16 would emulate them, many times slower than float32 and not more
    precise, so there "bf16" is computed in float32.

    Raises
    ------
    ConfigurationError
        As `refuse_device`.
    """
    on_cpu = refuse_device(settings, device)
    if not PartialState._shared_state or not PartialState().use_distributed:
        # accelerate keeps device and precision once per process and refuses a second run with others.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    precision = "no" if settings.precision == "fp32" else settings.precision
    if on_cpu and precision == "bf16" and not _computes_bfloat16():
        precision = "no"
    return Accelerator(cpu=on_cpu, mixed_precision=precision, gradient_accumulation_steps=settings.accumulate)


def refuse_device(settings: TrainingSettings, device: str) -> bool:
    """Refuse a device that cannot be trained on, before data are prepared for it; say whether it is the CPU.

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
    return on_cpu


def _computes_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; one that torch does not describe is believed to."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    found = tell() if tell else {}
    if found.get("architecture") != "x86_64":
        return True
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_2"))
