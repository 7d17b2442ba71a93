"""Reading the planted parameters back from images: a fixed ruler, fitted to deformed real nuclei of training fields.

A parameter belongs to a population: the ruler reads the features of all nuclei under one signature, their means and
their spreads. It was fitted on parameters drawn at random, so it knows of no signature and of no generator.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import DataError
from morphgen.crop_features import crop_features
from morphgen.deformation import PARAMETERS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEAST_CELLS", "Ruler", "measure_parameters", "parameter_r2"]

Floats = NDArray[np.float64]

LEAST_CELLS = 8
"""Fewer nuclei under one signature are refused: the spread between nuclei would drown the parameter."""

_LOGARITHMS = ("AreaShape_Area", "Intensity_MedianIntensity_DNA", "Chromatin_CoefficientOfVariation_DNA",
               "Texture_Contrast_DNA_1", "Texture_Contrast_DNA_3",
               "Granularity_1_DNA", "Granularity_2_DNA", "Granularity_4_DNA")  # fmt: skip
_TO_THE_MEDIAN = ("UpperQuartileIntensity", "LowerQuartileIntensity", "MaxIntensity", "MeanIntensityEdge")
_AS_THEY_ARE = tuple(f"RadialDistribution_MeanFrac_DNA_{ring}of5" for ring in (2, 3, 4, 5))


def _readings(table: pd.DataFrame) -> Floats:
    """(N, 18): logarithms of sizes, brightness and ratios, so that factors become differences."""

    def logarithm(name: str) -> Floats:
        return np.log(np.maximum(table[f"Nuclei_{name}"].to_numpy(np.float64), 1e-4))

    median = logarithm("Intensity_MedianIntensity_DNA")
    concavity = 1.02 - table["Nuclei_AreaShape_Solidity"].to_numpy(np.float64)
    return np.column_stack(
        [
            *(logarithm(name) for name in _LOGARITHMS),
            *(logarithm(f"Intensity_{name}_DNA") - median for name in _TO_THE_MEDIAN),
            logarithm("AreaShape_MajorAxisLength") - logarithm("AreaShape_MinorAxisLength"),
            np.log(np.maximum(concavity, 0.01)),
            *(table[f"Nuclei_{name}"].to_numpy(np.float64) for name in _AS_THEY_ARE),
        ]
    )


def _summaries(readings: Floats, groups: NDArray[np.integer]) -> Floats:
    """(S, 36) mean and spread of each reading in each group 0 … S-1; nuclei that were not found are left out."""
    found = np.isfinite(readings).all(axis=1)
    n_groups = int(groups.max()) + 1
    counts = np.bincount(groups[found], minlength=n_groups)
    few = np.flatnonzero(counts < LEAST_CELLS)
    if len(few):
        raise DataError(
            f"planted parameters: {len(few)} of {n_groups} signatures have too few nuclei (signature {few[0]}: "
            f"{counts[few[0]]}; {np.count_nonzero(~found)} crops show none). Allowed are {LEAST_CELLS} or more each: "
            "parameters are read from a population, not from one cell."
        )
    sums = np.zeros((2, n_groups, readings.shape[1]))
    np.add.at(sums[0], groups[found], readings[found])
    mean = sums[0] / counts[:, None]
    np.add.at(sums[1], groups[found], (readings[found] - mean[groups[found]]) ** 2)
    return np.hstack([mean, np.sqrt(sums[1] / counts[:, None])])


@dataclass(frozen=True)
class Ruler:
    """Quadratic ridge regression from the summaries of a population to its parameters.

    Attributes
    ----------
    centre, scale : (36,) float64
        Of the summaries it was fitted on.
    control : (36,) float64
        Summary of the undeformed nuclei it was fitted on.
    weights : (1 + 36 + 171, 7) float64
        Of a constant, the standardised summaries, and the squares and products of the standardised means.
    """

    centre: Floats
    scale: Floats
    control: Floats
    weights: Floats

    @classmethod
    def fit(
        cls, table: pd.DataFrame, groups: NDArray[np.integer], parameters: Floats, controls: pd.DataFrame
    ) -> Ruler:
        """Fit to crop features of deformed nuclei (N rows) in S groups of known parameters (S, 7)."""
        from sklearn.linear_model import RidgeCV

        summaries = _summaries(_readings(table), groups)
        control = _summaries(_readings(controls), np.zeros(len(controls), np.int64))[0]
        centre, scale = summaries.mean(axis=0), summaries.std(axis=0)
        terms = _terms((summaries - centre) / scale)
        spread = parameters.std(axis=0)
        model = RidgeCV(np.logspace(-1, 4, 16), fit_intercept=False).fit(terms, parameters / spread)
        return cls(centre, scale, control, (model.coef_ * spread[:, None]).T)

    @classmethod
    @cache
    def shipped(cls) -> Ruler:
        """Give the one that ships with the planted sample."""
        path = resources.files("morphgen") / "samples" / "planted" / "ruler.json"
        return cls(**{name: np.array(values) for name, values in json.loads(path.read_text("utf-8")).items()})

    def as_json(self) -> str:
        """Write itself as text, seven digits a number."""
        numbers = {name: np.round(values, 7).tolist() for name, values in asdict(self).items()}
        return json.dumps(numbers, separators=(",", ":")) + "\n"

    def read(
        self, table: pd.DataFrame, groups: NDArray[np.integer], controls: pd.DataFrame | None = None
    ) -> Floats:
        """Read the parameters (S, 7) of groups 0 … S-1 from crop features (N rows).

        With `controls`, features of undeformed nuclei from the same fields, what these differ by from the nuclei of
        the fit is taken off first.
        """
        summaries = _summaries(_readings(table), groups)
        if controls is not None:
            here = _summaries(_readings(controls), np.zeros(len(controls), np.int64))[0]
            summaries = summaries - (here - self.control)
        return _terms((summaries - self.centre) / self.scale) @ self.weights


def _terms(standard: Floats) -> Floats:
    # Beyond three standard deviations of what it was fitted on, a parabola is no measurement.
    standard = np.clip(standard, -3, 3)
    mean = standard[:, : standard.shape[1] // 2]
    first, second = np.triu_indices(mean.shape[1])
    return np.hstack([np.ones((len(standard), 1)), standard, mean[:, first] * mean[:, second]])


def measure_parameters(
    crops: NDArray[np.floating],
    signature_index: NDArray[np.integer],
    *,
    controls: NDArray[np.floating] | None = None,
    ruler: Ruler | None = None,
) -> Floats:
    """Estimate the planted parameters under each signature from images of nuclei.

    Parameters
    ----------
    crops : (N, 1, Y, X) float
        In the units of `morphgen.planted`.
    signature_index : (N,) int
        0 … S-1, at least `LEAST_CELLS` nuclei each.
    controls : (M, 1, Y, X) float, optional
        Undeformed nuclei of the fields that `crops` come from.
    ruler : Ruler, optional
        The shipped one by default.

    Returns
    -------
    (S, 7) float64
        In the order of `PARAMETERS`.

    Raises
    ------
    DataError
        Too few nuclei under a signature, or crops that are none.
    """
    ruler = ruler or Ruler.shipped()
    reference = None if controls is None else crop_features(controls)
    return ruler.read(crop_features(crops), np.asarray(signature_index), reference)


def parameter_r2(measured: Floats, true: Floats) -> dict[str, float]:
    """Coefficient of determination of each parameter over signatures, and ``mean`` over parameters.

    ``1 - sum (measured - true)² / sum (true - mean true)²``: 0 is what the mean of the true values would get, and
    worse is negative.
    """
    residual = ((measured - true) ** 2).sum(axis=0)
    total = ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    scores = 1 - residual / total
    return {**dict(zip(PARAMETERS, scores.tolist(), strict=True)), "mean": float(scores.mean())}
