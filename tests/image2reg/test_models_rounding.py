"""Rounded weights come back close, in every shape, and a bundle of them is built, checked and smaller."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_models import NETWORKS, SmallNet, small_spec
from torch import nn

from image2reg.errors import BundleError
from image2reg.models.bundle import save_bundle
from image2reg.models.rounding import restored, rounded

SHAPES = st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3), (2, 3, 1, 2, 2)])


@given(arrays("float32", SHAPES, elements=st.floats(-1e4, 1e4, width=32)))
def test_eight_bits_are_right_to_half_a_step_of_their_channel(values) -> None:
    weight = torch.from_numpy(values)
    made = restored(rounded({"w": weight}, "int8"))["w"]
    half_step = weight.abs().flatten(1).amax(1) / 127 / 2
    off = (made - weight).abs().flatten(1).amax(1)
    assert made.shape == weight.shape
    assert (off <= half_step * (1 + 1e-4) + 1e-30).all()
    assert torch.equal(restored(rounded({"w": made}, "int8"))["w"], made)  # rounding twice rounds once


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_norms_biases_and_counters_stay_as_they_are(precision) -> None:
    state = {
        "norm.weight": torch.randn(5),
        "n_seen": torch.tensor(7),
        "kept": torch.eye(3, dtype=torch.int64),
    }
    stored = rounded(state, precision)
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], value) for name, value in state.items())
    assert restored(stored)["n_seen"].dtype == torch.int64


def test_a_tensor_of_the_networks_own_may_end_like_a_step() -> None:
    state = {"time:step": torch.randn(3), "w": torch.randn(2, 2)}
    assert torch.equal(restored(rounded(state, "int8"))["time:step"], state["time:step"])


def test_a_channel_of_zeros_stays_one() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    assert torch.equal(restored(rounded({"w": weight}, "int8"))["w"][0], weight[0])


def test_a_bundle_of_eight_bit_weights_is_a_quarter_and_predicts_almost_the_same(tmp_path) -> None:
    torch.manual_seed(0)

    def wide(**_: object) -> nn.Module:
        return nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 128))

    network = wide().eval()
    state = network.state_dict()
    full, eight = (
        save_bundle(tmp_path / name, small_spec(), weights)
        for name, weights in (("full", state), ("eight", rounded(state, "int8")))
    )
    sizes = [b.file("model.safetensors").stat().st_size for b in (full, eight)]
    assert sizes[1] < 0.28 * sizes[0]
    x = torch.randn(64, 128)
    built = eight.build({eight.spec.architecture.name: wide})
    with torch.no_grad():
        error = (built(x) - network(x)).std() / network(x).std()
    assert error < 0.01


def test_eight_bits_that_are_not_finite_are_refused(tmp_path) -> None:
    state = SmallNet().state_dict()
    state["conv.weight"].view(-1)[0] = torch.nan
    bundle = save_bundle(tmp_path / "b", small_spec(), rounded(state, "int8"))
    with pytest.raises(BundleError, match=r"'conv.weight' holds .* not finite"):
        bundle.build(NETWORKS)


def test_eight_bits_without_their_step_are_refused(tmp_path) -> None:
    stored = rounded(SmallNet().state_dict(), "int8")
    del stored["conv.weight:step"]
    bundle = save_bundle(tmp_path / "b", small_spec(), stored)
    with pytest.raises(BundleError, match=r"'conv.weight' holds torch.int8 without the steps"):
        bundle.build(NETWORKS)
