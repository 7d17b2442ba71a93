"""Sources of a link: one row per gene out of many wells or nuclei, on a scale the kernels expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.tables.profiles import Profiles
from image2reg.tables.splits import GROUPS

__all__ = ["Scale", "gene_means", "query_groups", "query_rows", "replicate_whitened", "scaled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Z-score of columns, then one factor that makes the mean squared norm of the fitted rows 1.

    Every row's *source* enters the scale, no row's target does: it is transductive, and changes no leave-one-out.

    Attributes
    ----------
    mean, spread : (d,) float64
        Columns without variance have an infinite spread and become 0: they say nothing.
    factor : float
    n_flat : int
        How many have none.
    """

    mean: Floats
    spread: Floats
    factor: float
    n_flat: int

    @classmethod
    def fit(cls, values: Floats, *, what: str = "the source profiles") -> Scale:
        """Fit to (n, d) rows.

        Raises
        ------
        DataError
            Values that are not finite (counted, the first placed), or no column that varies.
        """
        if not np.isfinite(values).all():
            wrong = np.argwhere(~np.isfinite(values))
            raise DataError(
                f"{what} hold {len(wrong)} values that are not finite, the first in row {wrong[0][0]}, feature "
                f"{wrong[0][1]}. Remove those features or rows, or fill them."
            )
        spread = values.std(axis=0)
        flat = spread <= 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
        if flat.all():
            raise DataError(
                f"{what}: none of the {values.shape[1]} features varies over the {len(values)} rows; all profiles are "
                "identical. Check that the table holds what it should."
            )
        spread = np.where(flat, np.inf, spread + 1e-9)
        z = (values - values.mean(axis=0)) / spread
        return cls(values.mean(axis=0), spread, float(np.sqrt((z**2).sum(axis=1).mean())), int(flat.sum()))

    def apply(self, values: Floats) -> Floats:
        """Scale (n, d) rows."""
        return (values - self.mean) / self.spread / self.factor


def scaled(values: Floats) -> Floats:
    """Fit `Scale` and apply it to the same rows."""
    return Scale.fit(values).apply(values)


def gene_means(profiles: Profiles, gene: str = "Metadata_Gene") -> Profiles:
    """Mean over all rows of a gene; ``Metadata_Count`` says how many. Rows without a gene stay as they are."""
    import pandas as pd

    names = profiles.column(gene)
    known = profiles.frame[names != ""]
    if known.empty:
        raise DataError(
            f"{profiles.source}: column {gene!r} is empty in all {len(names)} rows. Name the genes there."
        )
    grouped = known.groupby(gene, sort=True)[profiles.features]
    means = grouped.mean()
    # Summed and counted apart, NaN would vanish in the mean; a gene with one NaN keeps it and is refused later.
    means[known[profiles.features].isna().groupby(known[gene]).any()] = np.nan
    made = pd.DataFrame({gene: means.index, "Metadata_Count": grouped.size().to_numpy().astype(str)})
    return profiles.replace(pd.concat([made, means.reset_index(drop=True)], axis=1))


def query_groups(profiles: Profiles, gene: str = "Metadata_Gene") -> NDArray[np.intp]:
    """Give each row the number of its query: one for all rows of a gene, one for the rows of a well that name none.

    Rows without a gene and a well are queries of their own. Those with a gene come first.
    """
    places = profiles.frame.reindex(columns=[*GROUPS["well"], "Metadata_Perturbation"], fill_value="")
    keys = [
        ("gene", name) if name else ("well", *place) if place[1] else ("row", number)
        for number, (name, place) in enumerate(
            zip(profiles.column(gene), places.itertuples(index=False, name=None), strict=True)
        )
    ]
    queries = sorted(dict.fromkeys(keys), key=lambda key: key[0] != "gene")
    numbers = {key: number for number, key in enumerate(queries)}
    return np.array([numbers[key] for key in keys], dtype=np.intp)


def query_rows(profiles: Profiles, groups: NDArray[np.intp]) -> Profiles:
    """Mean of each query's rows, with the metadata that all of them share; ``Metadata_Count`` says how many."""
    import pandas as pd

    by_group = profiles.metadata.groupby(groups)
    shared = by_group.first().where(by_group.nunique() == 1, "")
    counts = np.bincount(groups).astype(str)
    means = profiles.frame[profiles.features].groupby(groups).mean()
    return profiles.replace(pd.concat([shared.assign(Metadata_Count=counts), means], axis=1))


def replicate_whitened(
    profiles: Profiles, replicate: str, *, batch: str | None = None, clip: float | None = 10.0
) -> Profiles:
    """Divide out what differs between replicates of one construct, so that distances count in units of noise.

    Parameters
    ----------
    profiles : Profiles
        Rows are wells.
    replicate : str
        Metadata column whose value is shared by replicates (a construct, a compound and dose); rows where it is
        empty are kept and not used to learn the noise.
    batch : str, optional
        Metadata column of the plate; its feature-wise median is taken off first.
    clip : float, optional
        Values beyond are set to it, before everything.

    Returns
    -------
    Profiles
        Same rows and columns.

    Raises
    ------
    DataError
        Fewer than two replicate pairs in all.

    Notes
    -----
    ``x S^-1/2`` with S the covariance of the residuals about each construct's mean, inflated for the mean's own
    degree of freedom and shrunk as Ledoit & Wolf (2004) say. No label but "same construct" is used.
    """
    from sklearn.covariance import ledoit_wolf

    values = profiles.values
    if not np.isfinite(values).all():
        raise DataError(
            f"{profiles.source}: {int((~np.isfinite(values)).sum())} values are not finite; whitening needs "
            "all of them."
        )
    if clip is not None:
        values = np.clip(values, -clip, clip)
    if batch is not None:
        codes = np.unique(profiles.column(batch).astype(str), return_inverse=True)[1]
        for code in range(codes.max() + 1):  # plates, a handful
            values[codes == code] -= np.median(values[codes == code], axis=0)
    names = profiles.column(replicate)
    _, codes = np.unique(names.astype(str), return_inverse=True)
    counts = np.bincount(codes)
    used = (names != "") & (counts[codes] > 1)
    if used.sum() < 4:
        raise DataError(
            f"{profiles.source}: column {replicate!r} has {int(used.sum())} rows with a replicate; whitening needs at "
            "least 4. Name the column that replicates share, or leave whitening out."
        )
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    residual = (values - sums[codes] / counts[codes][:, None])[used]
    residual *= np.sqrt(counts[codes] / np.maximum(counts[codes] - 1, 1))[used][:, None]
    noise, _ = ledoit_wolf(residual, assume_centered=True)
    eigenvalues, vectors = np.linalg.eigh(noise)
    return profiles.with_values(values @ (vectors / np.sqrt(np.maximum(eigenvalues, 1e-12))) @ vectors.T)
