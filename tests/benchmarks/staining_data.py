"""The real data sets as fields of view, split by named group; one function per set.

Where the files are is told by --data (default: VIRTUALSTAIN_DATA, or ``shared/data`` beside the repository).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from image2reg.images.padding import padding_mask
from virtualstain.patches import StainField

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))

Split = dict[str, list[StainField]]

# Experiments of the MCF7 set by split, drawn once (numpy default_rng(0) permutation, a fifth for test).
MCF7_PIXEL_UM = 0.3112
MCF7_TEST_SHARE, MCF7_VALIDATION_SHARE = 0.2, 0.1

MCF7_SPLIT = "by experiment, drawn at random once: test 610, 810, december, lamp1-27-04-; the rest trains"

# Rows of the Christiansen well: 16 rows on either side of the validation strip are given to no split.
WELL_ROWS = {"train": (0, 704), "validation": (720, 800), "test": (816, 1024)}


def mcf7(data: Path = DATA, *, n_phantoms: int = 0, validation: bool = True) -> Split:
    """Brightfield to Hoechst, split by experiment; fields marked weak or suspect are left out of training only.

    Without `validation` its experiments train too: for a recipe whose settings are settled.
    `n_phantoms` synthetic fields, cells that no experiment here shows, are for the second member of an ensemble.
    """
    folder = data / "celldetective_mcf7_bf_hoechst"
    index = pd.read_csv(folder / "index.csv")
    groups = np.array(sorted(index.experiment.unique()))
    order = np.random.default_rng(0).permutation(groups)
    n_test, n_validation = round(MCF7_TEST_SHARE * len(groups)), round(MCF7_VALIDATION_SHARE * len(groups))
    where = {
        g: "test" if i < n_test else "validation" if i < n_test + n_validation else "train"
        for i, g in enumerate(order)
    }
    fields: Split = {"train": [], "validation": [], "test": []}
    for row in index.itertuples():
        image = tifffile.imread(folder / "images" / row.file)
        split = where[row.experiment]
        split = "train" if split == "validation" and not validation else split
        if split == "train" and row.weak_or_suspect:
            continue
        inputs, targets = image[None, :1], image[None, 1:]
        fields[split].append(
            StainField(
                name=row.file,
                group=row.experiment,
                inputs=inputs,
                targets=targets,
                present=np.array([True]),
                valid=~(padding_mask(inputs) | padding_mask(targets)),
                masks=tifffile.imread(folder / "labels" / row.file),
                voxel_um=(None, MCF7_PIXEL_UM, MCF7_PIXEL_UM),
            )
        )
    if n_phantoms:
        fields["also-1"] = [flat_phantom(seed) for seed in range(n_phantoms)]
    return fields


def flat_phantom(seed: int) -> StainField:
    """Make one brightfield plane near focus of a synthetic stack, and the mean projection of its Hoechst (widefield-like)."""
    from virtualstain.phantom import PhantomSettings, make_phantom

    rng = np.random.default_rng([seed, 77])
    settings = PhantomSettings(
        shape=(24, 320, 320),
        fluorescence="widefield",
        condenser_aperture=float(rng.uniform(0.2, 0.42)),
        cells_per_mm2=float(rng.uniform(800, 3500)),
        rounded_fraction=float(rng.uniform(0.05, 0.5)),
        focus_jitter_um=2.0,
    )
    phantom = make_phantom(settings, seed=10_000 + seed)
    z = int(rng.integers(4, 20))
    return StainField(
        name=f"phantom seed {seed} plane {z}",
        group="phantom",
        inputs=phantom.brightfield[None, z : z + 1],
        targets=phantom.hoechst.mean(axis=0, dtype=np.float32)[None, None],
        present=np.array([True]),
        masks=phantom.nuclei.max(axis=0),
        voxel_um=(None, *phantom.settings.voxel_um[1:]),
        aligned=True,
    )


def well(data: Path = DATA, *, validation: bool = True) -> Split:
    """13 phase planes to DAPI, MAP2, NFH, split by rows of the one well.

    Without `validation` its rows, and the margin above them, train too: for a recipe whose settings are settled.
    """
    folder = data / "isl_condition_b_phase_to_fluor"
    phase = tifffile.imread(folder / "wellA4_phase_zstack_13x1024x768_u16.tif")[None]
    stains = np.stack(
        [
            tifffile.imread(folder / f"wellA4_{name}_CONFOCAL_maxproj_u16.tif")[None]
            for name in ("DAPI", "MAP2", "NFH")
        ]
    )
    rows = dict(WELL_ROWS)
    if not validation:
        rows["train"] = (rows["train"][0], rows.pop("validation")[1])
    fields: Split = {}
    for split, (top, bottom) in rows.items():
        fields[split] = [
            StainField(
                name=f"wellA4 rows {top}-{bottom}",
                group=split,
                inputs=phase[:, :, top:bottom],
                targets=stains[:, :, top:bottom],
                present=np.ones(3, bool),
            )
        ]
    return fields


def jurkat(data: Path = DATA) -> tuple[Split, dict[str, np.ndarray]]:
    """Single cells, brightfield and darkfield to DNA: experiment 1 trains (a tenth validates), experiment 2 tests.

    Returns
    -------
    fields : one 40 x 40 field per cell
    facts : per split, ``phase`` of every cell
    """
    archive = np.load(data / "ifc_jurkat_bf_dna_cellcycle" / "ifc_crops.npz", allow_pickle=False)
    images, phase, experiment = archive["images"], archive["phase"].astype(str), archive["experiment"]
    first = np.flatnonzero(experiment == np.unique(experiment)[0])
    second = np.flatnonzero(experiment != np.unique(experiment)[0])
    shuffled = np.random.default_rng(0).permutation(first)
    n_validation = len(first) // 10
    members = {"train": shuffled[n_validation:], "validation": shuffled[:n_validation], "test": second}
    fields = {
        split: [
            StainField(
                name=f"cell {i}",
                group=f"{experiment[i]} {phase[i]}",
                inputs=images[i, [0, 2]][:, None],
                targets=images[i, 1][None, None],
                present=np.array([True]),
            )
            for i in index
        ]
        for split, index in members.items()
    }
    return fields, {split: phase[index] for split, index in members.items()}


def allen_crop(data: Path = DATA) -> tuple[Split, np.ndarray]:
    """Read the one 3D crop: left half (X) trains, right half tests, 8 columns between them left out.

    Returns
    -------
    fields : train, validation (the last 8 columns of the training half) and test
    published : (Z, Y, X) float32
        The authors' own prediction of the test half.
    """
    folder = data / "allen_fnet_3d_crop"
    light, dna, published = (
        tifffile.imread(folder / f"run_170622_174530_whole_cropped_{name}.tif").astype(np.float32)
        for name in ("light", "nuc", "prediction")
    )
    columns = {"train": slice(0, 52), "validation": slice(52, 60), "test": slice(68, 128)}

    def piece(split: str) -> StainField:
        part = (slice(None), slice(None), columns[split])
        return StainField(
            name=f"crop columns {columns[split].start}-{columns[split].stop}",
            group=split,
            inputs=light[part][None],
            targets=dna[part][None],
            present=np.array([True]),
        )

    return {split: [piece(split)] for split in columns}, published[:, :, columns["test"]]


def nuclear_envelope(data: Path = DATA) -> tuple[list[StainField], dict[str, list[np.ndarray]]]:
    """Read the two published 3D patches and, by method, four published predictions of them."""
    folder = data / "dm4isl_allen_nucenv_3d"

    def read(name: str, i: int) -> np.ndarray:
        return tifffile.imread(folder / name / f"{i}.tiff").astype(np.float32)

    fields = [
        StainField(
            name=f"patch {i}",
            group=f"patch {i}",
            inputs=read("BF", i)[None],
            targets=read("GT", i)[None],
            present=np.array([True]),
        )
        for i in (0, 1)
    ]
    return fields, {name: [read(name, i) for i in (0, 1)] for name in ("Unet", "GAN", "DDPM", "DDPMavg")}


def phantoms(seeds: dict[str, range] | None = None) -> Split:
    """Synthetic brightfield stacks with known stains, one field per seed (`virtualstain.phantom`)."""
    from virtualstain.phantom import PhantomSettings, make_phantom

    seeds = seeds or {"train": range(24), "validation": range(100, 102), "test": range(200, 206)}
    fields: Split = {}
    for split, numbers in seeds.items():
        fields[split] = []
        for seed in numbers:
            phantom = make_phantom(PhantomSettings(), seed=seed)
            fields[split].append(
                StainField(
                    name=f"phantom seed {seed}",
                    group=f"seed {seed}",
                    inputs=phantom.brightfield[None],
                    targets=phantom.targets(),
                    present=np.ones(3, bool),
                    voxel_um=phantom.settings.voxel_um,
                )
            )
    return fields
