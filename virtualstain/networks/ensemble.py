"""Several networks of one design, trained from different seeds, whose mean is predicted (Lakshminarayanan 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from virtualstain.networks.interface import StainNetwork

__all__ = ["Ensemble", "joined_states"]


class Ensemble(StainNetwork):
    """The mean of its members' predictions.

    Parameters
    ----------
    in_channels, out_channels : int
    members : int
    member : mapping
        ``name`` and arguments of one member (`virtualstain.networks.build_network`).
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, *, members: int, member: Mapping[str, Any]
    ) -> None:
        super().__init__()
        from virtualstain.networks import build_network  # the table of networks holds this one too

        channels = {"in_channels": in_channels, "out_channels": out_channels}
        networks = [build_network(**{**member, **channels}) for _ in range(members)]
        self.members = nn.ModuleList(networks)
        self.dims, self.divisor = networks[0].dims, networks[0].divisor

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        return torch.stack([member(x) for member in self.members]).mean(0)


def joined_states(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Put the weights of separately trained members under the names they have in an `Ensemble`."""
    return {f"members.{i}.{name}": value for i, state in enumerate(states) for name, value in state.items()}
