"""Evaluation of a link: the asked way, every baseline, and the same with shuffled gene labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from image2reg.linking.kernels import kernel_matrix
from image2reg.linking.nystrom import EXACT_ROWS, Nystrom, blocks_of, choose_centres
from image2reg.linking.own_ranks import OwnRanks
from image2reg.linking.regression import held_out, predict
from image2reg.linking.scores import (
    HIT_AT,
    LinkScores,
    candidate_scores,
    link_scores,
    permutation_p,
    ranks_of,
)
from image2reg.linking.selection import inverses, nested_scores
from image2reg.linking.settings import Setting
from image2reg.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "evaluate"]

Floats = NDArray[np.float64]
Ranks = tuple[Floats, Floats]
N_CENTRES = 2000
PUBLISHED = Setting(kernel="ntk", depth=1, ridge=1.0, centre="none", rule="euclidean")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` gives `link`: tables, scores of the held-out genes, and a model of all genes for queries."""

    table: pd.DataFrame
    curves: pd.DataFrame
    main: LinkScores
    scores: Floats
    competing: NDArray[np.bool_]
    own: NDArray[np.intp]
    settings: list[str]
    notes: tuple[str, ...]
    query: Callable[..., Floats]


def evaluate(
    x: Floats,
    own_of_row: NDArray[np.intp],
    table: Floats,
    settings: Sequence[Setting],
    *,
    allowed: NDArray[np.bool_],
    exclude_training: bool = False,
    n_permutations: int = 100,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Leave each gene out, rank it, and do the same for every baseline.

    Parameters
    ----------
    x : (rows, d) scaled sources
    own_of_row : (rows,) int
        Candidate of each row's gene; several rows of one gene are left out together.
    table : (c, t) candidate embeddings
    settings : sequence of Setting
        One, or several to choose from by nested selection (then one row per gene).
    allowed : (c,) bool
        Candidates that compete.
    exclude_training : bool
    n_permutations, seed
    device : str
        For kernels of single rows.
    progress : callable, optional
        Told the shuffles done, and how many there are; first 0, before anything is fitted.
    """
    import pandas as pd

    own, codes = np.unique(own_of_row, return_inverse=True)
    competing = np.tile(allowed, (len(own), 1))
    if exclude_training:
        competing[:, own] = False
    competing[np.arange(len(own)), own] = True
    chosen, nested = settings[0], len(settings) > 1
    notes: tuple[str, ...] = ()
    shuffled: Callable[[NDArray[np.intp]], Ranks]
    fit = _Fits(x, codes, table, own, device, seed)
    if progress is not None:
        progress(0, n_permutations)
    if nested:
        solved = inverses(settings, {"source": x[np.argsort(own_of_row)]})
        select = partial(
            nested_scores, settings, solved, {"target": table}, own, allowed=competing, seed=seed
        )

        def selected_anew(order: NDArray[np.intp]) -> Ranks:
            return ranks_of(select(order=order).scores, own, allowed=competing)

        shuffled = selected_anew
        result = select()
        scores = result.scores
        picked = [result.chosen[f] for f in result.folds]
        chosen = max(settings, key=picked.count)
        notes += (f"chosen inside the training genes, from {len(settings)} settings: most often {chosen}.",)
    else:
        scores = fit.scores(chosen)
        picked = [chosen] * len(own)
        if n_permutations:
            shuffled = fit.shuffled(chosen, scores, competing)

    label = "nested choice" if nested else str(chosen)
    main = link_scores(scores, own, allowed=competing, seed=seed)
    orders = [generator(seed, "permutation", i).permutation(len(own)) for i in range(n_permutations)]
    permuted: list[LinkScores] = []
    for order in orders:
        strict, average = shuffled(order)
        permuted.append(replace(main, ranks=strict, average_ranks=average))
        if progress is not None:
            progress(len(permuted), n_permutations)
    null = [float(s.areas.mean()) for s in permuted]
    linear = replace(chosen, kernel="linear")
    mean = fit.means()
    methods = {
        label: main,
        str(linear): link_scores(fit.scores(linear), own, allowed=competing, seed=seed),
        "published recipe: " + str(PUBLISHED): link_scores(
            fit.scores(PUBLISHED), own, allowed=competing, seed=seed
        ),
        "train mean, euclidean": link_scores(
            candidate_scores(mean, mean, table, rule="euclidean"), own, allowed=competing, seed=seed
        ),
        "random": link_scores(
            generator(seed, "random ranks").random(scores.shape), own, allowed=competing, seed=seed
        ),
    }
    if label == str(linear):
        methods = {label: main, **{k: v for k, v in methods.items() if k != label}}
    p = {"p": np.nan, "permuted": np.nan}
    if null:
        p = {"p": permutation_p(main.areas.mean(), null), "permuted": float(np.mean(null))}
    rows = [s.row(name, **(p if s is main else {})) for name, s in methods.items()]
    if permuted:
        rows.append(_permuted_row(permuted))
    if fit.by_row and not nested:
        notes += (
            "gene labels were shuffled after the fit, among the predictions, because rows outnumber genes.",
        )
    return Evaluation(
        pd.DataFrame(rows), pd.concat([s.curve(name, seed=seed) for name, s in methods.items()], ignore_index=True),
        main, scores, competing, own, [str(s) for s in picked], notes,
        lambda q, codes=None: fit.query(chosen, q, codes),
    )  # fmt: skip


def _permuted_row(permuted: Sequence[LinkScores]) -> dict[str, Any]:
    """Average the permutations; the interval is the middle 95 % of them."""
    areas = [float(s.areas.mean()) for s in permuted]
    low, high = np.quantile(areas, [0.025, 0.975])
    return {
        "method": f"permuted sources ({len(areas)} times)", "auc": float(np.mean(areas)), "low": low, "high": high,
        "n": len(permuted[0].ranks), **{f"hit@{k}": float(np.mean([s.hit(k) for s in permuted])) for k in HIT_AT},
        "median_rank": float(np.mean([s.median_rank for s in permuted])),
    }  # fmt: skip


def _means(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """Mean of the rows of each code."""
    counts = np.bincount(codes)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums / counts[:, None]


class _Fits:
    """Held-out predictions at the level of genes, from gene means or from single rows."""

    def __init__(
        self, x: Floats, codes: NDArray[np.intp], table: Floats, own: NDArray[np.intp], device: str, seed: int
    ) -> None:
        self.by_row = len(codes) > len(own)
        # One row per gene is put in the order of `own`; single rows keep theirs.
        self.codes = codes if self.by_row else np.arange(len(own))
        self.x = torch.from_numpy(x if self.by_row else x[np.argsort(codes)]).to(device)
        self.y = torch.from_numpy(table[own][self.codes]).to(device)
        self.table, self.own, self.seed = table, own, seed

    def scores(self, setting: Setting) -> Floats:
        predicted, mean = self._held_out(setting)
        return candidate_scores(predicted, mean, self.table, rule=setting.rule)

    def means(self) -> Floats:
        targets = self.table[self.own]
        return (targets.sum(axis=0) - targets) / (len(targets) - 1)

    def shuffled(
        self, setting: Setting, scores: Floats, allowed: NDArray[np.bool_]
    ) -> Callable[[NDArray[np.intp]], Ranks]:
        """Ranks when gene labels are shuffled; the whole fit is repeated where a gene is one row."""
        if self.by_row:
            return lambda order: ranks_of(scores[order], self.own, allowed=allowed)
        key = replace(setting, source="source")
        b = next(iter(inverses([key], {"source": self.x.cpu().numpy()}).values()))
        ranks = OwnRanks(self.table, self.own, allowed=allowed)
        return lambda order: next(ranks.ranks(b[np.ix_(order, order)], setting))

    def query(self, setting: Setting, x: Floats, codes: NDArray[np.intp] | None = None) -> Floats:
        """Scores of new rows under a model of all genes; directions start at the mean of genes, as held-out ones do.

        Predictions of rows with one code are averaged; without codes each row is for itself.
        """
        new = torch.from_numpy(x).to(self.x)
        if len(self.x) > EXACT_ROWS:
            made = self._nystrom(setting).predict(new)
        else:
            kernel = kernel_matrix(self.x, kind=setting.kernel, depth=setting.depth)
            cross = kernel_matrix(new, self.x, kind=setting.kernel, depth=setting.depth)
            made = predict(kernel, self.y, setting.ridge, cross, centre=setting.centre)
        codes = np.arange(len(x)) if codes is None else codes
        predicted = _means(made.cpu().numpy(), codes)
        mean = np.tile(self.table[self.own].mean(axis=0), (len(predicted), 1))
        return candidate_scores(predicted, mean, self.table, rule=setting.rule)

    def _held_out(self, setting: Setting) -> tuple[Floats, Floats]:
        if len(self.x) > EXACT_ROWS:
            fitted = self._nystrom(setting)
            members = np.split(np.argsort(self.codes, kind="stable"), np.cumsum(np.bincount(self.codes))[:-1])
            made = [fitted.without(self.x[i], self.y[i]).mean(dim=0) for i in members]
            return torch.stack(made).cpu().numpy(), self.means()
        kernel = kernel_matrix(self.x, kind=setting.kernel, depth=setting.depth)
        groups = self.codes if self.by_row else None
        predicted, _ = held_out(kernel, self.y, setting.ridge, centre=setting.centre, groups=groups)
        return _means(predicted.cpu().numpy(), self.codes), self.means()

    def _nystrom(self, setting: Setting) -> Nystrom:
        centres = self.x[torch.from_numpy(choose_centres(len(self.x), N_CENTRES, seed=self.seed))]
        blocks = blocks_of(self.x.cpu().numpy(), self.y.cpu().numpy())
        return Nystrom.fit(
            blocks, centres, ridge=setting.ridge, kind=setting.kernel, depth=setting.depth,
            centred=setting.centre == "fold",
        )  # fmt: skip
