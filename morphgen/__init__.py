"""Expression signatures to nucleus images. Not written yet: this release holds the name and nothing to call.

Until it is, `morphgen` offers its version alone, so that nothing seems to work
that does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("virtualstain")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: morphgen is not written yet")


def __dir__() -> list[str]:
    return __all__
