"""A drawn latent is pulled to its measurements, each image by itself."""

from __future__ import annotations

import torch

from morphgen.correction import corrected


def linear(seed: int = 0):
    weight = torch.randn(5, 3 * 4 * 4, generator=torch.Generator().manual_seed(seed)) / 7

    def measure(z: torch.Tensor) -> torch.Tensor:
        return z.flatten(1) @ weight.T

    return measure


def cases(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    own = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 4, 4, generator=own), torch.randn(n, 5, generator=own)


def test_more_steps_come_closer_and_none_leaves_all_as_it_is() -> None:
    (z, wanted), measure = cases(), linear()
    missing = [
        float((measure(corrected(z, wanted, measure, steps=n)) - wanted).square().mean())
        for n in (0, 2, 8, 30)
    ]
    assert torch.equal(corrected(z, wanted, measure, steps=0), z)
    assert missing == sorted(missing, reverse=True)
    assert missing[-1] < 0.02 * missing[0]


def test_only_what_is_measured_moves() -> None:
    (z, wanted), measure = cases(), linear()
    moved = corrected(z, wanted, measure, steps=20) - z
    weight = torch.autograd.functional.jacobian(lambda x: measure(x[None])[0], z[0]).flatten(1)
    free = torch.eye(48) - torch.linalg.pinv(weight) @ weight
    assert float((moved.flatten(1) @ free).norm()) < 1e-3 * float(moved.norm())


def test_images_move_by_themselves_and_without_a_trace() -> None:
    (z, wanted), measure = cases(), linear()
    together = corrected(z, wanted, measure, steps=5)
    alone = torch.cat([corrected(z[i : i + 1], wanted[i : i + 1], measure, steps=5) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not together.requires_grad


@torch.no_grad()
def test_it_works_where_gradients_are_off_and_what_cannot_be_reached_does_not_explode() -> None:
    (z, wanted), measure = cases(), linear()
    bounded = corrected(z, wanted * 100, lambda x: torch.tanh(measure(x)), steps=10)
    assert torch.isfinite(bounded).all()
