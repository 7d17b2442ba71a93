"""Gated attention over the nuclei of a well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AttentionTask", "GatedAttention"]

# Nuclei drawn from each well in training: wells of few nuclei give some twice.
_BAG = 64


class GatedAttention(nn.Module):
    """Weights nuclei, averages them, scores classes.

    ``a_i`` proportional to ``exp(w (tanh(V h_i) * sigmoid(U h_i)))``, Ilse, Tomczak & Welling, Attention-based Deep
    Multiple Instance Learning (2018), equation 9.
    """

    def __init__(self, n_features: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.tanh, self.gate = nn.Linear(n_features, width), nn.Linear(n_features, width)
        self.weight = nn.Linear(width, 1)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(n_features, n_classes)

    def attention(self, bags: Tensor) -> Tensor:
        """Weights of the nuclei: (wells, nuclei), each row sums to 1."""
        scores = self.weight(torch.tanh(self.tanh(bags)) * torch.sigmoid(self.gate(bags)))[..., 0]
        return scores.softmax(dim=1)

    def forward(self, bags: Tensor) -> Tensor:
        """Score classes of (wells, nuclei, features)."""
        pooled = (self.attention(bags)[..., None] * bags).sum(dim=1)
        scores: Tensor = self.head(self.drop(pooled))
        return scores


class AttentionTask:
    """Wells drawn equally from each class, 64 nuclei of each."""

    def __init__(
        self,
        network: GatedAttention,
        bags: list[NDArray[np.float32]],
        labels: NDArray[np.int64],
        n_wells: int,
    ) -> None:
        self.phases: dict[str, nn.Module] = {"attention": network}
        self.bags, self.labels, self.n_wells = bags, labels, n_wells
        self.members = [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw wells and nuclei of them."""
        wells = [rng.choice(self.members[c]) for c in rng.integers(0, len(self.members), self.n_wells)]
        drawn = np.stack([self.bags[w][rng.integers(0, len(self.bags[w]), _BAG)] for w in wells])
        return {"ids": wells, "bags": torch.from_numpy(drawn), "labels": torch.from_numpy(self.labels[wells])}

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Give the cross-entropy of wells."""
        return {"loss": functional.cross_entropy(self.phases[phase](batch["bags"]), batch["labels"])}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """No validation: settings are fixed before."""
        return {}
