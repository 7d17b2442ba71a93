"""Exactly n images, the same for any batch size, guidance that guides, routes from a control, refusals in words."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_generators import (
    FACTS,
    GENES,
    diffusion_recipe,
    small_crops,
    small_generator,
    small_signatures,
    vae_recipe,
)
from small_models import rewrite_spec

from image2reg.config import load_config
from image2reg.engine import Shard
from image2reg.errors import BundleError, ConfigurationError, DataError
from image2reg.expression import read_signatures
from image2reg.models.bundle import load_bundle
from image2reg.nuclei.crops import Crops
from image2reg.tables.profiles import Profiles
from morphgen import planted
from morphgen.catalogue import verify_bundle
from morphgen.crops import CropSet
from morphgen.denoiser import ConditionalDenoiser
from morphgen.descriptors import describe
from morphgen.generate import generate_to
from morphgen.presets import PRESETS
from morphgen.recipe import DiffusionRecipe, VaeRecipe
from morphgen.sample import MorphologyGenerator
from morphgen.samplers import evaluations, flow
from morphgen.signature_condition import condition_of, signature_names
from morphgen.train import train_diffusion, train_vae

pytestmark = pytest.mark.filterwarnings("ignore:.*lie outside the range.*:UserWarning")

SIGNATURES = small_signatures(3, seed=7)


def images(model: MorphologyGenerator, **options) -> np.ndarray:
    return np.asarray(model.generate(options.pop("signatures", SIGNATURES), **{"n": 3, **options}).images)


def test_exactly_n_images_of_the_bundles_size(model) -> None:
    crops = model.generate(SIGNATURES, n=10, batch=4)
    assert crops.images.shape == (30, 1, 16, 16)
    assert crops.column("Metadata_Object").tolist() == [str(k) for k in range(1, 11)] * 3
    assert set(crops.column("Metadata_Origin")) == {"generated"}


def test_neither_column_order_nor_the_writing_of_numbers_changes_the_images(model) -> None:
    one = small_signatures(3, seed=7, Metadata_Plate="007", Metadata_Dose_uM="10", Metadata_Cell="A549")
    columns = [*one.metadata.columns[::-1], *one.features[::-1]]
    other = one.replace(one.frame[columns].assign(Metadata_Dose_uM="10.00"))
    assert np.array_equal(images(model, signatures=one), images(model, signatures=other))
    assert not np.array_equal(
        images(model, signatures=one),
        images(model, signatures=one.replace(one.frame.assign(Metadata_Plate="7"))),
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_a_table_without_ids_is_named_alike_whichever_column_comes_first(tmp_path, reverse: bool) -> None:
    table = planted.signature_table("unseen").rows(np.arange(3))
    frame = table.frame[["Metadata_Perturbation", "Metadata_Replicate", *table.features]]
    frame = frame[frame.columns[::-1]] if reverse else frame
    frame.to_csv(tmp_path / "signatures.csv", index=False)
    names = signature_names(read_signatures(tmp_path / "signatures.csv").profiles)
    assert names == [f"{name}/{name}/consensus" for name in table.column("Metadata_Perturbation")]


def test_the_planted_tables_keep_the_names_that_seed_their_images() -> None:
    table = planted.signature_table("unseen")
    assert signature_names(table) == table.metadata.agg("/".join, axis=1).tolist()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_same_seed_draws_the_same_images_at_any_batch_size(model, batch: int) -> None:
    """Rounding of differently shaped products is all that may differ: 1e-4 of the range."""
    assert np.abs(images(model, n=5, batch=batch) - images(model, n=5, batch=3)).max() < 1e-4
    assert np.array_equal(images(model, batch=batch), images(model, batch=batch))


def test_another_seed_another_signature_other_images(model) -> None:
    first = images(model)
    assert np.abs(first - images(model, seed=1)).max() > 1e-2
    assert np.abs(first[0] - first[1]).max() > 1e-2
    alone = images(model, signatures=SIGNATURES.rows(np.array([2])))
    assert np.abs(alone - first[6:]).max() < 1e-4  # whoever is asked for besides


def test_guidance_one_is_plain_and_more_changes_images(model) -> None:
    plain = images(model)
    assert np.array_equal(plain, images(model, guidance=1.0))
    assert np.abs(plain - images(model, guidance=3.0)).max() > 1e-4


def test_corrections_change_what_is_told_and_leave_the_unconditional_alone(model) -> None:
    assert np.abs(images(model, corrections=0) - images(model, corrections=4)).max() > 1e-3
    free = images(model, guidance=0.0, corrections=0)
    assert np.array_equal(free, images(model, guidance=0.0, corrections=4))


def test_guidance_without_dropout_is_refused_with_the_reason(model) -> None:
    untaught = MorphologyGenerator(model.bundle)
    untaught.sampling = {**model.sampling, "dropout": 0.0}
    with pytest.raises(
        ConfigurationError, match=r"trained without dropping conditions \(condition.drop=0\).*--guidance 1"
    ):
        images(untaught, guidance=2.0)
    assert images(untaught).shape == (9, 1, 16, 16)


def test_strength_zero_is_the_round_trip(model) -> None:
    control = small_crops().controls
    made = images(model, control=control, strength=0.0)
    with torch.no_grad():
        trip = model.intensity.undo(
            model.autoencoder(torch.from_numpy(model.intensity.apply(control[:3]))).numpy()
        )
    assert np.abs(made.reshape(3, 3, 1, 16, 16) - trip).max() < 1e-5


@pytest.mark.parametrize("route", ["sdedit", "inversion"])
def test_routes_from_a_control_give_other_images_than_it(model, route: str) -> None:
    control = small_crops().controls
    made = images(model, control=control, route=route, strength=0.8)
    assert made.shape == (9, 1, 16, 16)
    assert np.abs(made - images(model, control=control, strength=0.0)).max() > 1e-3


def test_unconditional_inversion_returns_the_control(model) -> None:
    control = small_crops().controls
    back = images(model, control=control, route="inversion", guidance=0.0, steps=40)
    assert np.abs(back - images(model, control=control, strength=0.0)).max() < 0.02


def test_each_control_keeps_what_told_it_from_the_other_controls(model) -> None:
    """A control is told what the signature lets one expect and its own deviation from the mean control."""
    told = []
    carried = model.prior.carried
    model.prior.carried = lambda *given: told.append(carried(*given)) or told[-1]
    control, one = small_crops().controls[:3], SIGNATURES.rows(np.array([0]))
    try:
        images(model, signatures=one, control=control, n=6, route="inversion", batch=4)
    finally:
        del model.prior.carried
    morphology = torch.cat([condition.morphology for condition in told])
    assert torch.allclose(morphology[:3], morphology[3:], atol=1e-5)  # image i begins at control i modulo 3
    own = model.prior.standardise(describe(torch.from_numpy(model.intensity.apply(control))))
    expected = model.prior.expected(condition_of(one, model.genes)).detach()
    assert torch.allclose(morphology[:3], (expected + own - own.mean(0)).clamp(-6, 6), atol=1e-5)


def test_running_a_flow_backwards_and_forwards_returns_the_start(model) -> None:
    z = torch.randn(2, *model.denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        back = flow(model.denoiser, z, None, steps=40, start=1.0, end=0.0)
        again = flow(model.denoiser, back, None, steps=40)
    assert float((again - z).abs().max()) < 0.02


def test_a_signature_far_outside_warns_and_is_refused_when_strict(model) -> None:
    far = SIGNATURES.with_values(SIGNATURES.values * 50)
    assert model.outside(far).min() > 1
    with pytest.warns(
        UserWarning, match=r"3 of 3 signatures lie outside the range 'diffusion' was trained on"
    ):
        list(model.stream(far, n=1))
    with pytest.raises(DataError, match=r"the farthest is .*generate without --strict"):
        list(model.stream(far, n=1, strict=True))
    named = far.replace(far.frame.assign(Metadata_Signature=["one", "two", "three"], Metadata_Plate="7"))
    with pytest.raises(DataError, match=r"the farthest is '(one|two|three)' at"):
        list(model.stream(named, n=1, strict=True))
    assert model.outside(small_crops().signatures).max() < 0.2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n": 0}, "n=0"),
        ({"steps": 0}, "steps=0"),
        (
            {"sampler": "ddim"},
            "sampler 'ddim' on 'diffusion', process flow: choose multistep or heun or euler",
        ),
        (
            {"route": "flow"},
            "was trained to begin at noise: --route flow needs a model trained with source=control",
        ),
        ({"strength": 1.5}, "strength lies between 0 and 1"),
        ({"corrections": -1}, "corrections=-1.*0 or more"),
        ({"guidance": float("nan")}, "guidance=nan.*0 or more"),
        ({"route": "inversion"}, "how to begin at control nuclei, and there are none.*--control"),
        ({"strength": 0.3}, "how to begin at control nuclei, and there are none.*--control"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, options: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        images(model, **options)


def test_controls_of_another_size_are_refused(model) -> None:
    with pytest.raises(DataError, match=r"control crops \(2, 1, 8, 8\): the model needs \(N, 1, 16, 16\)"):
        images(model, control=np.zeros((2, 1, 8, 8), np.float32))


def test_controls_in_other_units_are_refused(model) -> None:
    control = small_crops().controls
    for scale, seen in ((2000.0, "run from 0 to 2"), (1e-3, "run from 0 to 0.001")):
        with pytest.raises(DataError, match=f"values of channel 'DNA' {seen}.*in the units of the training"):
            images(model, control=control * scale)
    hot = control.copy()
    hot[0, 0, 0, 0] = 300
    assert np.isfinite(images(model, control=hot, strength=0.5)).all()
    hot[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="control crops: crops hold values that are not finite"):
        images(model, control=hot)


def test_control_crops_of_other_channels_or_pixels_are_refused(model, tmp_path) -> None:
    names = pd.DataFrame({"Metadata_Well": [str(k) for k in range(12)]})
    for channel, um, said in (
        ("Actin", 0.65, r"channels \['Actin'\]"),
        ("DNA", 0.3, r"have pixels of \(0.65, 0.65\) um"),
    ):
        control = Crops(small_crops().controls, names, channels=(channel,), voxel_um=(um, um))
        with pytest.raises(DataError, match=said):
            generate_to(tmp_path / "out", model, SIGNATURES, n=1, control=control)


def test_signatures_without_a_number_or_with_infinity_are_refused(model) -> None:
    for value, genes in ((np.nan, slice(None)), (np.inf, 0)):
        values = SIGNATURES.values
        values[1, genes] = value
        with pytest.raises(DataError, match="1 signatures hold infinity, or nothing but NaN, first row 1"):
            images(model, signatures=SIGNATURES.with_values(values))


def test_golden_sample_and_diffusers_layout(model) -> None:
    files = set(model.bundle.spec.files)
    assert {f"{part}/config.json" for part in ("vae", "unet", "condition", "scheduler")} <= files
    assert verify_bundle(load_bundle(model.bundle.directory)).passed
    config = json.loads(model.bundle.file("unet/config.json").read_text())
    assert config["_class_name"] == "UNet2DConditionModel"


@pytest.mark.parametrize(
    ("change", "text"),
    [(lambda spec: spec["architecture"]["arguments"].pop("sampling"), "architecture.arguments is not what"),
     (lambda spec: spec["architecture"]["arguments"]["sampling"].update(strength=[[]]), "arguments is not what"),
     (lambda spec: spec["architecture"]["arguments"]["sampling"].pop("corrections"), "arguments is not what"),
     (lambda spec: spec["domain"].pop("signature_quantiles"), "domain is not what"),
     (lambda spec: spec["domain"].update(signature_quantiles=["x"]), "domain is not what"),
     (lambda spec: spec["domain"].update(signature_quantiles=[None]), "there are 8 quantiles")],
)  # fmt: skip
def test_a_description_that_lacks_a_part_is_refused(model, tmp_path, change, text) -> None:
    copy = shutil.copytree(model.bundle.directory, tmp_path / "copy")
    rewrite_spec(copy, lambda spec: change(spec) and None)
    with pytest.raises(BundleError, match=text):
        MorphologyGenerator(load_bundle(copy))


def test_a_bundle_of_another_kind_is_refused(tmp_path) -> None:
    crops = small_crops()
    vae = train_vae(crops, None, vae_recipe(), tmp_path / "v", facts=FACTS, device="cpu")
    with pytest.raises(BundleError, match="kind 'morphgen-vae'; needed is morphgen-diffusion"):
        MorphologyGenerator(vae).generate(SIGNATURES, n=1)


@pytest.mark.parametrize(
    ("process", "sampler"), [("v", "ddim"), ("epsilon", "dpm"), ("v", "dpm"), ("flow", "euler")]
)
def test_every_process_trains_and_samples(tmp_path, process: str, sampler: str) -> None:
    bundle = small_generator(
        tmp_path, f"process={process}", f"sampler={sampler}", "steps=4", "training.steps=2"
    )
    made = MorphologyGenerator(bundle)
    assert np.isfinite(images(made, guidance=2.0)).all()
    assert np.isfinite(images(made, control=small_crops().controls, strength=0.5)).all()


def test_a_flow_from_the_control(tmp_path) -> None:
    from morphgen.catalogue import verify_bundle

    bundle = small_generator(tmp_path, "source=control", "training.steps=2")
    assert verify_bundle(bundle).passed  # its golden sample begins at controls that the bundle carries
    made = MorphologyGenerator(bundle)
    control = small_crops().controls
    assert images(made, control=control, route="flow").shape == (9, 1, 16, 16)
    with pytest.raises(
        ConfigurationError, match="trained to begin at control: give control crops and --route flow"
    ):
        images(made)


def test_three_channels(tmp_path) -> None:
    three = MorphologyGenerator(
        small_generator(tmp_path / "c", "training.steps=1", crops=small_crops(channels=3))
    )
    assert images(three).shape == (9, 3, 16, 16)


def test_stacks(tmp_path) -> None:
    if importlib.util.find_spec("einops") is None:
        with pytest.raises(ConfigurationError, match="needs the package einops"):
            small_generator(tmp_path, crops=small_crops(dims=3, n=12))
        pytest.skip("einops is not installed")
    deep = MorphologyGenerator(
        small_generator(tmp_path / "z", "training.steps=1", crops=small_crops(dims=3, n=12))
    )
    drawn = np.concatenate([part for part, _ in deep.draw(SIGNATURES, n=2)])
    assert drawn.shape == (6, 1, 16, 16, 16)
    with pytest.raises(ConfigurationError, match="draws stacks"):
        generate_to(tmp_path / "out", deep, SIGNATURES, n=2)


def test_training_changes_the_condition_encoder(tmp_path) -> None:
    """MorphDiff's released configuration leaves its gene embedding as it was drawn."""
    crops = small_crops()
    vae = train_vae(crops, None, vae_recipe(), tmp_path / "v", facts=FACTS, device="cpu")
    after = []
    for steps in (1, 3):
        bundle = train_diffusion(
            crops,
            None,
            vae,
            diffusion_recipe(f"training.steps={steps}"),
            tmp_path / str(steps),
            facts=FACTS,
            device="cpu",
        )
        after.append(MorphologyGenerator(bundle).denoiser.condition.state_dict())
    moved = [name for name in after[0] if not torch.equal(after[0][name], after[1][name])]
    assert {"read.weight", "inner", "write", "place"} <= set(moved)


