"""Encoders of nuclei: what they learn, what they must not, what a bundle gives back"""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from drawn_nuclei import drawn_crops, small_recipe
from small_models import rewrite_spec

from image2reg.embedding.ablation import ablate, matched
from image2reg.embedding.crossvalidation import cross_validate
from image2reg.embedding.encoder import embed, load_encoder, save_encoder
from image2reg.embedding.groups import group_of, known_levels, refuse_untestable, stratified_folds
from image2reg.embedding.inputs import measure_scale, prepare
from image2reg.embedding.levels import score_levels
from image2reg.embedding.networks import build_encoder
from image2reg.embedding.objectives import supervised_contrast, variance_invariance_covariance
from image2reg.embedding.score_cam import explain_crops
from image2reg.embedding.training import EncoderTask, train_encoder
from image2reg.embedding.wells import cross_validate_wells, mean_by_well
from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.interruption import Interrupted
from image2reg.models.settings import TrainingSettings
from image2reg.tables import Profiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from image2reg.nuclei.crops import Crops


def treatment(crops: Crops) -> NDArray:
    return crops.column("Metadata_Treatment")


def test_a_well_tint_is_learned_by_nucleus_split_and_not_by_well_split() -> None:
    # I1: no biology in it, only a brightness per well
    crops = drawn_crops(96, signal="tint", wells=4)
    table = score_levels(
        crops, treatment(crops), small_recipe(60), levels=["nucleus", "well"], n_folds=2
    ).set_index("group kept whole")
    assert table.loc["nucleus", "balanced accuracy"] > table.loc["well", "balanced accuracy"] + 0.2
    assert table.loc["well", "balanced accuracy"] < 0.65


def test_levels_are_those_the_metadata_tell_apart() -> None:
    crops = drawn_crops()
    assert known_levels(crops.metadata) == ["nucleus", "field", "plate"]
    table = score_levels(crops, treatment(crops), small_recipe(2), levels=["batch"])
    assert "needs column 'Metadata_Batch'" in table.note[0]
    assert np.isnan(table["balanced accuracy"][0])


def test_fields_that_lie_in_no_wells_are_fields() -> None:
    metadata = pd.DataFrame(
        {"Metadata_Site": ["control 1", "control 1", "drug 1"], "Metadata_Object": ["1", "2", "1"]}
    )
    assert group_of(metadata, "field").tolist() == ["control 1", "control 1", "drug 1"]
    assert known_levels(metadata) == ["nucleus", "field"]
    with pytest.raises(DataError, match="group 'well' needs column 'Metadata_Well'"):
        group_of(metadata, "well")


def test_the_ablation_finds_a_signal_that_is_in_the_region_only() -> None:
    # I2
    crops = drawn_crops(72, signal="region")
    table = ablate(crops, treatment(crops), small_recipe(15), group="well", n_folds=2).set_index("input")
    assert table.loc["region, nucleus blanked", "AUC"] > 0.9
    assert table.loc["region only, nucleus in it", "AUC"] > 0.9
    assert table.loc["nucleus only", "AUC"] < 0.7
    assert list(table.index)[-2:] == ["nucleus only, size-matched", "nucleus only, DNA-intensity-matched"]


def test_matched_nuclei_have_one_distribution() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(1, 1, 400)])
    labels = np.repeat(["a", "b"], [500, 400])
    kept = matched(values, labels)
    means = [values[kept][labels[kept] == c].mean() for c in "ab"]
    assert abs(means[0] - means[1]) < 0.05
    assert (labels[kept] == "a").sum() == (labels[kept] == "b").sum()


@pytest.mark.parametrize("objective", ["classification", "supervised_contrast", "self_supervised"])
def test_every_objective_tells_a_bright_rim_from_a_bright_centre(objective: str) -> None:
    crops = drawn_crops(96)
    found = cross_validate(
        crops,
        treatment(crops),
        small_recipe(20, objective=objective, variant="nucleus"),
        group="well",
        n_folds=2,
    )
    assert found.auc() > 0.9
    assert found.by_well().auc() > 0.9
    assert len(found.by_well().labels) == 12


