"""From reagents to genes: several siRNAs or guides of a gene make one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import DataError
from image2reg.screen.plates import CONTROL, POSITIVE
from image2reg.screen.significance import benjamini_hochberg, simes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["gene_scores", "without_controls"]


def without_controls(hits: pd.DataFrame, wells: pd.DataFrame, gene: str = "Metadata_Gene") -> pd.DataFrame:
    """Leave out reagents of positive controls whose gene has reagents of its own in the library.

    They were chosen because they act: a gene would be a hit by them, whatever its reagents in the library do. A reagent
    that is in sample wells, too, counts, and so do those of genes that are in positive controls alone.

    Parameters
    ----------
    hits : DataFrame
        From `image2reg.screen.call_hits`, grouped by reagent and `gene`.
    wells : DataFrame
        Of `image2reg.screen.hits.called_wells`.
    gene : str
    """
    positive, sample = (wells[wells[CONTROL].eq(kind)] for kind in (POSITIVE, ""))
    chosen = hits["name"].isin(set(positive["Metadata_Group"]) - set(sample["Metadata_Group"]))
    return hits[~(chosen & hits[gene].isin(set(sample[gene])))]


def gene_scores(
    hits: pd.DataFrame, gene: str = "Metadata_Gene", *, fdr: float = 0.05, min_effect: float = 0.0
) -> pd.DataFrame:
    """One row per gene and score.

    Parameters
    ----------
    hits : DataFrame
        From `image2reg.screen.call_hits`, grouped by reagent and `gene`; control groups and rows without a gene are
        left out.
    gene : str
    fdr : float
    min_effect : float
        A hit's effect is at least this far from 0, as that of a reagent must be.

    Returns
    -------
    DataFrame, best first
        `gene`, ``score``, ``n_reagents`` (those with an effect), ``n_hits``, ``effect`` (median over reagents),
        ``second_effect`` (second strongest reagent on the side of the median: one reagent alone may be off target),
        ``agreement`` (share of reagents on that side), ``p`` (Simes' over reagents that may be called, those with a
        q), ``q``, ``hit``. A gene none of whose reagents has enough wells is ranked last, with neither p nor q.

    Raises
    ------
    DataError
        No column of that name, or no row has a gene.
    """
    import pandas as pd

    if gene not in hits:
        raise DataError(
            f"genes: no column {gene!r} in the hits; group by it too. There are {list(hits.columns)}."
        )
    rows = hits[~hits["is_control"] & hits[gene].astype(str).ne("")]
    if rows.empty:
        raise DataError(
            f"genes: column {gene!r} is empty for every reagent. Fill it in the manifest or the layout."
        )
    found = []
    for (name, score), reagents in rows.groupby([gene, "score"], sort=False):
        effects = reagents["effect"].dropna().to_numpy(np.float64)
        middle = float(np.median(effects)) if len(effects) else np.nan
        side = np.sign(middle) or 1.0
        ordered = np.sort(side * effects)[::-1]
        found.append(
            {
                gene: name, "score": score, "n_reagents": len(effects), "n_hits": int(reagents["hit"].sum()),
                "effect": middle,
                "second_effect": float(side * ordered[1]) if len(ordered) > 1 else np.nan,
                "agreement": float((side * effects > 0).mean()) if len(effects) else np.nan,
                "p": simes(reagents.loc[reagents["q"].notna(), "p"]),
            }
        )  # fmt: skip
    table = pd.DataFrame(found)
    table["q"] = benjamini_hochberg(table["p"])
    table["hit"] = (table["q"] <= fdr) & (table["effect"].abs() >= min_effect)
    return table.sort_values(["q", "p"], kind="stable").reset_index(drop=True)