def test_the_condition_reaches_every_place_of_the_image(model) -> None:
    """With identical tokens attention would add a constant."""
    x = torch.zeros(1, *model.denoiser.latent_shape)
    from morphgen.signature_condition import condition_of

    c = condition_of(SIGNATURES, GENES)
    with torch.no_grad():
        a, b = (model.denoiser.predict(x, torch.tensor([500.0]), c.rows(slice(i, i + 1))) for i in range(2))
    difference = (a - b)[0]
    assert float(difference.std(dim=(1, 2)).min()) > 1e-6


def test_one_cell_per_perturbation_is_refused(tmp_path) -> None:
    crops = small_crops(6)
    vae = train_vae(crops, None, vae_recipe(), tmp_path / "v", facts=FACTS, device="cpu")
    with pytest.raises(DataError, match=r"6 of 6 perturbations have fewer than 2 cells \(median 1\)"):
        train_diffusion(crops, None, vae, diffusion_recipe(), tmp_path / "d", facts=FACTS, device="cpu")
    named = replace(small_crops(), channels=("ER",))
    finer = replace(small_crops(), voxel_um=(None, 0.3, 0.3))
    for other, said in (
        (named, r"channels \['ER'\]; the autoencoder's"),
        (finer, r"0\.3, 0\.3\) um each; the auto"),
    ):
        with pytest.raises(DataError, match=said):
            train_diffusion(other, None, vae, diffusion_recipe(), tmp_path / "e", facts=FACTS, device="cpu")


