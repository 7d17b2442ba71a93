"""Simulated screens for tests and benchmarks: wells of several plates, with planted effects or none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from image2reg.screen.normalise import robust_z
from image2reg.screen.plates import well_name


def simulated_screen(
    rng: np.random.Generator,
    *,
    n_plates: int = 3,
    n_perturbations: int = 80,
    n_controls: int = 16,
    planted: int = 0,
    effect: float = 0.0,
) -> pd.DataFrame:
    """One well of each perturbation on each plate of 8 x 12; plates differ in level and scale.

    The first `planted` perturbations are shifted by `effect` standard deviations of a control well.
    """
    n_wells = n_perturbations + n_controls
    names = np.array(["DMSO"] * n_controls + [f"drug{i}" for i in range(n_perturbations)], dtype=object)
    plates = []
    for plate in range(n_plates):
        order = rng.permutation(n_wells)
        values = rng.normal(size=n_wells)
        values[n_controls : n_controls + planted] += effect
        values = rng.uniform(5, 50) + rng.uniform(0.5, 2) * values
        control = names == "DMSO"
        plates.append(
            pd.DataFrame(
                {
                    "Metadata_Plate": f"p{plate}",
                    "Metadata_Well": [well_name(*divmod(int(place), 12)) for place in order],
                    "Metadata_Perturbation": names,
                    "Metadata_Control": np.where(control, "negative", ""),
                    "z": robust_z(values, control),
                }
            )
        )
    return pd.concat(plates, ignore_index=True)
