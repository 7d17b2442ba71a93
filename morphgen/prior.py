"""What cells under a perturbation measure: ``p(morphology | condition)``, between signature and image.

``p(image | signature)`` is learnt as ``p(image | morphology, signature) p(morphology | signature)``, morphology being
the measurements of `morphgen.descriptors`. The U-Net is told, in training, the measurements of the very crop, which
vary from cell to cell and explain much of it; what a signature says of them is a regression, learnt here, from
perturbations to the means of their cells. In sampling each image's measurements are what the regression expects and a
deviation from it that was seen in training. It is the prior of Ramesh et al. (2022, unCLIP, section 2) with
measurements in place of an embedding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from morphgen.condition import Condition, ConditionEncoder

if TYPE_CHECKING:
    import numpy as np

    from morphgen.recipe import PriorRecipe

__all__ = ["MorphologyPrior", "PriorTask", "means_of"]

_CELLS_KEPT, _CELLS_ASKED, _CELLS_ALIKE = 4096, 512, 512
_NEAREST = 0.05
"""Expectations closer than this, in standard deviations of cells, are the same."""


def means_of(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Mean (n, M) of the rows of `values` (N, M) with each `index` 0 ... n-1; each must be there."""
    sums = torch.zeros(n, values.shape[1]).index_add_(0, index, values)
    return sums / torch.bincount(index, minlength=n)[:, None]


