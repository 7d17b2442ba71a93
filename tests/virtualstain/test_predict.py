"""Prediction: any size, any format, the right channel and voxel size, or one clear refusal."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_models import rewrite_spec

from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.images import Image, read, tiff_planes
from virtualstain.model import StainModel, load
from virtualstain.networks.interface import StainNetwork
from virtualstain.predict import predict, predict_to

Factory = Callable[..., StainModel]


def image(
    shape: tuple[int, ...],
    axes: str,
    *,
    voxel: float | None = 0.5,
    channels: tuple[str, ...] = (),
    seed: int = 0,
) -> Image:
    data = np.random.default_rng(seed).integers(500, 1500, shape).astype(np.uint16)
    return Image(data, axes, (1.0 if voxel else None, voxel, voxel), channels, source="cells.tif")


@pytest.mark.parametrize("size", [(1, 1), (7, 16), (33, 50), (64, 17)])
def test_every_plane_size_comes_back_in_its_own_shape(make_model: Factory, size: tuple[int, int]) -> None:
    done = predict(make_model(), image((1, *size), "CYX") if min(size) > 1 else image((1, 2, 2), "CYX"))
    assert done.image.sizes["Y"], done.image.sizes["X"]
    if min(size) > 1:
        assert done.image.shape == (2, 1, *size)
    assert done.image.channels == ("Hoechst", "Mito")
    assert done.image.voxel_um == (1.0, 0.5, 0.5)
    assert np.isfinite(done.image.data).all()


@pytest.mark.parametrize("planes", [1, 3, 5, 20])
def test_a_3d_model_takes_any_number_of_planes(make_model: Factory, planes: int) -> None:
    done = predict(make_model(planes=8, flat=False), image((planes, 21, 30), "ZYX"))
    assert done.image.shape == (2, planes, 21, 30)


@pytest.mark.parametrize("scope", ["dataset", "image"])
def test_a_model_of_single_planes_goes_through_a_stack_plane_by_plane(
    make_model: Factory, scope: str
) -> None:
    model, stack = make_model(scope=scope), image((3, 24, 24), "ZYX")
    brighter = (stack.data * np.array([1, 3, 10])[:, None, None]).astype(np.uint16)
    stack = stack.replace(data=brighter)
    whole = predict(model, stack).image
    alone = [predict(model, stack.replace(data=stack.data[z : z + 1])).image.data[:, 0] for z in range(3)]
    assert whole.axes == "CZYX"
    np.testing.assert_allclose(whole.data, np.stack(alone, axis=1), rtol=1e-5, atol=1e-2)


def test_time_points_are_predicted_one_by_one(make_model: Factory) -> None:
    model, movie = make_model(), image((2, 1, 20, 20), "TCYX")
    done = predict(model, movie).image
    assert done.axes == "TCZYX"
    np.testing.assert_array_equal(done.data[1], predict(model, movie.select(time=1)).image.data)


def test_tiles_do_not_change_the_stain_away_from_borders(make_model: Factory) -> None:
    model, cells = make_model(scope="dataset"), image((1, 48, 48), "CYX")
    whole = predict(model, cells, tile=(1, 48, 48)).image.data
    tiled = predict(model, cells, tile=(1, 32, 32)).image.data
    spread = whole.std()
    assert np.abs(whole - tiled)[..., 4:-4, 4:-4].max() < 0.5 * spread
    assert np.abs(whole - tiled).mean() < 0.05 * spread


def test_gain_and_offset_of_the_camera_do_not_matter_under_scope_image(make_model: Factory) -> None:
    model, cells = make_model(scope="image"), image((1, 32, 32), "CYX")
    brighter = cells.replace(data=(3 * cells.data.astype(np.uint16) + 100))
    np.testing.assert_allclose(
        predict(model, cells).image.data, predict(model, brighter).image.data, rtol=1e-3, atol=0.5
    )


def test_channels_are_found_by_name_whatever_their_order(make_model: Factory) -> None:
    model, two = make_model(), image((2, 20, 20), "CYX", channels=("GFP", "Bright Field"))
    swapped = two.replace(data=two.data[::-1], channels=("BF", "GFP"))
    expected = predict(model, two).image.data
    np.testing.assert_array_equal(expected, predict(model, swapped).image.data)
    np.testing.assert_array_equal(expected, predict(model, two, channels=[1]).image.data)
    np.testing.assert_array_equal(expected, predict(model, two, channels=["1"]).image.data)
    assert not np.array_equal(expected, predict(model, two, channels=["GFP"]).image.data)


def test_a_missing_channel_names_what_there_is(make_model: Factory) -> None:
    two = image((2, 20, 20), "CYX", channels=("GFP", "RFP"))
    with pytest.raises(
        DataError, match=r"cells.tif: channel 'Brightfield' is missing.*\['GFP', 'RFP'\].*--channel"
    ):
        predict(make_model(), two)
    with pytest.raises(DataError, match="2 channels were given, model 'tiny' takes 1"):
        predict(make_model(), two, channels=["GFP", "RFP"])


def test_an_unknown_voxel_size_is_asked_for(make_model: Factory) -> None:
    with pytest.raises(
        DataError, match=r"no voxel size in the file along Y.*0\.5 x 0\.5 um.*Pass --voxel-um"
    ):
        predict(make_model(), image((1, 20, 20), "CYX", voxel=None))


def test_a_foreign_voxel_size_is_refused_or_resampled_and_said(make_model: Factory) -> None:
    coarse = image((1, 30, 34), "CYX", voxel=1.0)
    with pytest.raises(DataError, match=r"voxel size 1 x 1 x 1 um .* is outside .* 0\.5 .*--resample"):
        predict(make_model(), coarse)
    done = predict(make_model(), coarse, resample=True)
    assert done.image.shape == (2, 1, 30, 34)
    assert done.image.voxel_um == coarse.voxel_um
    assert any("resampled from" in flag for flag in done.flags)


class Unchanged(StainNetwork):
    """Gives its input as every stain."""

    dims, divisor = 2, (1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(1, 2, 1, 1)


def test_a_stain_of_a_resampled_image_lies_where_the_image_does(make_model: Factory) -> None:
    place = np.arange(101)
    ramp = np.broadcast_to(place.astype(np.float32)[:, None], (1, 101, 101)).copy()
    cells = Image(ramp, "CYX", (None, 0.25, 0.25))  # of twice the size: 101 pixels are not their multiple
    model = replace(make_model(scope="dataset"), network=Unchanged())
    stain = predict(model, cells, resample=True).image.data[0, 0, :, 50]
    out, scales = model.output_scale[0], model.bundle.spec.normalisation.input
    seen = (stain - out.centre) / out.scale * scales.scale[0] + scales.centre[0]
    np.testing.assert_allclose(seen[4:-4], place[4:-4], atol=0.05)


def test_a_voxel_size_within_tolerance_passes_as_it_is(make_model: Factory) -> None:
    assert predict(make_model(), image((1, 40, 40), "CYX", voxel=0.52)).flags == ()


@pytest.mark.parametrize("voxel", [0.05, 1.6])
def test_a_scale_at_which_nothing_could_be_seen_is_refused_even_to_be_resampled(
    make_model: Factory, voxel: float
) -> None:
    for resample in (True, False):
        with pytest.raises(
            DataError, match=r"too far from .* it takes \? x 0\.1 x 0\.1 to \? x 1\.25 x 1\.25 um"
        ):
            predict(make_model(), image((1, 40, 40), "CYX", voxel=voxel), resample=resample)


def test_images_that_a_model_can_say_little_about_are_called_so(make_model: Factory) -> None:
    small = predict(make_model(), image((1, 9, 12), "CYX"))
    assert "only 9 x 12 pixels" in small.flags[0]
    flat = predict(make_model(planes=8, flat=False), image((1, 40, 40), "CYX"))
    assert "one plane, and model 'tiny' was trained on stacks" in flat.flags[0]


def test_an_array_is_no_image_and_a_model_is_described_in_a_line(make_model: Factory) -> None:
    with pytest.raises(DataError, match=r"takes an Image, not ndarray.*Use read\(path\), or Image\(array"):
        make_model().predict(np.zeros((40, 40)))
    assert repr(make_model()).startswith("StainModel('tiny' 1.0.0: Brightfield to Hoechst, Mito, voxel")
    assert "\n" not in repr(make_model())


def test_a_stack_of_another_number_of_planes_is_refused(make_model: Factory) -> None:
    with pytest.raises(
        DataError, match=r"cells.tif: 4 planes in Z, but model 'tiny' was trained on stacks of 3"
    ):
        predict(make_model(planes=3), image((4, 20, 20), "ZYX"))
    assert predict(make_model(planes=3), image((3, 20, 20), "ZYX")).image.shape == (2, 1, 20, 20)


@pytest.mark.parametrize("scope", ["image", "dataset"])
def test_constant_and_non_finite_images_are_refused(make_model: Factory, scope: str) -> None:
    model, flat = make_model(scope=scope), image((1, 20, 20), "CYX")
    with pytest.raises(DataError, match="constant image"):
        predict(model, flat.replace(data=np.full((1, 20, 20), 7, np.uint16)))
    broken = flat.data.astype(np.float32)
    broken[0, 3, 4] = np.nan
    with pytest.raises(
        DataError, match=r"1 voxels of plane 0 are NaN or infinite, the first at \(Y, X\) = \(3, 4\)"
    ):
        predict(model, flat.replace(data=broken))
    with pytest.raises(DataError, match=r"largest value is .*; allowed"):
        predict(model, flat.replace(data=flat.data * 1e36))


def test_registration_padding_comes_back_as_zero_and_is_flagged(make_model: Factory) -> None:
    cells = image((1, 40, 40), "CYX")
    data = cells.data.copy()
    data[:, :, :6] = 0
    done = predict(make_model(), cells.replace(data=data))
    assert (done.image.data[..., :6] == 0).all()
    assert (done.image.data[..., 8:] != 0).all()
    assert "15.0% of the field is exactly zero" in done.flags[0]
    moving = image((4, 1, 40, 40), "TCYX")
    for time, width in enumerate((0, 6, 8, 6)):
        moving.data[time, ..., :width] = 0
    (flag,) = predict(make_model(), moving).flags
    assert flag.startswith("up to 20.0% of the field is exactly zero")


def test_padding_of_a_resampled_image_comes_back_as_zero_and_is_not_mixed_with_the_stain(
    make_model: Factory,
) -> None:
    model, padded = make_model(), image((2, 1, 48, 40), "TCYX", voxel=1.0)
    padded.data[0, ..., :7] = 0
    made = predict(model, padded, resample=True).image.data
    np.testing.assert_array_equal(made[0] == 0, np.broadcast_to(padded.data[0] == 0, made[0].shape))
    beside, further = (float(made[0, 0, 0, :, x].mean()) for x in (7, 9))
    assert beside == pytest.approx(further, abs=0.2 * abs(further))


def test_fluorescence_given_for_brightfield_is_flagged_once(make_model: Factory) -> None:
    cells = image((2, 1, 40, 40), "TCYX", channels=("Hoechst",))
    cells.data[..., 10:20, 10:20] += 20_000
    (flag,) = predict(make_model(), cells).flags
    assert "channel 'Hoechst' looks like fluorescence" in flag
    assert "takes Brightfield" in flag
    assert predict(make_model(), cells.replace(data=40_000 - cells.data)).flags == ()


def test_saturation_is_flagged(make_model: Factory) -> None:
    cells = image((1, 20, 20), "CYX")
    data = cells.data.copy()
    data[:, :10] = 65535
    assert any("saturated (65535)" in flag for flag in predict(make_model(), cells.replace(data=data)).flags)


def test_the_offset_of_the_training_microscope_moves_the_stain(make_model: Factory) -> None:
    cells = image((1, 40, 40), "CYX")
    moved, plain = predict(make_model(offset=(4, 0)), cells), predict(make_model(), cells)
    asked = predict(make_model(offset=(4, 0)), cells, input_frame=True)
    np.testing.assert_array_equal(asked.image.data, plain.image.data)
    assert plain.flags == ()
    assert "the stain lies on the input image" in asked.flags[0]
    assert "4, 0 pixels of the model (y, x) off the input (--input-frame" in moved.flags[0]
    assert asked.image.annotations["frame"] == "input"
    np.testing.assert_allclose(
        moved.image.data[..., 16:36, 8:32], plain.image.data[..., 12:32, 8:32], rtol=0.2, atol=60
    )


@pytest.mark.parametrize("name", ["out.ome.tif", "out.ome.zarr"])
def test_files_hold_what_memory_holds(make_model: Factory, tmp_path: Path, name: str) -> None:
    model, cells = make_model(planes=8, flat=False), image((9, 33, 41), "ZYX")
    predict_to(model, cells, tmp_path / name)
    back = read(tmp_path / name)
    assert back.channels == ("Hoechst", "Mito")
    assert back.voxel_um == (1.0, 0.5, 0.5)
    assert back.annotations["model"] == "tiny 1.0.0"
    assert back.annotations["unit"] == model.unit
    np.testing.assert_array_equal(back.to_axes("CZYX").load().data, predict(model, cells).image.data)
    with pytest.raises(DataError, match=r"already exists.*--overwrite"):
        predict_to(model, cells, tmp_path / name)


def test_a_compressed_plane_is_decoded_once_however_many_tiles(
    make_model: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, decoded = image((5, 40, 40), "ZYX"), []
    tifffile.imwrite(tmp_path / "c.tif", cells.data, compression="zlib", metadata={"axes": "ZYX"})
    decode = tiff_planes.decode_page
    monkeypatch.setattr(tiff_planes, "_CACHE_BYTES", 0)
    monkeypatch.setattr(tiff_planes, "decode_page", lambda *given: decoded.append(given[2]) or decode(*given))
    predict(make_model(planes=8, flat=False), read(tmp_path / "c.tif", voxel_um=(1.0, 0.5, 0.5)))
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_a_format_that_cannot_be_written_is_refused_before_the_work(
    make_model: Factory, tmp_path: Path
) -> None:
    worked: list[int] = []
    with pytest.raises(ConfigurationError, match=r"no writer for '\.png'; allowed are"):
        predict_to(
            make_model(),
            image((1, 20, 20), "CYX"),
            tmp_path / "a.png",
            progress=lambda n, _: worked.append(n),
        )
    assert not worked


def test_nothing_is_left_behind_by_a_refusal(make_model: Factory, tmp_path: Path) -> None:
    flat = image((1, 20, 20), "CYX").replace(data=np.full((1, 20, 20), 7, np.uint16))
    for name in ("a.ome.zarr", "a.ome.tif"):
        with pytest.raises(DataError):
            predict_to(make_model(), flat, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_that_is_not_finite_is_refused(make_model: Factory, tmp_path: Path) -> None:
    model, far = make_model(), image((1, 24, 24), "CYX")
    model = replace(model, network=copy.deepcopy(model.network))
    torch.nn.init.constant_(model.network.head.weight, 3e38)
    with pytest.raises(DataError, match=r"cells\.tif: model 'tiny' gives NaN or infinite values"):
        predict(model, far)
    with pytest.raises(DataError, match="gives NaN or infinite values"):
        predict_to(model, far, tmp_path / "stain.ome.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_does_not_say_the_unit_of_each_stain_is_refused(
    make_model: Factory, tmp_path: Path
) -> None:
    shutil.copytree(make_model().bundle.directory, folder := tmp_path / "tiny")
    for part, said in (("centre", "0 centres and 2 scales"), ("scale", "0 centres and 0 scales")):
        lacks = {part: [], "scope": "image"}
        rewrite_spec(folder, lambda content, lacks=lacks: content["normalisation"]["output"].update(lacks))
        with pytest.raises(
            BundleError, match=rf"normalisation\.output in bundle\.json has {said} for 2 stains"
        ):
            load(folder)
    rewrite_spec(folder, lambda content: content["outputs"][0].update(offset_px=[0, 10**30, 0]))
    with pytest.raises(BundleError, match=r"outputs\.0\.offset_px\.1: Input should be less than"):
        load(folder)
