"""A killed training loses at most one checkpoint interval and ends in the very weights of an uninterrupted one."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_generators import FACTS, diffusion_recipe, small_crops, small_signatures, vae_recipe

from image2reg.errors import ConfigurationError, DataError
from image2reg.models.bundle import load_bundle
from image2reg.tables.profiles import Profiles
from morphgen.sample import MorphologyGenerator
from morphgen.train import train_diffusion, train_vae

if TYPE_CHECKING:
    from pathlib import Path

ADVERSARY = "loss={adversary: 0.5, adversary_start: 1, adversary_width: 4, adversary_layers: 1}"


def killed_after(run: Path, copy: Path, step: int) -> Path:
    """What ``kill -9`` between `step` and the next checkpoint leaves behind."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "bundle")
    for checkpoint in (copy / "checkpoints").iterdir():
        if int(checkpoint.name.rpartition("_")[2]) > step:
            shutil.rmtree(checkpoint)
    return copy


def weights(run: Path) -> dict[str, bytes]:
    bundle = load_bundle(run / "bundle")
    return {n: bundle.file(n).read_bytes() for n in bundle.spec.files if n.endswith(".safetensors")}


def test_both_trainings_resume_bitwise(tmp_path) -> None:
    crops, changes = small_crops(), ("training.keep_checkpoints=5",)
    vae = train_vae(
        crops, crops, vae_recipe(ADVERSARY, *changes), tmp_path / "vae", facts=FACTS, device="cpu"
    )
    again = killed_after(tmp_path / "vae", tmp_path / "vae2", 2)
    train_vae(crops, crops, vae_recipe(ADVERSARY, *changes), again, facts=FACTS, resume=True, device="cpu")
    assert weights(tmp_path / "vae") == weights(again)

    recipe = diffusion_recipe("condition.noise=0.2", "condition.gene_dropout=0.1", *changes)
    train_diffusion(crops, None, vae, recipe, tmp_path / "d", facts=FACTS, device="cpu")
    again = killed_after(tmp_path / "d", tmp_path / "d2", 1)
    train_diffusion(crops, None, vae, recipe, again, facts=FACTS, resume=True, device="cpu")
    assert weights(tmp_path / "d") == weights(again)

    shutil.rmtree(again)
    shutil.copytree(tmp_path / "d" / "prior", again / "prior")
    shutil.rmtree(again / "prior" / "checkpoints" / "step_000020")  # killed while the prior was trained
    train_diffusion(crops, None, vae, recipe, again, facts=FACTS, resume=True, device="cpu")
    assert weights(tmp_path / "d") == weights(again)

    with pytest.raises(DataError, match="holds a training run"):
        train_diffusion(crops, None, vae, recipe, tmp_path / "d", facts=FACTS, device="cpu")


def test_a_training_goes_on_with_its_own_crops_and_split_only(tmp_path) -> None:
    crops = small_crops()
    held, kept, other = crops.rows(np.arange(6)), crops.rows(np.arange(6, 24)), crops.rows(np.arange(6, 12))
    vae = train_vae(kept, held, vae_recipe(), tmp_path / "vae", facts=FACTS, device="cpu")
    recipe = diffusion_recipe("prior.members=0")
    train_diffusion(kept, held, vae, recipe, tmp_path / "d", facts=FACTS, device="cpu")
    # as many crops, and the same ones to train on: its first batch looks the same
    said = r"other settings \(validation crops: 6, sha256 .* -> 6, sha256 "
    with pytest.raises(ConfigurationError, match=said):
        train_vae(kept, other, vae_recipe(), tmp_path / "vae", facts=FACTS, resume=True, device="cpu")
    with pytest.raises(ConfigurationError, match=said):
        train_diffusion(kept, other, vae, recipe, tmp_path / "d", facts=FACTS, resume=True, device="cpu")
    moved = dataclasses.replace(kept, signatures=kept.signatures.with_values(kept.signatures.values[::-1]))
    with pytest.raises(ConfigurationError, match="training crops: 18, sha256"):
        train_diffusion(moved, held, vae, recipe, tmp_path / "d", facts=FACTS, resume=True, device="cpu")


def test_signatures_without_crops_and_crops_without_a_signature_teach_nothing(tmp_path) -> None:
    crops = small_crops()
    vae = train_vae(crops, crops, vae_recipe(), tmp_path / "vae", facts=FACTS, device="cpu")
    train_diffusion(crops, crops, vae, diffusion_recipe(), tmp_path / "d", facts=FACTS, device="cpu")

    far = small_signatures(8, seed=5)
    far = far.with_values(30 * far.values)
    unlabelled = np.concatenate([crops.images, crops.images[:3]])
    more = dataclasses.replace(
        crops,
        images=unlabelled,
        signature_index=np.append(crops.signature_index, [-1, -1, -1]),
        signatures=Profiles.concat([crops.signatures, far]),
    )
    bundle = train_diffusion(more, more, vae, diffusion_recipe(), tmp_path / "d2", facts=FACTS, device="cpu")
    assert weights(tmp_path / "d") == weights(tmp_path / "d2")
    model = MorphologyGenerator(bundle)
    assert (model.outside(far) > 1).all()
    assert (model.outside(crops.signatures) < 1).all()

    none = dataclasses.replace(crops, signature_index=np.full(len(crops), -1))
    with pytest.raises(DataError, match="no signatures; a generator needs the signature of each crop"):
        train_diffusion(none, None, vae, diffusion_recipe(), tmp_path / "d3", facts=FACTS, device="cpu")


def test_genes_that_were_not_measured_and_vehicles_without_a_dose_train_too(tmp_path) -> None:
    crops = small_crops()
    vae = train_vae(crops, None, vae_recipe(), tmp_path / "vae", facts=FACTS, device="cpu")
    frame = crops.signatures.frame.assign(Metadata_Dose_uM=["0", "0", "1", "3", "10", "10"])
    frame.loc[::2, "GENE3"] = np.nan
    gaps = dataclasses.replace(crops, signatures=Profiles(frame, source="gaps"))
    bundle = train_diffusion(gaps, None, vae, diffusion_recipe(), tmp_path / "d", facts=FACTS, device="cpu")
    drawn = MorphologyGenerator(bundle).generate(gaps.signatures, n=1)
    assert np.isfinite(drawn.images).all()
