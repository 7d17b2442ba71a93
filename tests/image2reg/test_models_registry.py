"""Bundles found by name, in shipped and local folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import small_bundle

from image2reg.errors import BundleError
from image2reg.models.registry import find_bundle, list_bundles, local_roots


@pytest.fixture
def roots(tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(tmp_path / "own"))
    small_bundle(tmp_path / "shipped" / "phase-neuron", name="phase-neuron")
    small_bundle(tmp_path / "own" / "my-model", name="my-model")
    small_bundle(tmp_path / "own" / "phase-neuron", name="impostor")
    return [tmp_path / "shipped"]


def test_shipped_bundles_come_before_local_ones(roots):
    assert find_bundle("phase-neuron", roots).spec.name == "phase-neuron"
    assert find_bundle("my-model", roots).spec.name == "my-model"
    assert [(e.name, e.spec.name) for e in list_bundles(roots)] == [
        ("my-model", "my-model"), ("phase-neuron", "phase-neuron")
    ]  # fmt: skip


def test_a_path_is_taken_as_a_path(roots, tmp_path, monkeypatch):
    assert find_bundle(tmp_path / "own" / "phase-neuron", roots).spec.name == "impostor"
    assert find_bundle(str(tmp_path / "own" / "phase-neuron"), roots).spec.name == "impostor"
    monkeypatch.chdir(tmp_path / "own")
    assert find_bundle("phase-neuron", roots).spec.name == "impostor"
    with pytest.raises(BundleError, match=r"nowhere: holds no plain file bundle\.json"):
        find_bundle(tmp_path / "nowhere", roots)


def test_an_unknown_name_gets_the_nearest_and_all(roots):
    with pytest.raises(BundleError) as caught:
        find_bundle("phase-neurons", roots)
    text = str(caught.value)
    assert "no model is called 'phase-neurons'. Did you mean 'phase-neuron'?" in text
    assert "There are: my-model, phase-neuron." in text
    assert "VIRTUALSTAIN_MODELS" in text
    with pytest.raises(BundleError, match=r"no model is called 'zzz'\. There are: my-model"):
        find_bundle("zzz", roots)


def test_a_damaged_bundle_is_listed_with_its_problem(roots, tmp_path):
    (tmp_path / "own" / "my-model" / "bundle.json").write_text("{")
    entry = list_bundles(roots)[0]
    assert entry.spec is None
    assert "my-model" in entry.problem


def test_folders_of_own_models(monkeypatch):
    monkeypatch.setenv("VIRTUALSTAIN_MODELS", "/a:~/b")
    assert local_roots() == [Path("/a"), Path.home() / "b"]
    monkeypatch.delenv("VIRTUALSTAIN_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/share")
    assert local_roots() == [Path("/share/virtualstain/models")]
    monkeypatch.delenv("XDG_DATA_HOME")
    assert local_roots() == [Path.home() / ".local/share/virtualstain/models"]


def test_no_folder_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(tmp_path / "none"))
    assert list_bundles([tmp_path / "neither"]) == []
    with pytest.raises(BundleError, match="There are: none"):
        find_bundle("x", [])
