"""What the benchmarks on real conditions share: train in a folder, draw, measure, compare with real cells.

The condition of these sets is a few numbers with names in place of a signature (dose, half-plate, phase).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from image2reg.models.bundle import Bundle, load_bundle
from image2reg.models.spec import DataSource
from image2reg.nuclei.crops import Crops
from image2reg.randomness import generator
from image2reg.tables.profiles import Profiles
from morphgen.agreement import Agreement, compare_features
from morphgen.bundling import Facts
from morphgen.crop_features import central_masks
from morphgen.crops import CropSet
from morphgen.fidelity import Cells, measure_cells
from morphgen.recipe import DiffusionRecipe, VaeRecipe
from morphgen.sample import MorphologyGenerator, load
from morphgen.train import train_diffusion, train_vae

KEY = "Metadata_Condition"


@dataclass(frozen=True)
class Study:
    """One set of cells under conditions, and how its models are trained.

    Attributes
    ----------
    channels : tuple of str
    nucleus_channel : int
        Where the outline is found again, on real and generated crops alike: the piece nearest the middle.
    """

    name: str
    channels: tuple[str, ...]
    nucleus_channel: int
    vae: VaeRecipe
    diffusion: DiffusionRecipe
    source: DataSource
    command: str
    split: str

    def facts(self) -> Facts:
        return Facts(
            command=self.command, licence=self.source.licence, sources=(self.source,), split=self.split,
            intended_use="Measurement only; not shipped.", limits=("Trained for minutes on one processor core.",),
        )  # fmt: skip

    def crop_set(self, images: Any, keys: Any, conditions: Profiles) -> CropSet:
        """Crops with the row of their condition, found by its name in ``Metadata_Condition``."""
        place = pd.Index(conditions.column(KEY).astype(str)).get_indexer(np.asarray(keys, str))
        images = np.asarray(images, np.float32)
        return CropSet(
            images=images,
            channels=self.channels,
            signature_index=place,
            signatures=conditions,
            name=self.name,
        )

    def autoencoder(self, training: CropSet, folder: Path) -> Bundle:
        """Train, continue, or read what is finished."""
        if (folder / "bundle").exists():
            return load_bundle(folder / "bundle")
        return train_vae(training, None, self.vae, folder, facts=self.facts(), resume=folder.exists())

    def generator(self, training: CropSet, vae: Bundle, folder: Path) -> MorphologyGenerator:
        """Train, continue, or read what is finished."""
        if not (folder / "bundle").exists():
            resume = folder.exists()
            train_diffusion(training, None, vae, self.diffusion, folder, facts=self.facts(), resume=resume)
        return load(folder / "bundle")

    def drawn(
        self, model: MorphologyGenerator, wanted: Profiles, n: int, path: Path, **options: Any
    ) -> Cells:
        """`n` measured cells under each condition; drawn once, and kept at `path`."""
        crops = kept_crops(path, lambda: model.generate(wanted, n=n, seed=0, **options))
        return kept_cells(path, lambda: self.measured(crops.images, crops.column(KEY)))

    def measured(self, images: Any, groups: Any) -> Cells:
        """Measure crops as whole grey levels: a camera records these, and texture features see the difference."""
        images = np.rint(np.asarray(images, np.float32))
        masks = central_masks(images[:, self.nucleus_channel])
        return measure_cells(
            images, groups, masks=masks, channels=self.channels, nucleus_channel=self.nucleus_channel
        )


def kept_crops(path: Path, make: Callable[[], Crops]) -> Crops:
    """Crops of an earlier run, or made now and kept: ``path.zarr``."""
    path = path.with_suffix(".zarr")
    if not path.exists():
        make().write(path)
    return Crops.read(path).load()


def kept_cells(path: Path, make: Callable[[], Cells]) -> Cells:
    """Measured cells of an earlier run, or measured now and kept: ``path.parquet``, without thumbnails."""
    path = path.with_suffix(".parquet")
    if not path.exists():
        cells = make()
        table = cells.features.assign(group=cells.groups.astype(str))
        table.attrs["channels"] = list(cells.channels)
        table.to_parquet(path)
    table = pd.read_parquet(path)
    groups, channels = table.pop("group").to_numpy(object).astype(str), tuple(table.attrs["channels"])
    return Cells(table, groups, np.zeros((len(table), 1), np.float32), channels)


def some_of_each(cells: Cells, n: int, *, seed: int, skip: int = 0) -> Cells:
    """Exactly `n` random cells of each group, or all but `skip` where there are fewer."""
    order = generator(seed, "some of each").permutation(len(cells))
    rank = pd.Series(1, index=order).groupby(cells.groups[order]).cumsum().sort_index().to_numpy()
    return cells.take(np.flatnonzero((rank > skip) & (rank <= skip + n)))


def renamed(cells: Cells, names: dict[str, str]) -> Cells:
    """Cells of the groups in `names`, under the other name; a group may stand in for several."""
    parts = [(np.flatnonzero(cells.groups == old), new) for new, old in names.items()]
    rows = np.concatenate([found for found, _ in parts])
    return cells.take(rows, np.concatenate([np.full(len(found), new) for found, new in parts]))


def together(parts: Sequence[Cells]) -> Cells:
    """Put cells one after the other."""
    return Cells(
        pd.concat([part.features for part in parts], ignore_index=True),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.thumbnails for part in parts]),
        parts[0].channels,
    )


def one(cells: Cells, group: str) -> Cells:
    """Cells of one group."""
    return cells.take(np.flatnonzero(cells.groups == group))


def alike(real: Cells, other: Cells, n: int, *, seed: int = 0, skip: int = 0) -> Agreement:
    """Compare `n` cells of each condition of `other` with `n` real ones; `skip` real ones are left to others."""
    known = np.flatnonzero(np.isin(real.groups, np.unique(other.groups)))
    first = some_of_each(real.take(known), n, seed=seed, skip=skip)
    second = some_of_each(other, n, seed=seed + 1)
    return compare_features(
        first.features, second.features, first.groups, second.groups, channels=real.channels
    )


def wells_of(cells: Cells, size: int) -> np.ndarray:
    """Call every `size` cells of a group a well: ``group/0``, ``group/1`` ..."""
    number = pd.Series(cells.groups).groupby(cells.groups).cumcount() // size
    return np.char.add(np.char.add(cells.groups.astype(str), "/"), number.to_numpy().astype(str))


def profiles(cells: Cells, wells: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Median features of each well, indexed by (group, well)."""
    return cells.features[names].groupby([cells.groups.astype(str), np.asarray(wells, str)]).median()


def usable_features(cells: Cells) -> list[str]:
    """Features that nearly every real cell has, and that differ between cells."""
    found = cells.features
    return [name for name in found if found[name].notna().mean() > 0.98 and found[name].std() > 0]


def well_precision(queries: pd.DataFrame, library: pd.DataFrame) -> pd.Series:
    """Average precision of finding the library's wells of each query's group, the query's own well left out.

    Euclidean distance of features standardised over the library; mean over the queries of each group.
    """
    from scipy.spatial.distance import cdist

    spread = library.std()
    names, spread = list(spread.index[spread > 0]), spread[spread > 0]
    distance = cdist(queries[names] / spread, library[names] / spread)
    (group, well), (groups, wells) = (
        (t.index.get_level_values(0).to_numpy(str), t.index.get_level_values(1).to_numpy(str))
        for t in (queries, library)
    )
    own = well[:, None] == wells
    order = np.argsort(np.where(own, np.inf, distance), axis=1, kind="stable")
    hits = np.take_along_axis((group[:, None] == groups) & ~own, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    found = (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
    return pd.Series(found, index=group).groupby(level=0).mean()
