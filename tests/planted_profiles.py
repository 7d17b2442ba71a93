"""Planted profiles: mechanisms are directions in feature space, compounds vary around them, doses scale them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from image2reg.tables import Profiles


def planted(
    *, n_mechanisms: int = 4, n_compounds: int = 4, n_doses: int = 2, n_wells: int = 2, n_features: int = 12,
    n_controls: int = 24, effect: float = 6.0, noise: float = 1.0, seed: int = 0,
) -> Profiles:  # fmt: skip
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0][:n_mechanisms]
    rows, values = [], []
    for m, direction in enumerate(directions):
        for c in range(n_compounds):
            own = direction + rng.normal(scale=0.1, size=n_features)
            for d in range(1, n_doses + 1):
                for w in range(n_wells):
                    rows.append(
                        (f"moa {m}", f"compound {m}{c}", str(d), f"plate {w}", f"batch {(m + c) % 2}")
                    )
                    values.append(effect * d / n_doses * own + rng.normal(scale=noise, size=n_features))
    for i in range(n_controls):
        rows.append(("", "DMSO", "0", f"plate {i % 2}", f"batch {i % 2}"))
        values.append(rng.normal(scale=noise, size=n_features))
    names = ["moa", "Compound", "Dose", "Plate", "Batch"]
    metadata = pd.DataFrame(rows, columns=[f"Metadata_{name}" for name in names])
    features = pd.DataFrame(np.array(values), columns=[f"Nuclei_Texture_{i:02d}" for i in range(n_features)])
    return Profiles(pd.concat([metadata, features], axis=1), source="planted")
