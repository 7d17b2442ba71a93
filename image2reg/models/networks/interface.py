"""What every image-to-image network states about itself, and how a trained one is made ready to predict."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["ImageNetwork", "deploy"]


class ImageNetwork(nn.Module):
    """Maps (B, C, *spatial) to (B, K, *spatial).

    Attributes
    ----------
    dims : 2 or 3
        Spatial axes. A 2D network takes the planes of a stack as channels (2.5D).
    divisor : tuple of int
        What the length of each spatial axis must be a multiple of.
    """

    dims: int
    divisor: tuple[int, ...]


def deploy(network: ImageNetwork) -> ImageNetwork:
    """Make a trained network ready to predict, in place: fixed statistics, fewer operations, fast memory layout.

    Every batch normalisation that directly follows a convolution is folded into its weights (Jacob 2018, section
    3.2), which changes nothing but rounding. The network can be trained no more.
    """
    network.eval()
    for parent in network.modules():
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
                    transpose=isinstance(conv, _ConvTransposeNd),
                )  # fmt: skip
                setattr(parent, name, nn.Identity())
    layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
    return network.to(memory_format=layout)  # type: ignore[call-overload]
