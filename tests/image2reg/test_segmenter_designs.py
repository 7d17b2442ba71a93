"""What each design draws can be read back, and its network costs and shapes are what is promised."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from small_nuclei import discs
from torch.utils.flop_counter import FlopCounterMode

from image2reg.errors import ConfigurationError
from image2reg.nuclei.match import match
from image2reg.nuclei.segmenters import distance, hover_net, three_class
from image2reg.nuclei.segmenters.designs import NAMES, find_design

FRAME = 1104


@pytest.fixture(scope="module")
def touching() -> np.ndarray:
    """Nine nuclei, some of which touch."""
    centres = [(20, 20), (20, 47), (20, 90), (60, 20), (60, 60), (60, 87), (95, 30), (95, 60), (95, 95)]
    return discs((128, 128), centres)[1]


def perfect(name: str, labels: np.ndarray) -> np.ndarray:
    """The maps a faultless network would give."""
    if name == "distance_unet":
        nucleus, border, depth, _ = distance.targets(labels)
        return np.stack([8 * nucleus - 4, 8 * border - 4, depth])
    if name == "three_class_unet":
        return np.stack([three_class.targets(labels)[0] == k for k in range(3)]).astype(np.float32)
    nucleus, across, down = hover_net.targets(labels)
    return np.stack([1 - nucleus, nucleus, across, down])


@pytest.mark.parametrize(
    ("name", "module"),
    [("distance_unet", distance), ("three_class_unet", three_class), ("hover_net", hover_net)],
)
def test_what_a_design_draws_is_read_back(name, module, touching) -> None:
    maps = perfect(name, touching)
    rule = [distance.JoiningRule(distance.MIDDLE)] if name == "distance_unet" else []
    found = match(touching, module.decode(maps, 28.0, *rule), thresholds=[0.5, 0.8])
    assert found.at(0.5)["f1"] == 1.0
    assert found.at(0.8)["tp"] == 9
    np.testing.assert_array_equal(module.foreground(maps) > 0, touching > 0)
    nothing = perfect(name, np.zeros((64, 64), np.int32))
    assert module.decode(nothing, 28.0, *rule).max() == 0


def test_an_object_the_network_is_unsure_of_is_dropped_and_the_others_are_numbered_without_gaps(
    touching,
) -> None:
    maps = perfect("distance_unet", touching)
    doubtful = touching == touching[60, 60]
    maps[0][doubtful] = 1.0  # a probability of 0.73: foreground, but below `SURE`
    found = distance.decode(maps, 28.0, distance.JoiningRule(distance.MIDDLE))
    assert not found[doubtful].any()
    assert np.unique(found).tolist() == list(range(9))


@pytest.mark.parametrize(("row", "column"), [(-8, 64), (64, -8), (135, 64), (64, 135), (64, 64)])
def test_only_a_nucleus_that_the_image_cuts_needs_no_middle(row, column) -> None:
    _, labels = discs((128, 128), [(row, column)])
    maps = perfect("distance_unet", labels)
    maps[2] *= 0.3
    found = distance.decode(maps, 28.0, distance.JoiningRule(distance.MIDDLE))
    assert found.max() == (0 if (row, column) == (64, 64) else 1)


def test_touching_borders_are_drawn_only_where_nuclei_touch(touching) -> None:
    border = distance.targets(touching)[1] > 0
    assert border.any()
    assert not border[:, 100:].any()  # the last column of nuclei stands alone
    depth = distance.targets(touching)[2]
    peaks = [depth[touching == number].max() for number in range(1, 10)]
    np.testing.assert_allclose(peaks, 1.0)


def test_hover_distances_run_from_minus_one_to_one_in_every_nucleus(touching) -> None:
    _, across, down = hover_net.targets(touching)
    for plane in (across, down):
        for number in range(1, 10):
            inside = plane[touching == number]
            assert (inside.min(), inside.max()) == pytest.approx((-1, 1))
    assert not across[touching == 0].any()


def macs(name: str, size: tuple[int, int]) -> float:
    """Multiply-adds of one image of that size, counted on tensors without memory."""
    with torch.device("meta"):
        network, image = find_design(name).build().eval(), torch.empty(1, 2, *size)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(image)
    return counter.get_total_flops() / 2


def test_the_published_network_has_its_787_billion_multiply_adds_and_ours_a_fiftieth() -> None:
    theirs, ours = macs("three_class_unet", (FRAME, FRAME)), macs("distance_unet", (FRAME, FRAME))
    assert theirs / 1e9 == pytest.approx(787, abs=1)
    assert (
        theirs / ours >= 50
    )  # at the frame's own size; scaled to the working size of its nuclei it is fewer still


def test_the_fast_network_is_small() -> None:
    n_weights = sum(p.numel() for p in find_design("distance_unet").build().parameters())
    assert n_weights * 2 < 8_000_000


@pytest.mark.parametrize("name", ["distance_unet", "three_class_unet"])
def test_losses_fall_when_maps_come_closer(name, touching) -> None:
    design = find_design(name)
    wanted = torch.from_numpy(design.targets(touching))[None]
    module = {"distance_unet": distance, "three_class_unet": three_class}[name]
    good = torch.from_numpy(perfect(name, touching).astype(np.float32))[None]
    for value in module.loss(good, wanted).values():
        assert torch.isfinite(value)
    assert module.loss(good, wanted)["loss"] < module.loss(torch.zeros_like(good), wanted)["loss"]


def test_hover_distances_of_a_patch_do_not_depend_on_the_numbers(touching) -> None:
    renumbered = np.where(touching > 0, 3 * touching + 40, 0).astype(np.int32)
    np.testing.assert_array_equal(hover_net.targets(renumbered), hover_net.targets(touching))
    assert not hover_net.targets(np.zeros((8, 8), np.int32)).any()


def test_hover_net_reads_windows_of_256_and_its_losses_are_finite(touching) -> None:
    labels = np.pad(touching, ((0, 128), (0, 128)))
    wanted = torch.from_numpy(hover_net.targets(labels))[None]
    terms = hover_net.loss(torch.from_numpy(perfect("hover_net", labels))[None], wanted)
    assert terms["distance"] == 0
    assert all(torch.isfinite(value) for value in terms.values())
    with torch.device("meta"), torch.inference_mode():
        small = find_design("hover_net").build().eval()
        assert small.divisor == (256, 256)
        assert small(torch.empty(1, 2, 256, 512)).shape == (1, 4, 256, 512)


def test_an_unknown_design_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=f"'unet' is not known. Choose one of {', '.join(NAMES)}"):
        find_design("unet")


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed here"
)
def test_without_torchvision_mask_rcnn_says_what_to_install() -> None:
    with pytest.raises(
        ConfigurationError, match=r"needs torchvision, which does not load .*'virtualstain\[detect\]'"
    ):
        find_design("mask_rcnn").build()


def test_a_torchvision_that_does_not_fit_torch_is_named_too(monkeypatch) -> None:
    import builtins

    real = builtins.__import__

    def broken(name, *rest, **options):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(
        ConfigurationError, match=r"nms does not exist.*or choose another design: distance_unet"
    ):
        find_design("mask_rcnn").build()


def test_mask_rcnn_trains_and_reads_where_torchvision_works(touching) -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    design = find_design("mask_rcnn")
    network = design.build(size=128, most=20)
    x, wanted = torch.rand(1, 2, 128, 128), torch.from_numpy(design.targets(touching))[None]
    assert torch.isfinite(design.loss(network.train(), x, wanted)["loss"])
    labels, foreground = design.read(network.eval(), x)
    assert labels.shape == foreground.shape == (128, 128)


def test_mask_rcnn_boxes_hold_their_nuclei(touching) -> None:
    from image2reg.nuclei.segmenters.mask_rcnn import boxes, targets

    found = boxes(torch.from_numpy(targets(touching))[0].long())
    assert found["boxes"].shape == (9, 4)
    left, top, right, bottom = (int(v) for v in found["boxes"][0])
    rows, columns = np.nonzero(touching == 1)
    assert (top, bottom, left, right) == (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    np.testing.assert_array_equal(found["masks"][0].numpy() > 0, touching == 1)
    assert boxes(torch.zeros(8, 8, dtype=torch.long))["boxes"].shape == (0, 4)
