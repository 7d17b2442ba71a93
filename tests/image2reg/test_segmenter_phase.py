"""Confluence from texture: drawn cells, and the published time lapse whose authors counted it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from image2reg.images.image import Image
from image2reg.nuclei.segmenters.catalogue import load_segmenter
from image2reg.nuclei.segmenters.interface import Segmenter
from image2reg.nuclei.segmenters.one_image import segment_image
from image2reg.nuclei.segmenters.phase import confluence, local_contrast


@pytest.fixture(scope="module")
def half_covered() -> np.ndarray:
    """Texture on the left half, camera noise on the right (synthetic)."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=(200, 200)), 1.5)
    image = 120 + rng.normal(0, 1, (200, 200))
    image[:, :100] += 25 * texture[:, :100] / texture.std()
    return image


def test_what_has_texture_is_covered(half_covered) -> None:
    segmenter = load_segmenter("texture")
    assert isinstance(segmenter, Segmenter)
    labels = segmenter.segment(half_covered)
    assert labels.max() == 1
    assert confluence(labels) == pytest.approx(0.5, abs=0.03)
    assert confluence(segmenter.segment(half_covered[:, 110:])) == 0
    np.testing.assert_array_equal(labels, segmenter.segment(3 * half_covered))  # exposure does not matter


def test_local_contrast_of_a_flat_and_of_a_dark_image_is_zero() -> None:
    assert local_contrast(np.full((20, 20), 80.0)).max() < 1e-6
    assert not local_contrast(np.zeros((20, 20))).any()


def test_confluence_follows_the_published_curve(shared_data) -> None:
    from skimage.io import imread

    folder = shared_data / "phase_wound_timelapse"
    rows = [line.split() for line in (folder / "area_curves" / "exampleAA.area").read_text().splitlines()]
    theirs = {row[0]: float(row[-1].rstrip("%")) for row in rows if row}
    pictures = [path for path in sorted((folder / "AA").glob("*.jpg"))[::4] if path.stem[-3:] in theirs]
    assert len(pictures) == 3
    ours = [100 * confluence(load_segmenter("texture").segment(imread(path))) for path in pictures]
    published = [theirs[path.stem[-3:]] for path in pictures]
    np.testing.assert_allclose(ours, published, atol=6)  # points of per cent, another method than theirs
    assert np.corrcoef(ours, published)[0, 1] > 0.99


def test_the_edge_of_what_registration_padded_is_no_texture(half_covered) -> None:
    padded = half_covered.copy()
    padded[:20], padded[:, -30:] = 0, 0
    labels, facts = segment_image(load_segmenter("texture"), Image(padded, "YX"))
    outside = padded == 0
    assert not labels.data[outside].any()
    assert not labels.data[:, 110:].any()
    assert facts["confluence"] == pytest.approx((labels.data[~outside] > 0).mean())
