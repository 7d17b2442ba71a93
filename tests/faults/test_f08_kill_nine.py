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


@pytest.fixture(scope="module", params=[4, pytest.param(30, marks=pytest.mark.slow)])
def killed(request, tmp_path_factory) -> tuple[Path, int, dict[str, list[int]]]:
    """Folder, number of kills, and how far the newest whole state was after each kill, by mode."""
    out, n_kills = tmp_path_factory.mktemp("killed"), request.param
    command = [sys.executable, str(KILLING), "train,save", str(out), str(n_kills), "8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return (
        out,
        n_kills,
        {mode: [r["seen"] for r in records if r["mode"] == mode] for mode in ("train", "save")},
    )


def test_training_survives(tmp_path, killed):
    out, n_kills, seen = killed
    assert len(seen["train"]) == n_kills
    assert seen["train"] == sorted(set(seen["train"])), "a kill lost a checkpoint that was there before"
    settings = small_settings(steps=12 * n_kills, validate_every=7, checkpoint_every=1)
    resumed = fit(TwoPhases(), settings, out / "train", resume=True, device="cpu", progress=False)
    whole = fit(TwoPhases(), settings, tmp_path, device="cpu", progress=False)
    assert same_tensors(resumed.last_state, whole.last_state)
    assert same_tensors(resumed.best_state, whole.best_state)
    assert not list((out / "train" / "checkpoints").glob(".*"))


def test_a_bundle_being_replaced_is_the_old_or_the_new_one(killed):
    _, n_kills, seen = killed
    assert len(seen["save"]) == n_kills
    assert seen["save"] == sorted(seen["save"])
    assert seen["save"][0] > 0
