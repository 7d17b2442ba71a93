"""Expression signatures of the landmark genes from GCT, GCTX, CSV or Parquet, checked and put in one gene order."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression.gct import file_kind, read, read_metadata
from image2reg.expression.labels import listed
from image2reg.expression.landmarks import Alignment, align, landmark_genes
from image2reg.expression.levels import level_of
from image2reg.expression.mistakes import (
    MOST_FILLED,
    align_upright,
    refuse_filled,
    refuse_text,
)
from image2reg.tables.cells import refuse_separator, refuse_shifted
from image2reg.tables.profiles import METADATA, Profiles, as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Signatures", "read_signatures"]

SIGNATURE = "Metadata_Signature"
# Fields of L1000's own row metadata that name a gene, and of what kind.
_GENE_FIELDS = {
    "pr_gene_symbol": "symbol",
    "pr_gene_id": "entrez",
    "gene_symbol": "symbol",
    "gene_id": "entrez",
}
_PARQUET, _HDF5, _GCT = b"PAR1", b"\x89HDF", (b"#1.2", b"#1.3")


@dataclass(frozen=True)
class Signatures:
    """Signatures in one gene order, and what had to be done to get there.

    Attributes
    ----------
    profiles : Profiles
        (S, G) one row per signature, columns are gene symbols; ``Metadata_Signature`` is its id in the file.
    present : (S, G) bool
        False where the file has no value; there `profiles` holds 0.
    level : str
        ``3`` or ``4/5``.
    id_kind : str
        What the file's gene ids were: ``symbol``, ``entrez`` or ``probe``.
    notes : tuple of str
        What was filled or averaged, with names and numbers.
    """

    profiles: Profiles
    present: NDArray[np.bool_]
    level: str
    id_kind: str
    notes: tuple[str, ...] = ()


def read_signatures(
    path: Path | str,
    *,
    genes: Sequence[str] | None = None,
    ids: str | None = None,
    level: Literal["3", "4/5"] = "4/5",
    missing: Literal["refuse", "zero"] = "refuse",
    duplicates: Literal["refuse", "mean"] = "refuse",
    signatures: Sequence[str] | None = None,
) -> Signatures:
    """Read signatures, with their genes found by symbol, Entrez id or probe set.

    Parameters
    ----------
    path : Path or str
        GCT or GCTX (genes in rows), or CSV or Parquet (signatures in rows; text columns and ``Metadata_*`` are
        metadata). The content decides, not the suffix. Of a large GCTX only what is asked for is read.
    genes : sequence of str, optional
        Symbols in the order wanted; by default the 978 landmarks.
    ids : str, optional
        ``symbol``, ``entrez`` or ``probe``; found out by default.
    level : str
        What the table must be: ``4/5`` z-scores, or ``3`` expression, to be made z-scores by
        `image2reg.expression.zscores`.
    missing : str
        ``zero`` fills genes and entries without a value with 0, which for a z-score is "unchanged", and marks them in
        `Signatures.present`, where no signature lacks more than half of them; ``refuse`` names them.
    duplicates : str
        ``mean`` averages rows of the same gene; ``refuse`` names them.
    signatures : sequence of str, optional
        Only these, in this order.

    Returns
    -------
    Signatures

    Raises
    ------
    ConfigurationError
        An unknown option, or ``missing="zero"`` for expression, where 0 is not "unchanged".
    DataError
        No such file or another format, or cells separated by something else than commas; genes or entries missing,
        genes repeated (named), too few to fill the others; the matrix is transposed; ids of another kind; another data
        level, such as the fluorescence of level 2.

    Examples
    --------
    >>> found = read_signatures("level5.gctx", signatures=["CPC006_A375_24H:BRD-K1"])  # doctest: +SKIP
    """
    if missing not in {"refuse", "zero"} or duplicates not in {"refuse", "mean"} or level not in {"3", "4/5"}:
        raise ConfigurationError(
            f"signatures: missing={missing!r}, duplicates={duplicates!r}, level={level!r}; allowed are refuse or zero, "
            "refuse or mean, 3 or 4/5."
        )
    if missing == "zero" and level == "3":
        raise ConfigurationError(
            "signatures: missing='zero' fills with 'unchanged', which needs z-scores; level 3 is expression. Make "
            "z-scores first, or refuse missing genes."
        )
    path = Path(path)
    wanted = list(landmark_genes()["symbol"]) if genes is None else list(genes)
    from_matrix = _is_matrix(path)
    values, metadata, alignment = (_of_matrix if from_matrix else _of_table)(path, wanted, ids, signatures)
    notes = _settled(path, alignment, len(wanted), missing, duplicates)
    present = np.isfinite(values)
    gaps = present[:, alignment.places >= 0]
    if not gaps.all():
        where = np.argwhere(~present & (alignment.places >= 0))
        n_gaps, (row, column) = len(where), where[0]
        text = (
            f"{n_gaps} of {gaps.size} values are missing or not finite in {len(set(where[:, 0]))} signatures (first: "
            f"{metadata.iloc[row, 0]!r}, gene {wanted[column]!r})"
        )
        if missing == "refuse":
            raise DataError(
                f"{path}: {text}. Leave those signatures out, or pass missing='zero' (--fill-missing) to fill with 0."
            )
        notes.append(f"{text}: filled with 0")
    refuse_filled(path, present, metadata)
    found = level_of(values)
    if found != level:
        raise DataError(_wrong_level(path, found, level, values))
    frame = pd.concat([metadata, pd.DataFrame(np.where(present, values, 0.0), columns=wanted)], axis=1)
    return Signatures(Profiles(frame, source=str(path)), present, found, alignment.kind, tuple(notes))


def _wrong_level(path: Path, found: str, wanted: str, values: NDArray[np.floating]) -> str:
    what = {"2": "fluorescence (level 2)", "3": "log2 expression (level 3)", "4/5": "z-scores (level 4 or 5)"}
    step = {
        "2": "Normalise it to level 3 and make z-scores against plate or vehicle first",
        "3": "Read it with level='3' and pass it through image2reg.expression.zscores",
        "4/5": "Read it with level='4/5'",
    }
    return (
        f"{path}: the values look like {what[found]}: median {np.nanmedian(values):.4g}, range "
        f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g}; wanted are {what[wanted]}. {step[found]}."
    )


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path)) if packed else path.open("rb")


def _is_matrix(path: Path) -> bool:
    """Whether the content is GCT or GCTX, rather than CSV or Parquet."""
    try:
        with _opened(path) as handle:
            start = handle.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Check the path.") from error
    if start.startswith((_HDF5, *_GCT)):
        return file_kind(path) in {"gct", "gctx"}
    if not start.startswith(_PARQUET) and (b"\0" in start or not start):
        raise DataError(f"{path}: neither GCT, GCTX, Parquet nor CSV; it starts with {start[:16]!r}.")
    return False


def _of_matrix(
    path: Path, wanted: list[str], ids: str | None, signatures: Sequence[str] | None
) -> tuple[NDArray[np.float64], pd.DataFrame, Alignment]:
    rows, columns = read_metadata(path)
    names, kind = _gene_names(rows, ids)
    alignment = align_upright(path, names, kind, wanted, "rows", {"columns": columns.index})
    positions = sorted({*alignment.places[alignment.places >= 0], *sum(alignment.duplicates.values(), ())})
    table = read(
        path, rows=list(rows.index[positions]), columns=None if signatures is None else list(signatures)
    )
    values = _gathered(table.values.to_numpy(np.float64).T, alignment, np.array(positions))
    metadata = table.column_metadata.reset_index(drop=True).add_prefix(METADATA)
    metadata.insert(0, SIGNATURE, table.values.columns.to_numpy(str))
    return values, metadata, alignment


def _gene_names(rows: pd.DataFrame, ids: str | None) -> tuple[pd.Index | pd.Series, str | None]:
    """Row ids where they are genes; else the metadata field that names genes."""
    try:
        align(rows.index, kind=ids)
    except DataError:
        for field, kind in _GENE_FIELDS.items():
            if field in rows and ids in {None, kind} and rows[field].notna().all():
                return rows[field], kind
    return rows.index, ids


def _of_table(
    path: Path, wanted: list[str], ids: str | None, signatures: Sequence[str] | None
) -> tuple[NDArray[np.float64], pd.DataFrame, Alignment]:
    frame = _frame(path)
    is_text = np.array([name.startswith(METADATA) for name in frame.columns.astype(str)])
    is_text |= np.array([kind.kind not in "fiub" for kind in frame.dtypes])
    texts = {place: as_text(frame.iloc[:, place]) for place in np.flatnonzero(is_text)}
    metadata, numbers = pd.DataFrame(texts, index=frame.index), frame.loc[:, ~is_text]
    metadata.columns = _metadata_names(frame.columns[is_text])
    refuse_text(path, metadata, numbers, wanted)
    places = np.flatnonzero(is_text) if is_text.any() else [0]
    labels = {f"column {frame.columns[place]!r}": frame.iloc[:, place] for place in places}
    alignment = align_upright(path, numbers.columns, ids, wanted, "columns", labels)
    if SIGNATURE not in metadata:
        labels = (
            metadata.iloc[:, 0] if is_text.any() else pd.Series([f"row {i + 1}" for i in range(len(frame))])
        )
        metadata.insert(0, SIGNATURE, labels.to_numpy())
    metadata = metadata[[SIGNATURE, *(c for c in metadata if c != SIGNATURE)]]
    values = _gathered(numbers.to_numpy(np.float64), alignment, np.arange(numbers.shape[1]))
    if signatures is not None:
        places = pd.Index(metadata[SIGNATURE]).get_indexer_for(list(signatures))
        if (places < 0).any():
            absent = [name for name in signatures if name not in set(metadata[SIGNATURE])]
            raise DataError(f"{path}: no signature {listed(absent)}; it has {listed(metadata[SIGNATURE])}.")
        values, metadata = values[places], metadata.iloc[places].reset_index(drop=True)
    return values, metadata, alignment


def _metadata_names(columns: pd.Index) -> pd.Index:
    """Prefix metadata columns; one called "signature", else a first one without a name, holds the signatures' ids."""
    names = [str(name).removeprefix(METADATA) for name in columns]
    own = SIGNATURE.removeprefix(METADATA)
    if own not in names:
        place = next((i for i, name in enumerate(names) if name.lower() == own.lower()), 0)
        if names and names[place].lower() in {"", "unnamed: 0", own.lower()}:
            names[place] = own
    return pd.Index([METADATA + (name or f"Unnamed{i + 1}") for i, name in enumerate(names)])


