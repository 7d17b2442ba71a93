"""A short training ends in a bundle that segments, and a user's own images and masks become its fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_nuclei import discs, field, grid

from image2reg.config import load_config
from image2reg.errors import ConfigurationError, DataError
from image2reg.models.golden import verify
from image2reg.models.settings import TrainingSettings
from image2reg.nuclei.segmenters.appearance import AugmentSettings
from image2reg.nuclei.segmenters.catalogue import _run_sample, list_segmenters, load_segmenter
from image2reg.nuclei.segmenters.examples import NucleusField, Scaled, draw_patch
from image2reg.nuclei.segmenters.own_data import split_fields
from image2reg.nuclei.segmenters.recipe import SegmenterRecipe
from image2reg.nuclei.segmenters.training import Facts, TrainedSegmenter, train_segmenter

SHORT = TrainingSettings(
    steps=50, batch_size=4, learning_rate=4e-3, warmup_steps=5, ema_decay=0.8, validate_every=25, workers=0
)
RECIPE = SegmenterRecipe(
    name="tiny",
    design={"arguments": {"widths": [8, 16]}},
    patch=96,
    training=SHORT,
    augment=AugmentSettings(magnification=1.1, blur_px=0.5, noise=0.03),
)
FACTS = Facts(command="image2reg train segmenter --data x --out y", split="drawn nuclei")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainedSegmenter:
    splits = {
        "train": [field(n, source="A") for n in range(6)],
        "validation": [field(20)],
        "test": [field(30), field(31)],
    }
    return train_segmenter(splits, RECIPE, tmp_path_factory.mktemp("run"), facts=FACTS, device="cpu")


def test_training_ends_in_a_bundle_that_finds_nuclei(trained) -> None:
    scores = {m.name: m for m in trained.bundle.spec.metrics}
    assert scores["f1@0.5"].value > 0.9
    assert scores["f1@0.5"].ci95 is not None
    assert scores["f1@0.5"].floor is not None
    assert trained.bundle.spec.domain["nucleus_diameter_px"][0] >= 22
    image, _ = discs((210, 210), grid(4))
    again = load_segmenter(trained.bundle.directory, device="cpu")
    np.testing.assert_array_equal(
        again.segment(image, diameter_px=28), trained.segmenter.segment(image, diameter_px=28)
    )


def test_its_golden_sample_verifies_and_it_is_listed(trained, monkeypatch, tmp_path) -> None:
    assert verify(trained.bundle, _run_sample).passed
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny").symlink_to(trained.bundle.directory)
    monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(folder))
    rows = {row["name"]: row for row in list_segmenters()}
    assert rows["tiny"]["kind"] == "segmenter"
    assert rows["tiny"]["problem"] is None


def test_training_can_start_from_a_bundle_of_the_same_design_only(trained, tmp_path) -> None:
    start = str(trained.bundle.directory)
    once = RECIPE.model_copy(
        update={"start": start, "training": SHORT.model_copy(update={"steps": 6, "learning_rate": 1e-5})}
    )
    splits = {"train": [field(n) for n in range(2)], "test": [field(30)]}
    tuned = train_segmenter(splits, once, tmp_path / "tuned", facts=FACTS, device="cpu")
    assert tuned.bundle.spec.metrics[0].value > 0.8  # six steps from nothing find nothing
    other = once.model_copy(update={"design": SegmenterRecipe().design})
    with pytest.raises(
        ConfigurationError, match=r"the recipe asks for distance_unet {}\. Set design to what"
    ):
        train_segmenter(splits, other, tmp_path / "other", facts=FACTS, device="cpu")


def test_a_run_goes_on_with_its_own_recipe_and_split_only(tmp_path) -> None:
    def run(steps: int, splits: dict, **changes: object) -> None:
        every = {"validate_every": 1, "checkpoint_every": 1, "schedule": "constant"}
        settings = SHORT.model_copy(update={"steps": steps, **every})
        recipe = RECIPE.model_copy(update={"training": settings, "patch": 64, **changes})
        train_segmenter(splits, recipe, tmp_path, facts=FACTS, device="cpu", resume=steps > 6)

    splits = {"train": [field(0), field(1)], "validation": [field(20)], "test": [field(30)]}
    run(6, splits)
    # the best weights were chosen on field 20: it may not become a test field
    other = {**splits, "validation": splits["test"], "test": splits["validation"]}
    with pytest.raises(ConfigurationError, match=r"validation fields: 1, sha256 .* test fields: 1, sha256"):
        run(7, other)
    noisier = AugmentSettings(magnification=1.1, blur_px=0.5, noise=0.05)
    with pytest.raises(ConfigurationError, match=r"other settings \(augment\.noise: 0\.03 -> 0\.05\)"):
        run(7, splits, augment=noisier)
    run(7, splits, summary="another line for the card")


def test_a_folder_with_a_bundle_is_refused_before_any_step(tmp_path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(DataError, match=r"holds a training run \(bundle\)\. Pass --resume to continue it"):
        train_segmenter({"train": [field(0)]}, RECIPE, tmp_path, facts=FACTS, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_nothing_to_train_on_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="the training split is empty"):
        train_segmenter({"train": []}, RECIPE, tmp_path / "run", facts=FACTS, device="cpu")


def test_labels_of_another_size_than_the_image_are_refused() -> None:
    with pytest.raises(DataError, match=r"a: the image has shape \(8, 8\), its labels \(8, 9\)"):
        NucleusField("a", "g", np.zeros((8, 8)), np.zeros((8, 9), int))


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "1 of 64 voxels are NaN"), (1e300, "the largest value is")]
)
def test_images_that_no_network_can_learn_from_are_named(value, said) -> None:
    image = np.zeros((8, 8))
    image[3, 4] = value
    with pytest.raises(DataError, match=f"field 7: {said}"):
        NucleusField("field 7", "g", image, np.zeros((8, 8), int))


def test_nuclei_may_have_any_numbers_and_are_numbered_without_gaps() -> None:
    labels = np.zeros((64, 64), np.int64)
    labels[:, :20], labels[:, 20:40], labels[:, 50:] = 2**24, 2**24 + 1, 2**32 + 1
    made = NucleusField("a", "g", np.zeros(labels.shape), labels)
    assert made.labels.dtype == np.int32
    assert np.unique(made.labels).tolist() == [0, 1, 2, 3]
    assert (made.labels[:, 20:40] == 2).all()
    _, patch = draw_patch(Scaled.of(made), 64, AugmentSettings(), np.random.default_rng(0))
    assert set(np.unique(patch)) <= {0, 1, 2, 3}
    with pytest.raises(DataError, match="a: labels are float64; whole numbers are needed"):
        NucleusField("a", "g", np.zeros((8, 8)), np.zeros((8, 8)))


def test_patches_show_nuclei_where_their_labels_are() -> None:
    scaled = Scaled.of(field(3))
    rng = np.random.default_rng(0)
    plain = AugmentSettings(
        gamma=0, gain=0, offset=0, illumination=0, blur_px=0, noise=0, saturation=0, eight_bit=0
    )
    for _ in range(10):
        image, labels = draw_patch(scaled, 96, plain, rng)
        inside = image.numpy()[labels > 0]
        if inside.size:
            assert inside.mean() > 0.7
            assert image.numpy()[labels == 0].mean() < 0.3


def test_patches_are_a_function_of_the_random_numbers_alone() -> None:
    scaled = Scaled.of(field(3))
    first, second = (
        draw_patch(scaled, 64, AugmentSettings(nucleus_gain=0.3, cytoplasm=0.5), np.random.default_rng(5))
        for _ in range(2)
    )
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=0)
    assert np.isfinite(first[0].numpy()).all()


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Images and masks of six fields in two wells each, as users keep them."""
    for n in range(6):
        made = field(n)
        for kind, array in (("images", made.image), ("masks", made.labels.astype(np.uint16))):
            path = tmp_path / kind / f"plate1_{'ABC'[n % 3]}0{1 + n % 2}_s{n}.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, array)
    return tmp_path / "images", tmp_path / "masks"


