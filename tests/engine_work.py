"""Work for the engine's tests, importable by worker processes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.errors import DataError


def nothing(unit):
    """Cost nothing, give nothing."""
    return {}


def squares(unit, *, pause_s=0.0, pids="", fail=()):
    """Some rows per unit, drawn from its name; the process leaves its number in `pids`."""
    if pids:
        Path(pids, str(os.getpid())).touch()
    if unit["name"] in fail:
        raise DataError(f"{unit['name']}: no such image")
    time.sleep(pause_s)
    rng = np.random.default_rng(unit["seed"])
    n_rows = unit["seed"] % 4  # some units have none
    return {
        "rows": pd.DataFrame(
            {
                "Metadata_Unit": np.array([unit["name"]] * n_rows, dtype=object),
                "Value": rng.normal(size=n_rows),
                "Count": np.arange(n_rows),
            }
        ),
        "units": pd.DataFrame({"Metadata_Unit": [unit["name"]], "Rows": [n_rows]}),
    }


def poison(unit):
    """Kill the process at one unit, as a crash or the kernel's memory killer would."""
    if unit["seed"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return squares(unit)


def kill_at_random(pids: Path, n_kills: int, seed: int, stop) -> int:
    """Kill workers that have written their number, one at a time at random moments; their count."""
    rng, killed = random.Random(seed), 0
    while killed < n_kills and not stop():
        time.sleep(rng.uniform(0.02, 0.15))
        alive = [path for path in pids.iterdir() if Path("/proc", path.name).exists()]
        if alive:
            path = rng.choice(alive)
            os.kill(int(path.name), signal.SIGKILL)
            path.unlink()
            killed += 1
    return killed
