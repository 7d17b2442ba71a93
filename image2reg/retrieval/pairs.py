"""Which pairs of profiles count: positives share a label, negatives do not, and either may have to differ elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.retrieval.labels import incidence

if TYPE_CHECKING:
    from image2reg.tables.profiles import Profiles

__all__ = ["Pairing"]

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairing:
    """Who is relevant to whom among the rows of one table.

    Attributes
    ----------
    rows : (n,) intp
        Rows of the table that take part: those with a value in every `same` column.
    n_unlabelled : int
        Rows left out because a `same` column is empty.
    queries : (q,) intp
        Position of each query in `rows`; a profile comes once per label where labels are queried one by one.
    query_labels : (q,) object
        The label asked for, or the profile's own.
    """

    rows: NDArray[np.intp]
    n_unlabelled: int
    queries: NDArray[np.intp]
    query_labels: NDArray[Any]
    _same: Codes
    _different: tuple[Codes, ...]
    _negative_same: Codes
    _negative_different: tuple[Codes, ...]
    _labels: NDArray[np.float32] | None
    _asked: NDArray[np.intp] | None

    @classmethod
    def of(
        cls,
        profiles: Profiles,
        *,
        same: Sequence[str],
        different: Sequence[str] = (),
        negative_same: Sequence[str] = (),
        negative_different: Sequence[str] | None = None,
        multilabel: str = "",
    ) -> Pairing:
        """Read the columns.

        Parameters
        ----------
        profiles : Profiles
        same : column names
            A positive pair agrees in all of them; rows empty in one of them take no part.
        different : column names
            A positive pair differs in each of them (compound, plate). A pair that shares the label and one of
            these is neither positive nor negative.
        negative_same, negative_different : column names
            A negative pair agrees in all of the first and differs in each of the second (default: `same`).
        multilabel : str
            ``""``: a cell is one label. ``"any"``: cells of the first `same` column hold labels separated by
            ``|``; a pair is positive when the sets intersect. ``"each"``: as ``"any"``, with one query per profile
            and label; positives have that label, negatives share none.

        Raises
        ------
        ConfigurationError
            No column in `same`, or an unknown `multilabel`.
        DataError
            A column is missing, no row has a label, or no two rows make a positive or a negative pair.
        """
        if not same or multilabel not in ("", "any", "each"):
            raise ConfigurationError(
                f"pairs: same={list(same)}, multilabel={multilabel!r}; name at least one column and one of "
                "'', 'any', 'each'."
            )
        cells = np.stack([profiles.column(name) for name in same])
        labelled = (cells != "").all(axis=0)
        rows = np.flatnonzero(labelled)
        if not len(rows):
            raise DataError(f"{profiles.source}: no row has a value in {list(same)}. Check --label.")
        labels, asked, queries = None, None, np.arange(len(rows))
        query_labels = cells[0][rows]
        whole = list(same)
        if multilabel:
            labels, names = incidence(query_labels)
            whole = whole[1:]
            if multilabel == "each":
                queries, asked = np.nonzero(labels)
                query_labels = np.array(names, dtype=object)[asked]
        if negative_different is None:  # with labels in sets, sharing none is the negative rule itself
            negative_different = () if multilabel else same
        pairing = cls(
            rows=rows,
            n_unlabelled=int(np.count_nonzero(~labelled)),
            queries=queries,
            query_labels=query_labels,
            _same=_joint(profiles, whole, rows),
            _different=tuple(_joint(profiles, [name], rows) for name in different),
            _negative_same=_joint(profiles, list(negative_same), rows),
            _negative_different=tuple(_joint(profiles, [name], rows) for name in negative_different),
            _labels=labels,
            _asked=asked,
        )
        pairing._refuse_none(profiles, list(same), list(different))
        return pairing

    def block(self, chosen: slice | NDArray[np.intp]) -> tuple[Mask, Mask]:
        """Positive and negative masks (b, n) of some queries; a profile is never paired with itself."""
        query = self.queries[chosen]
        same = _equal(self._same, query)
        negative = (
            np.ones_like(same) if self._negative_same.max() == 0 else _equal(self._negative_same, query)
        )
        if self._labels is not None:
            shared = self._labels[query] @ self._labels.T > 0
            negative &= ~shared
            same &= shared if self._asked is None else self._labels[:, self._asked[chosen]].T > 0
        for codes in self._negative_different:
            negative &= ~_equal(codes, query)
        for codes in self._different:
            same &= ~_equal(codes, query)
        here = np.arange(len(query))
        same[here, query] = negative[here, query] = False
        return same, negative

    def apart(self, chosen: slice | NDArray[np.intp]) -> Mask:
        """(b, n) pairs that differ in each `different` column and are not the profile itself."""
        query = self.queries[chosen]
        mask = np.ones((len(query), len(self.rows)), bool)
        for codes in self._different:
            mask &= ~_equal(codes, query)
        mask[np.arange(len(query)), query] = False
        return mask

    def _refuse_none(self, profiles: Profiles, same: list[str], different: list[str]) -> None:
        step = max(1, 4_000_000 // len(self.rows))
        positive = negative = False
        for start in range(0, len(self.queries), step):
            blocks = self.block(slice(start, start + step))
            positive, negative = positive or bool(blocks[0].any()), negative or bool(blocks[1].any())
            if positive and negative:
                return
        n_labels = len(set(self.query_labels))
        what = "positive" if not positive else "negative"
        raise DataError(
            f"{profiles.source}: no {what} pair among {len(self.rows)} labelled rows: {n_labels} different values of "
            f"{same[0]!r}"
            + (f", pairs had to differ in {different}" if different else "")
            + ". A score needs two rows that share a label"
            + (" and differ there" if different else "")
            + ", and two that do not. Check the label column, or add compounds per label."
        )


def _joint(profiles: Profiles, columns: list[str], rows: NDArray[np.intp]) -> Codes:
    """One integer per row for the columns together; no column: all rows alike (0)."""
    import pandas as pd

    if not columns:
        return np.zeros(len(rows), np.int32)
    cells = pd.DataFrame({name: profiles.column(name)[rows] for name in columns})
    codes = cells.groupby(columns, sort=True).ngroup().to_numpy().astype(np.int32)
    # An empty cell is unknown: it equals nothing, not even another empty one.
    unknown = (cells == "").any(axis=1).to_numpy()
    codes[unknown] = codes.max() + 1 + np.arange(np.count_nonzero(unknown))
    return codes


def _equal(codes: Codes, query: NDArray[np.intp]) -> Mask:
    return codes[query][:, None] == codes[None, :]