def test_crops_of_mixed_size_and_channel_count_are_refused() -> None:
    mixed = np.empty(2, object)
    mixed[:] = [np.zeros((1, 8, 8)), np.zeros((1, 9, 9))]
    with pytest.raises(DataError, match="crops of mixed size"):
        CropSet(images=mixed, channels=("DNA",))
    with pytest.raises(DataError, match="crops have 2 channels, names are"):
        CropSet(images=np.zeros((2, 2, 8, 8), np.float32), channels=("DNA",))
    bad = np.zeros((2, 1, 8, 8), np.float32)
    bad[1] = np.nan
    with pytest.raises(DataError, match="1 crops hold values that are not finite, first 1"):
        CropSet(images=bad, channels=("DNA",))


class _Straight(torch.nn.Module):
    """The exact velocity towards a known end, and how often it was asked."""

    def __init__(self, end: torch.Tensor) -> None:
        super().__init__()
        self.end, self.times = end, []

    def predict(self, z, time, condition, *, guidance=1.0):
        self.times.append(float(time[0]) / 1000)
        return (self.end - z) / (1 - time[0] / 1000)


@pytest.mark.parametrize(
    ("sampler", "steps", "count"), [("heun", 4, 7), ("heun", 1, 1), ("euler", 5, 5), ("multistep", 6, 6)]
)
def test_a_flow_ends_at_its_data_and_never_asks_there(sampler, steps, count) -> None:
    model = _Straight(torch.full((2, 1, 2, 2), 3.0))
    made = flow(model, torch.randn(2, 1, 2, 2), None, steps=steps, sampler=sampler)
    assert torch.allclose(made, model.end, atol=1e-5)
    assert max(model.times) < 1
    assert len(model.times) == count == evaluations(sampler, steps, 1.0)


