"""Training end to end on small synthetic fields: it learns, resumes bitwise, and ends in a bundle that predicts."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_fields import DEEP, FLAT, make_field

from image2reg.errors import ConfigurationError, DataError
from image2reg.images import Image, read
from image2reg.images.padding import padding_mask
from image2reg.models.train import fit
from virtualstain import scoring
from virtualstain.bundling import Facts
from virtualstain.fields import fields_digest, standardise
from virtualstain.model import load
from virtualstain.networks import build_network
from virtualstain.patches import StainField
from virtualstain.predict import predict
from virtualstain.recipe import Recipe
from virtualstain.stack import ChannelStack
from virtualstain.train import StainTask, network_arguments, train

FACTS = Facts(command="a test")


def recipe(**changes: object) -> Recipe:
    training = {
        "steps": 40, "batch_size": 2, "learning_rate": 5e-3, "warmup_steps": 5, "validate_every": 20,
        "checkpoint_every": 20, "seed": 1, **changes.pop("training", {}),  # type: ignore[dict-item]
    }  # fmt: skip
    return Recipe(
        **{
            "name": "tiny", "targets": ("Hoechst", "Mito"), "network": FLAT, "patch": (1, 24, 24), "tile": (1, 64, 64),
            "augment": {"magnification": 1.1, "blur_px": 0, "gamma": 0, "illumination": 0}, "training": training,
            **changes,
        }  # type: ignore[arg-type]
    )  # fmt: skip


def splits(n: int = 4) -> dict[str, list]:
    return {
        "train": [make_field(s, 1, flat=True) for s in range(n)],
        "validation": [make_field(50, 1, flat=True)],
        "test": [make_field(60, 1, flat=True), make_field(61, 1, flat=True)],
    }


def test_training_learns_and_ends_in_a_bundle_that_predicts(tmp_path: Path) -> None:
    done = train(splits(), recipe(), tmp_path / "run", facts=FACTS)
    scores = done.scores.set_index(["channel", "metric"])["value"]
    assert scores["Hoechst", "pearson"] > 0.9
    assert (
        scores["Hoechst", "nrmse"] < done.scores.set_index(["channel", "metric"])["floor"]["Hoechst", "nrmse"]
    )
    test = splits()["test"][0]
    model = load(tmp_path / "run" / "bundle")
    stain = predict(model, Image(test.inputs[0], "ZYX", (1.0, 0.5, 0.5), source="cells")).image
    # Units come back: the model was trained on counts and predicts counts.
    assert np.corrcoef(stain.data[0].ravel(), test.targets[0].ravel())[0, 1] > 0.9
    assert abs(stain.data[0].mean() - test.targets[0].mean()) < 0.1 * test.targets[0].std() + 20


def test_whatever_training_sees_of_a_field_decides_whether_it_is_the_same() -> None:
    field = make_field(1, 5, flat=False)
    stored = StainField(**vars(field) | {"inputs": ChannelStack([field.inputs]), "name": "on disk"})
    assert fields_digest([field]) == fields_digest([stored])
    lone = replace(field, present=np.array([True, False]))
    seen = {fields_digest([field]), fields_digest([lone])}
    for z in range(5):  # any one plane of input or stain, not only the middle one
        for name, channel in (("inputs", 0), ("targets", 1)):
            changed = getattr(field, name).copy()
            changed[channel, z, 3, 4] += 1
            seen.add(fields_digest([replace(field, **{name: changed})]))
    changed = field.targets.copy()
    changed[1] = 0
    assert fields_digest([replace(lone, targets=changed)]) in seen  # a stain the field does not have
    seen.add(fields_digest([replace(field, valid=field.inputs[0, 0] > 1000)]))
    assert len(seen) == 13


@pytest.mark.parametrize("kind", ["regression", "gan"])
def test_resumed_training_is_bitwise_the_uninterrupted_one(tmp_path: Path, kind: str) -> None:
    extra = {"adversary": {"width": 4, "layers": 1}} if kind == "gan" else {}
    settings = recipe(
        loss={"l1": 1, "nuclei": 0}, training={"steps": 6, "warmup_steps": 1, "checkpoint_every": 3}, **extra
    )
    fields, _ = standardise(splits()["train"], settings)

    def task() -> StainTask:
        torch.manual_seed(3)
        return StainTask(build_network(**network_arguments(settings, planes=1)), settings, fields, ())

    whole = fit(task(), settings.training, tmp_path / "whole", device="cpu").last_state
    half = settings.training.model_copy(update={"steps": 3, "schedule": settings.training.schedule})
    constant = {"schedule": "constant"}
    a = fit(task(), settings.training.model_copy(update=constant), tmp_path / "a", device="cpu").last_state
    fit(task(), half.model_copy(update=constant), tmp_path / "b", device="cpu")
    b = fit(
        task(), settings.training.model_copy(update=constant), tmp_path / "b", resume=True, device="cpu"
    ).last_state
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], whole[name]) for name in a)


def test_the_adversary_is_trained_and_moves_the_generator(tmp_path: Path) -> None:
    settings = recipe(
        adversary={"width": 4, "layers": 1, "weight": 0.5}, training={"steps": 3, "warmup_steps": 1}
    )
    fields, _ = standardise(splits()["train"], settings)
    torch.manual_seed(0)
    task = StainTask(build_network(**network_arguments(settings, planes=1)), settings, fields, ())
    before = [p.detach().clone() for p in task.phases["discriminator"].parameters()]
    batch = task.batch(1, np.random.default_rng(0))
    terms = task.loss("generator", batch)
    assert {"adversarial", "features", "l1"} <= set(terms)
    fit(task, settings.training, tmp_path / "run", device="cpu")
    assert any(
        not torch.equal(a, b) for a, b in zip(before, task.phases["discriminator"].parameters(), strict=True)
    )


def test_missing_channels_are_allowed_per_field_but_not_everywhere() -> None:
    fields = splits()["train"]
    some = [replace(fields[0], present=np.array([True, False])), *fields[1:]]
    ready, _ = standardise(some, recipe())
    task = StainTask(build_network(**network_arguments(recipe(), planes=1)), recipe(), ready, ())
    assert torch.isfinite(task.loss("generator", task.batch(1, np.random.default_rng(0)))["loss"])
    none = [replace(f, present=np.array([True, False])) for f in fields]
    with pytest.raises(DataError, match="target 'Mito': no training field has it"):
        standardise(none, recipe())


def test_scales_are_the_data_sets_or_each_fields_own_as_asked() -> None:
    fields = splits()["train"]
    brighter = replace(fields[1], targets=fields[1].targets * 2)
    shared, _ = standardise([fields[0], brighter], recipe(target_normalisation={"scope": "dataset"}))
    own, _ = standardise([fields[0], brighter], recipe(target_normalisation={"scope": "image"}))
    assert shared[0].target_scale == shared[1].target_scale
    values = own[1].target_scale[0].apply(brighter.targets[0])
    assert abs(values.mean()) < 1e-3
    assert values.std() == pytest.approx(1, abs=1e-3)


def test_padding_is_found_at_the_border_only() -> None:
    stack = np.full((1, 3, 30, 40), 5)
    stack[:, :, :, :4] = 0
    stack[:, :, 10:14, 20:24] = 0
    found = padding_mask(stack)
    assert found[:, :4].all()
    assert found.sum() == 30 * 4
    assert not padding_mask(np.ones((1, 1, 8, 8))).any()
    assert not padding_mask(np.zeros((1, 1, 8, 8))).any()


def test_a_background_that_was_subtracted_is_no_padding() -> None:
    rng = np.random.default_rng(0)
    spots = np.zeros((120, 130))
    spots[tuple(rng.integers(10, 110, (2, 12)))] = 1
    stain = np.maximum(ndimage.gaussian_filter(spots, 4) * 1e5 - 50, 0).astype(np.uint16)
    assert (stain == 0).mean() > 0.5
    assert not padding_mask(stain[None, None]).any()
    corner = np.full((60, 60), 7)  # what stitching two fields leaves
    corner[:20, 40:] = 0
    assert padding_mask(corner[None, None]).sum() == 400


def test_privileged_nuclei_are_learnt_in_training_and_dropped_in_prediction(tmp_path: Path) -> None:
    data = {
        k: [replace(f, masks=(f.inputs[0, 0] > 1000).astype(int)) for f in v] for k, v in splits().items()
    }
    done = train(
        data, recipe(loss={"l1": 1, "nuclei": 0.5}, training={"steps": 10}), tmp_path / "run", facts=FACTS
    )
    assert done.bundle.spec.architecture.arguments["out_channels"] == 3
    model = load(tmp_path / "run" / "bundle")
    assert predict(model, Image(data["test"][0].inputs[0], "ZYX", (1, 0.5, 0.5))).image.channels == (
        "Hoechst",
        "Mito",
    )
    assert "nuclei" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_stains_are_asked_for_compressed_nuclei_and_inputs_are_not() -> None:
    fields = [replace(f, masks=(f.inputs[0, 0] > 1000).astype(int)) for f in splits()["train"]]
    drawn = {}
    for compression in (0.0, 1.0):
        told = recipe(loss={"l1": 1, "nuclei": 0.5, "compression": compression})
        training, _ = standardise(fields, told)
        network = build_network(**network_arguments(told, planes=1))
        drawn[compression] = StainTask(network, told, training, []).batch(0, np.random.default_rng(0))
    plain, compressed = drawn[0.0], drawn[1.0]
    torch.testing.assert_close(compressed["target"][:, :2], torch.asinh(plain["target"][:, :2]))
    assert torch.equal(compressed["target"][:, 2:], plain["target"][:, 2:])
    assert torch.equal(compressed["input"], plain["input"])


def test_a_bundle_says_that_its_stains_are_compressed(tmp_path: Path) -> None:
    told = recipe(loss={"l1": 1, "compression": 1.5}, training={"steps": 4, "warmup_steps": 1})
    limits = train(splits(2), told, tmp_path / "run", facts=FACTS).bundle.spec.limits
    assert any("beyond 1.5 standard deviations" in limit for limit in limits)


def test_an_ensemble_predicts_the_mean_of_its_members(tmp_path: Path) -> None:
    settings = recipe(members=2, training={"steps": 6, "warmup_steps": 1})
    done = train(splits(), settings, tmp_path / "run", facts=FACTS)
    assert done.bundle.spec.architecture.name == "ensemble"
    assert (tmp_path / "run" / "member-1" / "metrics.jsonl").exists()
    network = load(tmp_path / "run" / "bundle").network
    x = torch.randn(1, 1, 24, 24)
    with torch.no_grad():
        alone = [member(x) for member in network.members]
        assert torch.allclose(network(x), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_a_bundle_in_8_bits_is_smaller_and_scores_the_same(tmp_path: Path) -> None:
    sizes, scores = [], []
    for weights in ("float16", "int8"):
        done = train(splits(), recipe(weights=weights), tmp_path / weights, facts=FACTS)
        sizes.append(done.bundle.file("model.safetensors").stat().st_size)
        scores.append(done.scores.set_index(["channel", "metric"])["value"].xs("pearson", level="metric"))
    assert sizes[1] < 0.8 * sizes[0]  # of so small a network a good part is norms and names
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3)


def test_an_empty_training_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training split is empty"):
        train({"train": [], "test": splits()["test"]}, recipe(), tmp_path / "run", facts=FACTS)
    deep = recipe(network={"name": "fnet3d", "arguments": {"depth": 1, "width": 2}}, patch=(4, 16, 16))
    with pytest.raises(DataError, match="1 planes, but the recipe trains on patches of 4"):
        train(splits(), deep, tmp_path / "deep", facts=FACTS)


def of(planes: int, *, flat: bool = True, **changes: object) -> list:
    return [replace(make_field(planes, planes, flat=flat), **changes)]


DEEP_RECIPE = {"network": DEEP, "patch": (4, 24, 24)}
NO_STAIN = {"present": np.zeros(2, bool)}


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        ({"train": of(5), "validation": of(7)}, {}, r"field 7: 7 planes, field 5 has 5; a 2D network"),
        ({"train": of(5), "test": of(7)}, {}, r"field 7: 7 planes, field 5 has 5; a 2D network"),
        ({"train": of(5, flat=False)}, {}, r"stain has 5 planes, its input 5; a 2D network gives one plane"),
        ({"train": of(8)}, DEEP_RECIPE, r"stain has 1 plane, its input 8; a 3D network gives as many"),
        ({"train": of(1), "test": of(1, **NO_STAIN)}, {}, r"split 'test': none of its 1 fields has a real Hoechst"),
        ({"train": of(1), "test": of(1, voxel_um=(1.0, 0.1, 0.1))}, {}, r"voxel size 1 x 0.1 x 0.1 um .*voxel_y_um"),
        ({"train": of(1), "test": of(1, voxel_um=(None, None, None))}, {}, r"voxel size \? x \? x \? um"),
        ({"train": of(1)}, {"patch": (1, 25, 24)}, r"takes multiples of \[4, 4\] \(Y, X\)"),
        ({"train": of(8, flat=False)}, {**DEEP_RECIPE, "adversary": {"width": 4}}, r"too small for a discriminator"),
    ],
)  # fmt: skip
def test_what_would_fail_after_hours_is_refused_before_the_first_step(
    tmp_path: Path, data: dict[str, list], changes: dict[str, object], words: str
) -> None:
    with pytest.raises((DataError, ConfigurationError), match=words):
        train(data, recipe(**changes), tmp_path / "run", facts=FACTS)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_settings_that_no_bundle_could_hold_or_no_loss_could_use_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of them a weight"):
        recipe(loss={"l1": 0, "nuclei": 1})
    with pytest.raises(ValueError, match="name"):
        recipe(name="a" * 65)


def test_any_input_ends_in_a_golden_sample(tmp_path: Path) -> None:
    quick = recipe(training={"steps": 2, "warmup_steps": 1})
    many = train({"train": of(20), "test": of(20)}, quick, tmp_path / "many", facts=FACTS)
    assert many.bundle.spec.inputs[0].n_planes == 20
    large = make_field(1, 1, flat=True, size=(200, 210))
    inputs = large.inputs.astype(np.int64)
    inputs[..., :120, :120] = 0
    empty_corner = replace(large, inputs=inputs, valid=inputs[0, 0] > 0)
    done = train({"train": of(1), "test": [empty_corner]}, quick, tmp_path / "corner", facts=FACTS)
    assert read(done.bundle.file("sample/input.ome.tif")).load().data.std() > 0


def test_predicted_test_fields_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most = [], []

    def watched(*given: object) -> list:
        made = stain_fields(*given)
        held.extend(weakref.ref(item.prediction) for row in made for item in row)
        gc.collect()
        most.append(sum(ref() is not None for ref in held))
        return made

    stain_fields = scoring.stain_fields
    monkeypatch.setattr(scoring, "stain_fields", watched)
    quick = recipe(training={"steps": 2, "warmup_steps": 1})
    done = train({"train": of(5), "test": 8 * of(5)}, quick, tmp_path / "run", facts=FACTS)
    assert len(done.scored) == len(most) == 8
    assert max(most) <= 3 * len(quick.targets)  # the one in work, the one before, the first of all
    ranks = list(done.scored.ranks)
    assert np.isfinite(ranks).all()
    assert ranks == [scoring.mean_pearson(row) for row in done.scored]


def test_fields_without_a_stain_teach_nothing_and_stop_nothing(tmp_path: Path) -> None:
    quick = recipe(training={"steps": 3, "warmup_steps": 1})
    plain = replace(make_field(9, 5, flat=False), **NO_STAIN)
    done = train({"train": [*of(5), plain], "test": [*of(5), plain]}, quick, tmp_path / "run", facts=FACTS)
    assert [len(row) for row in done.scored] == [2]
