"""Features of a whole field at once against a scikit-image loop over nuclei, on the same measures, and their agreement.

    python tests/benchmarks/nucleus_features.py [--json]

Processor time of one thread, best of three for the field, once for the loop.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tifffile
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import label, regionprops

from image2reg.nuclei.features import measure
from image2reg.nuclei.regions import Regions
from image2reg.nuclei.rings import rings_around
from image2reg.nuclei.texture import grey_levels

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
RESULT = Path(__file__).parent / "results" / "nucleus_features.json"
SCALES = (1, 3)
SHAPE = {
    "Area": "area", "BoundingBoxArea": "area_bbox", "Extent": "extent", "EquivalentDiameter": "equivalent_diameter_area",
    "MajorAxisLength": "axis_major_length", "MinorAxisLength": "axis_minor_length", "Eccentricity": "eccentricity",
    "EulerNumber": "euler_number", "Perimeter": "perimeter", "ConvexArea": "area_convex", "Solidity": "solidity",
    "MaxFeretDiameter": "feret_diameter_max",
}  # fmt: skip
TEXTURE = {"Contrast": "contrast", "InverseDifferenceMoment": "homogeneity", "AngularSecondMoment": "ASM",
           "Correlation": "correlation", "Entropy": "entropy", "Variance": "variance"}  # fmt: skip
DIRECTIONS = {0: 0, 3: 1, 2: 2, 1: 3}


def drawn_field(n_side: int = 1104) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic field of about 500 nuclei, ellipses of 9 to 18 px half axes with texture and noise."""
    rng = np.random.default_rng(0)
    labels = np.zeros((n_side, n_side), np.int32)
    y, x = np.mgrid[-24:25, -24:25]
    for i in range(23 * 22):
        cy, cx = 26 + i // 22 * 46 + rng.integers(0, 6), 26 + i % 22 * 47 + rng.integers(0, 6)
        a, b, turn = *rng.uniform(9, 18, 2), rng.uniform(0, np.pi)
        u, v = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        window = labels[cy - 24 : cy + 25, cx - 24 : cx + 25]
        window[((u / a) ** 2 + (v / b) ** 2 < 1) & (window == 0)] = i + 1
    texture = ndimage.gaussian_filter(rng.random(labels.shape), 1.5) * 4000
    return (texture * (1 + 2 * (labels > 0)) + rng.poisson(200, labels.shape)).astype(np.uint16), labels


