"""Expression signatures to nucleus images, with proof that the images follow the signatures.

Names load on first use (PEP 562), so that importing this loads no torch.

Examples
--------
>>> import morphgen as mg
>>> data = mg.dataset("unseen", n_per_signature=1, signatures=["BRDN0000399207"])  # doctest: +SKIP
>>> crops = mg.load("planted-nuclei").generate(data.signatures, n=8, steps=6, seed=0)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image2reg.expression.signatures import read_signatures
    from morphgen.fidelity import evaluate
    from morphgen.follow import follow_test
    from morphgen.planted import dataset
    from morphgen.sample import MorphologyGenerator, load

    __version__: str

_HOME = {
    "MorphologyGenerator": "morphgen.sample",
    "dataset": "morphgen.planted",
    "evaluate": "morphgen.fidelity",
    "follow_test": "morphgen.follow",
    "load": "morphgen.sample",
    "read_signatures": "image2reg.expression.signatures",
}

__all__ = [
    "MorphologyGenerator",
    "__version__",
    "dataset",
    "evaluate",
    "follow_test",
    "load",
    "read_signatures",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("virtualstain")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
