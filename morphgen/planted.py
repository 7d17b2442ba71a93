"""The planted benchmark: real nuclei deformed by known smooth functions of real expression signatures.

PLANTED, NOT BIOLOGY: the nuclei are real (BBBC039, U2OS, Hoechst; CC0) and so are the signatures (over-expression in
U2OS, L1000; Rohban et al. 2017, eLife 6:e24060; BSD-3-Clause), but which signature changes a nucleus in which way is
made up (`morphgen.phenotype`), so that the truth is known for signatures no generator has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.randomness import generator
from image2reg.tables.profiles import Profiles
from morphgen.deformation import PARAMETERS, RANGES, Nuclei, deform
from morphgen.phenotype import PhenotypeMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "PARAMETERS",
    "PIXEL_UM",
    "RANGES",
    "SPLITS",
    "PlantedData",
    "dataset",
    "deformed",
    "phenotype_map",
]

PIXEL_UM = 0.656
"""Nominal pixel size in micrometres (20x objective, binned camera); the set's files state none."""

SPLITS = ("train", "validation", "seen", "unseen")
"""``train``: training genes on training fields. ``validation``: other genes and fields, for settling settings.
``seen``: training genes on test fields. ``unseen``: test genes on test fields."""

FULL_SCALE_COUNTS = 2000.0
SIZE_PX = 64
# Of a hundred genes, and of a hundred fields.
_TEST_SHARE, _VALIDATION_SHARE = 20, 10
_CELL_SPREAD = 0.08
_SPLIT_SEED = 39


@dataclass(frozen=True)
class PlantedData:
    """Deformed nuclei with everything that is known of them.

    Attributes
    ----------
    images : (N, 1, Y, X) float32
        0 is background, 1 is 2,000 camera counts above it; clipped to [0, 1].
    controls : (N, 1, Y, X) float32
        The same nuclei before they were deformed.
    signature_index : (N,) int64
        Row of `signatures` and of `parameters`.
    signatures : Profiles
        (S, 978) landmark z-scores by gene symbol; ``Metadata_Perturbation``, ``_Gene``, ``_Allele``,
        ``_Replicate`` (``consensus`` or a plate), ``_Dose``. What a
        generator may see: with noise, not quite what the parameters were computed from.
    parameters : (S, 7) float64
        True parameters in the order of `PARAMETERS` (units: `morphgen.deformation.RANGES`).
    cell_parameters : (N, 7) float32
        Those of each nucleus: the signature's with the spread between cells.
    nuclei : DataFrame, N rows
        ``Metadata_Field`` and ``Metadata_Object`` of the nucleus each image was made from.
    pixel_um : float
        Micrometres per pixel.
    """

    images: NDArray[np.float32]
    controls: NDArray[np.float32]
    signature_index: NDArray[np.int64]
    signatures: Profiles
    parameters: NDArray[np.float64]
    cell_parameters: NDArray[np.float32]
    nuclei: pd.DataFrame
    pixel_um: float = PIXEL_UM


