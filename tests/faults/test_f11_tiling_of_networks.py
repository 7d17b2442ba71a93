"""F11: a convolution predicted in tiles equals the whole image, and tiles leave no seam.

The exactness of constants, ramps and identity for every stride and size is in
`tests/properties/test_tiling_properties.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from image2reg.images import blend_tiles, read_box

N_LAYERS, HALO = 2, 2


def network(n_axes, *, padding):
    """Two convolutions of width three with a nonlinearity; each reaches one voxel further."""
    torch.manual_seed(0)
    layer = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[n_axes]
    return torch.nn.Sequential(
        layer(1, 4, 3, padding=padding), torch.nn.GELU(), layer(4, 2, 3, padding=padding)
    ).eval()


def apply(net, values):
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None])[0].numpy()


def grown(box):
    return tuple(slice(part.start - HALO, part.stop + HALO) for part in box)


def tiled(predict, shape, tile, stride, **options):
    out = np.empty((2, *shape), np.float32)
    blend_tiles(
        lambda boxes: np.stack([predict(box) for box in boxes]),
        shape=shape,
        tile=tile,
        stride=stride,
        n_channels=2,
        sink=lambda box, values: out.__setitem__((slice(None), *box), values),
        **options,
    )
    return out


STRIDES_2D = [(tile, stride) for tile in (5, 8, 13) for stride in range(1, tile + 1, 1 if tile == 5 else 3)]


@pytest.mark.parametrize(("tile", "stride"), STRIDES_2D)
def test_tiles_with_their_halo_equal_the_whole_plane(tile, stride):
    shape = (23, 31)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    net = network(2, padding=0)
    whole = apply(net, np.pad(image, HALO, mode="reflect"))
    found = tiled(lambda box: apply(net, read_box(image, grown(box))), shape, (tile, tile), (stride, stride))
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 21, 17), (5, 16, 33), (7, 9, 11)])
@pytest.mark.parametrize(
    ("tile", "stride"), [((5, 8, 8), (1, 8, 5)), ((6, 9, 7), (4, 3, 7)), ((4, 16, 9), (3, 11, 2))]
)
def test_tiles_with_their_halo_equal_the_whole_stack(shape, tile, stride):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    net = network(3, padding=0)
    whole = apply(net, np.pad(image, HALO, mode="reflect"))

    def predict(box):
        return apply(net, read_box(image, grown(box)))

    # Where the tile is longer than the axis its end lies outside, so only inside the image can be compared.
    found = tiled(predict, shape, tile, stride, block=(5, 7, 6))
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)


def seam_ratio(stride):
    """Mean absolute step across tile borders over the mean elsewhere, for a network that pads every tile with zeros."""
    shape, tile = (512, 512), (64, 64)
    rng = np.random.default_rng(0)
    image = rng.normal(3, 1, shape).astype(np.float32)
    net = network(2, padding=1)
    found = tiled(lambda box: apply(net, read_box(image, box)), shape, tile, (stride, stride))
    steps = np.abs(np.diff(found, axis=2)).mean(axis=(0, 1))
    borders = np.zeros(steps.size, bool)
    starts = range(0, 512 - 64 + 1, stride)
    for start in starts:
        borders[[position for position in (start - 1, start + 63) if 0 <= position < steps.size]] = True
    return steps[borders].mean() / steps[~borders].mean()


def test_overlap_leaves_no_seam():
    """Without overlap the zero padding shows at every border; with overlap it is faded out."""
    assert seam_ratio(64) > 1.1, "the measure sees a seam where there is one"
    assert abs(seam_ratio(32) - 1) < 0.05
    assert abs(seam_ratio(48) - 1) < 0.05
