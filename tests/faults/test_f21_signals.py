"""F21: Ctrl-C and SIGTERM end training with a checkpoint and exit code 130 or 143; the run can be resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from small_models import TwoPhases, same_tensors, small_settings

from image2reg.images.door import reading
from image2reg.interruption import Interruption
from image2reg.models.train import fit

KILLING = Path(__file__).with_name("killing.py")


def test_two_signals_in_three_stages(tmp_path):
    command = [sys.executable, str(KILLING), "interrupt", str(tmp_path), "0", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["code"], r["stage"]) for r in records] == [
        (code, stage) for code in (130, 143) for stage in ("batch", "generator", "validate")
    ]
    # At work on step 4: it is finished. Validating it: it is stored. Preparing it, which happens one step
    # ahead: the step under way is finished.
    assert [r["step"] for r in records if r["stage"] != "batch"] == [4, 4, 4, 4]
    assert all(r["step"] in {2, 3} for r in records if r["stage"] == "batch")
    whole = fit(TwoPhases(), small_settings(), tmp_path / "whole", device="cpu", progress=False)
    for record in records:
        resumed = fit(
            TwoPhases(), small_settings(), record["folder"], resume=True, device="cpu", progress=False
        )
        assert same_tensors(resumed.last_state, whole.last_state)
        assert same_tensors(resumed.best_state, whole.best_state)


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Interruption() as interruption:
        assert signal.getsignal(signal.SIGTERM) not in before.values()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal_number == signal.SIGTERM
        # A second signal is not ours any more: whoever is impatient gets through.
        assert {number: signal.getsignal(number) for number in before} == before
    assert {number: signal.getsignal(number) for number in before} == before


def test_work_that_may_be_left_is_left_at_once():
    with Interruption() as interruption:
        done = []
        assert interruption.attempt(lambda: "finished") == "finished"

        def work():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("too far")

        assert interruption.attempt(work) is None
        assert interruption.attempt(lambda: done.append("after")) is None
        assert done == []


def test_a_signal_while_an_image_is_read_is_no_damaged_image():
    def work():
        with reading("plate1/A01.tif"):
            os.kill(os.getpid(), signal.SIGINT)
            return "too far"

    with Interruption() as interruption:
        assert interruption.attempt(work) is None
        assert interruption.signal_number == signal.SIGINT