class _Decay(torch.nn.Module):
    """``dz/dt = -2 z``, whose end is known."""

    def predict(self, z, time, condition, *, guidance=1.0):
        return -2 * z


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2), ("multistep", 2)])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.9), (0.9, 0.0), (0.45, 0.9)])
def test_twice_the_steps_of_a_flow_err_less_by_the_order_of_the_sampler(sampler, order, start, end) -> None:
    z = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    exact = np.exp(-2 * (end - start))
    coarse, fine = (
        abs(float(flow(_Decay(), z, None, steps=k, sampler=sampler, start=start, end=end).mean()) - exact)
        for k in (40, 80)
    )
    assert coarse / fine > 0.85 * 2**order


def test_guidance_doubles_the_evaluations() -> None:
    assert evaluations("ddim", 100, 3.0) == 200


def test_presets_load_and_drop_conditions() -> None:
    """CellFlux ships an example that trains without any condition (class_drop_prob 1)."""
    for name, (vae, diffusion) in PRESETS.items():
        load_config(VaeRecipe, None, overrides=[*vae])
        recipe = load_config(DiffusionRecipe, None, overrides=[*diffusion])
        assert 0 < recipe.condition.drop < 1, name


def test_the_morphdiff_preset_has_the_published_sizes() -> None:
    from morphgen.autoencoder import MorphologyAutoencoder

    vae = load_config(VaeRecipe, None, overrides=[*PRESETS["morphdiff"][0]])
    recipe = load_config(DiffusionRecipe, None, overrides=[*PRESETS["morphdiff"][1]])
    condition = recipe.condition.model_dump(exclude={"drop"})
    with torch.device("meta"):
        autoencoder = MorphologyAutoencoder(channels=5, settings=vae.autoencoder)
        model = ConditionalDenoiser(
            latent_channels=4, latent_size=(32, 32), settings=recipe.denoiser,
            condition={"genes": [f"G{i}" for i in range(978)], **condition},
        )  # fmt: skip
    millions = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (autoencoder, model.unet)]
    assert millions[0] == pytest.approx(55, abs=2)
    assert millions[1] == pytest.approx(340, abs=40)
    assert (recipe.sampler, recipe.steps, recipe.strength) == ("ddim", 100, 0.55)