class MorphologyPrior(nn.Module):
    """Expected morphology of a perturbation, by the mean of several networks, and kept deviations of single cells.

    Parameters
    ----------
    descriptors : int
        Length of a morphology.
    members : int
        Networks, trained side by side on noise of their own.
    condition : mapping
        Arguments of `ConditionEncoder`, of each.
    """

    usual: Tensor
    deviation: Tensor
    kept_expected: Tensor
    kept_deviation: Tensor
    reach: Tensor

    def __init__(self, *, descriptors: int, members: int, condition: dict[str, Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(ConditionEncoder(**condition) for _ in range(members))
        n_parts = [member.n_tokens + len(member.embed) for member in self._encoders()]
        self.heads = nn.ModuleList(
            nn.Linear(n * member.width, descriptors)
            for n, member in zip(n_parts, self._encoders(), strict=True)
        )
        for name, shape in (("usual", (descriptors,)), ("kept_expected", (_CELLS_KEPT, descriptors)),
                            ("kept_deviation", (_CELLS_KEPT, descriptors))):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(descriptors))
        self.register_buffer("reach", torch.ones(1))

    def _encoders(self) -> list[ConditionEncoder]:
        return list(self.members)  # type: ignore[arg-type]

    def fit(self, expression: Tensor, measured: Tensor) -> None:
        """Take over the scale of training signatures (S, G) and the usual cell among measured ones (N, M)."""
        for member in self._encoders():
            member.fit(expression)
        self.usual.copy_(measured.mean(0))
        self.deviation.copy_(measured.std(0).clamp_min(1e-3))

    def standardise(self, measured: Tensor) -> Tensor:
        """Deviations (N, M) of what `describe` gives from the usual cell; beyond 6 they are 6."""
        return ((measured - self.usual) / self.deviation).clamp(-6, 6)

    def each(self, condition: Condition) -> Tensor:
        """Give what each member expects, standardised: (members, B, M)."""
        return torch.stack(
            [head(m(condition)[0].flatten(1)) for m, head in zip(self.members, self.heads, strict=True)]
        )

    def expected(self, condition: Condition) -> Tensor:
        """Give the expected morphology (B, M), standardised."""
        return self.each(condition).mean(0)

    def genes_read(self) -> Tensor:
        """Sum of the absolute weights of genes in programmes, mean over members; 0 where there are none."""
        sums = [m.programmes.weight.abs().sum() for m in self._encoders() if m.programmes is not None]
        return torch.stack(sums).mean() if sums else torch.zeros((), device=self.usual.device)

    @torch.no_grad()
    def keep_deviations(self, condition: Condition, index: Tensor, morphology: Tensor) -> None:
        """Keep how some cells of training deviate from what is expected of their perturbation.

        Parameters
        ----------
        condition : Condition
            S perturbations.
        index : (N,) int64
            Perturbation of each cell.
        morphology : (N, M)
            Standardised.
        """
        expected = torch.cat(
            [self.expected(condition.rows(part)) for part in torch.arange(len(condition)).split(512)]
        )
        rows = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
        rows = rows.repeat(-(-_CELLS_KEPT // len(rows)))[:_CELLS_KEPT]
        self.kept_expected.copy_(expected[index[rows]])
        self.kept_deviation.copy_(morphology[rows] - expected[index[rows]])
        self.reach.fill_(_reach_of(self._squared(self.kept_expected[:_CELLS_ASKED])))

    def draw(self, condition: Condition, noise: Tensor) -> Condition:
        """Draw the morphology of one cell per row: what is expected, and how a like cell of training deviated from it.

        Like cells are those of which about the same was expected, so spread, skewness and what goes together follow
        the phenotype. The draw is Gumbel's (one uniform number per kept cell), so that rounding does not decide it.

        Parameters
        ----------
        condition : Condition
            B rows.
        noise : (B, cells kept)
            Uniform in (0, 1).
        """
        expected = self.expected(condition)
        chosen = (-self._squared(expected) / (2 * self.reach**2) - noise.log().neg().log()).argmax(1)
        return replace(condition, morphology=(expected + self.kept_deviation[chosen]).clamp(-6, 6))

    def carried(self, condition: Condition, own: Tensor) -> Condition:
        """Tell each control nucleus what it would measure: what is expected, and how it deviates from other controls.

        Parameters
        ----------
        condition : Condition
            B rows.
        own : (B, M)
            Standardised deviation of each control from the mean of the controls.
        """
        return replace(condition, morphology=(self.expected(condition) + own).clamp(-6, 6))

    def _squared(self, expected: Tensor) -> Tensor:
        # Not by way of a matrix product, whose rounding would tell equal ones apart.
        mode = "donot_use_mm_for_euclid_dist"
        return torch.cdist(expected, self.kept_expected, compute_mode=mode).square()

    @property
    def n_kept(self) -> int:
        """How many numbers `draw` needs for each row."""
        return len(self.kept_expected)


def _reach_of(squared: Tensor) -> float:
    """Width of the Gaussian neighbourhood in which about `_CELLS_ALIKE` cells are alike (mean effective number)."""
    low, high = _NEAREST, 1e2
    for _ in range(40):
        middle = (low * high) ** 0.5
        weight = torch.softmax(-squared / (2 * middle**2), dim=1)
        if float((1 / weight.square().sum(1)).mean()) < _CELLS_ALIKE:
            low = middle
        else:
            high = middle
    return middle


class PriorTask:
    """Train a `MorphologyPrior` on the means of perturbations.

    Parameters
    ----------
    model : MorphologyPrior
    recipe : PriorRecipe
    training, validation : (Condition, (S, M) Tensor)
        Perturbations and the standardised mean of their cells.
    """

    def __init__(
        self,
        model: MorphologyPrior,
        recipe: PriorRecipe,
        training: tuple[Condition, Tensor],
        validation: tuple[Condition, Tensor] | None = None,
    ) -> None:
        self.recipe, self.training, self.validation = recipe, training, validation
        self.phases: dict[str, nn.Module] = {"prior": model}

    def batch(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        """Draw perturbations."""
        del step  # what is drawn depends on the generator alone
        condition, means = self.training
        rows = torch.from_numpy(rng.integers(len(means), size=self.recipe.training.batch_size))
        return {**condition.rows(rows).as_batch(), "wanted": means[rows], "ids": rows.tolist()}

    def loss(self, phase: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Mean squared error of each member by itself, and the price of the genes it reads."""
        model = self.phases[phase]
        assert isinstance(model, MorphologyPrior)
        error = (model.each(Condition.of_batch(batch)).float() - batch["wanted"]).square().mean()
        genes = self.recipe.sparsity * model.genes_read()
        return {"loss": error + genes, "error": error, "genes": genes}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Coefficient of determination on unseen perturbations, mean over measurements; of a single one, the error."""
        if self.validation is None:
            return {}
        assert isinstance(module, MorphologyPrior)
        condition, means = self.validation
        device = module.usual.device
        error = module.expected(condition.to(device)).float().cpu() - means
        if len(means) < 2:  # nothing varies that could be explained
            return {"morphology_error": float(error.square().mean()), "score": -float(error.square().mean())}
        total = (means - means.mean(0)).square().sum(0).clamp_min(1e-12)
        r2 = float((1 - error.square().sum(0) / total).mean())
        return {"morphology_r2": r2, "score": r2}
