"""Crops of drawn nuclei whose classes differ in what the test says, and small recipes that learn them in a second."""

from __future__ import annotations

import numpy as np
import pandas as pd

from image2reg.embedding.recipe import EncoderRecipe
from image2reg.nuclei.crops import Crops


def drawn_crops(
    n: int = 96, *, signal: str = "texture", seed: int = 0, size: int = 24, wells: int = 12
) -> Crops:
    """Discs in crops; class b has a bright rim (texture), is larger (size), or has a bright neighbour (region).

    ``tint`` gives each well its own brightness and no class any difference. Wells alternate between classes, plates
    hold a third of the wells each.
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - size / 2 + 0.5
    well = np.arange(n) % wells
    treated = well % 2 == 1
    tint = np.linspace(0.3, 1.7, wells)  # the classes alternate, so that no threshold tells them apart
    images = rng.normal(0, 1, (n, 1, size, size)) + 10
    masks = np.zeros((n, size, size), np.uint8)
    for i in range(n):
        radius = 6 + rng.normal(0, 0.3) + (1.5 if signal == "size" and treated[i] else 0)
        inside = np.hypot(y, x) <= radius
        masks[i][inside] = 1
        brightness = 50 * (tint[well[i]] if signal == "tint" else 1)
        images[i, 0][inside] += brightness
        if signal == "texture":
            rim = inside & (np.hypot(y, x) > 4)
            images[i, 0][rim if treated[i] else (inside & ~rim)] += 30
        if signal == "region":
            corner = np.hypot(y - 9, x - 9) <= 4
            masks[i][corner & ~inside] = 2
            images[i, 0][corner & ~inside] += 80 if treated[i] else 20
    metadata = pd.DataFrame(
        {
            "Metadata_Plate": [f"p{w // 2 % 3}" for w in well], "Metadata_Well": [f"A{w + 1:02d}" for w in well],
            "Metadata_Treatment": np.where(treated, "b", "a"), "Metadata_Object": np.arange(n),
            "Metadata_CenterY_px": rng.uniform(0, 500, n), "Metadata_CenterX_px": rng.uniform(0, 500, n),
        }
    )  # fmt: skip
    return Crops(images.astype(np.float32), metadata, masks, ("DNA",))


def small_recipe(steps: int = 40, **changes: object) -> EncoderRecipe:
    recipe = EncoderRecipe(nucleus_px=24, context_px=24, n_features=16)
    training = recipe.training.model_copy(
        update={
            "steps": steps,
            "batch_size": 32,
            "warmup_steps": 1,
            "precision": "fp32",
            "validate_every": steps,
        }
    )
    return recipe.model_copy(update={"training": training, **changes})