def test_parts_hold_the_images_of_one_call(model, tmp_path) -> None:
    whole = generate_to(tmp_path / "all", model, SIGNATURES, n=4)
    parts = [generate_to(tmp_path / "parts", model, SIGNATURES, n=4, shard=Shard(i, 2)) for i in (1, 2)]
    joined = np.concatenate([np.asarray(Crops.read(p["crops"]).load().images) for p in parts])
    assert np.array_equal(joined, np.asarray(Crops.read(whole["crops"]).load().images))
    assert [p["n_signatures"] for p in parts] == [1, 2]
    table = Profiles.read(whole["profiles"])
    assert len(table) == 12
    assert set(table.column("Metadata_Origin")) == {"generated"}
    assert any(name.startswith("Nuclei_AreaShape") for name in table.features)


def test_signatures_of_one_name_are_refused_in_every_part(model, tmp_path) -> None:
    frame = SIGNATURES.frame.copy()
    frame.iloc[1, : len(SIGNATURES.metadata.columns)] = frame.iloc[0, : len(SIGNATURES.metadata.columns)]
    same = Profiles(frame)
    for shard in (None, Shard(1, 3), Shard(3, 3)):
        with pytest.raises(DataError, match=r"nothing tells 2 of 3 signatures apart, which are called '"):
            generate_to(tmp_path / "out", model, same, n=2, shard=shard)
    with pytest.raises(DataError, match="nothing tells 2 of 3 signatures apart"):
        model.generate(same, n=1)
    assert not (tmp_path / "out").exists()


def test_existing_output_is_refused(model, tmp_path) -> None:
    generate_to(tmp_path / "out", model, SIGNATURES, n=1)
    with pytest.raises(DataError, match="already exists"):
        generate_to(tmp_path / "out", model, SIGNATURES, n=1)