def test_own_images_are_split_by_whole_groups(folders) -> None:
    splits, said = split_fields(*folders, SegmenterRecipe(), group="well")
    groups = {name: {f.group for f in fields} for name, fields in splits.items()}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))
    assert sum(map(len, splits.values())) == 6
    assert "by well: train" in said
    assert "seed 0" in said


def test_own_masks_may_number_nuclei_beyond_int32(folders) -> None:
    for path in sorted(folders[1].iterdir()):
        mask = tifffile.imread(path).astype(np.uint32)
        tifffile.imwrite(path, np.where(mask > 0, mask + 2**31, 0).astype(np.uint32))
    splits, _ = split_fields(*folders, SegmenterRecipe())
    assert [made.labels.max() for made in splits["train"]] == [12] * len(splits["train"])


def test_own_images_without_masks_or_groups_are_refused(folders, tmp_path) -> None:
    images, masks = folders
    with pytest.raises(DataError, match=r"Metadata_Donor is not known; known are .*split by another --group"):
        split_fields(images, masks, SegmenterRecipe(), group="donor")
    with pytest.raises(ConfigurationError, match=r"1 different plate value\(s\) cannot fill 3 splits"):
        split_fields(images, masks, SegmenterRecipe(), group="plate")
    next(iter(sorted(masks.iterdir()))).unlink()
    with pytest.raises(DataError, match="no labels of this name among 5 files"):
        split_fields(images, masks, SegmenterRecipe())


def test_recipes_refuse_unknown_keys_and_odd_patches(tmp_path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("kind: segmenter\nname: own\npatches: 96\n")
    with pytest.raises(ConfigurationError, match="patch"):
        load_config(SegmenterRecipe, path)
    path.write_text("kind: segmenter\nname: own\npatch: 100\n")
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        load_config(SegmenterRecipe, path)
