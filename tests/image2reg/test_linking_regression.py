"""Ridge from one solve: every shortcut is the refit it stands for; Nystrom is a sum over blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.kernels import kernel_device, kernel_matrix
from image2reg.linking.nystrom import Nystrom, blocks_of, choose_centres
from image2reg.linking.regression import held_out, inverse, predict
from image2reg.linking.selection import held_out_from_inverse

N, D, T = 23, 5, 4


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(N, D)))
    return x, torch.from_numpy(rng.normal(size=(N, T))) + 2.0, kernel_matrix(x, depth=2)


def refitted(k: torch.Tensor, y: torch.Tensor, ridge: float, centre: str, groups: np.ndarray) -> torch.Tensor:
    """Brute force: for each group, solve without it."""
    made = torch.empty_like(y)
    for g in np.unique(groups):
        i, j = np.flatnonzero(groups == g), np.flatnonzero(groups != g)
        if centre == "intercept":
            n = len(j)
            system = torch.zeros(n + 1, n + 1, dtype=k.dtype)
            system[:n, :n] = k[j][:, j] + ridge * torch.eye(n, dtype=k.dtype)
            system[n, :n] = system[:n, n] = 1
            solved = torch.linalg.solve(system, torch.cat([y[j], torch.zeros(1, T)]))
            made[i] = k[i][:, j] @ solved[:n] + solved[n]
        else:
            made[i] = predict(k[j][:, j], y[j], ridge, k[i][:, j], centre=centre)
    return made


@pytest.mark.parametrize("centre", ["none", "fold", "intercept"])
@pytest.mark.parametrize("grouped", [False, True])
def test_shortcut_equals_refitting(case, centre: str, grouped: bool) -> None:
    _, y, k = case
    groups = np.arange(N) // 4 if grouped else np.arange(N)
    made, mean = held_out(k, y, 0.3, centre=centre, groups=groups if grouped else None)
    assert (made - refitted(k, y, 0.3, centre, groups)).abs().max() < 1e-10
    outside = groups != groups[5]
    assert torch.allclose(mean[5], y[outside].mean(0))


def test_free_intercept_is_not_the_train_mean(case) -> None:
    _, y, k = case
    assert (
        held_out(k, y, 1.0, centre="fold")[0] - held_out(k, y, 1.0, centre="intercept")[0]
    ).abs().max() > 1e-3


def test_intercept_prediction_of_new_rows_solves_the_bordered_system(case) -> None:
    x, y, k = case
    new = kernel_matrix(x[:2] + 0.1, x, depth=2)
    n = len(k)
    system = torch.zeros(n + 1, n + 1, dtype=k.dtype)
    system[:n, :n] = k + torch.eye(n)
    system[n, :n] = system[:n, n] = 1
    solved = torch.linalg.solve(system, torch.cat([y, torch.zeros(1, T)]))
    assert torch.allclose(predict(k, y, 1.0, new, centre="intercept"), new @ solved[:n] + solved[n])


def test_inverse_alone_gives_the_predictions_and_permutes_with_the_sources(case) -> None:
    _, y, k = case
    b = inverse(k, 0.7).numpy()
    made, mean = held_out_from_inverse(b, y.numpy())
    assert np.allclose(made, held_out(k, y, 0.7)[0].numpy())
    assert np.allclose(mean, held_out(k, y, 0.7)[1].numpy())
    order = np.random.default_rng(0).permutation(N)
    shuffled = held_out(k[order][:, order], y, 0.7)[0].numpy()
    assert np.allclose(held_out_from_inverse(b[np.ix_(order, order)], y.numpy())[0], shuffled)


def test_singular_kernel_is_refused_with_a_way_out() -> None:
    k = kernel_matrix(torch.ones(6, 3, dtype=torch.float64))
    with pytest.raises(DataError, match=r"kernel of 6 rows with ridge 0 is singular: .*Raise the ridge"):
        inverse(k, 0.0)
    assert torch.isfinite(inverse(k, 1.0)).all()


def test_one_target_only_is_refused(case) -> None:
    _, y, k = case
    with pytest.raises(DataError, match="one target only"):
        held_out(k, y, 1.0, groups=["TP53"] * N)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"centre": "median"}, "centre is 'median'; allowed are fold, intercept, none"),
     ({"groups": [1, 2]}, "2 group labels for 23 rows"), ({"ridge": -1.0}, "ridge is -1")],
)  # fmt: skip
def test_wrong_arguments_are_named(case, arguments: dict, text: str) -> None:
    _, y, k = case
    with pytest.raises((ConfigurationError, DataError), match=text):
        held_out(k, y, **{"ridge": 1.0, **arguments})


def test_targets_of_another_length_are_refused(case) -> None:
    _, y, k = case
    with pytest.raises(DataError, match="23 rows of the kernel but 22 targets"):
        held_out(k, y[1:], 1.0)


def test_nystrom_on_all_rows_is_the_exact_fit(case) -> None:
    x, y, k = case
    fitted = Nystrom.fit([(x, y)], x, ridge=0.5, depth=2)
    assert torch.allclose(fitted.predict(x), predict(k, y, 0.5, k), atol=1e-6)


@pytest.mark.parametrize("block_rows", [3, 10, 23])
def test_nystrom_does_not_depend_on_the_blocks(case, block_rows: int) -> None:
    x, y, _ = case
    whole = Nystrom.fit([(x, y)], x[::2], ridge=0.5)
    parts = Nystrom.fit(blocks_of(x.numpy(), y.numpy(), block_rows=block_rows), x[::2], ridge=0.5)
    assert torch.allclose(whole.coefficients, parts.coefficients, rtol=1e-8)
    again = Nystrom.fit(blocks_of(x.numpy(), y.numpy(), block_rows=block_rows), x[::2], ridge=0.5)
    assert torch.equal(parts.coefficients, again.coefficients)


@pytest.mark.parametrize("rows", [1, 6, 12], ids=["one row", "fewer rows than centres", "more"])
@pytest.mark.parametrize("centred", [True, False])
def test_nystrom_without_a_group_equals_refitting(case, centred: bool, rows: int) -> None:
    x, y, _ = case
    fitted = Nystrom.fit([(x, y)], x[::3], ridge=0.5, centred=centred)
    refit = Nystrom.fit([(x[rows:], y[rows:])], x[::3], ridge=0.5, centred=centred)
    assert torch.allclose(fitted.without(x[:rows], y[:rows]), refit.predict(x[:rows]), atol=1e-8)
    with pytest.raises(DataError, match="one target only"):
        fitted.without(x, y)


def test_small_groups_are_left_out_with_one_solve_of_the_centres(
    case, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, _ = case
    fitted, solve, solved = Nystrom.fit([(x, y)], x[::3], ridge=0.5), torch.linalg.cholesky_ex, []
    monkeypatch.setattr(
        torch.linalg, "cholesky_ex", lambda system: solved.append(len(system)) or solve(system)
    )
    for i in range(0, N, 2):
        fitted.without(x[i : i + 2], y[i : i + 2])
    assert solved == [8]


def test_nystrom_refusals(case) -> None:
    x, y, _ = case
    with pytest.raises(ConfigurationError, match="needs one above 0"):
        Nystrom.fit([(x, y)], x, ridge=0.0)
    with pytest.raises(DataError, match="no rows"):
        Nystrom.fit([], x)
    with pytest.raises(ConfigurationError, match="30 centres for 23 rows; allowed are 1 to 23"):
        choose_centres(23, 30, seed=0)


def test_device_by_name() -> None:
    assert kernel_device("cpu").type == "cpu"
    with pytest.raises(ConfigurationError, match="device 'tpu': allowed are auto, cpu"):
        kernel_device("tpu")
