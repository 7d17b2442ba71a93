"""Label-free stacks (brightfield, phase) to predicted fluorescence.

Names load on first use (PEP 562): ``import virtualstain`` loads no torch, `load` does.

Examples
--------
>>> import virtualstain as vs
>>> stack = vs.read("cells.ome.tiff")  # doctest: +SKIP
>>> predicted = vs.load("brightfield-nuclei").predict(stack)  # doctest: +SKIP
>>> predicted.image.write("predicted.ome.zarr")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image2reg.config import load_config
    from image2reg.images.image import Image
    from image2reg.images.readers import read
    from image2reg.images.writers import write
    from virtualstain.model import StainModel, load
    from virtualstain.predict import Prediction, predict_to
    from virtualstain.recipe import Recipe

    __version__: str

__all__ = [
    "Image",
    "Prediction",
    "Recipe",
    "StainModel",
    "__version__",
    "load",
    "load_config",
    "predict_to",
    "read",
    "write",
]

_HOME = {
    "Image": "image2reg.images.image",
    "Prediction": "virtualstain.predict",
    "Recipe": "virtualstain.recipe",
    "StainModel": "virtualstain.model",
    "load": "virtualstain.model",
    "load_config": "image2reg.config",
    "predict_to": "virtualstain.predict",
    "read": "image2reg.images.readers",
    "write": "image2reg.images.writers",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("virtualstain")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
