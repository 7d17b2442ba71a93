"""Every shipped model says what it is for, what it was trained on, how to make it again, and what it scores."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from source_tree import PACKAGES
from written_commands import ABSOLUTE, WEIGHTS, wrong_commands

from image2reg.models.bundle import load_bundle
from image2reg.models.card import render_card

if TYPE_CHECKING:
    from image2reg.models.bundle import Bundle

SHIPPED = sorted(path for root in WEIGHTS for path in root.glob("*") if path.is_dir())
# The score each kind of model is judged by; higher is better.
DECISIVE = {"stain": "pearson", "segmenter": "f1@0.5", "morphgen-diffusion": "planted_r2"}
MAX_BYTES = {"virtualstain": 40_000_000, "image2reg": 15_000_000, "morphgen": 42_000_000}


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(request.param)


def test_models_are_shipped_and_small() -> None:
    assert {path.name for path in SHIPPED} >= {"brightfield-nuclei", "phase-neuron"}
    for root in WEIGHTS:
        sizes = {str(path): path.stat().st_size for path in root.rglob("*") if path.is_file()}
        assert sum(sizes.values()) <= MAX_BYTES[root.parent.name], sizes


def test_a_shipped_model_says_what_it_is_for_and_when_not_to_trust_it(bundle: Bundle) -> None:
    spec = bundle.spec
    assert spec.name == bundle.directory.name
    assert spec.summary
    assert spec.intended_use
    assert spec.limits
    assert bundle.file("README.md").read_text("utf-8") == render_card(spec)


def test_a_shipped_model_names_its_data_and_their_licence(bundle: Bundle) -> None:
    assert bundle.spec.licence
    assert bundle.spec.data
    assert all(source.name and source.licence and source.credit for source in bundle.spec.data)


def test_a_shipped_model_can_be_made_again(bundle: Bundle) -> None:
    training = bundle.spec.training
    assert training.steps > 0
    assert training.split
    assert training.git
    assert training.versions["torch"]
    words = shlex.split(training.command)
    assert wrong_commands(f"```\n{training.command}\n```\n") == []
    assert words[0] in {"python", *PACKAGES}
    assert ABSOLUTE.search(training.command) is None
    assert bundle.file("config.yaml").stat().st_size
    assert bundle.file("training.jsonl").stat().st_size
    assert bundle.spec.sample is not None
    assert bundle.spec.sha256 is not None


def test_a_shipped_model_has_scores_beside_their_floor(bundle: Bundle) -> None:
    decisive = [m for m in bundle.spec.metrics if m.name == DECISIVE[bundle.spec.kind]]
    assert decisive
    if bundle.spec.kind == "stain":
        assert [m.channel for m in decisive] == list(bundle.spec.outputs[0].channels)
    for score in decisive:
        assert score.floor is not None
        assert score.ci95 is not None
        assert score.value > score.floor, score.channel


def test_no_file_of_a_shipped_model_knows_the_machine_it_was_made_on(bundle: Bundle) -> None:
    texts = [
        name
        for name in (*bundle.spec.files, "bundle.json")
        if name.endswith((".json", ".jsonl", ".yaml", ".md"))
    ]
    assert [name for name in texts if ABSOLUTE.search((bundle.directory / name).read_text("utf-8"))] == []
