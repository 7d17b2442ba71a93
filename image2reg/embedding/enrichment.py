"""Enrichment of changed genome bins in given intervals, lamina-associated domains say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Enrichment", "enrichment", "read_bed", "read_bins"]

_BINS = ("chromosome", "start", "end", "changed")


@dataclass(frozen=True)
class Enrichment:
    """How changed bins and intervals lie to each other.

    Attributes
    ----------
    odds_ratio : float
        Of a bin being changed, inside the intervals over outside; half a bin is added to each cell of the table.
    null_low, null_high : float
        Middle 95 % of the odds ratios when the changed bins are shifted around the genome.
    p_enriched, p_depleted : float
        Share of all shifts, none included, with an odds ratio at least as large, or as small.
    n_bins, n_changed, n_inside, n_both : int
    """

    odds_ratio: float
    null_low: float
    null_high: float
    p_enriched: float
    p_depleted: float
    n_bins: int
    n_changed: int
    n_inside: int
    n_both: int

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as a plain dictionary."""
        return asdict(self)


def read_bed(path: Path | str) -> pd.DataFrame:
    """Read the first three columns of a BED file: ``chromosome, start, end`` (0-based, end excluded).

    Raises
    ------
    DataError
        Missing, no interval, or a line that is none (named).
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Check the path.")
    rows = []
    with path.open(encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            cells = line.split()
            if (
                len(cells) < 3
                or not (cells[1].isdecimal() and cells[2].isdecimal())
                or int(cells[1]) >= int(cells[2])
            ):
                raise DataError(
                    f"{path}: line {number} is no interval: {line.strip()[:60]!r}. Wanted: chromosome, start, end."
                )
            rows.append((cells[0], int(cells[1]), int(cells[2])))
    if not rows:
        raise DataError(f"{path}: holds no interval.")
    return pd.DataFrame(rows, columns=["chromosome", "start", "end"])


def read_bins(path: Path | str) -> pd.DataFrame:
    """Read a CSV of genome bins: ``chromosome, start, end, changed`` (0-based, end excluded; changed is 0 or 1).

    Raises
    ------
    DataError
        Missing, columns are missing, or a row that is no bin (the first is named).
    """
    import pandas as pd

    from image2reg.tables.cells import read_csv

    frame = read_csv(path)
    missing = [name for name in _BINS if name not in frame]
    if missing:
        raise DataError(f"{path}: columns {missing} are missing; there are {list(frame.columns)}.")
    made = frame[list(_BINS)].assign(
        **{name: pd.to_numeric(frame[name], errors="coerce") for name in _BINS[1:]}
    )
    wrong = ~((made.start >= 0) & (made.start < made.end) & made.changed.isin([0, 1]))
    if wrong.any():
        at = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{path}: {int(wrong.sum())} of {len(frame)} rows are no bins, the first in line {at + 2}: "
            f"{frame[list(_BINS)].iloc[at].tolist()}. Wanted: chromosome, start below end, changed 0 or 1; leave out "
            "bins that could not be measured."
        )
    return made


def enrichment(bins: pd.DataFrame, intervals: pd.DataFrame) -> Enrichment:
    """Test changed bins against intervals.

    Parameters
    ----------
    bins : DataFrame
        ``chromosome, start, end`` and ``changed`` (0 or 1); bins that could change, unmappable ones left out.
    intervals : DataFrame
        ``chromosome, start, end``; a bin is inside when at least half of it is covered.

    Returns
    -------
    Enrichment

    Raises
    ------
    DataError
        Columns are missing, no chromosome is common, or nothing (or everything) is changed or inside.

    Notes
    -----
    Neighbouring bins change together and domains are long, so Fisher's test is far too sure. The null shifts the
    changed bins around the genome, chromosomes laid end to end, which keeps their runs: all shifts at once by one
    Fourier transform. Match GC content and mappability by leaving out bins beforehand.
    """
    for name, table, needed in (
        ("bins", bins, list(_BINS)),
        ("intervals", intervals, ["chromosome", "start", "end"]),
    ):
        missing = [column for column in needed if column not in table]
        if missing:
            raise DataError(f"{name}: columns {missing} are missing; there are {list(table.columns)}.")
    ordered = bins.sort_values(["chromosome", "start"], kind="stable")
    common = set(ordered.chromosome.astype(str)) & set(intervals.chromosome.astype(str))
    if not common:
        raise DataError(
            f"bins and intervals share no chromosome: {sorted(set(ordered.chromosome.astype(str)))[:3]} against "
            f"{sorted(set(intervals.chromosome.astype(str)))[:3]}. Name them alike ('chr1' or '1')."
        )
    changed, inside = ordered.changed.to_numpy(float) > 0, _covered(ordered, intervals)
    for what, flags in (("changed", changed), ("inside the intervals", inside)):
        if not flags.any() or flags.all():
            raise DataError(
                f"{int(flags.sum())} of {len(flags)} bins are {what}: there is nothing to compare with."
            )
    n = len(changed)
    both = np.fft.irfft(np.fft.rfft(inside.astype(float)) * np.conj(np.fft.rfft(changed.astype(float))), n)
    counts = np.rint(both)  # of every shift; the first is none
    odds = _odds(counts, int(changed.sum()), int(inside.sum()), n)
    low, high = np.quantile(odds, [0.025, 0.975])
    return Enrichment(
        float(odds[0]), float(low), float(high), float((odds >= odds[0]).mean()), float((odds <= odds[0]).mean()),
        n, int(changed.sum()), int(inside.sum()), int(counts[0]),
    )  # fmt: skip


def _odds(both: NDArray[np.float64], n_changed: int, n_inside: int, n: int) -> NDArray[np.float64]:
    a, b, c = both + 0.5, n_changed - both + 0.5, n_inside - both + 0.5
    d = n - n_changed - n_inside + both + 0.5
    found: NDArray[np.float64] = a * d / (b * c)
    return found


def _covered(bins: pd.DataFrame, intervals: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether at least half of each bin is covered; overlapping intervals count once."""
    found = np.zeros(len(bins), bool)
    chromosomes = bins.chromosome.astype(str).to_numpy()
    of_interval = intervals.chromosome.astype(str).to_numpy()
    for name in np.unique(chromosomes):
        chosen = np.flatnonzero(chromosomes == name)
        part = intervals[of_interval == name].sort_values("start")
        if part.empty:
            continue
        # what earlier intervals reach is not counted again: one inside another becomes empty, where that one ends
        ends = np.maximum.accumulate(part.end.to_numpy(float))
        starts = np.maximum(part.start.to_numpy(float), np.append(-np.inf, ends[:-1]))
        edges = np.stack([starts, ends], axis=1).reshape(-1)
        covered = np.append(0, np.cumsum(ends - starts))
        before = np.stack([covered[:-1], covered[1:]], axis=1).reshape(-1)
        low, high = (np.interp(bins[c].to_numpy(float)[chosen], edges, before) for c in ("start", "end"))
        length = (bins.end - bins.start).to_numpy(float)[chosen]
        found[chosen] = (high - low) >= length / 2
    return found
