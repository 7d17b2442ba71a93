"""From a table of signatures to the condition of a model: genes by name, dose, time and cell line where known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from image2reg.errors import DataError
from image2reg.tables.profiles import Profiles
from morphgen.condition import Condition

__all__ = ["condition_of"]

COVARIATES = {"dose": "Metadata_Dose_uM", "time": "Metadata_Time"}


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
