"""F03: a hostile or broken ``bundle.json`` or directory gives a `BundleError` naming the field or file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from small_models import rewrite_spec, small_bundle

from image2reg.errors import BundleError
from image2reg.models.bundle import load_bundle
from image2reg.models.registry import find_bundle, list_bundles


@pytest.fixture
def bundle(tmp_path):
    small_bundle(tmp_path / "b")
    return tmp_path / "b"


def drop(content: dict, key: str) -> None:
    del content[key]


def refusal(directory) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(directory)
    assert caught.value.exit_code == 4
    assert str(directory) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/passwd.txt", "a/../../b.json", "..", "a\\..\\b.json", "C:/x.json", "a/./b.json",
     "a//b.json", "x\x00.json", "x\n.json", "//host/share.json", "~/x.json", ".hidden.json",
     "a/b/c/d/e.json"],
)  # fmt: skip
def test_names_that_leave_the_directory(bundle, name):
    (bundle.parent / "outside.json").write_text("{}")
    rewrite_spec(bundle, lambda content: content["files"].update({name: "0" * 64}))
    text = refusal(bundle)
    assert "bundle.json: files: " in text
    assert "leaves the bundle's directory" in text or "holds a character" in text


def test_a_link_to_a_file_outside(bundle):
    (bundle / "config.yaml").unlink()
    (bundle.parent / "secret.yaml").write_text("a: 1\n")
    (bundle / "config.yaml").symlink_to(bundle.parent / "secret.yaml")
    assert "config.yaml: is a link or a device" in refusal(bundle)


def test_a_link_to_a_directory_outside(bundle):
    (bundle.parent / "elsewhere").mkdir()
    (bundle / "sample").symlink_to(bundle.parent / "elsewhere")
    assert "sample: is a link or a device" in refusal(bundle)


def test_the_description_itself_is_a_link(bundle):
    (bundle / "bundle.json").rename(bundle.parent / "bundle.json")
    (bundle / "bundle.json").symlink_to(bundle.parent / "bundle.json")
    assert "holds no plain file bundle.json" in refusal(bundle)


def test_a_pipe_does_not_hang(bundle):
    os.mkfifo(bundle / "x.json")
    assert "x.json: is a link or a device" in refusal(bundle)


@pytest.mark.parametrize("name", ["extra.json", "sample/extra.tif", ".hidden", "a b"])
def test_an_extra_file(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("x")
    assert f"{name}: not listed in files of bundle.json" in refusal(bundle)


def test_a_missing_file(bundle):
    (bundle / "config.yaml").unlink()
    assert "config.yaml: missing, but listed in files" in refusal(bundle)


def test_a_listed_directory_is_no_file(bundle):
    (bundle / "config.yaml").unlink()
    (bundle / "config.yaml").mkdir()
    assert "config.yaml: missing, but listed in files" in refusal(bundle)


@pytest.mark.parametrize("name", ["config.yaml", "README.md", "model.safetensors"])
def test_a_changed_file(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"\n")
    assert f"{name}: damaged or changed: its sha256 begins" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: drop(c, "schema_version"), "schema_version is None; this release reads 1"),
        (lambda c: c.update(schema_version=2), "schema_version is 2; this release reads 1"),
        (lambda c: c.update(schema_version="1"), "schema_version is '1'"),
        (lambda c: c.update(run="$import os"), "run: Extra inputs are not permitted"),
        (lambda c: c["training"].update(seed=-1), "training.seed: Input should be greater than"),
        (lambda c: drop(c["architecture"], "name"), "architecture.name: Field required"),
        (lambda c: c["architecture"].update(name="os.system"), None),
        (lambda c: c.update(inputs=[]), "inputs: Tuple should have at least 1 item"),
        (lambda c: c["files"].update({"config.yaml": "abc"}), "files.config.yaml: String should match"),
        (lambda c: c["files"].update({"bundle.json": "0" * 64}), "'bundle.json' cannot list itself"),
        (lambda c: c["files"].update({"CONFIG.yaml": "0" * 64}), "differ only in upper and lower case"),
        (lambda c: c["inputs"][0].update(voxel_um=[None, 1e400, 1]), "unreadable (Infinity is no JSON"),
        (lambda c: c.update(summary=float("nan")), "unreadable (NaN is no JSON number)"),
        (lambda c: [c], "schema_version is None"),
        (lambda c: "{" * 40, "unreadable"),
        (lambda c: "[" * 500_000, "nested too deeply"),
        (lambda c: '{"a": ' * 100_000, "nested too deeply"),
        (lambda c: json.dumps(c)[:-2], "unreadable"),
        (lambda c: " ", "unreadable"),
        (lambda c: '{"schema_version": 1, "schema_version": 1}', "key 'schema_version' occurs twice"),
        (lambda c: '{"schema_version": 1, "seed": ' + "9" * 5000 + "}", "unreadable"),
        (lambda c: " " * 1_000_001, "1000001 bytes; at most 1000000 are read"),
    ],
)  # fmt: skip
def test_wrong_descriptions(bundle, change, expected):
    rewrite_spec(bundle, change)
    if expected is None:  # a name is only ever looked up among the networks the caller passes
        load_bundle(bundle)
        with pytest.raises(BundleError, match=r"architecture\.name 'os\.system' is unknown here"):
            load_bundle(bundle).build({})
    else:
        assert expected in refusal(bundle)


def test_a_hundred_megabytes_of_json_are_not_read(bundle):
    with (bundle / "bundle.json").open("wb") as handle:
        handle.truncate(100_000_000)
    assert "100000000 bytes; at most 1000000 are read" in refusal(bundle)


def test_not_utf8(bundle):
    (bundle / "bundle.json").write_bytes(b'{"schema_version": 1, "name": "\xff"}')
    assert "unreadable" in refusal(bundle)


@contextlib.contextmanager
def without_privileges():
    """Whoever runs the tests: private files are refused inside (root may read everything)."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def shared():
    """A folder that everybody may enter, also those whom the temporary folders of pytest keep out."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("private", ["model.safetensors", "bundle.json", "", "sample"])
def test_a_bundle_that_may_not_be_read(shared, private, monkeypatch):
    bundle = small_bundle(shared / "b").directory
    (bundle / "sample").mkdir()
    (bundle / private).chmod(0)
    named = "b/bundle.json" if private == "" else f"b/{private}"
    with without_privileges():
        assert f"{named}: cannot be read (Permission denied). Check its permissions" in refusal(bundle)
        monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(shared))
        assert [entry.name for entry in list_bundles([])] == ["b"]
        with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\)"):
            find_bundle("b", [])


def test_weights_that_became_unreadable(shared):
    bundle = small_bundle(shared / "b")
    bundle.file("model.safetensors").chmod(0)
    with (
        without_privileges(),
        pytest.raises(BundleError, match=r"safetensors: cannot be read \(Permission denied"),
    ):
        bundle.state_dict()


def test_a_folder_of_own_models_that_is_not_ours_hides_no_shipped_one(shared, monkeypatch):
    small_bundle(shared / "shipped" / "a")
    (shared / "home" / "models").mkdir(parents=True)
    (shared / "home").chmod(0)
    for own in ("home", "home/models"):
        monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(shared / own))
        with without_privileges():
            assert find_bundle("a", [shared / "shipped"]).spec.name == "small"


def test_nothing_there(bundle):
    shutil.rmtree(bundle)
    assert "holds no plain file bundle.json" in refusal(bundle)


@pytest.mark.parametrize(
    "change",
    [('"scale": [\n    1.0', '"scale": [\n    1.5'), ('"DNA"', '"RNA"'), ('"steps": 10', '"steps": 11')],
)
def test_an_edited_description(bundle, change):
    text = (bundle / "bundle.json").read_text()
    assert change[0] in text
    (bundle / "bundle.json").write_text(text.replace(*change))
    assert "bundle.json: damaged or edited since it was written" in refusal(bundle)


def test_a_description_that_is_laid_out_anew_or_without_a_hash_of_itself_is_read(bundle):
    content = json.loads((bundle / "bundle.json").read_text())
    spec = load_bundle(bundle).spec
    (bundle / "bundle.json").write_text(json.dumps(content, indent=4, sort_keys=True))
    assert load_bundle(bundle).spec == spec
    (bundle / "bundle.json").write_text(json.dumps(content | {"sha256": None, "summary": "Meant."}))
    assert load_bundle(bundle).spec.summary == "Meant."
    drop(content, "sha256")  # as bundles of before it are
    (bundle / "bundle.json").write_text(json.dumps(content))
    assert load_bundle(bundle).spec.normalisation == spec.normalisation
