"""Does a bundle still give what it gave when it was made? Its golden sample, run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.errors import BundleError, ProjectError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from image2reg.models.bundle import Bundle

__all__ = ["Verification", "verdict", "verify"]


@dataclass(frozen=True)
class Verification:
    """`largest`: largest absolute difference, as a fraction of the range of the expected values."""

    passed: bool
    largest: float
    tolerance: float


def verify(
    bundle: Bundle,
    run: Callable[[Bundle, Path], NDArray[Any]],
    *,
    read: Callable[[Path], NDArray[Any]] | None = None,
) -> Verification:
    """Run the golden sample and compare.

    Parameters
    ----------
    bundle : Bundle
        Loaded, so every file was checked against its hash.
    run : callable
        Given the bundle and the path of the input, gives the output array.
    read : callable, optional
        Reads the expected array from its path; `tifffile.imread` when not given.

    Returns
    -------
    Verification

    Raises
    ------
    BundleError
        The bundle has no sample, or the output has another shape or values that are not finite.
    """
    sample = bundle.spec.sample
    if sample is None:
        raise BundleError(f"{bundle.directory}: holds no golden sample, so there is nothing to verify with.")
    if read is None:
        import tifffile

        read = tifffile.imread
    expected = np.asarray(read(bundle.file(sample.expected)), dtype=np.float64)
    made = np.asarray(run(bundle, bundle.file(sample.input)), dtype=np.float64)
    if made.shape != expected.shape:
        raise BundleError(
            f"{bundle.directory}: the golden sample gives shape {made.shape}, expected is {expected.shape}."
        )
    if not np.isfinite(made).all():
        n = int((~np.isfinite(made)).sum())
        raise BundleError(f"{bundle.directory}: the golden sample gives {n} values that are not finite.")
    spread = float(np.ptp(expected)) or 1.0
    largest = float(np.abs(made - expected).max(initial=0.0)) / spread
    return Verification(largest <= sample.tolerance, largest, sample.tolerance)


def verdict(path: Path, rerun: Callable[[Bundle], Verification] | None) -> dict[str, Any]:
    """Check all hashes of the bundle at `path` and rerun its golden sample, for a list of models.

    Parameters
    ----------
    path : Path
    rerun : callable, optional
        None: the hashes alone, because the sample is for another package to run.

    Returns
    -------
    dict
        ``verified`` (True, False, or None where nothing was rerun) and ``problem`` (None, or one line that says what
        differs).
    """
    from image2reg.models.bundle import load_bundle

    try:
        bundle = load_bundle(path)
        outcome = rerun(bundle) if rerun else None
    except ProjectError as error:
        return {"verified": False, "problem": str(error)}
    except Exception as error:  # noqa: BLE001  whatever one model does, the others of the list are verified
        reason = f"{type(error).__name__}: {error}"
        return {"verified": False, "problem": f"{path}: the golden sample does not run ({reason})."}
    if outcome is None:
        return {"verified": None, "problem": None}
    problem = (
        f"{path}: golden sample differs by {outcome.largest:.2g} of its range (allowed {outcome.tolerance:g}). "
        "Another torch build, or a changed bundle; install it again."
    )
    return {"verified": outcome.passed, "problem": None if outcome.passed else problem}
