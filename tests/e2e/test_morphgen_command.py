"""From signatures to nuclei through the command line, with the shipped model; and what is refused on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import DataError
from image2reg.nuclei.crops import Crops


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def morphgen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process: importing what it needs takes longer than most of its work."""
    from morphgen.cli import main

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["morphgen", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shipped signatures as a user would have them: a CSV, one row per perturbation."""
    from morphgen.planted import signature_table

    path = tmp_path_factory.mktemp("signatures") / "level5.csv"
    signature_table("unseen").rows(np.array([0, 1])).write(path)
    return path


def test_one_seed_draws_the_same_nuclei_whatever_batch_and_shard(
    morphgen: Callable[..., Done], table: Path, tmp_path: Path
) -> None:
    options = ("generate", "--model", "planted-nuclei", "--signatures", table, "--n", 3, "--steps", 2)
    made = {}
    for name, words in (
        ("whole", ("--batch", 1)),
        ("first", ("--shard", "1/2")),
        ("second", ("--shard", "2/2")),
    ):
        done = morphgen(*options, *words, "--out", tmp_path / name, "--json")
        assert done.code == 0, done.err
        json.loads(done.out)
        (found,) = (tmp_path / name).rglob("crops*.zarr")
        made[name] = np.asarray(Crops.read(found).images)
    assert made["whole"].shape[0] == 6
    assert made["whole"].std() > 0
    together = np.concatenate([made["first"], made["second"]])
    np.testing.assert_allclose(together, made["whole"], atol=2e-3 * np.ptp(made["whole"]))
    for name, words in (("whole", ()), ("first", ("--shard", "1/2"))):  # before the model is looked for
        again = morphgen(*options, "--model", "none", *words, "--out", tmp_path / name)
        assert again.code == 3
        assert "exists" in again.err


def test_a_transposed_matrix_and_strange_signatures_are_refused(
    morphgen: Callable[..., Done], table: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(table)
    genes = [name for name in frame.columns if not name.startswith("Metadata_")]
    turned = frame[genes].T
    turned.columns = [f"perturbation {i}" for i in range(turned.shape[1])]
    turned.rename_axis("Metadata_Gene").reset_index().to_csv(tmp_path / "turned.csv", index=False)
    far = frame.copy()
    far[genes] = 40 * np.sign(np.random.default_rng(0).standard_normal(far[genes].shape))
    far.to_csv(tmp_path / "far.csv", index=False)
    for name, words, said in (("turned", (), "transposed"), ("far", ("--strict",), "training")):
        done = morphgen(
            "generate", "--model", "planted-nuclei", "--signatures", tmp_path / f"{name}.csv", "--n", 1,
            *words, "--out", tmp_path / name,
        )  # fmt: skip
        assert done.code == 3, (name, done.err)
        assert said in done.err.lower()
        assert done.err.count("error:") == 1
        assert not (tmp_path / name).exists()


def test_signatures_are_not_replaced_by_what_is_drawn(
    morphgen: Callable[..., Done], table: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "level5.csv"
    own.parent.mkdir()
    own.write_bytes(table.read_bytes())
    words = ("generate", "--model", "planted-nuclei", "--signatures", own, "--n", 1, "--steps", 2)
    done = morphgen(*words, "--out", own.parent, "--overwrite")
    assert done.code == 2
    assert f"{own.parent} is the input {own} or holds it" in done.err
    assert own.read_bytes() == table.read_bytes()


def test_the_demo_shows_scores_beside_floors_and_ceiling(
    morphgen: Callable[..., Done], tmp_path: Path
) -> None:
    done = morphgen("demo", "--out", tmp_path / "demo")
    assert done.code == 0, done.err
    for text in ("generated", "floor: shuffled signatures", "ceiling: second real sample"):
        assert text in done.out
    page = (tmp_path / "demo" / "report.html").read_text("utf-8")
    assert "PLANTED" in page
    assert 'src="http' not in page
    from morphgen.planted import signature_table

    headings = [part.partition(" over-expressed")[0] for part in page.split("<h2>")[1:4]]
    assert len(set(headings)) == 3
    assert set(headings) <= set(signature_table("unseen").column("Metadata_Gene"))
    assert "Nearest training" not in page  # no such column here
    assert "Follow: " in page
    scores = pd.read_csv(tmp_path / "demo" / "scores.csv")
    assert len(scores) >= 4
    before = (tmp_path / "demo" / "scores.csv").read_bytes()
    again = morphgen("demo", "--out", tmp_path / "demo")
    assert again.code == 3
    assert "already exists" in again.err
    assert (tmp_path / "demo" / "scores.csv").read_bytes() == before


def test_a_models_score_says_its_interval_and_of_what_it_is(morphgen: Callable[..., Done]) -> None:
    text = morphgen("models").out
    assert " to " in text.split("planted_r2")[1].splitlines()[0]
    assert "signatures of validation genes" in text


TINY_VAE = (
    "autoencoder={widths: [8], patch: 4, norm_groups: 4, latent_channels: 4}",
    "training={steps: 3, batch_size: 4, warmup_steps: 0, checkpoint_every: 1, workers: 0, precision: fp32}",
)
TINY_DIFFUSION = (
    "denoiser={widths: [16], attention: [true], norm_groups: 8, heads: 2}",
    "condition={tokens: 2, width: 16, hidden: 8, drop: 0.2}",
    "prior={members: 1, condition: {tokens: 1, width: 8, hidden: 8, drop: 0.0}, training: {steps: 3, batch_size: 4, "
    "warmup_steps: 0, workers: 0}}",
    "training={steps: 3, batch_size: 4, warmup_steps: 0, checkpoint_every: 1, workers: 0, precision: fp32}",
)


def settings(changes: tuple[str, ...]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def write_cells(path: Path, table: Path, seed: int) -> Path:
    """Two dozen discs under each of the two signatures; planted, and larger under the second."""
    names = pd.read_csv(table)["Metadata_Perturbation"].tolist()
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24] - 11.5
    radius = np.repeat([6.0, 8.0], 24)[:, None, None] + rng.normal(0, 0.3, (48, 1, 1))
    images = 40 / (1 + np.exp(np.hypot(y, x)[None] - radius)) + rng.gamma(4, 0.3, (48, 24, 24))
    metadata = pd.DataFrame({"Metadata_Perturbation": np.repeat(names, 24)})
    Crops(images[:, None].astype(np.float32), metadata).write(path)
    return path


@pytest.fixture(scope="module")
def cells(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells") / "crops.zarr", table, seed=0)


def test_crops_and_signatures_become_a_generator_as_the_readme_types_it(
    morphgen: Callable[..., Done], cells: Path, table: Path, tmp_path: Path
) -> None:
    vae = ("train", "vae", "--data", cells, "--out", tmp_path / "vae", *settings(TINY_VAE), "--json")
    done = morphgen(*vae)
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["steps"] == 3
    again = morphgen(*vae)
    assert again.code == 3
    assert "exists" in again.err

    diffusion = (
        "train", "diffusion", "--data", cells, "--signatures", table, "--vae", made["bundle"],
        "--out", tmp_path / "generator", *settings(TINY_DIFFUSION), "--json",
    )  # fmt: skip
    done = morphgen(*diffusion)
    assert done.code == 0, done.err
    model = Path(json.loads(done.out)["bundle"])
    logs = [tmp_path / "generator" / name for name in ("metrics.jsonl", "prior/metrics.jsonl")]
    counted = sum(json.loads(log.read_text().splitlines()[-1])["seconds"] for log in logs)
    assert 60 * json.loads(done.out)["minutes"] >= counted - 0.3  # rounded to a hundredth of a minute
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    other = morphgen(
        "train", "vae", "--data", cells, "--out", tmp_path / "vae2", *settings(TINY_VAE), "--seed", 1
    )
    assert other.code == 0, other.err
    unread = ("--data", tmp_path / "none.zarr", "--resume")  # refused before any crop is read
    done = morphgen(*diffusion, "--vae", tmp_path / "vae2" / "bundle", *unread)
    assert done.code == 2
    assert f"vae: {made['bundle']}" in done.err
    for part in ("", "prior."):
        done = morphgen(*diffusion, "--set", f"{part}training.learning_rate=0.5", *unread)
        assert "-> 0.5). Restore them" in done.err
    done = morphgen(*diffusion, "--resume")
    assert done.code == 0, done.err
    assert weights.read_bytes() == before
    for name in ("config.yaml", "run.json", "metrics.jsonl"):
        assert (tmp_path / "generator" / name).is_file(), name

    done = morphgen(
        "generate", "--model", model, "--signatures", table, "--n", 2, "--out", tmp_path / "drawn"
    )
    assert done.code == 0, done.err
    drawn = Crops.read(tmp_path / "drawn" / "crops.zarr")
    assert len(drawn) == 4
    assert set(drawn.column("Metadata_Origin")) == {"generated"}


def test_crops_are_scored_beside_every_floor_where_the_signatures_ids_name_the_perturbations(
    morphgen: Callable[..., Done], cells: Path, table: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(table).rename(columns={"Metadata_Perturbation": "Metadata_Signature"})
    frame.drop(columns=frame.columns[-2:]).to_csv(tmp_path / "level5.csv", index=False)
    drawn = Crops.read(write_cells(tmp_path / "1.zarr", table, 1)).load()
    names = drawn.metadata.rename(columns={"Metadata_Perturbation": "Metadata_Signature"})
    dataclasses.replace(drawn, metadata=names).write(tmp_path / "drawn.zarr")
    words = (
        "evaluate", "--real", cells, "--generated", tmp_path / "drawn.zarr", "--signatures", tmp_path / "level5.csv",
        "--json",
    )  # fmt: skip
    for training, floors in (
        ((), {"shuffled signatures"}),
        (
            ("--training", write_cells(tmp_path / "2.zarr", table, 2)),
            {"mean image", "any training nuclei", "nearest training signature", "shuffled signatures"},
        ),
    ):
        done = morphgen(*words, *training)
        assert done.code == 0, done.err
        made = json.loads(done.out)
        arms = {row["arm"] for row in made["scores"]}
        assert arms == {"generated", "second real sample (ceiling)"} | floors
        assert "2 of 978 genes are missing" in made["notes"][0]


def test_what_was_generated_is_scored_where_both_sides_have_nuclei_and_the_rest_is_named(
    morphgen: Callable[..., Done], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from morphgen import planted

    data = planted.dataset("unseen", n_per_signature=16)
    names = data.signatures.column("Metadata_Perturbation")[data.signature_index]
    shown = data.signature_index >= 1  # the first is generated only, those beyond the second are real only
    shown &= data.signature_index < 5
    metadata = pd.DataFrame({"Metadata_Perturbation": names[shown]})
    Crops(data.images[shown], metadata, voxel_um=(0.656, 0.656)).write(tmp_path / "real.zarr")
    drawn = ("--model", "planted-nuclei", "--signatures", table, "--n", 8, "--steps", 2, "--corrections", 0)
    assert morphgen("generate", *drawn, "--out", tmp_path / "drawn").code == 0
    words = (
        "evaluate", "--real", tmp_path / "real.zarr", "--generated", tmp_path / "drawn" / "crops.zarr",
        "--signatures", table,
    )  # fmt: skip
    done = morphgen(*words, "--json")
    assert done.code == 0, done.err
    notes = json.loads(done.out)["notes"]
    assert notes[0].startswith("1 of 5 perturbations left out (generated only): ")
    assert notes[1].startswith("3 of 5 perturbations left out (real only): ")

    monkeypatch.setattr("morphgen.runs.measure_cells", lambda *_, **__: pytest.fail("nuclei were measured"))
    frame = pd.read_csv(table)
    frame.loc[[0, 1, 1]].to_csv(tmp_path / "twice.csv", index=False)
    twice = morphgen(*words[:-1], tmp_path / "twice.csv")
    assert (twice.code, "1 perturbations have several signatures" in twice.err) == (3, True)
    few = Crops.read(tmp_path / "real.zarr").rows(np.arange(15))
    few.write(tmp_path / "few.zarr")
    none = morphgen("evaluate", "--real", tmp_path / "few.zarr", *words[3:5])
    assert none.code == 3
    assert "no perturbation has 16 real crops and 8 generated ones" in none.err


def test_every_arm_has_as_many_nuclei_as_were_generated_or_half_of_the_real_ones(
    morphgen: Callable[..., Done], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from morphgen import fidelity

    cells = Crops.read(write_cells(tmp_path / "1.zarr", table, 1)).load()
    names = cells.column("Metadata_Perturbation")
    few = np.concatenate([np.flatnonzero(names == name)[:8] for name in np.unique(names)])
    cells.rows(few).write(tmp_path / "few.zarr")
    compared: list[set[int]] = []

    def counted(real: fidelity.Cells, arms: dict[str, fidelity.Cells], **given: object) -> object:
        compared.append({n for one in (real, *arms.values()) for n in Counter(one.groups.tolist()).values()})
        return fidelity.evaluate(real, arms, **given)

    monkeypatch.setattr("morphgen.runs.evaluate", counted)
    done = morphgen("evaluate", "--real", tmp_path / "1.zarr", "--generated", tmp_path / "few.zarr", "--json")
    assert done.code == 0, done.err
    assert compared == [{8}]
    assert json.loads(done.out)["notes"][-1].startswith("8 nuclei of each perturbation in every arm")


def test_training_crops_of_another_size_are_refused_and_a_report_that_is_there_before_any_work(
    morphgen: Callable[..., Done], cells: Path, table: Path, tmp_path: Path
) -> None:
    known = Crops.read(write_cells(tmp_path / "1.zarr", table, 1)).load()
    dataclasses.replace(known, images=known.images[:, :, 2:-2, 2:-2]).write(tmp_path / "other.zarr")
    done = morphgen("evaluate", "--real", cells, "--generated", cells, "--training", tmp_path / "other.zarr")
    assert done.code == 3
    assert "other.zarr: crops of (20, 20) px" in done.err
    assert "the real ones have (24, 24) px" in done.err
    there = ("evaluate", "--real", tmp_path / "absent.zarr", "--generated", cells, "--out", tmp_path)
    assert "already exists" in morphgen(*there).err


def test_what_was_filled_is_said(morphgen: Callable[..., Done], table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame.drop(columns=frame.columns[-3:]).to_csv(tmp_path / "short.csv", index=False)
    words = (
        "generate", "--model", "planted-nuclei", "--signatures", tmp_path / "short.csv", "--n", 1, "--steps", 1,
        "--out", tmp_path / "drawn",
    )  # fmt: skip
    refused = morphgen(*words)
    assert refused.code == 3
    assert "--fill-missing" in refused.err
    done = morphgen(*words, "--fill-missing")
    assert "note: 3 of 978 genes are missing" in done.out
    assert "filled with 0" in done.out


def test_a_refused_training_leaves_nothing_and_no_run_goes_on_under_another_recipe(
    morphgen: Callable[..., Done], cells: Path, tmp_path: Path
) -> None:
    words = ("train", "vae", "--data", cells, "--out", tmp_path / "vae", *settings(TINY_VAE))
    done = morphgen(*words, "--set", "autoencoder.patch=7")
    assert done.code == 3
    assert not (tmp_path / "vae").exists()
    assert morphgen(*words).code == 0
    assert "Pass --resume" in morphgen(*words).err
    absent = ("train", "vae", "--data", tmp_path / "none.zarr", "--out", tmp_path / "v", *settings(TINY_VAE))
    assert "device 'tpu' is unknown" in morphgen(*absent, "--device", "tpu").err  # known before any data

    before = (tmp_path / "vae" / "config.yaml").read_bytes()
    words = tuple(
        tmp_path / "none.zarr" if word == cells else word for word in words
    )  # known before any data
    for change, said in (
        ("loss.kl=0.5", "loss.kl: 1e-07 -> 0.5"),
        ("training.learning_rate=0.5", "-> 0.5"),
        ("training.steps=4", "steps: 3 -> 4). Restore them"),
    ):
        done = morphgen(*words, "--set", change, "--resume")
        assert done.code == 2
        assert said in done.err
        assert (tmp_path / "vae" / "config.yaml").read_bytes() == before
    words = tuple(cells if word == tmp_path / "none.zarr" else word for word in words)
    done = morphgen(*words, "--set", "training.patience=4", "--resume")
    assert done.code == 0, done.err
    assert "patience: 4" in (tmp_path / "vae" / "config.yaml").read_text("utf-8")
    shutil.rmtree(tmp_path / "vae" / "checkpoints")
    assert "its training is complete" in morphgen(*words, "--resume").err.replace("\n", " ")


def test_cells_that_are_real_score_as_real_and_a_table_says_so(
    morphgen: Callable[..., Done], cells: Path, table: Path, tmp_path: Path
) -> None:
    others = [write_cells(tmp_path / f"{seed}.zarr", table, seed) for seed in (1, 2)]
    words = (
        "evaluate", "--real", cells, "--generated", others[0], "--training", others[1], "--out", tmp_path / "report",
    )  # fmt: skip
    done = morphgen(*words, "--json")
    assert done.code == 0, done.err
    scores = {row["arm"]: row for row in json.loads(done.out)["scores"]}
    own = scores["generated"]["ks_share"]
    assert own > 0.9
    assert own > scores["mean image"]["ks_share"] + 0.3
    assert (tmp_path / "report" / "report.html").is_file()
    again = morphgen(*words)
    assert again.code == 3
    assert "exists" in again.err


def test_the_recorded_command_can_be_pasted(
    morphgen: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def recorded(*_: object, command: str, **__: object) -> None:
        told.append(command)
        raise DataError("far enough")

    for name in ("train_vae_from", "train_diffusion_from"):
        monkeypatch.setattr(f"morphgen.runs.{name}", recorded)
    morphgen("train", "vae", "--data", "my crops.zarr", "--out", "vae")
    morphgen(
        "train", "diffusion", "--data", "my crops.zarr", "--signatures", "s.gct", "--vae", "vae", "--out", "g"
    )
    assert told == [
        "morphgen train vae --data 'my crops.zarr' --out vae",
        "morphgen train diffusion --data 'my crops.zarr' --signatures s.gct --vae vae --out g",
    ]