def test_a_label_that_is_the_plate_in_disguise_is_refused_with_the_table() -> None:
    labels = np.repeat(["a", "b"], 20)
    plates = np.repeat(["p1", "p2", "p3", "p4"], 10)
    with pytest.raises(DataError, match=r"(?s)every plate holds a single label.*in disguise.*p1 +10 +0"):
        refuse_untestable(labels, plates, group="plate")
    with pytest.raises(DataError, match="label 'b' occurs in one plate only"):
        refuse_untestable(labels, np.repeat(["p1", "p2"], [30, 10])[::-1], group="plate")
    with pytest.raises(DataError, match="all nuclei have the label 'a'"):
        refuse_untestable(labels[:20], plates[:20], group="plate")
    refuse_untestable(labels, plates, group="well")  # wells always hold one label


def test_every_label_is_in_every_training_part() -> None:
    # wells of several labels: a first draw puts both wells of one label into the same fold
    rng = np.random.default_rng(837)
    n_groups, _ = rng.integers(3, 9), rng.integers(2, 4)
    keys = np.repeat([f"g{i}" for i in range(n_groups)], rng.integers(1, 30, n_groups)).astype(object)
    rng.random()
    labels = np.array([f"l{i}" for i in rng.integers(0, 3, len(keys))], dtype=object)
    folds = stratified_folds(labels, keys, 3, seed=837)
    assert all(set(labels[train]) == {"l0", "l1", "l2"} for train, _ in folds)
    # l0 in wells 1 and 2, l1 in 2 and 3, l2 in 3 and 1: two folds always hold both wells of one label
    labels, keys = np.array(list("aabbcc"), dtype=object), np.array(list("122331"), dtype=object)
    with pytest.raises(DataError, match="cannot be put into 2 folds that each leave every label in training"):
        stratified_folds(labels, keys, 3)


def test_nuclei_without_a_label_are_no_class() -> None:
    crops = drawn_crops(24)
    labels = treatment(crops).copy()
    labels[:5] = ""
    with pytest.raises(DataError, match="5 of 24 nuclei have no label; leave them out first"):
        train_encoder(crops, labels, small_recipe(2))
    with pytest.raises(DataError, match="5 of 24 nuclei have no label; leave them out first"):
        cross_validate(crops, labels, small_recipe(2), group="well")


def test_what_cannot_be_matched_is_a_row_with_a_reason() -> None:
    crops = drawn_crops(48, signal="size")
    treated = treatment(crops) == "b"
    masks = np.array(crops.masks)
    masks[treated] = 1  # no untreated nucleus is that large
    table = ablate(replace(crops, masks=masks), treatment(crops), small_recipe(2), group="well", n_folds=2)
    row = table.set_index("input").loc["nucleus only, size-matched"]
    assert "share no range of this measure" in row["note"]
    assert np.isnan(row["AUC"])
    assert np.isfinite(table["balanced accuracy"][:6]).all()


@pytest.mark.parametrize("objective", ["supervised_contrast", "self_supervised"])
def test_only_classification_has_classes(tmp_path: Path, objective: str) -> None:
    crops = drawn_crops(30)
    labels = np.array(["a", "b", "c"], dtype=object)[np.arange(30) % 3]
    save_encoder(train_encoder(crops, labels, small_recipe(2, objective=objective)), tmp_path / "bundle")
    encoder = load_encoder(tmp_path / "bundle")
    assert encoder.classes == ()
    with pytest.raises(ConfigurationError, match="It must be trained by classification"):
        explain_crops(encoder, crops, "a")


def test_a_bundle_gives_back_the_same_embedding(tmp_path: Path) -> None:
    crops = drawn_crops(40)
    made = train_encoder(crops, treatment(crops), small_recipe(5))
    save_encoder(made, tmp_path / "bundle")
    back = load_encoder(tmp_path / "bundle")
    profiles = embed(crops, back, batch=16)
    np.testing.assert_allclose(profiles.values, made.embed(crops), atol=1e-5)
    assert profiles.features[0] == "Nuclei_Embedding_000"
    assert set(profiles.column("Metadata_Origin")) == {"real"}
    assert back.classes == ("a", "b")
    for change, text in (
        (lambda spec: spec["architecture"]["arguments"].update(n_features=10**9), "the network has"),
        (
            lambda spec: spec["domain"].pop("nuclear"),
            r"domain is not what .*nucleus-encoder.* \(KeyError: 'nuclear'",
        ),
        (lambda spec: spec["domain"].update(nuclear="a/b"), "domain is not what .* could not convert"),
        (lambda spec: spec["domain"].update(nuclear=[1.0, 2.0]), "domain is not what .* differ in length"),
        (lambda spec: spec["domain"].update(scaled_channels=[[None]]), "domain is not what .* are no names"),
    ):
        shutil.copytree(tmp_path / "bundle", tmp_path / "other", dirs_exist_ok=True)
        rewrite_spec(tmp_path / "other", lambda spec, change=change: change(spec) and None)
        with pytest.raises(BundleError, match=text):
            load_encoder(tmp_path / "other")
    (tmp_path / "bundle" / "config.yaml").write_text("")
    with pytest.raises(BundleError):
        load_encoder(tmp_path / "bundle")


