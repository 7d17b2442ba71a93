"""The one door through which a library's exception leaves a reader: as ours, with path and reason."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from image2reg.errors import DataError, ProjectError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["reading"]


@contextlib.contextmanager
def reading(path: Path | str, what: str = "image") -> Iterator[None]:
    """Turn whatever is raised inside into `DataError` (or `ResourceError` when memory ran out).

    Readers meet damaged files with more than ten kinds of exception (measured with random byte flips);
    callers meet these two.
    """
    try:
        yield
    except ProjectError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder. Check the path.") from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read ({error}). Check its permissions.") from error
    except MemoryError as error:
        raise ResourceError(
            f"{path}: memory ran out while reading the {what}. Close other programs or read a part "
            "(OME-Zarr)."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(
            f"{path}: the {what} could not be read ({reason}). The file is damaged, incomplete or not what "
            "its "
            "name says; copy it again from the microscope or export it again."
        ) from error
