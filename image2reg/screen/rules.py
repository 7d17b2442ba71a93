"""Rules of published screens, by name: thresholds on fold changes, no test; to compare with their lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError, DataError
from image2reg.screen.plates import WELL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RULES", "call_by_rule"]

# Label, readout, comparison, fold change against the plate's control wells.
RULES = {
    "aits-sirna": (
        ("strong loss of cells", "Nuclei_Count", "<", 0.1),
        ("loss of cells", "Nuclei_Count", "<", 0.5),
        ("large nuclei", "Nuclei_AreaShape_Area", ">", 1.7),
    ),
}


def call_by_rule(wells: pd.DataFrame, rule: str = "aits-sirna") -> pd.Series:
    """Label wells by a published rule.

    Parameters
    ----------
    wells : DataFrame, one row per well
        Fold changes in the columns ``FoldChange_<readout>``.
    rule : str
        ``aits-sirna``: the genome-wide siRNA screen of the Aits laboratory: nuclear count below 0.5 or below 0.1 of the
        control wells', mean nuclear area above 1.7 times theirs. One reading each, no variance: a ranking.

    Returns
    -------
    Series of str
        Labels joined by "; ", the stronger of two thresholds on one readout only; "" for none.

    Raises
    ------
    ConfigurationError
        An unknown rule.
    DataError
        A fold change that the rule needs is missing.
    """
    import pandas as pd

    if rule not in RULES:
        raise ConfigurationError(f"rule {rule!r} is not known; there is {sorted(RULES)}.")
    needed = [f"FoldChange_{readout}" for _, readout, _, _ in RULES[rule]]
    missing = sorted({name for name in needed if name not in wells})
    if missing:
        raise DataError(
            f"rule {rule!r}: columns {missing} are missing (table with {WELL}). Ask for these readouts: "
            f"{[name.removeprefix('FoldChange_') for name in missing]}."
        )
    labels = np.full(len(wells), "", dtype=object)
    called = {readout: np.zeros(len(wells), bool) for _, readout, _, _ in RULES[rule]}
    for label, readout, sign, bar in RULES[rule]:
        fold = wells[f"FoldChange_{readout}"].to_numpy(np.float64)
        holds = (fold < bar if sign == "<" else fold > bar) & ~called[readout]
        called[readout] |= holds
        labels[holds] = [f"{before}; {label}" if before else label for before in labels[holds]]
    return pd.Series(labels, index=wells.index, name="Metadata_Rule")
