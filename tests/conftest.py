"""Fixtures every test folder shares."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Sums depend on the number of threads to the last bit, and some tests compare bits between processes.
os.environ["OMP_NUM_THREADS"] = "1"

# No deadline: the same example can take 10 x longer on a busy machine, and time is not what is tested here. The same
# examples every time, so a change is judged by itself; `--hypothesis-profile=search` looks for new ones.
ALWAYS = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=40, derandomize=True, **ALWAYS)
settings.register_profile("search", max_examples=400, **ALWAYS)
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a test's random numbers anew, before its fixtures: the order of tests is drawn, their numbers are not."""
    # Here, when the environment above is set: both read it as they are loaded.
    import numpy as np
    import torch

    torch.manual_seed(0)
    generator = getattr(getattr(item, "module", None), "RNG", None)
    if generator is not None:
        generator.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; tests that need it skip with a reason where it is not at hand."""
    folder = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not here ({folder}); set VIRTUALSTAIN_DATA to their folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Fail any test that tries to leave this machine; tell the hub libraries to stay offline."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise RuntimeError(f"a test tried to reach {address}; tests use no network")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
            patch.setenv(name, "1")
        patch.setattr(socket.socket, "connect", guarded)
        yield
