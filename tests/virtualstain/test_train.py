"""Training end to end on small synthetic fields: it learns, resumes bitwise, and ends in a bundle that predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_fields import FLAT, make_field

from image2reg.errors import DataError
from image2reg.images import Image
from image2reg.models.train import fit
from virtualstain.bundling import Facts
from virtualstain.fields import padding_mask, standardise
from virtualstain.model import load
from virtualstain.networks import build_network
from virtualstain.predict import predict
from virtualstain.recipe import Recipe
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
