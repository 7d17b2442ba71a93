"""From a table of signatures to the condition of a model, genes by name, and to the names that seed its images."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from image2reg.errors import DataError
from image2reg.expression.labels import listed
from image2reg.expression.signatures import SIGNATURE
from image2reg.tables.profiles import Profiles
from morphgen.condition import Condition

__all__ = ["condition_of", "signature_names"]

COVARIATES = {"dose": "Metadata_Dose_uM", "time": "Metadata_Time"}

# The order in which tables had these before order ceased to count: seeds, and so images, stay what they were.
_FIRST = (
    SIGNATURE, "Metadata_moa", "Metadata_Perturbation", "Metadata_Gene", "Metadata_Allele", "Metadata_Replicate",
    "Metadata_Dose", "Metadata_Origin",
)  # fmt: skip
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d*)?(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


def condition_of(signatures: Profiles, genes: Sequence[str], cell_lines: Sequence[str] = ()) -> Condition:
    """Give one row per signature.

    Parameters
    ----------
    signatures : Profiles
        Columns are gene symbols, z-scores; NaN for a gene that was not measured. ``Metadata_Dose_uM``,
        ``Metadata_Time`` (hours) and ``Metadata_CellLine`` are used where they are there.
    genes, cell_lines : sequence of str
        Those of the model.

    Raises
    ------
    DataError
        Genes of the model that the table lacks, named; a signature that holds infinity, or no number at all.
    """
    known = set(signatures.features)
    missing = [gene for gene in genes if gene not in known]
    if missing:
        raise DataError(
            f"{signatures.source}: {len(missing)} of the model's {len(genes)} genes are missing, such as "
            f"{missing[:5]}. Columns must be gene symbols, one row per signature; read the table with "
            "image2reg.expression.read_signatures, which finds genes by other ids and fills gaps when asked."
        )
    expression = signatures.frame[list(genes)].to_numpy(np.float32, copy=True)
    wrong = np.isinf(expression).any(1) | np.isnan(expression).all(1)
    if wrong.any():
        raise DataError(
            f"{signatures.source}: {int(wrong.sum())} signatures hold infinity, or nothing but NaN, first row "
            f"{int(wrong.argmax())} (counted from 0). Leave them out; NaN is for single genes that were not measured."
        )
    parts: dict[str, Tensor] = {"expression": torch.from_numpy(expression)}
    for part, column in COVARIATES.items():
        if column in signatures.frame:
            values = signatures.numbers(column)
            if part == "dose":
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = np.log10(values)  # no dose is -inf, and becomes the learned null
            parts[part] = torch.from_numpy(values.astype(np.float32))
    if cell_lines and "Metadata_CellLine" in signatures.frame:
        places = {name: i for i, name in enumerate(cell_lines)}
        parts["cell_line"] = torch.tensor([places.get(c, -1) for c in signatures.column("Metadata_CellLine")])
    return Condition(**parts)


def signature_names(signatures: Profiles) -> list[str]:
    """Give what tells signatures apart, and seeds their images: all their metadata.

    Neither the order of the table's columns nor the way a number is written (10, 10.0) makes another name, and a
    ``Metadata_Signature`` that repeats another column, as of a table without ids, says nothing of its own.

    Raises
    ------
    DataError
        Nothing tells some of them apart.
    """
    metadata = signatures.metadata
    order = sorted(metadata, key=lambda c: (_FIRST.index(c) if c in _FIRST else len(_FIRST), c))
    cells = metadata[order].map(_plainly).to_numpy(object)
    if order[:1] == [SIGNATURE]:
        own, others = cells[:, :1], cells[:, 1:]
        repeats = (own == others).any(axis=1)
        cells[repeats, 0] = others[repeats, 0]
    names = pd.Series(["/".join(row) for row in cells])
    same = names[names.duplicated()].unique()
    if len(same):
        raise DataError(
            f"{signatures.source}: nothing tells {int(names.isin(same).sum())} of {len(names)} signatures apart, which "
            f"are called {listed(same)}: their images would be taken for those of one. Give each a Metadata_Signature "
            "of its own, or make a consensus."
        )
    return names.tolist()


def _plainly(cell: str) -> str:
    """Write a number in one way; a plate 007 is none."""
    if not _NUMBER.fullmatch(cell):
        return cell
    value = float(cell)
    return str(int(value)) if value.is_integer() else repr(value)
