"""A user's own control nuclei: any unit of brightness becomes the model's, as one set, and what is unknown is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import DataError
from image2reg.nuclei.crops import Crops
from morphgen import planted
from morphgen.controls import fitting_controls
from morphgen.sample import MorphologyGenerator, load


@pytest.fixture(scope="module")
def shipped() -> MorphologyGenerator:
    return load("planted-nuclei", device="cpu")


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return planted.dataset("validation", n_per_signature=2).controls


def crops(images: np.ndarray, *, um: float | None = 0.656, channel: str = "DNA", masks=None) -> Crops:
    table = pd.DataFrame({"Metadata_Object": np.arange(len(images)).astype(str)})
    return Crops(images, table, masks, (channel,), (um, um), "own.zarr")


@pytest.mark.parametrize(("kind", "gain", "dark"), [("u2", 1500, 120), ("u1", 180, 9), ("f4", 0.03, 0.002)])
def test_camera_counts_become_the_models_units_as_one_set(shipped, truth, kind, gain, dark) -> None:
    noise = np.random.default_rng(0).normal(0, 0.004, truth.shape)
    counts = np.clip(gain * (truth + noise) + dark, 0, None)
    own = (counts if kind == "f4" else np.rint(counts)).astype(kind)
    made, (note,) = fitting_controls(crops(own), shipped)
    shown = truth > 0.05
    slope, level = np.polyfit(truth[shown], made[shown], 1)
    assert slope == pytest.approx(1, abs=0.15)
    assert level == pytest.approx(0, abs=0.02)
    assert np.corrcoef(own.ravel(), made.ravel())[0, 1] > 0.999  # one line for the whole set
    assert f"All {len(own)} crops together were brought to them" in note
    generated = shipped.generate(
        planted.signature_table("unseen").rows(np.array([0])), n=1, control=made, steps=1
    )
    assert np.isfinite(np.asarray(generated.images)).all()


def test_masks_say_what_is_background(shipped, truth) -> None:
    counts = (1500 * truth + 120).astype(np.uint16)
    crowded = np.concatenate([counts[..., 16:48, 16:48]] * 2, axis=3)
    crowded = np.concatenate([crowded] * 2, axis=2)  # nuclei fill most of it
    made, _ = fitting_controls(crops(crowded, masks=(crowded[:, 0] > 180).astype(np.uint8)), shipped)
    assert np.median(made[crowded <= 180]) == pytest.approx(0, abs=1e-3)


def test_controls_in_the_models_units_stay_as_they_are(shipped, truth) -> None:
    for brighter in (0.4, 1.0, 2.5):
        made, notes = fitting_controls(crops(brighter * truth), shipped)
        assert np.array_equal(made, brighter * truth)
        assert not notes


def test_an_unknown_pixel_size_is_said_and_other_channels_are_refused_with_the_next_step(
    shipped, truth
) -> None:
    _, (note,) = fitting_controls(crops(truth, um=None), shipped)
    assert "the size of a pixel is unknown and taken to be the model's, 0.656 x 0.656 um" in note
    with pytest.raises(
        DataError, match=r"channels \['channel_0'\].*image2reg crops --size 64 --channel DNA\."
    ):
        fitting_controls(crops(truth, channel="channel_0"), shipped)
