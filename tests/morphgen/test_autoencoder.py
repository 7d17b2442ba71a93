"""Planes and stacks of any number of channels, losses, the adversary's weight, and the report beside JPEG."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from small_generators import FACTS, small_crops, vae_recipe
from torch import nn

from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.models.bundle import load_bundle
from morphgen.autoencoder import MorphologyAutoencoder
from morphgen.bundling import load_autoencoder
from morphgen.catalogue import verify_bundle
from morphgen.crops import IntensityRange
from morphgen.patch_components import PatchComponents, fold, unfold
from morphgen.perceptual import EncoderDistance, perceptual_of
from morphgen.recipe import ReconstructionSettings, VaeRecipe
from morphgen.reconstruction import AutoencoderTask, adaptive_weight, pyramid_loss, turn
from morphgen.reconstruction_report import (
    jpeg_round_trip,
    quantised_round_trip,
    reconstruction_table,
    round_trip,
)
from morphgen.residual import ResidualTexture
from morphgen.train import train_vae

SMALL = {"widths": [8, 16], "patch": 2, "norm_groups": 4, "latent_channels": 4}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_planes_of_any_number_of_channels(channels: int) -> None:
    net = MorphologyAutoencoder(channels=channels, settings=SMALL).eval()
    x = torch.rand(2, channels, 16, 16)
    assert net.encode(x).shape == (2, 4, 4, 4)
    assert net(x).shape == x.shape


@pytest.mark.parametrize("patch", [1, 2])
def test_stacks(patch: int) -> None:
    net = MorphologyAutoencoder(channels=2, dims=3, settings={**SMALL, "patch": patch}).eval()
    x = torch.rand(1, 2, 8, 8, 8)
    assert net.encode(x).shape == (1, 4, *[4 // patch] * 3)
    assert net(x).shape == x.shape


def test_folding_is_torch_s_pixel_unshuffle_on_any_number_of_axes() -> None:
    planes, stacks = torch.rand(2, 3, 8, 12), torch.rand(2, 3, 4, 8, 12)
    assert torch.equal(fold(planes, 4), torch.nn.functional.pixel_unshuffle(planes, 4))
    assert fold(stacks, 2).shape == (2, 24, 2, 4, 6)
    for x, factor in ((planes, 4), (stacks, 2)):
        assert torch.equal(unfold(fold(x, factor), factor), x)


def test_patch_components_are_scikit_learn_s_principal_components() -> None:
    x = torch.from_numpy(gaussian_filter(np.random.default_rng(0).normal(size=(20, 2, 16, 16)), (0, 0, 1, 1)))
    patches = PatchComponents(2, 2, 4, 5).double()
    patches.fit(x)
    rows = fold(x, 4).movedim(1, -1).reshape(-1, 32).numpy()
    theirs = PCA(5, whiten=True).fit(rows)
    z = patches.encode(x).movedim(1, -1).reshape(-1, 5).numpy()
    assert np.allclose(np.abs(z), np.abs(theirs.transform(rows)), atol=1e-2)  # whitened by n, theirs by n - 1
    made = fold(patches.decode(patches.encode(x)), 4).movedim(1, -1).reshape(-1, 32).numpy()
    assert np.allclose(made, theirs.inverse_transform(theirs.transform(rows)), atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_autoencoder_begins_as_its_principal_components(dims: int) -> None:
    x = torch.rand(6, 1, *[8] * dims) * 2 - 1
    few, all_of_them = (
        MorphologyAutoencoder(channels=1, dims=dims, settings={**SMALL, "latent_channels": n}).eval()
        for n in (2, 4**dims)
    )
    for net in (few, all_of_them):
        net.fit(x)
    assert torch.allclose(all_of_them(x), x, atol=1e-4)
    assert torch.allclose(few(x), few.shortcut.decode(few.shortcut.encode(x)), atol=1e-5)
    assert float((few(x) - x).detach().abs().mean()) > 0.05


def test_without_the_shortcut_the_network_is_alone() -> None:
    net = MorphologyAutoencoder(channels=1, settings={**SMALL, "shortcut": False})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.fit(torch.rand(4, 1, 16, 16))
    assert net.shortcut is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_scaling_latents_changes_nothing_but_latents() -> None:
    net = MorphologyAutoencoder(channels=1, settings=SMALL).eval()
    x = torch.rand(2, 1, 16, 16)
    z, before = net.encode(x), net(x)
    net.latent_scale = 2.5
    assert torch.allclose(net.encode(x), 2.5 * z)
    assert torch.allclose(net(x), before, atol=1e-5)


def test_a_size_that_does_not_fit_is_refused() -> None:
    net = MorphologyAutoencoder(channels=1, settings=SMALL)
    with pytest.raises(DataError, match=r"takes \(N, 1, Y, X\) with sizes that are multiples of 4"):
        net.encode(torch.rand(1, 1, 18, 16))
    with pytest.raises(DataError, match=r"crops \(1, 2, 16, 16\)"):
        net.encode(torch.rand(1, 2, 16, 16))


def test_the_pyramid_sees_what_the_mean_does_not() -> None:
    x = torch.zeros(1, 1, 16, 16)
    flat = x + 0.1
    fine = x + 0.1 * (-1.0) ** torch.arange(16)
    assert float(pyramid_loss(flat, x)) == pytest.approx(0.1, abs=1e-5)  # in the coarsest band alone
    assert float(pyramid_loss(fine, x)) == pytest.approx(0.1, abs=1e-5)  # in the finest alone
    assert float(pyramid_loss(x, x)) == 0


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    last = torch.ones(3, requires_grad=True)
    ours, theirs = (2 * last).sum(), (0.5 * last).sum()
    weight = adaptive_weight(ours, theirs, last)
    assert float(weight) == pytest.approx(4.0, rel=1e-3)
    assert not weight.requires_grad


def test_the_adversary_begins_when_told_and_moves_both_sides() -> None:
    recipe = vae_recipe("loss={adversary: 0.5, adversary_start: 1, adversary_width: 4, adversary_layers: 1}")
    torch.manual_seed(0)
    net = MorphologyAutoencoder(channels=1, settings=recipe.autoencoder)
    x = IntensityRange.of(small_crops().images, (0.0, 1.0)).apply(small_crops().images)
    task = AutoencoderTask(net, recipe, x, x[:4])
    batch = task.batch(1, np.random.default_rng(0))
    assert "adversarial" not in task.loss("autoencoder", batch)
    assert float(task.loss("discriminator", batch)["loss"].detach()) == 0
    batch = task.batch(2, np.random.default_rng(0))
    terms = task.loss("autoencoder", batch)
    assert "adversarial" in terms
    terms["loss"].backward()
    assert net.network.decoder.conv_out.weight.grad.abs().sum() > 0
    task.loss("discriminator", batch)["loss"].backward()
    assert all(p.grad is not None for p in task.phases["discriminator"].parameters())


def test_eight_symmetries() -> None:
    crop = torch.arange(9.0).reshape(1, 3, 3)
    assert len({tuple(turn(crop, k).flatten().tolist()) for k in range(8)}) == 8
    assert torch.equal(turn(crop, 0), crop)


def test_trained_bundle_reproduces_its_golden_sample_in_diffusers_layout(tmp_path) -> None:
    crops = small_crops()
    bundle = train_vae(crops, crops, vae_recipe(), tmp_path / "run", facts=FACTS, device="cpu")
    assert {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"} <= set(bundle.spec.files)
    assert verify_bundle(load_bundle(bundle.directory)).passed
    from diffusers import AutoencoderKL

    theirs = AutoencoderKL.from_pretrained(bundle.directory / "vae").eval()
    ours = load_autoencoder(bundle)
    assert theirs.config.scaling_factor == pytest.approx(ours.latent_scale)
    folded = torch.nn.functional.pixel_unshuffle(torch.rand(1, 1, 16, 16), 2)
    assert torch.allclose(
        theirs.encode(folded).latent_dist.mean, ours.network.encode(folded).latent_dist.mean, atol=1e-4
    )


def test_latents_have_unit_variance_over_the_training_set(tmp_path) -> None:
    crops = small_crops()
    net = load_autoencoder(train_vae(crops, None, vae_recipe(), tmp_path / "run", facts=FACTS, device="cpu"))
    x = torch.from_numpy(IntensityRange.of(crops.images, (0.0, 1.0)).apply(crops.images))
    with torch.no_grad():
        assert float(net.encode(x).std()) == pytest.approx(1.0, rel=0.02)


def test_reconstruction_report_beside_jpeg() -> None:
    crops = small_crops(12, size=32, channels=2)
    intensity = IntensityRange.of(crops.images, (0.0, 1.0))
    same = reconstruction_table(crops.images, crops.images, intensity, crops.channels)
    assert same["channel"].tolist() == ["DNA", "RNA"]
    assert same["psnr"].min() == 100 + 10 * np.log10(4) or same["psnr"].min() > 90
    assert same["ssim"].min() == pytest.approx(1.0)
    assert same["feature_error"].max() == 0
    net = MorphologyAutoencoder(channels=2, settings=SMALL).eval()
    made = round_trip(net, intensity, crops.images)
    untrained = reconstruction_table(crops.images, made, intensity, crops.channels)
    jpeg, rate = jpeg_round_trip(crops.images, intensity, bits_per_crop=2000.0)
    coarse, least = jpeg_round_trip(crops.images, intensity, bits_per_crop=500.0)
    assert rate >= 2000 > least >= 500
    good, worse = (reconstruction_table(crops.images, x, intensity, crops.channels) for x in (jpeg, coarse))
    assert (good["psnr"] > worse["psnr"]).all()
    assert (good["psnr"] > untrained["psnr"]).all()


def test_rounded_latents_take_fewer_bits_the_coarser_they_are() -> None:
    crops = small_crops(channels=2, size=32)
    intensity = IntensityRange.of(crops.images, (0.0, 1.0))
    torch.manual_seed(0)
    net = MorphologyAutoencoder(channels=2, settings=SMALL).eval()
    net.latent_scale = float(1 / net.encode(torch.from_numpy(intensity.apply(crops.images))).std().detach())
    whole = round_trip(net, intensity, crops.images)
    (fine, many), (coarse, few) = (
        quantised_round_trip(net, intensity, crops.images, step=step) for step in (1e-3, 0.5)
    )
    n_latents = 4 * 8 * 8
    assert 0 < few < many < 8 * 2 * n_latents
    assert np.abs(fine - whole).max() < np.abs(coarse - whole).max()
    np.testing.assert_allclose(fine, whole, atol=1e-2)
    nothing, none = quantised_round_trip(net, intensity, crops.images, step=1e6)
    assert none == 0
    assert np.ptp(nothing, axis=0).max() == 0


def test_a_constant_channel_is_refused() -> None:
    images = small_crops(channels=2).images.copy()
    images[:, 1] = 3
    with pytest.raises(DataError, match=r"channel 1 of the crops is constant \(3\)"):
        IntensityRange.of(images, (0.0, 1.0))


def test_our_encoder_gives_a_distance_that_is_not_called_lpips() -> None:
    from image2reg.embedding.networks import SmallBranch

    torch.manual_seed(0)
    distance = EncoderDistance(SmallBranch(1, width=4), 1)
    x = torch.rand(3, 2, 16, 16) * 2 - 1
    near, far = distance(x, x + 0.02 * torch.randn_like(x)), distance(x, torch.rand_like(x) * 2 - 1)
    assert float(distance(x, x).abs().max()) < 1e-6
    assert (near < far).all()


def test_perceptual_without_its_parts_says_what_is_missing() -> None:
    assert perceptual_of(ReconstructionSettings()) is None
    with pytest.raises(BundleError, match="no model is called 'no-such-encoder'"):
        perceptual_of(ReconstructionSettings(perceptual=1.0, perceptual_model="no-such-encoder"))
    with pytest.raises((ConfigurationError, BundleError), match="LPIPS"):
        perceptual_of(
            ReconstructionSettings(
                perceptual=1.0, perceptual_by="lpips", perceptual_model="absent.safetensors"
            )
        )


def test_residual_texture_has_the_strength_and_grain_it_was_fitted_to() -> None:
    torch.manual_seed(0)
    smooth = torch.full((64, 1, 32, 32), 0.0)
    blur = nn.AvgPool2d(3, stride=1, padding=1)
    residual = 0.2 * blur(torch.randn(64, 1, 32, 32))
    # Brightness varies over the plane, as `fit` needs something to tell levels by.
    smooth += torch.linspace(-0.5, 0.5, 32)[None, None, None]
    fitted = ResidualTexture.fit((smooth + residual).numpy(), smooth.numpy())
    drawn = ResidualTexture(**fitted.as_dict()).draw(smooth, torch.randn(64, 1, 32, 32)) - smooth
    assert float(drawn.std()) == pytest.approx(float(residual.std()), rel=0.15)

    def neighbours(x: torch.Tensor) -> float:
        return float((x[..., 1:] * x[..., :-1]).mean() / x.square().mean())

    assert neighbours(drawn) == pytest.approx(neighbours(residual), abs=0.1)


def test_noise_on_the_latents_is_drawn_for_training_alone() -> None:
    x = torch.rand(8, 1, 8, 8) * 2 - 1
    errors = []
    for noise in (0.0, 0.5):
        recipe = VaeRecipe.model_validate(
            {"autoencoder": {**SMALL, "latent_channels": 16}, "loss": {"noise": noise, "kl": 0, "pyramid": 0}}
        )
        net = MorphologyAutoencoder(channels=1, settings=recipe.autoencoder)
        net.fit(x)
        net.network.quant_conv.bias.data[16:] = -30.0
        task = AutoencoderTask(net, recipe, x.numpy(), x.numpy())
        torch.manual_seed(0)
        with torch.no_grad():
            errors.append(task.loss("autoencoder", {"x": x, "step": 1})["l1"].item())
            assert task.validate(net)["l1"] < 0.01
    assert errors[0] < 0.01
    assert errors[1] > 0.03
