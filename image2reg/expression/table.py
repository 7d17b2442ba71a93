"""The expression table: genes by samples, with what is known of each gene and each sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from image2reg.errors import DataError
from image2reg.expression.labels import identifiers, listed, positions_of, refuse_repeats

if TYPE_CHECKING:
    from pathlib import Path

    from image2reg.expression.labels import Subset

__all__ = ["ExpressionTable", "as_float32"]


def as_float32(numbers: np.ndarray, *, where: str) -> np.ndarray:
    """`numbers` as float32 (the same array where they already are); `DataError` for text and overflow."""
    try:
        with np.errstate(over="raise"):
            return numbers.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: expression values must be numbers, but {error}. Correct or remove the entry."
        ) from error
    except FloatingPointError as error:
        raise DataError(
            f"{where}: a value lies outside the range of float32 (largest 3.4e38). Rescale the table first."
        ) from error


def _aligned(metadata: pd.DataFrame, ids: pd.Index, *, what: str, where: str) -> pd.DataFrame:
    if metadata.shape == (0, 0):
        return pd.DataFrame(index=ids)
    if not metadata.columns.is_unique:
        repeated = metadata.columns[metadata.columns.duplicated()].unique()
        raise DataError(
            f"{where}: {what} metadata fields appear more than once: {listed(repeated)}. Rename them."
        )
    names = identifiers(metadata.index, what=f"{what} metadata id", where=where)
    refuse_repeats(names, what=f"{what} metadata id", where=where)
    if not names.equals(ids):
        places = names.get_indexer(ids)
        if len(names) != len(ids) or (places < 0).any():
            raise DataError(
                f"{where}: the {what} metadata does not describe the {what}s of the table: "
                f"{len(names)} against {len(ids)}, {int((places < 0).sum())} without "
                f"metadata ({listed(ids[places < 0])}). Allowed is exactly one metadata line per {what}."
            )
        metadata = metadata.iloc[places]
    metadata = metadata.set_axis(ids, axis="index")
    metadata.columns = pd.Index([str(name) for name in metadata.columns], dtype=object)
    return metadata


@dataclass(frozen=True, eq=False, repr=False)
class ExpressionTable:
    """Expression values with the metadata of their rows (genes or probes) and columns (samples).

    Parameters
    ----------
    values : DataFrame (n_rows, n_columns) float32
        Rows are genes or probes, columns samples or signatures, in the unit of the file (log2 expression at
        L1000 level 3, z-scores at levels 4 and 5). NaN is missing. Ids are cast to text. A frame that is
        float32 already is shared, not copied.
    row_metadata : DataFrame, one line per row of `values`
        Indexed by row id; any fields (``pr_gene_symbol``, ``pr_gene_id``). Put in the order of `values`.
    column_metadata : DataFrame, one line per column of `values`
        Indexed by column id; any fields (``pert_iname``, ``cell_id``, ``pert_idose``).
    source : str
        Where the table came from; named in messages.

    Raises
    ------
    DataError
        Ids repeat or are empty, metadata does not match them one to one, values are not numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> values = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=[1017, 1019], columns=["a", "b"])
    >>> table = ExpressionTable(values)
    >>> table
    ExpressionTable(2 rows x 2 columns, 0 row fields, 0 column fields)
    >>> table.select(rows=["1019"]).values.loc["1019"].tolist()
    [3.0, 4.0]
    """

    values: pd.DataFrame
    row_metadata: pd.DataFrame = field(default_factory=pd.DataFrame)
    column_metadata: pd.DataFrame = field(default_factory=pd.DataFrame)
    source: str = ""

    def __post_init__(self) -> None:
        """Cast ids and values, align metadata."""
        where = self.source or "expression table"
        rows = identifiers(self.values.index, what="row id", where=where).rename("rid")
        columns = identifiers(self.values.columns, what="column id", where=where).rename("cid")
        refuse_repeats(rows, what="row id", where=where)
        refuse_repeats(columns, what="column id", where=where)
        numbers = as_float32(self.values.to_numpy(), where=where)
        set_field = object.__setattr__
        set_field(self, "values", pd.DataFrame(numbers, index=rows, columns=columns, copy=False))
        set_field(self, "row_metadata", _aligned(self.row_metadata, rows, what="row", where=where))
        set_field(
            self, "column_metadata", _aligned(self.column_metadata, columns, what="column", where=where)
        )

    def __repr__(self) -> str:
        """Sizes, not values: a table has millions."""
        return (
            f"ExpressionTable({self.values.shape[0]} rows x {self.values.shape[1]} columns, "
            f"{self.row_metadata.shape[1]} row fields, {self.column_metadata.shape[1]} column fields)"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (genes) and columns (samples)."""
        return self.values.shape

    def select(self, *, rows: Subset = None, columns: Subset = None) -> ExpressionTable:
        """Rows and columns by id, in the order asked for, or by a slice of positions.

        Raises
        ------
        DataError
            An id is not in the table or is asked for twice, or nothing is left.
        """
        where = self.source or "expression table"
        row_places = positions_of(rows, self.values.index, what="row id", where=where)
        column_places = positions_of(columns, self.values.columns, what="column id", where=where)
        return ExpressionTable(
            values=self.values.iloc[row_places, column_places],
            row_metadata=self.row_metadata.iloc[row_places],
            column_metadata=self.column_metadata.iloc[column_places],
            source=self.source,
        )

    def write(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the table as GCT 1.3 (``.gct``) or GCTX (``.gctx``); see `image2reg.expression.write`."""
        from image2reg.expression.gct import write

        write(self, path, overwrite=overwrite)
