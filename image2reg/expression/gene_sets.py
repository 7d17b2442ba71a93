"""Named sets of genes from GMT files, and the up and down sets of a signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GeneSets", "extreme_genes", "paired_sets", "read_gmt"]

GeneSets = dict[str, tuple[str, ...]]
_SUFFIXES = (("_UP", "_DN"), ("_UP", "_DOWN"), ("_up", "_dn"), ("_up", "_down"))


def read_gmt(path: Path | str) -> GeneSets:
    """Read a GMT file: one set per line, name, description and genes separated by tabs.

    Returns
    -------
    dict of name to genes
        In the order of the file; a gene repeated in a set counts once.

    Raises
    ------
    DataError
        Missing file, not UTF-8, a line without genes, a name used twice (line numbers are given).
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as GMT ({error}). Check the path; save it as UTF-8."
        ) from error
    sets: GeneSets = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = tuple(dict.fromkeys(gene.strip() for gene in rest[1:] if gene.strip()))
        if not name.strip() or not genes:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} has no {'name' if genes else 'gene'}; a line is name, "
                "description, gene, gene … separated by tabs."
            )
        if name in sets:
            raise DataError(f"{path}, line {number}: the set {name!r} appears twice. Rename one.")
        sets[name] = genes
    if not sets:
        raise DataError(f"{path}: no gene set in {len(lines)} lines.")
    return sets


def paired_sets(sets: Mapping[str, Sequence[str]]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pair ``NAME_UP`` with ``NAME_DN`` (or ``_DOWN``, any of them in small letters).

    Returns
    -------
    dict of name to (up, down)
        Sets without a partner are left out.

    Raises
    ------
    DataError
        No pair at all.
    """
    found = {}
    for name in sets:
        for up, down in _SUFFIXES:
            partner = name.removesuffix(up) + down
            if name.endswith(up) and partner in sets:
                found[name.removesuffix(up)] = (tuple(sets[name]), tuple(sets[partner]))
    if not found:
        raise DataError(
            f"gene sets: none of {list(sets)[:5]} has a partner; pairs are called NAME_UP and NAME_DN (or NAME_DOWN)."
        )
    return found


def extreme_genes(
    signature: NDArray[np.floating], genes: Sequence[str], *, n: int = 50
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the `n` most raised and the `n` most lowered genes of one signature, most extreme first.

    Parameters
    ----------
    signature : (d,) float
        Finite; ties keep the order of `genes`.
    genes : d names
    n : int
        At most half of the genes.

    Raises
    ------
    ConfigurationError
        `n` is below 1 or above d / 2.
    """
    values = np.asarray(signature, np.float64)
    if values.shape != (len(genes),) or not np.isfinite(values).all():
        raise DataError(
            f"extreme genes: signature {values.shape} for {len(genes)} genes; one finite number each."
        )
    if not 1 <= n <= len(genes) // 2:
        raise ConfigurationError(
            f"extreme genes: n is {n}; allowed is 1 to {len(genes) // 2} of {len(genes)} genes."
        )
    order = np.argsort(-values, kind="stable")
    return tuple(genes[i] for i in order[:n]), tuple(genes[i] for i in order[::-1][:n])
