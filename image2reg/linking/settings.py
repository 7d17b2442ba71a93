"""What can be chosen about a link: one frozen record per way of doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from image2reg.errors import ConfigurationError
from image2reg.linking.scores import RULES

__all__ = ["Setting", "grid"]


@dataclass(frozen=True)
class Setting:
    """One way of predicting and ranking.

    Attributes
    ----------
    kernel : {"ntk", "linear", "laplace"}
    depth : int
        Hidden layers of the NTK.
    ridge : float
    centre : {"fold", "none"}
        Whether the training mean is taken off the targets.
    rule : {"cosine", "euclidean"}
    source, target : str
        Which of several source tables and gene embeddings, where there are several.
    """

    kernel: str = "ntk"
    depth: int = 1
    ridge: float = 1.0
    centre: str = "fold"
    rule: str = "cosine"
    source: str = "source"
    target: str = "target"

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.ridge <= 0:
            raise ConfigurationError(f"ridge is {self.ridge}; allowed is above 0, usual is 1.")
        if self.centre not in {"fold", "none"} or self.rule not in RULES:
            raise ConfigurationError(
                f"centre {self.centre!r} and rule {self.rule!r}: allowed are fold, none and {', '.join(RULES)}."
            )

    def __str__(self) -> str:
        """Say it in a few words, as tables show it."""
        name = f"ntk depth {self.depth}" if self.kernel == "ntk" else self.kernel
        how = (
            "centred cosine"
            if (self.centre, self.rule) == ("fold", "cosine")
            else f"{'centred' if self.centre == 'fold' else 'uncentred'} {self.rule}"
        )
        return f"{name}, ridge {self.ridge:g}, {how}"


def grid(
    *,
    kernels: Sequence[tuple[str, int]] = (("ntk", 1), ("ntk", 3), ("linear", 1), ("laplace", 1)),
    ridges: Sequence[float] = (0.1, 1.0, 10.0),
    sources: Sequence[str] = ("source",),
    targets: Sequence[str] = ("target",),
) -> list[Setting]:
    """Give every combination, centred and ranked by cosine: what nested selection chooses from."""
    return [
        Setting(kernel=kernel, depth=depth, ridge=ridge, source=source, target=target)
        for source, target, (kernel, depth), ridge in product(sources, targets, kernels, ridges)
    ]
