"""What can be set about calling a mechanism, with the defaults that the benchmarks ran with."""

from __future__ import annotations

from dataclasses import dataclass, field

from image2reg.errors import ConfigurationError
from image2reg.retrieval.processing import FeatureProcessing

__all__ = ["METHODS", "CallSettings"]

METHODS = ("neighbours", "ntk", "linear")


@dataclass(frozen=True)
class CallSettings:
    """How mechanisms are scored, calibrated and called.

    Attributes
    ----------
    methods : tuple of {"neighbours", "ntk", "linear"}
        Nearest neighbour; ridge regression on the labels with the neural tangent kernel or a linear one. Several
        are fused.
    fusion : {"late", "early"}
        Arms fused after scoring (mean log-probability, calibrated again) or by joining their features before.
    threshold : float
        Least calibrated probability of a call.
    alpha : float
        Largest p-value of a call, against the null that the mechanism's compounds are a random draw; and of the
        treatment, against the null that it is another control.
    novelty : float
        A query less similar to its nearest compound than this share of the known compounds are to their own
        mechanism is taken for a novel mechanism (or a broken profile).
    n_folds : int
        Folds of compounds for held-out scores; 0: one compound at a time up to 60 compounds, else 10.
    n_null : int
        Random rankings behind each p-value.
    processing : FeatureProcessing or None
        Preparation of the profiles; None takes them as they are.
    normalise_labels : bool
        Merge spellings of one mechanism (case, spaces, inhibitor and antagonist).
    """

    methods: tuple[str, ...] = METHODS
    fusion: str = "late"
    threshold: float = 0.5
    alpha: float = 0.05
    novelty: float = 0.05
    n_folds: int = 0
    n_null: int = 10_000
    processing: FeatureProcessing | None = field(default_factory=FeatureProcessing)
    normalise_labels: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise ConfigurationError(
                f"methods {list(self.methods)}: allowed are one or more of {list(METHODS)}."
            )
        if self.fusion not in ("late", "early"):
            raise ConfigurationError(f"fusion {self.fusion!r}: allowed are 'late' and 'early'.")
        for name in ("threshold", "alpha", "novelty"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; allowed is 0 to 1.")
        if self.n_folds < 0 or self.n_folds == 1 or self.n_null < 99:
            raise ConfigurationError(
                f"n_folds {self.n_folds}, n_null {self.n_null}: allowed are 0 or at least 2 folds, and at least 99 "
                "random rankings."
            )
