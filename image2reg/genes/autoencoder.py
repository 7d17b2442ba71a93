"""Graph autoencoder of genes: two graph convolutions that must tell interactions from non-interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from image2reg.errors import ConfigurationError, DataError
from image2reg.genes.interactome import Interactome
from image2reg.randomness import integer_seed

__all__ = ["AutoencoderResult", "graph_autoencoder"]


@dataclass(frozen=True)
class AutoencoderResult:
    """Embedding and how well it tells held-out interactions from pairs that do not interact.

    Attributes
    ----------
    embedding : (genes, dimensions) float64, rows of length 1
    link_auc : float
        Area under the ROC curve over held-out interactions and as many random non-interactions.
    epochs : int
    uses_images : bool
        Whether the image term was on: then training genes' embeddings depend on their images, and a link to them
        is no evidence.
    """

    embedding: NDArray[np.float64]
    link_auc: float
    epochs: int
    uses_images: bool


class _GraphEncoder(nn.Module):
    """``PReLU(A X W)`` twice, then linear; A is the symmetrically normalised adjacency with self-loops."""

    def __init__(self, n_features: int, width: int, dimensions: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(n_features, width), nn.Linear(width, width)
        self.activations = nn.ModuleList([nn.PReLU(), nn.PReLU()])
        self.out = nn.Linear(width, dimensions)

    def forward(self, adjacency: Tensor, x: Tensor) -> Tensor:
        hidden = self.activations[0](adjacency @ self.first(x))
        return self.out(self.activations[1](adjacency @ self.second(hidden)))


def graph_autoencoder(
    net: Interactome,
    features: NDArray[np.floating] | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    image_classes: NDArray[np.integer] | None = None,
    width: int = 128,
    dimensions: int = 64,
    epochs: int = 300,
    patience: int = 50,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> AutoencoderResult:
    """Train a graph autoencoder.

    Parameters
    ----------
    net : Interactome
        A connected graph of up to a few thousand genes.
    features : (genes, f) float, optional
        What is known of each gene (expression, pathway membership); by default the identity.
    alpha, beta, gamma : float
        Weights of the interaction term, of an L1 term on decoded features, and of a cross-entropy that sorts
        training genes into classes of their *images*. ``gamma`` above 0 leaks images into the embedding; it is
        off by default, and with it off `image_classes` is not read.
    image_classes : (genes,) int, optional
        Class of each gene's image embedding, -1 for genes held out.
    width, dimensions, epochs, patience, learning_rate : training
        Epochs end `patience` after the best validation loss.
    seed : int
        Same seed, same embedding, bit for bit, on the same machine.

    Returns
    -------
    AutoencoderResult

    Raises
    ------
    ConfigurationError
        ``gamma`` above 0 without `image_classes`, or no term at all.
    DataError
        Features or classes of another length, or a graph too small to hold interactions out, or without a pair that
        does not interact.

    Notes
    -----
    Kipf & Welling (2016), with the terms of the Image2Reg study. 70 % of the interactions train, 10 % decide when to
    stop, 20 % are scored; as many non-interactions are drawn for each.
    """
    n = len(net.names)
    if gamma > 0 and image_classes is None:
        raise ConfigurationError(
            "gamma is above 0 but there are no image classes to learn; give them or leave gamma at 0."
        )
    if alpha <= 0 and beta <= 0 and gamma <= 0:
        raise ConfigurationError("alpha, beta and gamma are all 0: there is nothing to learn.")
    x = np.eye(n, dtype=np.float32) if features is None else np.asarray(features, np.float32)
    if len(x) != n or (gamma > 0 and image_classes is not None and len(image_classes) != n):
        raise DataError(
            f"{n} genes but features of {len(x)} rows; features and classes need one row per gene."
        )
    a, b, _ = net.edges()
    if len(a) < 10:
        raise DataError(f"{net.source}: {len(a)} interactions; holding some out needs at least 10.")
    rng = torch.Generator().manual_seed(integer_seed(seed, "graph autoencoder"))
    order = torch.randperm(len(a), generator=rng)
    edges = torch.from_numpy(np.stack([a, b]).astype(np.int64))[:, order]
    train, validation, test = edges.tensor_split([int(0.7 * len(a)), int(0.8 * len(a))], dim=1)
    taken = torch.zeros(n, n, dtype=torch.bool)
    taken[edges[0], edges[1]] = taken[edges[1], edges[0]] = True
    taken.fill_diagonal_(fill_value=True)
    adjacency = _normalised(train, n)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(seed, "weights"))
        encoder = _GraphEncoder(x.shape[1], width, dimensions)
        decoder = nn.Linear(dimensions, x.shape[1]) if beta > 0 else None
        n_classes = int(image_classes.max()) + 1 if gamma > 0 and image_classes is not None else 0
        sorter = nn.Linear(dimensions, n_classes) if n_classes else None
    given = torch.from_numpy(x)
    classes = torch.from_numpy(np.asarray(image_classes, np.int64)) if sorter is not None else None
    parts = nn.ModuleList([m for m in (encoder, decoder, sorter) if m is not None])
    optimiser = torch.optim.Adam(parts.parameters(), lr=learning_rate)
    fixed = [_absent_pairs(taken, part.shape[1], rng) for part in (validation, test)]
    best, best_z, waited, ran = np.inf, torch.zeros(n, dimensions), 0, 0
    for ran in range(1, epochs + 1):  # noqa: B007  (the last epoch is part of the result)
        z = encoder(adjacency, given)
        loss = alpha * _interaction_loss(z, train, _absent_pairs(taken, train.shape[1], rng))
        if decoder is not None:
            loss = loss + beta * (decoder(z) - given).abs().mean()
        if sorter is not None and classes is not None:
            loss = loss + gamma * nn.functional.cross_entropy(sorter(z), classes, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            z = encoder(adjacency, given)
            value = float(_interaction_loss(z, validation, fixed[0]))
        if value < best:
            best, best_z, waited = value, z, 0
        elif (waited := waited + 1) >= patience:
            break
    unit = nn.functional.normalize(best_z.double(), dim=1)
    return AutoencoderResult(unit.numpy(), _auc(best_z, test, fixed[1]), ran, sorter is not None)


def _normalised(edges: Tensor, n: int) -> Tensor:
    dense = torch.eye(n)
    dense[edges[0], edges[1]] = dense[edges[1], edges[0]] = 1.0
    root = dense.sum(dim=1).rsqrt()
    return root[:, None] * dense * root


def _absent_pairs(taken: Tensor, n_pairs: int, rng: torch.Generator) -> Tensor:
    """Pairs that do not interact, drawn with replacement."""
    free = torch.nonzero(~taken)
    if not len(free):
        raise DataError(
            f"all {len(taken)} genes interact with each other, so that there is no pair to tell an interaction from. "
            "Use netmf or diffusion."
        )
    return free[torch.randint(len(free), (n_pairs,), generator=rng)].T


def _logits(z: Tensor, pairs: Tensor) -> Tensor:
    return (z[pairs[0]] * z[pairs[1]]).sum(dim=1)


def _interaction_loss(z: Tensor, present: Tensor, absent: Tensor) -> Tensor:
    loss = nn.functional.softplus
    return loss(-_logits(z, present)).mean() + loss(_logits(z, absent)).mean()


def _auc(z: Tensor, present: Tensor, absent: Tensor) -> float:
    from scipy.stats import mannwhitneyu

    high, low = _logits(z, present).numpy(), _logits(z, absent).numpy()
    return float(mannwhitneyu(high, low).statistic / (len(high) * len(low)))