def test_crops_at_another_scale_than_in_training_are_refused(tmp_path: Path) -> None:
    crops = replace(drawn_crops(24), voxel_um=(0.65, 0.65))
    save_encoder(train_encoder(crops, treatment(crops), small_recipe(2)), tmp_path / "bundle")
    encoder = load_encoder(tmp_path / "bundle")
    embed(replace(crops, voxel_um=(None, None)), encoder)
    with pytest.raises(
        DataError,
        match=r"pixels of \(0\.325, 0\.325\) um .*, but encoder .* was trained on pixels of \(0\.65, 0\.65\) um",
    ):
        embed(replace(crops, voxel_um=(0.325, 0.325)), encoder)
    larger = drawn_crops(24, size=48)
    with pytest.raises(
        DataError, match=r"crops of 48 px, but encoder .* was trained on crops of 24 px.*--size 24"
    ):
        embed(larger, encoder)
    nucleus = train_encoder(crops, treatment(crops), small_recipe(2, variant="nucleus"))
    assert len(embed(larger, nucleus)) == 24


def test_the_same_seed_trains_the_same_encoder() -> None:
    crops = drawn_crops(40)
    first, second = (train_encoder(crops, treatment(crops), small_recipe(4)).embed(crops) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_foreign_encoder_needs_one_method() -> None:
    class Means:
        def embed(self, crops: Crops) -> NDArray:
            return np.asarray(crops.images).mean(axis=(2, 3))

    class Broken:
        def embed(self, crops: Crops) -> NDArray:
            return np.full((len(crops), 2), np.nan)

    crops = drawn_crops(20)
    assert embed(crops, Means(), origin="generated").values.shape == (20, 1)
    with pytest.raises(DataError, match="40 numbers not finite"):
        embed(crops, Broken())


def test_the_published_design_has_its_sizes() -> None:
    network = build_encoder(
        "two_branch_resnet18", branches=["nucleus", "context"], n_channels=1, n_features=1024, n_classes=42
    )
    weights = sum(p.numel() for p in network.parameters())
    assert 23.5e6 < weights < 25e6
    with torch.inference_mode():
        x = torch.rand(2, 1, 32, 32)
        assert network.eval()({"nucleus": x, "context": x}).shape == (2, 42)


def test_inputs_hold_what_their_name_says() -> None:
    crops = drawn_crops(6, signal="region")
    scale = measure_scale(crops)
    own, others = np.asarray(crops.masks) == 1, np.asarray(crops.masks) == 2
    nucleus = prepare(crops, scale, small_recipe(), "nucleus")
    region = prepare(crops, scale, small_recipe(), "context")
    assert set(nucleus) == {"nucleus"}
    assert not nucleus["nucleus"][:, 0][~own].any()
    assert not region["context"][:, 0][own].any()
    assert region["context"][:, 0][others].mean() > 0.1
    assert set(np.unique(prepare(crops, scale, small_recipe(), "binary")["nucleus"])) == {0, 1}
    with pytest.raises(DataError, match="smaller than nucleus_px=32"):
        prepare(crops, scale, small_recipe(nucleus_px=32))
    with pytest.raises(DataError, match="channel 'GFP' is missing"):
        prepare(crops, scale, small_recipe(channels=("GFP",)))


def test_objectives_at_their_optimum_and_off_it() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert supervised_contrast(apart, labels) < 0.01
    assert supervised_contrast(apart, torch.tensor([0, 1, 0, 1])) > 5
    torch.manual_seed(0)
    views = torch.randn(512, 4) * 1.2
    assert variance_invariance_covariance(views, views) < 0.2
    assert variance_invariance_covariance(views, torch.zeros(512, 4)) > 30


def test_wells_by_mean_and_by_attention() -> None:
    crops = drawn_crops(240, signal="size")
    area = (np.asarray(crops.masks) == 1).sum(axis=(1, 2)).astype(float)
    noise = np.random.default_rng(0).normal(size=(240, 3))
    frame = crops.metadata.assign(Nuclei_AreaShape_Area=area, Nuclei_A=noise[:, 0], Nuclei_B=noise[:, 1])
    profiles = Profiles(frame)
    means = mean_by_well(profiles)
    assert len(means) == 12
    assert set(means.column("Metadata_Count")) == {"20"}
    settings = TrainingSettings(steps=60, batch_size=8, learning_rate=5e-3, workers=0)
    for how in ("mean", "attention"):
        found = cross_validate_wells(
            profiles,
            treatment(crops),
            group="plate",
            how=how,
            positions=how == "attention",
            settings=settings,
        )
        assert found.auc() > 0.9, how
        assert len(set(found.groups)) == 3
    mixed = treatment(crops).copy()
    mixed[0] = "b"
    with pytest.raises(DataError, match="1 wells hold nuclei of several labels"):
        cross_validate_wells(profiles, mixed)
    with pytest.raises(ConfigurationError, match="how is 'median' with positions=False"):
        cross_validate_wells(profiles, treatment(crops), how="median")
    gap = profiles.values
    gap[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 240 nuclei have values that are not finite"):
        cross_validate_wells(profiles.with_values(gap), treatment(crops))


def test_attention_finds_the_few_nuclei_that_the_mean_averages_away() -> None:
    """Planted: in treated wells 15 % of the nuclei lie far off on both sides, so that well means are all alike."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(48, 40, 8))
    treated = np.arange(48) % 2 == 1
    values[treated, :3, 0] += 4
    values[treated, 3:6, 0] -= 4
    well = np.repeat(np.arange(48), 40)
    frame = pd.DataFrame(values.reshape(-1, 8)).add_prefix("Nuclei_Embedding_")
    frame = frame.assign(Metadata_Plate=[f"p{w // 8}" for w in well], Metadata_Well=[f"w{w}" for w in well])
    profiles, labels = Profiles(frame), np.where(treated, "b", "a")[well]
    assert cross_validate_wells(profiles, labels, how="mean").auc() < 0.7
    assert cross_validate_wells(profiles, labels, how="attention").auc() > 0.85


def test_a_fold_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops, recipe = drawn_crops(48), small_recipe(6)
    labels = treatment(crops)
    whole = cross_validate(crops, labels, recipe, group="plate", n_folds=2)
    batch, drawn = EncoderTask.batch, []

    def interrupted(task, step, rng):
        drawn.append(step)
        if len(drawn) == 7 + 4:  # the look at the first batch counts: in the second fold
            signal.raise_signal(signal.SIGINT)
        return batch(task, step, rng)

    monkeypatch.setattr(EncoderTask, "batch", interrupted)
    with pytest.raises(Interrupted):
        cross_validate(crops, labels, recipe, group="plate", n_folds=2, out=tmp_path / "folds")
    drawn.clear()
    monkeypatch.setattr(EncoderTask, "batch", lambda t, s, r: drawn.append(s) or batch(t, s, r))
    parts = cross_validate(crops, labels, recipe, group="plate", n_folds=2, out=tmp_path / "folds")
    assert [step for step in drawn if step] == [3, 4, 5, 6]
    np.testing.assert_array_equal(parts.probabilities, whole.probabilities)


def test_the_bundle_says_how_many_steps_were_taken(tmp_path: Path) -> None:
    crops = drawn_crops(24)
    recipe = small_recipe(500)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_minutes": 1e-9})})
    made = train_encoder(crops, treatment(crops), recipe, out=tmp_path / "run")
    bundle = save_encoder(made, tmp_path / "bundle")
    assert bundle.spec.training.steps == 1
    assert b'"computed"' in bundle.file("training.jsonl").read_bytes()


def test_an_encoder_is_not_trained_on_under_other_labels(tmp_path: Path) -> None:
    crops = drawn_crops(24)
    labels = treatment(crops)
    train_encoder(crops, labels, small_recipe(4), out=tmp_path)
    # the same nuclei together, the numbers of the classes exchanged; and two nuclei exchanged
    turned = np.where(labels == labels[0], "z", labels)
    moved = labels.copy()
    moved[[0, -1]] = moved[[-1, 0]]
    for other in (turned, moved):
        with pytest.raises(ConfigurationError, match=r"other settings \(labels: 2, sha256 .* -> 2, sha256 "):
            train_encoder(crops, other, small_recipe(4), out=tmp_path, resume=True)
    train_encoder(crops, labels, small_recipe(4), out=tmp_path, resume=True)
