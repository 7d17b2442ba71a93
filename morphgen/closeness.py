"""Distances between clouds of nuclei in a feature space: Fréchet, kernel, density and coverage, memorisation.

The space is whatever the caller measured: features of nuclei, or the embedding of an encoder. No network is built in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from image2reg.randomness import generator

__all__ = ["LEAST_FOR_FRECHET", "closeness", "density_coverage", "frechet", "kernel_distance", "memorisation"]

Floats = NDArray[np.float64]

LEAST_FOR_FRECHET = 4
"""Images per dimension below which the covariance, and with it the Fréchet distance, is not estimated."""

_KERNEL_BLOCK = 1000
_PAIRS = 4_000_000
_FRECHET_SIZES, _FRECHET_DRAWS = 5, 3
# Of the training images' standard deviation: a distance that is rounding.
_SAME = 1e-5


def _frechet_once(first: Floats, second: Floats) -> float:
    """Squared distance of two Gaussians; the trace of the root by eigenvalues of the symmetric product."""
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(
        ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross
    )


def frechet(first: Floats, second: Floats, *, seed: int = 0) -> float:
    """Fréchet distance extrapolated to infinitely many images.

    Parameters
    ----------
    first, second : (n, D), (m, D) float
        Finite; at least `LEAST_FOR_FRECHET` x D images each.

    Returns
    -------
    float
        In the squared units of the space; may be slightly below 0 for equal clouds.

    Raises
    ------
    DataError
        Too few images: no padding by flipped copies.

    Notes
    -----
    Heusel et al. 2017. Its bias is linear in 1/n (Chong and Forsyth 2020, "Effectively unbiased FID"), so it is
    measured at several n, equal on both sides, and the line is followed to 1/n = 0.
    """
    n, dimensions = min(len(first), len(second)), first.shape[1]
    if n < LEAST_FOR_FRECHET * dimensions:
        raise DataError(
            f"Fréchet distance: {n} images in {dimensions} dimensions; allowed are {LEAST_FOR_FRECHET * dimensions} or "
            "more on each side. Use the kernel distance, which is unbiased at any number."
        )
    rng = generator(seed, "frechet")
    sizes = np.linspace(max(n // 2, 2 * dimensions), n, _FRECHET_SIZES).astype(int)
    x, y = [], []
    for size in np.repeat(sizes, _FRECHET_DRAWS):
        chosen = [cloud[rng.choice(len(cloud), size, replace=False)] for cloud in (first, second)]
        x.append(1 / size)
        y.append(_frechet_once(*chosen))
    return float(np.polyfit(x, y, 1)[1])


def kernel_distance(first: Floats, second: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel ``(x·y/D + 1)³`` (KID; Bińkowski et al. 2018).

    Blocks of 1,000 images are averaged; 0 is the expectation for equal clouds at any n, and estimates may be negative.
    """
    n = min(len(first), len(second), _KERNEL_BLOCK)
    blocks = min(len(first), len(second)) // n
    found = []
    for block in range(blocks):
        a, b = (cloud[block * n : (block + 1) * n] for cloud in (first, second))
        aa, bb, ab = ((left @ right.T / a.shape[1] + 1) ** 3 for left, right in ((a, a), (b, b), (a, b)))
        within = (aa.sum() - np.trace(aa) + bb.sum() - np.trace(bb)) / (n * (n - 1))
        found.append(within - 2 * ab.mean())
    return float(np.mean(found))


def _nearest(
    of: NDArray[np.floating], among: NDArray[np.floating], k: int
) -> tuple[Floats, NDArray[np.int64]]:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(of)


def density_coverage(real: Floats, other: Floats, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020): 1 and near 1 for equal clouds of equal size.

    Density: mean number of real k-neighbourhoods an other image lies in, over k. Coverage: share of real images
    with an other image in their k-neighbourhood.
    """
    from scipy.spatial.distance import cdist

    radius = _nearest(real, real, k + 1)[0][:, -1]
    # Real images with all others at a time: of a whole plate the distances of every pair would not fit in memory.
    step = max(1, _PAIRS // len(other))
    within = [
        (cdist(real[s : s + step], other) <= radius[s : s + step, None]).sum(axis=1)
        for s in range(0, len(real), step)
    ]
    found = np.concatenate(within)
    return float(found.sum() / (k * len(other))), float((found > 0).mean())


def memorisation(
    training: NDArray[np.floating], other: NDArray[np.floating], held_out: NDArray[np.floating]
) -> dict[str, float]:
    """Compare the distance to the nearest training image of other images with that of held-out real ones.

    Returns
    -------
    dict
        ``nearest_other``, ``nearest_real``: medians. ``ratio``: of the first to the second; well below 1 is copying.
        ``low``, ``high``: range of that ratio for two random halves of the held-out real images (95 %).
        ``closer``: share of other images nearer to a training image than all but 1 % of the held-out real ones.

    Raises
    ------
    DataError
        Half of the held-out images or more are training images.
    """
    generated, real = (_nearest(cloud, training, 1)[0][:, 0] for cloud in (other, held_out))
    same = real <= _SAME * np.linalg.norm(training.std(axis=0))
    if np.mean(same) >= 0.5:
        raise DataError(
            f"memorisation: {np.count_nonzero(same)} of {len(real)} held-out real images are in the training "
            "images too, so they cannot tell what is near. Give real images that were not trained on, or leave the "
            "training images out."
        )
    rng = generator(0, "memorisation")
    halves = np.array([rng.permutation(real) for _ in range(500)])
    half = len(real) // 2
    ratios = np.median(halves[:, :half], axis=1) / np.median(halves[:, half:], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "nearest_other": float(np.median(generated)),
        "nearest_real": float(np.median(real)),
        "ratio": float(np.median(generated) / np.median(real)),
        "low": float(low),
        "high": float(high),
        "closer": float((generated < np.quantile(real, 0.01)).mean()),
    }


def closeness(real: Floats, other: Floats, *, components: int = 24, seed: int = 0) -> dict[str, float]:
    """Fréchet and kernel distance, density and coverage in the standardised leading components of the real images.

    Parameters
    ----------
    real, other : (n, F), (m, F) float
        Features or embeddings; brought to equal n.
    components : int
        Of the principal components, each divided by its own standard deviation among the real images, so that no
        family of features that are near copies of each other counts many times.

    Returns
    -------
    dict
        ``frechet``, ``kernel``, ``density``, ``coverage``, ``n``.
    """
    n = min(len(real), len(other))
    rng = generator(seed, "closeness")
    centre, spread = real.mean(axis=0), real.std(axis=0)
    scaled = (real - centre) / np.where(spread > 0, spread, np.inf)
    _, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    kept = min(components, n // LEAST_FOR_FRECHET, int((singular > 1e-6 * singular[0]).sum()))
    basis = axes[:kept].T / (singular[:kept] / np.sqrt(len(real)))
    # What lies far outside the real cloud counts as far, not as infinitely far.
    clouds = [
        np.clip((cloud - centre) / np.where(spread > 0, spread, np.inf), -10, 10)[
            rng.choice(len(cloud), n, replace=False)
        ]
        @ basis
        for cloud in (real, other)
    ]
    density, coverage = density_coverage(*clouds)
    return {
        "frechet": frechet(*clouds, seed=seed),
        "kernel": kernel_distance(*clouds),
        "density": density,
        "coverage": coverage,
        "n": float(n),
    }