@cache
def _sample() -> tuple[Nuclei, pd.DataFrame, pd.DataFrame]:
    """Nuclei, their table, and the replicate signatures, as shipped."""
    from PIL import Image

    folder = resources.files("morphgen") / "samples" / "planted"
    with resources.as_file(folder) as path:
        table = pd.read_csv(path / "nuclei.csv", dtype=str)
        sheets = []
        for name in ("nuclei.png", "outlines.png"):
            with Image.open(path / name) as sheet:
                pixels = np.asarray(sheet)
            tiles = pixels.reshape(-1, SIZE_PX, pixels.shape[1] // SIZE_PX, SIZE_PX).swapaxes(1, 2)
            sheets.append(tiles.reshape(-1, SIZE_PX, SIZE_PX)[: len(table)])
        wells = pd.read_parquet(path / "signatures.parquet")
    table["Metadata_Object"] = np.arange(1, len(table) + 1).astype(str)
    return Nuclei((sheets[0] / FULL_SCALE_COUNTS).astype(np.float32), sheets[1].astype(bool)), table, wells


@cache
def _consensus() -> Profiles:
    """One MODZ signature per over-expressed reading frame."""
    from image2reg.tables.aggregate import modz

    _, _, wells = _sample()
    genes = [name for name in wells.columns if not name.startswith("Metadata_")]
    groups = wells.groupby("Metadata_Perturbation", sort=True)
    values = np.stack([modz(group[genes].to_numpy(np.float64)) for _, group in groups])
    metadata = groups[["Metadata_Gene", "Metadata_Allele"]].first().reset_index()
    metadata["Metadata_Replicate"] = "consensus"
    return Profiles(
        pd.concat([metadata, pd.DataFrame(values, columns=genes)], axis=1), source="planted signatures"
    )


def _share(names: Iterable[str], key: str) -> dict[str, str]:
    """Each name to train, validation or test, by one fixed draw."""
    ordered = sorted(set(names))
    order = generator(_SPLIT_SEED, key).permutation(len(ordered))
    bounds = np.array([_TEST_SHARE, _TEST_SHARE + _VALIDATION_SHARE]) * len(ordered) / 100
    kinds = ("test", "validation", "train")
    return {ordered[i]: kinds[np.searchsorted(bounds, rank, side="right")] for rank, i in enumerate(order)}


@cache
def phenotype_map() -> PhenotypeMap:
    """Give the one map from signature to parameters, drawn over the training signatures."""
    consensus = _consensus()
    genes = consensus.column("Metadata_Gene")
    split = _share(genes, "genes")
    return PhenotypeMap.drawn(consensus.values[[split[gene] == "train" for gene in genes]])


def dataset(
    split: str,
    *,
    n_per_signature: int = 32,
    doses: Sequence[float] = (1.0,),
    wells: bool = False,
    noise: float = 0.0,
    size: int = SIZE_PX,
    seed: int = 0,
    signatures: Sequence[str] | None = None,
) -> PlantedData:
    """Make one split of the planted benchmark.

    Parameters
    ----------
    split : str
        One of `SPLITS`. Genes (with all their alleles) and fields of nuclei are split once and for all.
    n_per_signature : int
        Nuclei for each signature and dose.
    doses : sequence of float
        Factors on the signature, and through it on the phenotype: 0 is no perturbation, 1 the signature as measured.
    wells : bool
        Also every replicate well as a signature of its own, each with the phenotype that follows from it: about four
        times as many signatures to learn from. For ``train`` and ``validation``.
    noise : float
        Replicate noise in the signatures handed out, in units of the real one: the residual of a randomly drawn
        well about the consensus of its perturbation is added. The phenotype follows the signature without it.
    size : int
        Window in pixels, even, 48 to 64; at 48 the largest nuclei are cut.
    seed : int
        Which nuclei, cell-to-cell spread, spots. The map and the splits do not depend on it.
    signatures : sequence of str, optional
        Only these ``Metadata_Perturbation`` of the split.

    Returns
    -------
    PlantedData
        Ordered by dose, then perturbation, then nucleus.

    Raises
    ------
    ConfigurationError
        An unknown split or perturbation, a window, dose, number or noise out of range.

    Examples
    --------
    >>> data = dataset("unseen", n_per_signature=2)
    >>> data.images.shape[1:], data.parameters.shape[1], len(data.images) == 2 * len(data.signatures)
    ((1, 64, 64), 7, True)
    """
    _refuse_arguments(split, n_per_signature, doses, noise, size)
    consensus = _chosen(split, signatures, wells=wells)
    strength = np.repeat(np.asarray(doses, np.float64), len(consensus))
    clean = np.tile(consensus.values, (len(doses), 1)) * strength[:, None]
    parameters = phenotype_map()(clean)
    frame = pd.concat([consensus.metadata] * len(doses), ignore_index=True)
    frame["Metadata_Dose"] = strength
    frame["Metadata_Origin"] = "real"
    residual = _residuals(len(clean), generator(seed, "noise", split)) if noise else 0.0
    seen = pd.DataFrame(clean + noise * residual, columns=consensus.features)

    made = deformed(split, parameters, n_per_row=n_per_signature, size=size, seed=seed)
    return replace(
        made, signatures=Profiles(pd.concat([frame, seen], axis=1), source=f"planted signatures, {split}")
    )


def signature_table(split: str, *, wells: bool = False) -> Profiles:
    """Give the signatures of a split without making a nucleus; columns and `wells` as in `dataset`.

    Their true parameters are ``phenotype_map()(table.values)``.
    """
    _refuse_arguments(split, 1, (1.0,), 0.0, SIZE_PX)
    return _chosen(split, None, wells=wells)


def deformed(
    split: str, parameters: NDArray[np.floating], *, n_per_row: int, size: int = SIZE_PX, seed: int = 0
) -> PlantedData:
    """Deform nuclei of a split's fields by parameters of one's own choice.

    Parameters
    ----------
    split, size, seed
        As in `dataset`.
    parameters : (S, 7) float
        One row per population, in the order of `PARAMETERS`.
    n_per_row : int
        Nuclei for each row.

    Returns
    -------
    PlantedData
        Without a signature: `signatures` holds the row numbers alone.
    """
    nuclei, table, _ = _sample()
    rng = generator(seed, "planted", split)
    field_split = _share(table["Metadata_Field"], "fields")
    wanted = {"train": "train", "validation": "validation"}.get(split, "test")
    pool = np.flatnonzero(table["Metadata_Field"].map(field_split) == wanted)
    index = np.repeat(np.arange(len(parameters)), n_per_row)
    rounds = -(-len(index) // len(pool))
    drawn = np.concatenate([rng.permutation(pool) for _ in range(rounds)])[: len(index)]
    low, high = np.array(list(RANGES.values())).T
    # Counts and depths vary by themselves: a Poisson number of spots, random lines of fragmentation.
    spread = rng.normal(0, _CELL_SPREAD, (len(index), len(PARAMETERS))) * np.where(low < 0, high - low, 0)
    cells = (parameters[index] + spread).astype(np.float32)
    controls = nuclei.take(drawn)
    images = deform(controls, cells, rng)
    cut = slice((SIZE_PX - size) // 2, (SIZE_PX + size) // 2)
    return PlantedData(
        images=np.clip(images[:, None, cut, cut], 0, 1),
        controls=np.clip(controls.images[:, None, cut, cut], 0, 1),
        signature_index=index,
        signatures=Profiles(pd.DataFrame({"Number": np.arange(len(parameters))})),
        parameters=np.asarray(parameters, np.float64),
        cell_parameters=cells,
        nuclei=table.iloc[drawn].reset_index(drop=True),
    )


def _chosen(split: str, signatures: Sequence[str] | None, *, wells: bool) -> Profiles:
    consensus = _consensus()
    if wells:
        replicates = _sample()[2].drop(columns="Metadata_Well")
        consensus = Profiles(
            pd.concat([consensus.frame, replicates.rename(columns={"Metadata_Plate": "Metadata_Replicate"})]),
            source=consensus.source,
        )
    wanted = {"seen": "train", "unseen": "test"}.get(split, split)
    by_gene = _share(consensus.column("Metadata_Gene"), "genes")
    rows = np.array([by_gene[gene] == wanted for gene in consensus.column("Metadata_Gene")])
    chosen = consensus.rows(rows)
    if signatures is None:
        return chosen
    names = chosen.column("Metadata_Perturbation")
    absent = sorted(set(signatures) - set(names))
    if absent or not len(signatures):
        raise ConfigurationError(
            f"planted benchmark: no perturbation {absent[:3]} in split {split!r}; it has {len(set(names))}, such as "
            f"{list(names[:3])}."
        )
    return chosen.rows(np.isin(names.astype(str), list(signatures)))


def _residuals(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, 978) differences of random replicate wells from their consensus."""
    _, _, wells = _sample()
    consensus = _consensus()
    row_of = {name: row for row, name in enumerate(consensus.column("Metadata_Perturbation"))}
    drawn = wells.iloc[rng.integers(len(wells), size=n)]
    rows = drawn["Metadata_Perturbation"].map(row_of).to_numpy()
    return drawn[consensus.features].to_numpy(np.float64) - consensus.values[rows]


def _refuse_arguments(split: str, n: int, doses: Sequence[float], noise: float, size: int) -> None:
    if split not in SPLITS:
        raise ConfigurationError(f"planted benchmark: split {split!r}; allowed are {', '.join(SPLITS)}.")
    if n < 1 or not len(doses) or min(doses) < 0 or not np.isfinite(doses).all():
        raise ConfigurationError(
            f"planted benchmark: {n} nuclei per signature at doses {list(doses)}; allowed are at least 1 nucleus and "
            "1 dose, none below 0."
        )
    if noise < 0 or not 48 <= size <= SIZE_PX or size % 2:
        raise ConfigurationError(
            f"planted benchmark: noise {noise}, window {size} px; allowed are noise from 0 and an even window of 48 "
            f"to {SIZE_PX} px."
        )
