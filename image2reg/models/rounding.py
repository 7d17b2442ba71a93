"""Weights as bundles store them: matrices and kernels rounded to 16 or 8 bits, everything else as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Precision", "restored", "rounded"]

Precision = Literal["float16", "int8"]

# Beside a tensor of 8-bit numbers, under its name with this behind it: what they are multiplied by, per first index.
_STEP = ":step"
_LARGEST = 127
_SMALLEST = 1e-30  # a channel of zeros stays one


def rounded(state: Mapping[str, Tensor], precision: Precision = "float16") -> dict[str, Tensor]:
    """Round floating tensors of two axes and more; norms and biases, which are few, stay as they are.

    Parameters
    ----------
    state : mapping of str to Tensor
    precision : str
        float16: half the bytes of float32. int8: a quarter; the numbers of one channel (a tensor's first axis) are
        multiples of a step of its own, -127 to 127 (after Jacob 2018, section 3; without a zero point).

    Returns
    -------
    dict of str to Tensor
        `restored` undoes it, up to the rounding.
    """
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point() or value.ndim < 2:
            stored[name] = value
        elif precision == "float16":
            stored[name] = value.half()
        else:
            step = value.abs().flatten(1).amax(1).float().clamp_min(_SMALLEST) / _LARGEST
            stored[name] = (value / _spread(step, value)).round().to(torch.int8)
            stored[name + _STEP] = step
    return stored


def restored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give float32 weights again.

    Parameters
    ----------
    stored : mapping of str to Tensor
        From `rounded`, or in any floating precision; integers (counters) stay integers.
    """
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(_STEP) and name.removesuffix(_STEP) in stored:
            continue
        step = stored.get(name + _STEP)
        if step is not None and step.shape == value.shape[:1]:
            state[name] = value.float() * _spread(step, value)
        else:
            state[name] = value.float() if value.is_floating_point() else value
    return state


def _spread(step: Tensor, over: Tensor) -> Tensor:
    """Give a number per first index the axes of what it multiplies."""
    return step.reshape(-1, *[1] * (over.ndim - 1))
