"""Growth rates: how often an interval holds the truth, and a real gap that closes beside its authors' own curve.

python tests/benchmarks/growth.py [--json]
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from nucleus_data import DATA
from result_files import asked_for_json, publish
from scipy import stats
from skimage.io import imread

from image2reg.growth.rates import fit_line
from image2reg.nuclei.segmenters.phase import TextureSegmenter, confluence

# Simulated series: frames, correlation of the errors of neighbours; errors of a twentieth, a slope of 0.03 per frame.
FRAMES, CORRELATIONS, SLOPE, SPREAD = (10, 24, 96), (0.0, 0.5, 0.8), 0.03, 0.05
SERIES = 2000


def simulated() -> list[list[object]]:
    """Coverage of nominal 95 % intervals, here and by least squares."""
    rows: list[list[object]] = []
    for n in FRAMES:
        for correlation in CORRELATIONS:
            rng, x = np.random.default_rng(0), np.arange(float(n))
            held = np.zeros(2)
            for _ in range(SERIES):
                error = rng.normal(size=n)
                for i in range(1, n):
                    error[i] = correlation * error[i - 1] + math.sqrt(1 - correlation**2) * error[i]
                y = SLOPE * x + SPREAD * error
                line, plain = fit_line(x, y), stats.linregress(x, y)
                half = plain.stderr * stats.t.ppf(0.975, n - 2)
                held += [line.low <= SLOPE <= line.high, abs(plain.slope - SLOPE) <= half]
            rows.append([n, correlation, *(held / SERIES).tolist()])
    return rows


def gap() -> list[list[object]]:
    """Slopes of the real time lapse, per numbered frame: its interval in time is not recorded."""
    folder = DATA / "phase_wound_timelapse"
    lines = [line.split() for line in (folder / "area_curves" / "exampleAA.area").read_text().splitlines()]
    theirs = {line[0]: float(line[-1].rstrip("%")) for line in lines if line}
    paths = [path for path in sorted((folder / "AA").glob("*.jpg")) if path.stem[-3:] in theirs]
    frames = [int(path.stem[-3:]) for path in paths]
    curves = {
        "authors' own curve": [theirs[path.stem[-3:]] for path in paths],
        "`texture`": [100 * confluence(TextureSegmenter().segment(imread(path))) for path in paths],
    }
    rows: list[list[object]] = []
    for name, curve in curves.items():
        line = fit_line(frames, curve)
        rows.append([name, len(curve), curve[0], curve[-1], line.slope, f"{line.low:.3f} to {line.high:.3f}"])
    return rows


def main() -> None:
    """Measure and publish."""
    as_json = asked_for_json(str(__doc__).splitlines()[0])
    publish(
        Path(__file__).stem,
        {
            "tables": [
                {
                    "title": "How often a 95 % interval of a growth rate holds the truth (simulated series)",
                    "head": ["frames", "correlation of neighbours", "here", "least squares"],
                    "rows": simulated(),
                    "notes": [f"{SERIES} series each, errors of a first-order autoregression."],
                },
                {
                    "title": "A gap that closes, in phase contrast without a stain: confluence, points per frame",
                    "head": ["curve", "frames", "first, %", "last, %", "per frame", "95 %"],
                    "rows": gap(),
                    "notes": ["One time lapse, every fifth of 50 frames."],
                },
            ]
        },
        as_json=as_json,
    )


if __name__ == "__main__":
    main()
