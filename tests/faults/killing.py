"""Train in child processes that are killed or interrupted; run as ``python killing.py MODE OUT N SEED``.

One process loads torch and forks; every child trains or saves, and dies when the parent or it itself says so.
(A process of its own, because forking is safe only before torch has started threads.) Prints one JSON line
per child.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch._dynamo  # the first optimizer step would load it, seconds in every child
from small_models import SmallNet, Stopping, TwoPhases, small_settings, small_spec

from image2reg.models.bundle import load_bundle, save_bundle
from image2reg.models.checkpoint import list_checkpoints, read_checkpoint
from image2reg.models.train import fit


def in_child(work) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except SystemExit as error:
            os._exit(int(error.code))
        os._exit(0)
    return pid


def newest_step(out: Path) -> int:
    """Load the newest checkpoint; any damage raises."""
    found = list_checkpoints(out / "checkpoints")
    return read_checkpoint(found[-1])[0]["progress"]["step"] if found else 0


def version(out: Path) -> int:
    """Load the bundle; any damage raises."""
    return int(load_bundle(out).spec.version) if out.exists() else 0


def train(out: Path, n_kills: int) -> None:
    settings = small_settings(steps=12 * n_kills, validate_every=7, checkpoint_every=1)
    fit(TwoPhases(), settings, out, resume=True, device="cpu", progress=False)


def save(out: Path, n_kills: int) -> None:
    """Write one bundle over and over; every version differs."""
    for number in range(version(out) + 1, 10_000 * n_kills):
        torch.manual_seed(number)
        save_bundle(out, small_spec(version=str(number)), SmallNet().state_dict(), overwrite=True)


def progress(mode: str, out: Path) -> int:
    """How far the child is, from names alone: looking must not slow it down."""
    if mode == "train":
        return max((int(p.name[5:]) for p in list_checkpoints(out / "checkpoints")), default=0)
    try:
        return out.stat().st_ino
    except FileNotFoundError:
        return 0


def kill_at_random_times(mode: str, out: Path, n: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(n):
        pid = in_child(lambda: {"train": train, "save": save}[mode](out, n))
        for _ in range(rng.randint(1, 6)):
            before = progress(mode, out)
            while progress(mode, out) == before and os.waitpid(pid, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        seen = newest_step(out) if mode == "train" else version(out)
        print(json.dumps({"mode": mode, "seen": seen}), flush=True)


def interrupt(out: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        for stage in ("batch", "generator", "validate"):
            folder, began = out / f"{number}-{stage}", time.monotonic()
            task = Stopping(4, number, stage)
            pid = in_child(lambda t=task, f=folder: fit(t, small_settings(), f, device="cpu"))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            record = {"stage": stage, "code": code, "seconds": time.monotonic() - began}
            print(json.dumps({**record, "step": newest_step(folder), "folder": str(folder)}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    how, where, count, start = sys.argv[1:]
    if how == "interrupt":
        interrupt(Path(where))
    else:
        for mode in how.split(","):
            kill_at_random_times(mode, Path(where) / mode, int(count), int(start))
