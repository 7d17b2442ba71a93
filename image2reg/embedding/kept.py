"""Rows of a table of scores that a stopped run has finished, kept so that the next one makes only the missing ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.atomic import atomic_file
from image2reg.provenance import json_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from image2reg.embedding.recipe import EncoderRecipe
    from image2reg.nuclei.crops import Crops

__all__ = ["KeptRows", "fingerprint"]


class KeptRows(dict[str, dict[str, Any]]):
    """Rows by name, in one JSON file that is replaced whole whenever a row is set.

    Parameters
    ----------
    path : Path
    made_from : str
        What the rows are made from, as `fingerprint` gives it. Stored rows of anything else are not taken up.
    """

    def __init__(self, path: Path, made_from: str) -> None:
        super().__init__()
        self.path, self._made_from = path, made_from
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["made_from"] == made_from:
                for name, row in stored["rows"].items():
                    super().__setitem__(name, {k: np.nan if v is None else v for k, v in row.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.clear()  # no such file, or none of ours

    def __setitem__(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row; it is on disk before this returns."""
        super().__setitem__(name, row)
        content = {"made_from": self._made_from, "rows": {n: _plain(r) for n, r in self.items()}}
        with atomic_file(self.path, overwrite=True) as partial:
            partial.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows neither the numbers of numpy nor NaN."""
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in plain.items()}


def fingerprint(
    crops: Crops, labels: NDArray[Any], recipe: EncoderRecipe, *, n_folds: int, group: str = ""
) -> str:
    """Hash all that decides a score: pixels, masks, metadata, labels, recipe, folds, and the group of an ablation."""
    return json_sha256({
        "recipe": recipe.model_dump(mode="json"), "folds": n_folds, "group": group, "pixels": crops.digest(),
        "channels": list(crops.channels), "voxel_um": list(crops.voxel_um),
        "labels": labels.astype(str).tolist(), "metadata": crops.metadata.to_csv(index=False),
    })  # fmt: skip
