"""From an expression signature, and what else is known of a perturbation, to tokens a U-Net can attend to.

Every token has parameters of its own: with all tokens alike, softmax attention is uniform and the condition could add
nothing but a constant to the whole image. The encoder is trained with the model, and each part can be left out:
a learned null stands in for it, which is also what classifier-free guidance (Ho and Salimans 2022) is made of.

One part is no property of the perturbation but of the cell: its measured morphology, which `morphgen.prior` predicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from image2reg.errors import DataError

__all__ = ["PARTS", "Condition", "ConditionEncoder"]

PARTS = ("expression", "compound", "dose", "time", "cell_line", "morphology")

_PREFIX = "condition."


@dataclass(frozen=True)
class Condition:
    """A batch of perturbations; a part that is None, or NaN in a row, is left out there.

    Attributes
    ----------
    expression : (B, G) float32, optional
        In the encoder's gene order; NaN for a gene that was not measured.
    compound : (B, D) float32, optional
        Any vector that describes the compound (a fingerprint, an embedding).
    dose : (B,) float32, optional
        log10 of micromolar.
    time : (B,) float32, optional
        Hours.
    cell_line : (B,) int64, optional
        Position among the encoder's cell lines; -1 for unknown.
    morphology : (B, M) float32, optional
        Standardised measurements of one cell (`morphgen.descriptors`).
    """

    expression: Tensor | None = None
    compound: Tensor | None = None
    dose: Tensor | None = None
    time: Tensor | None = None
    cell_line: Tensor | None = None
    morphology: Tensor | None = None

    def __len__(self) -> int:
        """Count the perturbations."""
        return next(len(v) for v in self._parts().values())

    def _parts(self) -> dict[str, Tensor]:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in parts.items() if value is not None}

    def rows(self, index: Tensor | slice) -> Condition:
        """Give the perturbations at `index`, which may repeat."""
        return Condition(**{name: value[index] for name, value in self._parts().items()})

    def to(self, device: torch.device) -> Condition:
        """Move to a device."""
        return Condition(**{name: value.to(device) for name, value in self._parts().items()})

    def as_batch(self) -> dict[str, Tensor]:
        """Give the parts as entries of a training batch."""
        return {f"{_PREFIX}{name}": value for name, value in self._parts().items()}

    @classmethod
    def of_batch(cls, batch: Mapping[str, Any]) -> Condition:
        """Read what `as_batch` wrote among other entries."""
        return cls(**{k.removeprefix(_PREFIX): v for k, v in batch.items() if k.startswith(_PREFIX)})


class ConditionEncoder(nn.Module):
    """Tokens (B, K, width) of a `Condition`, and one pooled vector (B, width) of them.

    Parameters
    ----------
    genes : sequence of str
        Names, in the order of the expression vectors. Part of the model.
    tokens, width, hidden : int
        Tokens of the signature, length of a token, hidden units of each token's own network.
    programmes : int
        Learned sums of genes that the networks are handed in place of the genes; 0: the genes themselves.
    compound_size : int
        Length of a compound vector; 0 for none.
    dose, time : bool
        Whether there is a token for the dose, the time.
    cell_lines : sequence of str
    descriptors : int
        Length of the measured morphology; 0 for none.
    noise, gene_dropout, drop_each : float
        See `morphgen.recipe.ConditionSettings`; act in training mode alone.

    Notes
    -----
    Expression is standardised by gene with the buffers ``centre`` and ``scale`` (`fit`), missing genes become 0 and a
    mask bit: each token sees ``(expression, mask)``. In a programme a missing gene counts as an average one.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        genes: Sequence[str],
        tokens: int = 4,
        width: int = 64,
        hidden: int = 64,
        programmes: int = 0,
        compound_size: int = 0,
        dose: bool = False,
        time: bool = False,
        cell_lines: Sequence[str] = (),
        descriptors: int = 0,
        noise: float = 0.0,
        gene_dropout: float = 0.0,
        drop_each: float = 0.0,
    ) -> None:
        super().__init__()
        if not genes or len(set(genes)) != len(genes):
            raise DataError(
                f"condition: {len(genes)} genes, {len(set(genes))} of them distinct; name each once."
            )
        self.genes, self.cell_lines = tuple(genes), tuple(cell_lines)
        self.n_tokens, self.width, self.noise, self.gene_dropout = tokens, width, noise, gene_dropout
        self.drop_each = drop_each
        self.register_buffer("centre", torch.zeros(len(genes)))
        self.register_buffer("scale", torch.ones(len(genes)))
        self.programmes = nn.Linear(len(genes), programmes, bias=False) if programmes else None
        self.read = nn.Linear(programmes or len(genes), tokens * hidden)
        if not programmes:
            self.read_mask = nn.Linear(len(genes), tokens * hidden, bias=False)
            nn.init.zeros_(self.read_mask.weight)
        self.inner = nn.Parameter(torch.randn(tokens, hidden, hidden) / hidden**0.5)
        self.write = nn.Parameter(torch.randn(tokens, hidden, width) / hidden**0.5)
        self.place = nn.Parameter(0.5 * torch.randn(tokens, width))
        self.embed = nn.ModuleDict()
        if compound_size:
            self.embed["compound"] = nn.Sequential(
                nn.Linear(compound_size, hidden), nn.SiLU(), nn.Linear(hidden, width)
            )
        for name, wanted in (("dose", dose), ("time", time)):
            if wanted:
                self.embed[name] = nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, width))
        if cell_lines:
            self.embed["cell_line"] = nn.Embedding(len(cell_lines), width)
        if descriptors:
            self.embed["morphology"] = nn.Sequential(
                nn.Linear(descriptors, hidden), nn.SiLU(), nn.Linear(hidden, width)
            )
        self.null = nn.ParameterDict(
            {
                "expression": nn.Parameter(0.5 * torch.randn(tokens, width)),
                **{name: nn.Parameter(0.5 * torch.randn(1, width)) for name in self.embed},
            }
        )
        self.pool = nn.Linear(width * (tokens + len(self.embed)), width)

    @torch.no_grad()
    def fit(self, expression: Tensor) -> None:
        """Measure centre and scale over training signatures (S, G); NaN is left out."""
        known = ~expression.isnan()
        n = known.sum(0).clamp_min(1)
        filled = expression.nan_to_num()
        self.centre.copy_(filled.sum(0) / n)
        deviation = (filled - self.centre) * known
        spread = (deviation.square().sum(0) / n).sqrt()
        self.scale.copy_(spread.clamp_min(float(spread.median()) / 20 or 1.0))

    def standardise(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised expression with 0 for missing genes, and the mask (1 measured, 0 missing)."""
        mask = (~expression.isnan()).to(expression.dtype)
        return (expression.nan_to_num() - self.centre) / self.scale * mask, mask

    def forward(
        self, condition: Condition | None, *, batch: int | None = None, drop: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Parameters
        ----------
        condition : Condition or None
            None: the null condition, `batch` times.
        drop : (B,) bool, optional
            Rows in which the whole condition is replaced by the null.
        """
        n = len(condition) if condition is not None else int(batch or 1)
        parts = [self._expression(condition.expression if condition else None, n)]
        for name, network in self.embed.items():
            parts.append(self._covariate(name, network, getattr(condition, name, None), n))
        nulls = [self.null["expression"], *(self.null[name] for name in self.embed)]
        tokens = torch.cat(parts, dim=1)
        if drop is not None:
            tokens = torch.where(drop[:, None, None], torch.cat(nulls)[None].to(tokens.dtype), tokens)
        return tokens, self.pool(tokens.flatten(1))

    def _expression(self, expression: Tensor | None, n: int) -> Tensor:
        null = self.null["expression"].expand(n, -1, -1)
        if expression is None:
            return null
        if expression.shape[1] != len(self.genes):
            raise DataError(
                f"condition: signatures of {expression.shape[1]} genes, the model reads {len(self.genes)} "
                f"({self.genes[0]} ... {self.genes[-1]}). Align them to the model's genes."
            )
        x, mask = self.standardise(expression)
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x) * mask
        if self.training and self.gene_dropout:
            kept = (torch.rand_like(x) >= self.gene_dropout).to(x.dtype)
            x, mask = x * kept, mask * kept
        if self.programmes is None:
            # Division by the root of the number of genes keeps the first layer's output of order one.
            hidden = self.read(x * (4.0 / len(self.genes) ** 0.5)) + self.read_mask(mask - 1)
        else:
            hidden = self.read(self.programmes(x))
        hidden = nn.functional.silu(hidden).unflatten(1, (self.n_tokens, -1))
        hidden = nn.functional.silu(torch.einsum("bkh,khj->bkj", hidden, self.inner))
        tokens = torch.einsum("bkh,khw->bkw", hidden, self.write) + self.place
        known = mask.any(1) & ~self._dropped(n, mask.device)
        return torch.where(known[:, None, None], tokens, null.to(tokens.dtype))

    def _covariate(self, name: str, network: nn.Module, value: Tensor | None, n: int) -> Tensor:
        null = self.null[name].expand(n, -1, -1)
        if value is None:
            return null
        known = value >= 0 if name == "cell_line" else value.isfinite().reshape(n, -1).all(1)
        # An infinity (no dose) becomes 0 too: the largest number there is would have a gradient that is not finite.
        filled = value.clamp_min(0) if name == "cell_line" else value.nan_to_num(0.0, 0.0, 0.0)
        token = network(filled[:, None] if name in ("dose", "time") else filled)
        known = known & ~self._dropped(n, value.device)
        return torch.where(known[:, None, None], token[:, None], null.to(token.dtype))

    def _dropped(self, n: int, device: torch.device) -> Tensor:
        if not (self.training and self.drop_each):
            return torch.zeros(n, dtype=torch.bool, device=device)
        return torch.rand(n, device=device) < self.drop_each