def _frame(path: Path) -> pd.DataFrame:
    """CSV or Parquet as it is; repeated column names stay repeated."""
    try:
        with path.open("rb") as handle:
            if handle.read(4) == _PARQUET:
                return pd.read_parquet(path).reset_index(drop=True)
        options: dict[str, Any] = {"encoding": "utf-8-sig", "low_memory": False}
        with _opened(path) as handle:
            header = pd.read_csv(handle, header=None, nrows=1, dtype=str, keep_default_na=False, **options)
            names = list(header.iloc[0])
            refuse_separator(names, path)
            handle.seek(0)
            # Plate 007 stays 007: metadata is text, whatever it looks like.
            text = {name: str for name in names if name.startswith(METADATA)}
            frame = pd.read_csv(handle, dtype=text, **options)
        refuse_shifted(frame, path, len(names))
        return frame.set_axis(names, axis=1)
    except DataError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read as a table ({str(error).strip()}). Export it again."
        ) from error


def _gathered(
    values: NDArray[np.float64], alignment: Alignment, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Columns of `values`, which stand for `positions` of the file, in the order wanted; NaN for missing genes."""
    here = {int(position): column for column, position in enumerate(positions)}
    columns = np.array([here.get(int(place), -1) for place in alignment.places])
    gathered = np.where(columns >= 0, values[:, np.maximum(columns, 0)], np.nan)
    symbols = {place: column for column, place in enumerate(alignment.places)}
    for repeats in alignment.duplicates.values():
        gathered[:, symbols[repeats[0]]] = values[:, [here[place] for place in repeats]].mean(axis=1)
    return gathered


def _settled(path: Path, alignment: Alignment, n_wanted: int, missing: str, duplicates: str) -> list[str]:
    """Note what was filled or averaged; refuse what was not asked for."""
    notes = []
    if alignment.duplicates:
        shown = ", ".join(
            f"{gene!r} ({len(places)} times)" for gene, places in list(alignment.duplicates.items())[:5]
        )
        text = f"{len(alignment.duplicates)} of {n_wanted} genes appear more than once: {shown}"
        if duplicates == "refuse":
            raise DataError(f"{path}: {text}. Remove all but one, or pass duplicates='mean' to average them.")
        notes.append(f"{text}: averaged")
    if alignment.missing:
        text = (
            f"{len(alignment.missing)} of {n_wanted} genes are missing (ids read as {alignment.kind}): "
            f"{alignment.missing_named}"
        )
        if missing == "refuse":
            few = len(alignment.missing) > MOST_FILLED * n_wanted
            fill = "" if few else (
                ", or pass missing='zero' (--fill-missing) to fill z-scores with 0 and mark them as missing"
            )  # fmt: skip
            raise DataError(f"{path}: {text}. Add them{fill}.")
        notes.append(f"{text}: filled with 0")
    return notes
