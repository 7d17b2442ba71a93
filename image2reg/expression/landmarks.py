"""The 978 landmark genes that L1000 measures, and finding them among the ids of a table.

The list is the gene table of a public L1000 experiment (TA-ORF; Rohban et al. 2017, BSD-3-Clause), whose symbols,
Entrez ids and probe sets agree with those of CMap's own LJP005 plate (cmapPy's test file, BSD-3-Clause) in all 978.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression.labels import identifiers, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ID_KINDS", "Alignment", "align", "landmark_genes"]

ID_KINDS = ("symbol", "entrez", "probe")


@cache
def landmark_genes() -> pd.DataFrame:
    """Give the 978 landmark genes in CMap's own order.

    Returns
    -------
    DataFrame, 978 rows
        ``symbol`` (HGNC at the time), ``entrez`` (gene id, text), ``probe`` (Affymetrix HG-U133A probe set).

    Examples
    --------
    >>> landmark_genes().iloc[0].tolist()
    ['PSME1', '5720', '200814_at']
    """
    path = resources.files("image2reg") / "samples" / "landmarks" / "landmarks.csv"
    with resources.as_file(path) as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


@dataclass(frozen=True)
class Alignment:
    """Where each wanted gene stands among the ids of a table.

    Attributes
    ----------
    kind : str
        Which of `ID_KINDS` the ids are.
    places : (G,) int64
        Position of each wanted gene among the ids, its first where it has several; -1 where it is missing.
    missing : tuple of str
        Symbols of the genes that are missing.
    duplicates : dict of str to tuple of int
        Symbols of the genes that appear more than once, with all their positions.
    missing_named : str
        The missing genes for a message, each with the id of the table that resembles it.
    """

    kind: str
    places: NDArray[np.int64]
    missing: tuple[str, ...]
    duplicates: dict[str, tuple[int, ...]]
    missing_named: str


def align(
    ids: Iterable[object],
    *,
    kind: str | None = None,
    genes: Sequence[str] | None = None,
    where: str = "table",
) -> Alignment:
    """Find genes among ids that are symbols, Entrez ids or probe sets.

    Parameters
    ----------
    ids : iterable
        Row ids of an expression table; numbers are Entrez ids.
    kind : str, optional
        One of `ID_KINDS`; by default the one that finds most genes.
    genes : sequence of str, optional
        Symbols wanted, in the order wanted; by default all 978.
    where : str
        File or table, for messages.

    Raises
    ------
    ConfigurationError
        An unknown kind, or a wanted gene that is no landmark.
    DataError
        No id is a wanted gene, most are symbols in another case, or the ids are of another kind than `kind` says
        (all with counts).

    Examples
    --------
    >>> align([5720, 55847], genes=["CISD1", "PSME1"]).places.tolist()
    [1, 0]
    """
    if kind is not None and kind not in ID_KINDS:
        raise ConfigurationError(f"gene ids of kind {kind!r}; allowed are {', '.join(ID_KINDS)}.")
    known = landmark_genes().set_index("symbol", drop=False)
    wanted = list(known.index) if genes is None else list(genes)
    strange = [gene for gene in wanted if gene not in known.index]
    if strange:
        raise ConfigurationError(
            f"{len(strange)} genes asked for are no landmarks: {listed(strange)}. Allowed are the symbols of "
            "image2reg.expression.landmark_genes()."
        )
    table = identifiers(ids, what="gene id", where=where)
    found = {name: int(np.isin(known.loc[wanted, name], table).sum()) for name in ID_KINDS}
    best = max(ID_KINDS, key=lambda name: found[name])
    _refuse_other_case(table, wanted, found[best], where)
    if not found[best]:
        raise DataError(
            f"{where}: none of {len(table)} ids is one of the {len(wanted)} genes wanted, neither as symbol, Entrez id "
            f"nor probe set; it has ids such as {listed(table[:3])}. Map them to gene symbols first."
        )
    if kind is not None and found[kind] < found[best]:
        raise DataError(
            f"{where}: {found[kind]} of {len(wanted)} genes are found as {kind} and {found[best]} as {best}; the ids "
            f"(such as {listed(table[:3])}) are of kind {best!r}. Pass that, or leave the kind out."
        )
    kind = kind or best
    names = known.loc[wanted, kind].to_numpy()
    first = pd.Series(np.arange(len(table)), index=table)
    first = first[~first.index.duplicated()]
    places = first.reindex(names).fillna(-1).to_numpy(np.int64)
    repeated = table[table.duplicated(keep=False)]
    symbol_of = dict(zip(names, wanted, strict=True))
    duplicates = {
        symbol_of[name]: tuple(np.flatnonzero(table == name).tolist())
        for name in dict.fromkeys(repeated)
        if name in symbol_of
    }
    missing = tuple(gene for gene, place in zip(wanted, places, strict=True) if place < 0)
    return Alignment(kind, places, missing, duplicates, _named(missing, table.difference(names)))


def _refuse_other_case(ids: pd.Index, wanted: Sequence[str], found: int, where: str) -> None:
    """Raise where most genes are there but for upper and lower case."""
    written = {name.upper(): name for name in ids}
    other = [(written[gene.upper()], gene) for gene in wanted if gene.upper() in written]
    if len(other) > 2 * found:
        seen, symbol = next((pair for pair in other if pair[0] != pair[1]), other[0])
        raise DataError(
            f"{where}: {len(other)} of {len(wanted)} genes are there in another case, such as {seen!r} for {symbol!r}. "
            "Write human symbols in capitals; of another species, map them to human genes first."
        )


def _named(genes: Sequence[str], others: pd.Index) -> str:
    """Write ``'HLA-DMA' (perhaps 'HLA.DMA')`` for genes that something else in the table resembles."""
    close = [get_close_matches(gene, others, n=1, cutoff=0.8) for gene in genes[:5]]
    shown = [
        repr(gene) + (f" (perhaps {found[0]!r})" if found else "")
        for gene, found in zip(genes, close, strict=False)
    ]
    return ", ".join(shown) + (f" and {len(genes) - 5} more" if len(genes) > 5 else "")
