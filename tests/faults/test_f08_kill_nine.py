"""F08 (training, saving): after ``kill -9`` the previous state loads, and resuming reaches the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import TwoPhases, same_tensors, small_settings

from image2reg.models.train import fit

KILLING = Path(__file__).with_name("killing.py")
COUNTS = [4, pytest.param(30, marks=pytest.mark.slow)]


def killed_children(mode: str, out: Path, n: int) -> list[int]:
    """How far the newest whole state was after each kill."""
    command = [sys.executable, str(KILLING), mode, str(out), str(n), "8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["seen"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("n_kills", COUNTS)
def test_training_survives(tmp_path, n_kills):
    steps = killed_children("train", tmp_path / "run", n_kills)
    assert len(steps) == n_kills
    assert steps == sorted(set(steps)), "a kill lost a checkpoint that was there before"
    settings = small_settings(steps=12 * n_kills, validate_every=7, checkpoint_every=1)
    resumed = fit(TwoPhases(), settings, tmp_path / "run", resume=True, device="cpu", progress=False)
    whole = fit(TwoPhases(), settings, tmp_path / "whole", device="cpu", progress=False)
    assert same_tensors(resumed.last_state, whole.last_state)
    assert same_tensors(resumed.best_state, whole.best_state)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("n_kills", COUNTS)
def test_a_bundle_being_replaced_is_the_old_or_the_new_one(tmp_path, n_kills):
    versions = killed_children("save", tmp_path / "bundle", n_kills)
    assert len(versions) == n_kills
    assert versions == sorted(versions)
    assert versions[0] > 0
