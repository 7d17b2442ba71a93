"""What changes while a model trains, and how it becomes tensors and numbers and comes back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from image2reg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from image2reg.models.settings import TrainingSettings

__all__ = ["Progress", "TrainingState", "WeightAverage", "cpu_copy"]


def cpu_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, contiguous; the copies do not follow later training."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


class WeightAverage:
    """Exponential moving average of a module's weights (after Polyak and Juditsky 1992).

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` over the first updates, so that the random start is
    forgotten. Buffers (batch statistics, counters) are copied, not averaged. Tied weights have one average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        named = module.state_dict(keep_vars=True)
        first = {
            id(value): name for name, value in reversed(named.items())
        }  # tied weights have several names
        self._live = {name: value.detach() for name, value in named.items() if first[id(value)] == name}
        self._weights = [name for name, _ in module.named_parameters() if name in self._live]
        copies = {name: value.clone() for name, value in self._live.items()}
        self.tensors = {name: copies[first[id(value)]] for name, value in named.items()}

    @torch.no_grad()
    def update(self, n_updates: int) -> None:
        """Take in the module's present weights; `n_updates` counts from 1."""
        weight = 1 - min(self.decay, (1 + n_updates) / (10 + n_updates))
        live = [self._live[name] for name in self._weights]
        torch._foreach_lerp_([self.tensors[name] for name in self._weights], live, weight)
        for name in self._live.keys() - set(self._weights):
            self.tensors[name].copy_(self._live[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights and the average in place; a second call undoes it exactly."""
        for name, live in self._live.items():
            held = live.clone()
            live.copy_(self.tensors[name])
            self.tensors[name].copy_(held)


@dataclass
class Progress:
    """The numbers of a checkpoint.

    `validated` is the last validated step, `stale` the number of validations since the best one, `seconds`
    the wall-clock time of all parts of the run.
    """

    step: int = 0
    validated: int = 0
    stale: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_score: float | None = None


class TrainingState:
    """Modules, their optimizers, the averaged and the best weights, and the progress.

    Parameters
    ----------
    phases : dict of str to nn.Module
        On their device already. One AdamW each; `average` and `best` are of the first.
    settings : TrainingSettings
    """

    def __init__(self, phases: Mapping[str, nn.Module], settings: TrainingSettings) -> None:
        self.phases = phases
        self.model = next(iter(phases.values()))
        self.trainable = {
            phase: {name: p for name, p in module.named_parameters() if p.requires_grad}
            for phase, module in phases.items()
        }
        self.optimizers = {phase: _adam(self.trainable[phase].values(), settings) for phase in phases}
        decay = settings.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.best: dict[str, Tensor] | None = None
        self.progress = Progress()

    def deployed(self) -> dict[str, Tensor]:
        """Copy of the weights one would use now: averaged where averaging is on."""
        return cpu_copy(self.average.tensors if self.average else self.model.state_dict())

    def collect(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Give tensors by file (``model``, ``optim``, ``ema``, ``best``) and `Progress` as plain numbers."""
        model: dict[str, Tensor] = {}
        optim: dict[str, Tensor] = {}
        for phase, module in self.phases.items():
            model |= {f"{phase}/{name}": value for name, value in module.state_dict().items()}
            for name, parameter in self.trainable[phase].items():
                entries = self.optimizers[phase].state.get(parameter, {})
                optim |= {f"{phase}/{name}:{key}": value for key, value in entries.items()}
        tensors = {"model": cpu_copy(model), "optim": cpu_copy(optim)}
        if self.average:
            tensors["ema"] = cpu_copy(self.average.tensors)
        if self.best is not None:
            tensors["best"] = self.best
        return tensors, asdict(self.progress)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]) -> None:
        """Put back what `collect` gave, on each parameter's device and in its memory layout.

        Raises
        ------
        ConfigurationError
            The tensors belong to other networks.
        """
        for phase, module in self.phases.items():
            prefix = f"{phase}/"
            own = {k.removeprefix(prefix): v for k, v in tensors["model"].items() if k.startswith(prefix)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise ConfigurationError(
                    f"phase '{phase}': the checkpoint holds another network ({error}). Build it as the run "
                    f"was started, or choose another --out."
                ) from error
            for key, value in tensors["optim"].items():
                name, entry = key.removeprefix(prefix).rsplit(":", 1)
                if key.startswith(prefix):
                    parameter = self.trainable[phase][name]
                    moment = entry != "step"  # the step counter stays on the CPU
                    held = torch.empty_like(parameter).copy_(value) if moment else value.clone()
                    self.optimizers[phase].state[parameter][entry] = held
        if self.average:
            for name, average in self.average.tensors.items():
                average.copy_(tensors["ema"][name])
        # A copy: what is read lies in the file, and the file goes when the checkpoint is pruned.
        self.best = cpu_copy(tensors["best"]) if "best" in tensors else None
        self.progress = Progress(**progress)


def _adam(parameters: Any, settings: TrainingSettings) -> torch.optim.AdamW:
    """Decay matrices and kernels, not biases and norms (Loshchilov and Hutter 2019; the usual practice)."""
    parameters = list(parameters)
    heavy, light = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": heavy, "weight_decay": settings.weight_decay},
        {"params": light, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], settings.learning_rate, settings.betas)
