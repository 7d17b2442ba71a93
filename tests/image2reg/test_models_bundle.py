"""Bundles: what is written comes back, what does not fit is refused with the field or file named."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from small_models import NETWORKS, SmallNet, small_bundle, small_spec

from image2reg.errors import BundleError, DataError
from image2reg.models.bundle import bundle_of_run, load_bundle, save_bundle
from image2reg.models.card import render_card
from image2reg.models.golden import verdict, verify


def test_weights_and_description_come_back(tmp_path):
    saved = small_bundle(tmp_path / "b")
    loaded = load_bundle(tmp_path / "b")
    assert loaded == saved
    assert sorted(loaded.spec.files) == ["README.md", "config.yaml", "model.safetensors"]
    torch.manual_seed(0)
    reference, built = SmallNet().eval(), loaded.build(NETWORKS)
    assert not built.training
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(built(x), reference(x))


def test_a_finished_bundle_is_not_replaced_by_a_run_from_the_beginning(tmp_path):
    (tmp_path / "bundle").mkdir()
    for part in ("member-0", "member-1"):
        with pytest.raises(DataError, match=f"complete .*no checkpoint in .*{part}/checkpoints"):
            bundle_of_run(tmp_path, resume=True, parts=["member-0", "member-1"])
        (folder := tmp_path / part / "checkpoints" / "step_000004").mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    assert bundle_of_run(tmp_path, resume=True, parts=["member-0", "member-1"]) == tmp_path / "bundle"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_built_in_float32(tmp_path, dtype):
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in SmallNet().state_dict().items()}
    bundle = save_bundle(tmp_path / "b", small_spec(), half)
    assert torch.equal(bundle.state_dict()["conv.weight"], half["conv.weight"].float())
    built = bundle.build(NETWORKS)
    assert built.conv.weight.dtype == torch.float32
    assert torch.equal(built.conv.weight, half["conv.weight"].float())
    assert built.n_seen.dtype == torch.int64


def test_building_draws_no_random_numbers(tmp_path):
    bundle = small_bundle(tmp_path / "b")
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    bundle.build(NETWORKS)
    assert torch.equal(torch.rand(3), expected)


def test_tied_weights_are_stored(tmp_path):
    weight = torch.ones(2, 3)
    bundle = save_bundle(tmp_path / "b", small_spec(), {"a": weight, "b": weight, "c": weight.T})
    assert torch.equal(bundle.state_dict()["c"], weight.T)


def test_whoever_may_read_the_description_may_read_the_weights(tmp_path):
    modes = {path.name: path.stat().st_mode for path in small_bundle(tmp_path / "b").directory.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_a_bundle_may_bring_its_weights_as_files(tmp_path):
    inner = small_bundle(tmp_path / "inner")
    files = {"unet/weights.safetensors": inner.file("model.safetensors"), "unet/config.json": b"{}"}
    bundle = save_bundle(tmp_path / "b", small_spec(kind="diffusion"), None, files=files)
    assert "model.safetensors" not in bundle.spec.files
    assert bundle.build(NETWORKS, name="unet/weights.safetensors").conv.out_channels == 3


def test_an_existing_bundle_is_kept_unless_asked(tmp_path):
    small_bundle(tmp_path / "b")
    with pytest.raises(DataError, match="already exists"):
        small_bundle(tmp_path / "b")
    save_bundle(tmp_path / "b", small_spec(name="other"), SmallNet().state_dict(), overwrite=True)
    assert load_bundle(tmp_path / "b").spec.name == "other"


@pytest.mark.parametrize(
    "name", ["../x.json", "/x.json", "a/../b.json", "weights.pt", "x.zip", "a b.json", "bundle.json"]
)
def test_file_names_that_a_bundle_must_not_hold(tmp_path, name):
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        save_bundle(tmp_path / "b", small_spec(), SmallNet().state_dict(), files={name: b"x"})
    assert not list(tmp_path.iterdir())


def test_a_file_to_pack_must_be_there(tmp_path):
    with pytest.raises(DataError, match=r"log\.jsonl: is no file; it was to become log\.jsonl"):
        save_bundle(tmp_path / "b", small_spec(), None, files={"log.jsonl": tmp_path / "log.jsonl"})


def test_networks_and_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(BundleError, match=r"architecture\.name 'small_net' is unknown here; known: a, b"):
        small_bundle(tmp_path / "a").build({"b": SmallNet, "a": SmallNet})
    wide = small_bundle(tmp_path / "b", architecture={"name": "small_net", "arguments": {"width": 5}})
    with pytest.raises(
        BundleError, match=r"weight' has shape \(3, 1, 3, 3\), the network has \(5, 1, 3, 3\)"
    ):
        wide.build(NETWORKS)
    odd = small_bundle(tmp_path / "c", architecture={"name": "small_net", "arguments": {"depth": 5}})
    with pytest.raises(BundleError, match=r"architecture\.arguments \{'depth': 5\} build no 'small_net'"):
        odd.build(NETWORKS)
    with pytest.raises(BundleError, match=r"architecture\.arguments .* build no 'small_net' \(list index"):
        small_bundle(tmp_path / "e").build({"small_net": lambda width: [][width]})
    weights = SmallNet().state_dict()
    weights["extra"] = weights.pop("conv.bias")
    other = save_bundle(tmp_path / "d", small_spec(), weights)
    with pytest.raises(BundleError, match=r"'conv\.bias' is missing; 'extra' is not part of the network"):
        other.build(NETWORKS)


def test_a_huge_architecture_costs_no_memory(tmp_path):
    """10**11 channels would be 3.6 TB; shapes are compared before any of it is asked for."""
    huge = small_bundle(tmp_path / "b", architecture={"name": "small_net", "arguments": {"width": 10**11}})
    with pytest.raises(BundleError, match=r"the network has \(100000000000,"):
        huge.build(NETWORKS)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = SmallNet().state_dict()
    weights["conv.weight"].data[0, 0, :2] = float("nan")
    bundle = save_bundle(tmp_path / "b", small_spec(), weights)
    with pytest.raises(BundleError, match=r"'conv\.weight' holds 6 values that are not finite"):
        bundle.build(NETWORKS)


def test_a_file_changed_after_the_check_is_noticed(tmp_path):
    bundle = small_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match="changed on disk since the bundle was checked"):
        bundle.state_dict()
    with pytest.raises(BundleError, match=r"has no file 'x\.json'; it holds README\.md, config\.yaml"):
        bundle.file("x.json")


def test_total_size_is_limited(tmp_path):
    small_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"its files hold \d+ bytes; at most 100 are read"):
        load_bundle(tmp_path / "b", max_bytes=100)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": [{"axes": "XY", "channels": ["a"]}]}, "not a subset of TCZYX"),
        ({"inputs": [{"axes": "YX", "channels": ["a", "a"]}]}, "a name occurs twice"),
        ({"inputs": [{"axes": "YX", "channels": ["a"], "voxel_um": [1, 0, 1]}]}, "greater than 0"),
        ({"outputs": [{"axes": "YX", "channels": ["a"]}]}, "output.centre: 3 values for 1 channels"),
        ({"tile": {"window": [8, 8], "stride": [9, 8]}}, r"stride \(9, 8\) must be at most window \(8, 8\)"),
        ({"name": "../x"}, "name"),
        ({"metrics": [{"name": "r", "value": float("nan"), "n": 1, "level": "field"}]}, "finite number"),
        ({"metrics": [{"name": "r", "value": 1, "n": 1, "level": "w", "ci95": [2, 1]}]}, "lower bound first"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_a_description_that_contradicts_itself_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        small_spec(**change)


def test_the_card_holds_what_a_user_must_know():
    card = render_card(small_spec(summary="a <script> tag"))
    for text in (
        "# small 1.0.0", "Tests.", "- Knows nothing.",
        "| Pearson | DNA | 0.6 | 0.5 to 0.7 | 9 (field) | 0.2 | 0.9 |",
        "Weights: BSD-3-Clause", "| a \\| b | CC0 | someone |", "virtualstain train --out x",
        "Seed 3, 10 steps", "-, 0.65, 0.65", "±10%", "a &lt;script> tag",
    ):  # fmt: skip
        assert text in card
    assert "No scores are recorded" in render_card(small_spec(metrics=[]))


def golden_bundle(directory, **changes):
    x = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) / 64
    torch.manual_seed(0)
    network = SmallNet().eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    folder = directory.parent
    tifffile.imwrite(folder / "in.tif", x[0, 0])
    tifffile.imwrite(folder / "out.tif", expected[0], photometric="minisblack")
    sample = {"input": "sample/input.tif", "expected": "sample/expected.tif", "tolerance": 1e-4, **changes}
    files = {"sample/input.tif": folder / "in.tif", "sample/expected.tif": folder / "out.tif"}
    return save_bundle(directory, small_spec(sample=sample), network.state_dict(), files=files)


def predict(bundle, path):
    x = torch.from_numpy(tifffile.imread(path))[None, None]
    with torch.no_grad():
        return bundle.build(NETWORKS)(x)[0].numpy()


def test_the_golden_sample_passes_and_fails(tmp_path):
    bundle = golden_bundle(tmp_path / "b")
    good = verify(bundle, predict)
    assert good.passed
    assert good.largest < 1e-6
    bad = verify(bundle, lambda b, p: predict(b, p) + 0.01)
    assert not bad.passed
    expected = tifffile.imread(bundle.file("sample/expected.tif"))
    assert bad.largest == pytest.approx(0.01 / np.ptp(expected), rel=1e-3)


def test_a_golden_sample_that_cannot_be_compared_is_refused(tmp_path):
    bundle = golden_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"gives shape \(3, 8, 7\), expected is \(3, 8, 8\)"):
        verify(bundle, lambda b, p: predict(b, p)[..., :-1])
    with pytest.raises(BundleError, match="192 values that are not finite"):
        verify(bundle, lambda b, p: predict(b, p) * np.nan)
    with pytest.raises(BundleError, match="holds no golden sample"):
        verify(small_bundle(tmp_path / "c"), predict)


@pytest.mark.parametrize(
    ("error", "text"),
    [(DataError("sample/in.tif: not a TIFF file."), "sample/in.tif: not a TIFF file."),
     (KeyError("strength"), "b: the golden sample does not run (KeyError: 'strength').")],
)  # fmt: skip
def test_a_golden_sample_that_does_not_run_is_a_verdict_on_its_model_alone(tmp_path, error, text):
    def rerun(bundle):
        raise error

    found = verdict(golden_bundle(tmp_path / "b").directory, rerun)
    assert found["verified"] is False
    assert found["problem"].endswith(text)


def test_the_golden_sample_must_be_listed(tmp_path):
    with pytest.raises(BundleError, match=r"sample\.input: 'sample/input\.ome\.tif' is not in files"):
        small_bundle(tmp_path / "b", sample={})


def test_reading_descriptions_loads_no_torch(tmp_path):
    small_bundle(tmp_path / "b")
    code = (
        "import sys; from image2reg.models import load_bundle, list_bundles, BundleSpec, TrainingSettings\n"
        f"print(load_bundle({str(tmp_path / 'b')!r}).spec.name)\n"
        "heavy = {'torch', 'monai', 'diffusers', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "small"), done.stderr


def test_bundle_json_is_readable_by_people(tmp_path):
    small_bundle(tmp_path / "b", summary="µm")
    text = (tmp_path / "b" / "bundle.json").read_text(encoding="utf-8")
    assert "µm" in text
    assert json.loads(text)["schema_version"] == 1
