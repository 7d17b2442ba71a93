"""Score-CAM of our encoders, with the checks that a picture needs before it is believed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from image2reg.errors import ConfigurationError
from image2reg.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.embedding.networks import EncoderNetwork
    from image2reg.embedding.training import TrainedEncoder
    from image2reg.nuclei.crops import Crops

__all__ = ["VARIANT", "Attribution", "explain_crops"]

# Score-CAM implementations disagree; this is which one ours is.
VARIANT = (
    "Score-CAM (Wang et al. 2020): maps of the second convolution (small) or of the last stage (ResNets), "
    "up-sampled and scaled to 0 … 1, multiply the input; "
    "score = logit of the class minus that of the empty input (zeros, the background level); softmax of the scores "
    "over channels; ReLU of the weighted sum of maps"
)
_STEPS = 20
# A map is not believed from here on: as alike with random weights, or the class as probable with nothing shown.
_ALIKE, _EMPTY = 0.8, 0.5


@dataclass(frozen=True)
class Attribution:
    """Maps and the checks beside them.

    Attributes
    ----------
    maps : (N, Y, X) float32
        0 … 1 per crop, on the grid of the branch's input.
    inputs : (N, C, Y, X) float32
        What the branch was shown.
    random_correlation : (N,) float
        Pearson correlation of each map with the one of the same network with weights drawn afresh: near 1 means that
        the map shows the input, not what was learned (Adebayo et al., Sanity Checks for Saliency Maps, 2018).
    deletion, insertion : (N, 21) float
        Probability of the class with 0, 5, … 100 % of the pixels removed, or shown, the map's highest first.
    random_deletion, random_insertion : (N, 21) float
        The same in random order: what a map must beat.
    beside : str
        Another branch that the network looks through, empty where there is none.
    """

    maps: NDArray[np.float32]
    inputs: NDArray[np.float32]
    random_correlation: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]
    beside: str = ""

    def failures(self) -> tuple[str, ...]:
        """Say which checks the maps fail, in words; empty where they may be looked at.

        Deletion and insertion must beat the random order by two standard errors over crops.
        """
        found = []
        checks = self.summary()
        if self.beside:
            found.append(
                f"the network looks through another branch too ({self.beside}), so that this map shows only what that "
                "one does not say already"
            )
        if not checks["random_weights_correlation"] < _ALIKE:
            found.append(
                f"with random weights the map is nearly the same (correlation "
                f"{checks['random_weights_correlation']:.2f}): it shows the image, not what was learned"
            )
        if not _beyond(self.random_deletion - self.deletion):
            found.append("taking the map's pixels away first lowers the class no more than a random order")
        if not _beyond(self.insertion - self.random_insertion):
            found.append("showing the map's pixels first raises the class no more than a random order")
        if checks["empty_probability"] >= _EMPTY:
            found.append(
                f"an empty input is taken for this class already (probability {checks['empty_probability']:.2f}), so "
                "that deletion and insertion say little"
            )
        return tuple(found)

    def summary(self) -> dict[str, float]:
        """Means over crops; areas under the curves run from 0 to 1.

        ``empty_probability`` is the class's with nothing shown: where it is high, the class is a lack of something (or
        another branch decides), and deletion and insertion say little.
        """
        areas = {
            "deletion_auc": self.deletion, "random_deletion_auc": self.random_deletion,
            "insertion_auc": self.insertion, "random_insertion_auc": self.random_insertion,
        }  # fmt: skip
        found = {
            name: float(np.trapezoid(curve.mean(axis=0), dx=1 / _STEPS)) for name, curve in areas.items()
        }
        return found | {
            "empty_probability": float(self.deletion[:, -1].mean()),
            "random_weights_correlation": float(np.nanmean(self.random_correlation)),
        }


def explain_crops(
    encoder: TrainedEncoder,
    crops: Crops,
    target: str,
    *,
    branch: Literal["nucleus", "context"] | None = None,
    seed: int = 0,
) -> Attribution:
    """Show what in each crop speaks for a class.

    Parameters
    ----------
    encoder : TrainedEncoder
        Trained by classification.
    crops : Crops in memory
    target : str
        One of ``encoder.classes``.
    branch : str, optional
        Which input to explain, the other stays as it is; the context where there is one. Beside a branch for the
        nucleus the region's map shows what the nucleus does not say already; to see whether a network looks at the
        nucleus in its region, train one with the variant ``region``.
    seed : int
        Of the random weights and orders.

    Raises
    ------
    ConfigurationError
        No such class or branch.
    """
    network = encoder.network
    branch = branch or ("context" if "context" in network.branches else "nucleus")
    if target not in encoder.classes or branch not in network.branches:
        raise ConfigurationError(
            f"class {target!r}, branch {branch!r}: the encoder has classes {list(encoder.classes)} and branches "
            f"{list(network.branches)}. It must be trained by classification."
        )
    number = encoder.classes.index(target)
    inputs = {k: torch.from_numpy(v.astype(np.float32)) for k, v in encoder.inputs(crops).items()}
    blank = _with_random_weights(network, seed)
    rng = generator(seed, "explain")
    with torch.inference_mode():
        maps = torch.cat([_score_cam(network, _one(inputs, i), branch, number) for i in range(len(crops))])
        random = torch.cat([_score_cam(blank, _one(inputs, i), branch, number) for i in range(len(crops))])
        noise = torch.from_numpy(rng.random(maps.shape).astype(np.float32))
        curves = [
            _curve(network, inputs, branch, number, order, insert=insert)
            for order in (maps, noise) for insert in (False, True)
        ]  # fmt: skip
    return Attribution(
        maps=maps.numpy(), inputs=inputs[branch].numpy(), random_correlation=_correlations(maps, random),
        deletion=curves[0], insertion=curves[1], random_deletion=curves[2], random_insertion=curves[3],
        beside=", ".join(name for name in network.branches if name != branch),
    )  # fmt: skip


def _beyond(gain: NDArray[np.float64]) -> bool:
    """Whether the mean area over crops is above 0 by two standard errors."""
    areas = gain.mean(axis=1)
    error = areas.std(ddof=1) / np.sqrt(len(areas)) if len(areas) > 1 else 0.0
    return bool(areas.mean() > 2 * error)


def _one(inputs: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index : index + 1] for name, value in inputs.items()}


def _score_cam(network: EncoderNetwork, inputs: dict[str, Tensor], branch: str, target: int) -> Tensor:
    """Map of one crop, (1, Y, X); its masks are one batch."""
    shown = inputs[branch]
    module: Any = network.branches[branch]
    maps = functional.interpolate(
        module.maps(shown), size=shown.shape[2:], mode="bilinear", align_corners=False
    )[0]
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    useful = (high - low)[:, 0, 0] > 1e-8
    if not useful.any():
        return torch.zeros_like(shown[:, 0])
    maps = maps[useful]
    masks = (maps - low[useful]) / (high - low)[useful]
    batch = {name: value.expand(len(masks) + 1, -1, -1, -1) for name, value in inputs.items()}
    empty = torch.zeros_like(shown)
    batch[branch] = torch.cat([shown * masks[:, None], empty])
    logits = network(batch)[:, target]
    weights = (logits[:-1] - logits[-1]).softmax(dim=0)
    found = functional.relu((weights[:, None, None] * maps).sum(dim=0, keepdim=True))
    return found / found.max().clamp(min=1e-12)


def _with_random_weights(network: EncoderNetwork, seed: int) -> EncoderNetwork:
    blank = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in blank.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
    return blank.eval()


def _correlations(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    a, b = (x.flatten(1).double().numpy() for x in (first, second))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)


def _curve(
    network: EncoderNetwork,
    inputs: dict[str, Tensor],
    branch: str,
    target: int,
    order: Tensor,
    *,
    insert: bool,
) -> NDArray[np.float64]:
    """Probability of the class as pixels go (or come), those with the highest value first; (N, steps + 1)."""
    shown = inputs[branch]
    rank = order.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(order)
    found = []
    for step in range(_STEPS + 1):
        taken = rank < step / _STEPS * order[0].numel()
        keep = taken if insert else ~taken
        logits = network({**inputs, branch: shown * keep[:, None]})
        found.append(logits.softmax(dim=1)[:, target].double().numpy())
    return np.stack(found, axis=1)
