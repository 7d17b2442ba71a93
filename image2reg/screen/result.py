"""What a screen gave, and the files it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.screen.curves import Curve, curve_table
from image2reg.tables.cells import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.screen.gallery import Exhibit

__all__ = ["HITS", "ScreenResult"]

HITS = "hits.csv"


@dataclass
class ScreenResult:
    """What a screen gave; the tables are also files in its folder.

    Attributes
    ----------
    wells, quality, hits : DataFrame
        One row per well; per plate and readout; per perturbation and readout.
    readouts : list of str
    curves : list of Curve
    genes, pathways : DataFrame or None
    fields : DataFrame or None
        One row per field; None for profiles.
    failures : list of (unit, kind, error)
    notes : list of str
        What was left out or assumed: files without a channel asked for, plates all of whose fields failed.
    exhibits : list of Exhibit
        Crops of hits.
    n_fields, n_kept_out, n_nuclei : int
    usual_px : float or None
        Diameter of nuclei measured on control fields; None where it was given or is known from pixel sizes.
    seconds : float
        Of the measuring in this call; 0 when it was done before.
    """

    wells: pd.DataFrame
    quality: pd.DataFrame
    hits: pd.DataFrame
    readouts: list[str]
    curves: list[Curve]
    genes: pd.DataFrame | None = None
    pathways: pd.DataFrame | None = None
    fields: pd.DataFrame | None = None
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    n_nuclei: int = 0
    n_kept_out: int = 0
    usual_px: float | None = None
    seconds: float = 0.0

    def write(self, out: Path) -> None:
        """Write the tables; ``hits.csv`` last, which says that the screen is finished."""
        metadata_first = sorted(self.wells.columns, key=lambda name: not name.startswith("Metadata_"))
        write_csv(self.wells[metadata_first], out / "wells.csv", overwrite=True)
        write_csv(self.quality, out / "plate_quality.csv", overwrite=True)
        optional = {
            "fields.csv": self.fields,
            "dose_response.csv": curve_table(self.curves) if self.curves else None,
            "genes.csv": self.genes,
            "pathways.csv": self.pathways,
        }
        for name, table in optional.items():
            if table is not None:
                write_csv(table.replace({np.inf: "inf"}), out / name, overwrite=True)
            else:
                (out / name).unlink(missing_ok=True)
        write_csv(self.hits, out / HITS, overwrite=True)  # last: it says that the screen is finished