def real_field(name: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One BBBC039 field with its hand-made labels."""
    folder = DATA / "bbbc039_u2os_hoechst"
    paths = sorted((folder / "images").glob("*.tif"))
    path = paths[0] if name is None else folder / "images" / name
    from skimage.io import imread

    colours = imread(folder / "masks" / f"{path.stem}.png")
    return tifffile.imread(path), label(colours[..., 0], background=0)


def field_background(image: np.ndarray, regions: Regions) -> float:
    """5th percentile outside nuclei and rings, as `measure` takes it."""
    empty = np.ones(image.size, bool)
    empty[regions.inside] = empty[rings_around(regions)[0]] = False
    return float(np.percentile(image.reshape(-1)[empty], 5))


def _bits(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def rest_of_haralick(p: np.ndarray, entropy: float) -> dict[str, float]:
    """Features of a co-occurrence matrix that scikit-image lacks."""
    i, j = np.indices(p.shape)
    sums, differences = np.bincount((i + j).ravel(), p.ravel()), np.bincount(np.abs(i - j).ravel(), p.ravel())
    k, d = np.arange(len(sums)), np.arange(len(differences))
    mean, single = sums @ k, _bits(p.sum(axis=0))
    return {
        "SumAverage": mean, "SumVariance": sums @ k**2 - mean**2, "SumEntropy": _bits(sums),
        "DifferenceVariance": differences @ d**2 - (differences @ d) ** 2, "DifferenceEntropy": _bits(differences),
        "InfoMeas1": (entropy - 2 * single) / single if single else 0.0,
        "InfoMeas2": float(np.sqrt(max(0.0, 1 - np.exp(-2 * (2 * single - entropy))))),
    }  # fmt: skip


def radial(depth: np.ndarray, values: np.ndarray) -> dict[str, float]:
    shell = np.minimum((depth / depth.max() * 5).astype(int), 4)
    row = {}
    for s in range(5):
        inside = values[shell == s]
        share = inside.sum() / values.sum() if inside.size else 0.0
        row[f"RadialDistribution_FracAtD_DNA_{s + 1}of5"] = share
        row[f"RadialDistribution_MeanFrac_DNA_{s + 1}of5"] = (
            share * values.size / inside.size if inside.size else np.nan
        )
        row[f"RadialDistribution_RadialCV_DNA_{s + 1}of5"] = (
            inside.std() / inside.mean() if inside.size else np.nan
        )
    return row


def condensation(values: np.ndarray, edge: np.ndarray) -> dict[str, float]:
    bright = values > values.mean() + values.std()
    low, high = np.quantile(values, [0.2, 0.8])
    return {
        "Chromatin_HCAreaFraction_DNA": bright.mean(), "Chromatin_HCContentFraction_DNA": values[bright].sum() / values.sum(),
        "Chromatin_HCtoECAreaRatio_DNA": bright.sum() / (~bright).sum(),
        "Chromatin_HCtoECContentRatio_DNA": values[bright].sum() / values[~bright].sum(),
        "Chromatin_P80P20Ratio_DNA": high / low, "Chromatin_CoefficientOfVariation_DNA": values.std() / values.mean(),
        "Chromatin_EdgeToInteriorRatio_DNA": values[edge].mean() / values[~edge].mean(),
    }  # fmt: skip


def loop(image: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """The same measures, one nucleus after the other, with scikit-image and scipy."""
    regions = Regions(labels)
    margin = regions.margin
    background = field_background(image, regions)
    levels = regions.map(grey_levels(regions, image.reshape(-1)[regions.inside].astype(float)))
    levels = levels[margin:-margin, margin:-margin].astype(np.uint16)
    rows = []
    for region in regionprops(labels, image):
        row = {f"AreaShape_{ours}": float(getattr(region, theirs)) for ours, theirs in SHAPE.items()}
        row |= {f"AreaShape_HuMoment_{i}": float(v) for i, v in enumerate(region.moments_hu)}
        mask = region.image
        values = region.image_intensity[mask].astype(float)
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
        shift = np.hypot(*np.subtract(region.centroid_weighted, region.centroid))
        row |= {
            "Intensity_MeanIntensity_DNA": values.mean(), "Intensity_StdIntensity_DNA": values.std(),
            "Intensity_IntegratedIntensity_DNA": values.sum(), "Intensity_MinIntensity_DNA": values.min(),
            "Intensity_MaxIntensity_DNA": values.max(), "Intensity_MedianIntensity_DNA": median,
            "Intensity_LowerQuartileIntensity_DNA": lower, "Intensity_UpperQuartileIntensity_DNA": upper,
            "Intensity_MADIntensity_DNA": np.median(np.abs(values - median)),
            "Intensity_MassDisplacement_DNA": shift,
        }  # fmt: skip
        padded = np.pad(mask, 1)
        inside = ndimage.distance_transform_edt(padded)[padded]
        edge = (padded & ~ndimage.binary_erosion(padded))[1:-1, 1:-1]
        rim = region.image_intensity[edge].astype(float)
        row |= {
            "AreaShape_MaximumRadius": inside.max(), "AreaShape_MeanRadius": inside.mean(),
            "AreaShape_MedianRadius": np.median(inside),
            "Intensity_MeanIntensityEdge_DNA": rim.mean(), "Intensity_StdIntensityEdge_DNA": rim.std(),
            "Intensity_MinIntensityEdge_DNA": rim.min(), "Intensity_MaxIntensityEdge_DNA": rim.max(),
        }  # fmt: skip
        patch = np.where(mask, levels[region.slice] + 1, 0)
        for scale in SCALES:
            for quarter, direction in DIRECTIONS.items():
                distance = scale * (np.sqrt(2) if quarter % 2 else 1)
                matrix = graycomatrix(patch, [distance], [quarter * np.pi / 4], levels=257, symmetric=True)
                p = matrix[1:, 1:].astype(float)
                p /= max(p.sum(), 1)
                values_of = {
                    ours: float(graycoprops(p, theirs)[0, 0]) / (np.log(2) if theirs == "entropy" else 1)
                    for ours, theirs in TEXTURE.items()
                }
                values_of |= rest_of_haralick(p[:, :, 0, 0], values_of["Entropy"])
                row |= {f"Texture_{k}_DNA_{scale}_{direction:02d}_256": v for k, v in values_of.items()}
        row |= radial(inside, np.maximum(values - background, 0)) | condensation(
            values - background, edge[mask]
        )
        # timed, not compared: theirs opens a nucleus alone, ours the nuclei of a field that may touch
        flat = np.where(mask, region.image_intensity - values.min(), 0)
        for radius in (1, 2, 4):
            ndimage.grey_opening(flat, size=2 * radius + 1)[mask].sum()
        rows.append(row)
    return rows


def compare(name: str, image: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        table = measure(image, labels, texture_scales=SCALES)
        seconds.append(time.process_time() - start)
    start = time.process_time()
    rows = loop(image, labels)
    slow = time.process_time() - start
    names = list(rows[0])
    theirs = np.array([[row[n] for n in names] for row in rows])
    ours = table[[f"Nuclei_{n}" for n in names]].to_numpy()
    error = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-6)
    n_features = sum(n.startswith("Nuclei") for n in table)
    return {
        "field": name, "nuclei": len(table), "features": n_features, "seconds": min(seconds),
        "loop_features": len(names), "loop_seconds": slow, "speedup": slow / min(seconds),
        "largest_relative_difference": float(np.nanmax(error)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found = [compare("drawn, 1104 x 1104", *drawn_field())]
    if DATA.is_dir():
        found.append(compare("BBBC039, 520 x 696", *real_field()))
    first = found[0]
    result = {
        "seconds_500_nuclei": first["seconds"],
        "speedup": min(row["speedup"] for row in found),
        "largest_relative_difference": max(row["largest_relative_difference"] for row in found),
        "fields": found,
        "command": "python tests/benchmarks/nucleus_features.py",
        "tables": [
            {
                "title": "Nucleus features: whole field at once against a scikit-image loop",
                "head": ["field", "nuclei", "all features", "s", "of these in the loop", "loop, s", "times faster",
                         "largest relative difference"],
                "rows": [[r["field"], r["nuclei"], r["features"], f"{r['seconds']:.2f}", r["loop_features"],
                          f"{r['loop_seconds']:.1f}", f"{r['speedup']:.0f}",
                          f"{r['largest_relative_difference']:.1e}"] for r in found],
                "notes": ["Processor time of one thread. The field's time is for all its features, the loop's for those "
                          "scikit-image and scipy have too. Quantiles see values as float32."],
            }
        ],
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(result))
        return
    for row in found:
        print(row)


if __name__ == "__main__":
    main()
