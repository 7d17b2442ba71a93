"""The core that both feeds share: images, tables, models, nuclei.

Names load on first use (PEP 562), so that importing this loads neither torch nor an image library.

Examples
--------
>>> import image2reg as i2r
>>> from numpy import zeros
>>> i2r.Image(zeros((13, 64, 64), "uint16"), "ZYX", (0.5, 0.325, 0.325), ("Phase",)).sizes
{'Z': 13, 'Y': 64, 'X': 64}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image2reg.errors import (
        BundleError,
        ConfigurationError,
        DataError,
        ProjectError,
        ResourceError,
        TrainingError,
    )
    from image2reg.images.image import Image
    from image2reg.images.readers import read
    from image2reg.images.writers import write
    from image2reg.linking.ranking import link
    from image2reg.retrieval.calling import retrieve

    __version__: str

__all__ = [
    "BundleError",
    "ConfigurationError",
    "DataError",
    "Image",
    "ProjectError",
    "ResourceError",
    "TrainingError",
    "__version__",
    "link",
    "read",
    "retrieve",
    "write",
]

_HOME = {
    "BundleError": "image2reg.errors",
    "ConfigurationError": "image2reg.errors",
    "DataError": "image2reg.errors",
    "Image": "image2reg.images.image",
    "ProjectError": "image2reg.errors",
    "ResourceError": "image2reg.errors",
    "TrainingError": "image2reg.errors",
    "link": "image2reg.linking.ranking",
    "read": "image2reg.images.readers",
    "retrieve": "image2reg.retrieval.calling",
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
