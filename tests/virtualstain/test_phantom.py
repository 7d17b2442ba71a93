"""The phantom: same seed, same bytes; its truth agrees with itself; odd shapes and empty dishes work."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from image2reg.errors import ConfigurationError
from virtualstain.phantom import PhantomSettings, make_phantom

SMALL = PhantomSettings(shape=(16, 96, 96), rounded_fraction=0.0)
CHANNELS = ("brightfield", "hoechst", "membrane", "mitochondria")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(SMALL.model_copy(update={"shape": (24, 160, 160)}), seed=3)


def test_same_seed_same_bytes_and_another_seed_another_field() -> None:
    first, again, other = (make_phantom(SMALL, seed=s) for s in (7, 7, 8))
    for name in CHANNELS:
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
        assert first.noise_free[name].tobytes() == again.noise_free[name].tobytes()
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes()
    assert first.nuclei.tobytes() == again.nuclei.tobytes()


def test_changing_the_camera_does_not_move_the_cells() -> None:
    clean = make_phantom(SMALL, seed=2)
    noisy = make_phantom(SMALL.model_copy(update={"hoechst_electrons": 20.0, "gain": 2.0}), seed=2)
    np.testing.assert_array_equal(clean.nuclei, noisy.nuclei)
    np.testing.assert_array_equal(clean.refractive_index, noisy.refractive_index)
    assert noisy.ceiling("hoechst") < clean.ceiling("hoechst")


def test_arrays_have_the_promised_shape_and_type(phantom) -> None:
    for name in CHANNELS:
        assert getattr(phantom, name).shape == phantom.noise_free[name].shape == (24, 160, 160)
        assert getattr(phantom, name).dtype == np.uint16
        assert phantom.noise_free[name].dtype == np.float32
    assert phantom.nuclei.dtype == np.int32
    assert phantom.targets().shape == (3, 24, 160, 160)
    assert phantom.targets(noisy=False)[0].tobytes() == phantom.noise_free["hoechst"].tobytes()


def test_noise_has_the_stated_gain_and_read_noise(phantom) -> None:
    settings = phantom.settings
    for name in CHANNELS:
        electrons = (phantom.noise_free[name] - settings.offset) / settings.gain
        expected = settings.gain**2 * (electrons + settings.read_noise_electrons**2) + 1 / 12
        residual = phantom.hoechst if name == "hoechst" else getattr(phantom, name)
        z_score = (residual - phantom.noise_free[name]) / np.sqrt(expected)
        assert abs(z_score.mean()) < 0.01
        assert z_score.std() == pytest.approx(1, abs=0.01)


def test_empty_dish_shows_only_lamp_and_camera() -> None:
    dish = PhantomSettings(shape=(4, 64, 64), cells_per_mm2=0, debris_per_mm2=0, illumination_variation=0)
    empty = make_phantom(dish, seed=1)
    assert not empty.nuclei.any()
    assert empty.dna_content.size == 0
    np.testing.assert_array_equal(empty.refractive_index, np.float32(dish.medium_index))
    np.testing.assert_allclose(empty.noise_free["brightfield"], 8100, rtol=1e-5)
    np.testing.assert_allclose(empty.noise_free["hoechst"], 104, rtol=1e-5)


def test_hoechst_shines_where_the_labels_are_and_nowhere_else(phantom) -> None:
    clean, inside = phantom.noise_free["hoechst"] - 104, phantom.nuclei > 0
    outside = ~ndimage.binary_dilation(inside, iterations=6)
    assert inside.any()
    assert clean[inside].mean() > 100 * max(clean[outside].mean(), 1e-3)


def test_integrated_hoechst_follows_the_dna_content() -> None:
    coarse = {"shape": (17, 288, 288), "voxel_um": (1.0, 0.26, 0.26), "cells_per_mm2": 3000.0}
    crowd = make_phantom(SMALL.model_copy(update=coarse), seed=5)
    labels, margin = crowd.nuclei, 2
    rim = np.ones(labels.shape, bool)
    rim[1:-1, margin:-margin, margin:-margin] = False
    whole = np.setdiff1d(np.unique(labels), np.append(np.unique(labels[rim]), 0))
    assert len(whole) >= 5
    grown = ndimage.grey_dilation(labels, size=(5, 3, 3))  # what the blur carried over the rim
    total = ndimage.sum(crowd.noise_free["hoechst"] - 104, grown, whole)
    assert np.corrcoef(total, crowd.dna_content[whole - 1])[0, 1] > 0.9


def test_nuclei_differ_from_their_surroundings_in_refractive_index(phantom) -> None:
    index, medium = phantom.refractive_index, phantom.settings.medium_index
    inside = phantom.nuclei > 0
    assert medium < index[inside].mean() < 1.37
    assert index.min() == pytest.approx(medium, abs=1e-4)
    assert index.max() < 1.47


def test_mitochondria_stay_out_of_nuclei_and_of_the_medium(phantom) -> None:
    clean = phantom.noise_free["mitochondria"] - 104
    core = ndimage.binary_erosion(phantom.nuclei > 0, iterations=3)
    assert clean[core].mean() < 0.15 * clean[clean > np.percentile(clean, 90)].mean()
    assert clean[-1].max() < 0.1 * clean.max()  # the top plane is medium


def test_brightfield_varies_through_focus_and_most_where_cells_are(phantom) -> None:
    image = phantom.noise_free["brightfield"]
    contrast = image.std(axis=(1, 2)) / image.mean(axis=(1, 2))
    assert 0.01 < contrast.min() < contrast.max() < 0.25
    assert np.corrcoef(image[4].ravel(), image[14].ravel())[0, 1] < 0.6


def test_ceiling_falls_with_the_light() -> None:
    scores = [
        make_phantom(SMALL.model_copy(update={"mitochondria_electrons": light}), seed=3).ceiling(
            "mitochondria"
        )
        for light in (10.0, 100.0, 1000.0)
    ]
    assert 0 < scores[0] < scores[1] < scores[2] < 1


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 33, 47), (40, 24, 24)])
@pytest.mark.parametrize("change", [{}, {"fluorescence": "widefield"}, {"rounded_fraction": 1.0}])
def test_any_shape_is_finite_and_has_content(shape, change) -> None:
    phantom = make_phantom(PhantomSettings(shape=shape, **change), seed=11)
    assert phantom.brightfield.shape == phantom.nuclei.shape == shape
    assert all(np.isfinite(volume).all() for volume in phantom.noise_free.values())


def test_thin_stack_is_a_window_into_the_same_culture() -> None:
    settings = SMALL.model_copy(update={"focus_jitter_um": 0.0, "shape": (9, 64, 64)})
    thick, thin = (
        make_phantom(settings, seed=4),
        make_phantom(settings.model_copy(update={"shape": (3, 64, 64)}), seed=4),
    )
    np.testing.assert_allclose(thin.refractive_index, thick.refractive_index[3:6], atol=1e-6)
    np.testing.assert_array_equal(thin.nuclei, thick.nuclei[3:6])


def test_widefield_has_more_haze_than_confocal() -> None:
    confocal, wide = (
        make_phantom(
            SMALL.model_copy(update={"fluorescence": kind, "shape": (32, 48, 48)}), seed=6
        ).noise_free["hoechst"]
        for kind in ("confocal", "widefield")
    )
    for_each = [(image[-1].mean() - 104) / (image.max() - 104) for image in (confocal, wide)]
    assert for_each[1] > 5 * for_each[0]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="cell_density"):
        PhantomSettings(cell_density=3)
    with pytest.raises(ConfigurationError, match=r"voxel_um y is 0\.5"):
        make_phantom(PhantomSettings(shape=(2, 16, 16), voxel_um=(0.5, 0.5, 0.5)))


def test_image_names_its_channels(phantom) -> None:
    pytest.importorskip("image2reg.images.image", reason="the image module is not there")
    image = phantom.image("brightfield", "hoechst")
    assert (image.axes, image.channels, image.voxel_um) == (
        "CZYX",
        ("brightfield", "hoechst"),
        (0.5, 0.25, 0.25),
    )
    assert image.shape == (2, 24, 160, 160)
