"""F09 (bundles, checkpoints, logs): a disk that takes no more gives exit code 6, and nothing half-written."""

from __future__ import annotations

import contextlib
import json
import resource

import pytest
import torch
from small_models import SmallNet, TwoPhases, same_tensors, small_bundle, small_settings, small_spec

from image2reg.errors import ResourceError
from image2reg.models.bundle import load_bundle, save_bundle
from image2reg.models.checkpoint import list_checkpoints, read_checkpoint
from image2reg.models.train import fit
from image2reg.provenance import run_record, write_run


@contextlib.contextmanager
def largest_file(n_bytes: int):
    """Let no file grow beyond `n_bytes`, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [0, 64, 1000])
def test_a_new_bundle_leaves_nothing(tmp_path, n_bytes):
    with largest_file(n_bytes), pytest.raises(ResourceError, match="could not be written") as caught:
        save_bundle(tmp_path / "b", small_spec(), SmallNet().state_dict())
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_bytes", [0, 64, 1000])
def test_a_replaced_bundle_stays(tmp_path, n_bytes):
    small_bundle(tmp_path / "b")
    with largest_file(n_bytes), pytest.raises(ResourceError):
        save_bundle(tmp_path / "b", small_spec(name="new"), SmallNet().state_dict(), overwrite=True)
    assert load_bundle(tmp_path / "b").spec.name == "small"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_run_json_stays(tmp_path):
    write_run(tmp_path, run_record(seed=1))
    with largest_file(64), pytest.raises(ResourceError):
        write_run(tmp_path, run_record(seed=2))
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


class FullDisk(TwoPhases):
    """The disk fills up while step 5 is computed."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.n_bytes, self.full = n_bytes, contextlib.ExitStack()

    def loss(self, phase, batch):
        if batch["step"] == 5:
            self.full.enter_context(largest_file(self.n_bytes))
        return super().loss(phase, batch)


def test_a_disk_that_is_full_from_the_beginning_is_named(tmp_path):
    with largest_file(0), pytest.raises(ResourceError, match="could not be written"):
        fit(TwoPhases(), small_settings(), tmp_path, device="cpu", progress=False)
    assert not list_checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("n_bytes", [10, 700, 2500])
def test_training_stops_and_can_go_on_when_there_is_space(tmp_path, n_bytes):
    task = FullDisk(n_bytes)
    with task.full, pytest.raises(ResourceError, match="could not be written"):
        fit(task, small_settings(), tmp_path / "run", device="cpu", progress=False)
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == ["step_000003"]
    assert read_checkpoint(kept[0])[0]["progress"]["step"] == 3
    resumed = fit(TwoPhases(), small_settings(), tmp_path / "run", resume=True, device="cpu", progress=False)
    whole = fit(TwoPhases(), small_settings(), tmp_path / "whole", device="cpu", progress=False)
    assert same_tensors(resumed.last_state, whole.last_state)
    assert torch.isfinite(resumed.last_state["0.weight"]).all()
