"""Average precision of every profile: time and peak memory against their number, and copairs in the same run.

    python tests/benchmarks/retrieval_scaling.py [--json]

Each size runs in a process of its own, so that its peak memory is its own. copairs is run where it is installed
(``pip install copairs``, in an environment of its own if need be); where it is not, the result says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from result_files import asked_for_json, publish

D, GROUP = 500, 10
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
COMPARED = 5_000


def table(n: int):  # type: ignore[no-untyped-def]
    import numpy as np
    import pandas as pd

    from image2reg.tables import Profiles

    rng = np.random.default_rng(0)
    values = rng.standard_normal((n, D), dtype=np.float32) + rng.standard_normal(
        (n // GROUP, D), dtype=np.float32
    )[np.arange(n) // GROUP] * np.float32(0.3)
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(D)])
    frame.insert(0, "Metadata_Compound", [f"c{i // GROUP}" for i in range(n)])
    return Profiles(frame)


def measure(n: int, what: str) -> dict:
    """Seconds, CPU seconds and peak memory of one size, in this process."""
    import numpy as np

    profiles = table(n)
    before, cpu = time.perf_counter(), time.process_time()
    if what == "copairs":
        from copairs.map import average_precision as peer

        found = peer(
            profiles.metadata,
            profiles.values,
            ["Metadata_Compound"],
            [],
            [],
            ["Metadata_Compound"],
            progress_bar=False,
        )["average_precision"].to_numpy()
    else:
        from image2reg.retrieval import average_precision

        found = average_precision(profiles, same=["Metadata_Compound"], precision=what)[
            "average_precision"
        ].to_numpy()
    return {
        "seconds": time.perf_counter() - before,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "map": float(np.mean(found)),
    }


def in_own_process(n: int, what: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__)), "--measure", str(n), what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{what} at {n}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    as_json = asked_for_json(__doc__ or "")
    rows, ours = [], {}
    for n in SIZES:
        found = ours[n] = in_own_process(n, "float32")
        rows.append(
            [
                "ours, float32",
                n,
                found["seconds"],
                found["cpu_seconds"],
                found["peak_gb"],
                f"{found['map']:.6f}",
            ]
        )
    exact = in_own_process(COMPARED, "float64")
    rows.append(
        [
            "ours, float64 (the default)",
            COMPARED,
            exact["seconds"],
            exact["cpu_seconds"],
            exact["peak_gb"],
            f"{exact['map']:.6f}",
        ]
    )
    notes = [
        f"{D} features, groups of {GROUP}; every profile is a query against all others. Wall and CPU seconds on "
        f"{os.cpu_count()} cores of a machine that others were using; peak memory of the process, table included."
    ]
    speedup = cpu_speedup = None
    if importlib.util.find_spec("copairs"):
        peer = in_own_process(COMPARED, "copairs")
        rows.append(
            ["copairs", COMPARED, peer["seconds"], peer["cpu_seconds"], peer["peak_gb"], f"{peer['map']:.6f}"]
        )
        speedup, cpu_speedup = peer["seconds"] / exact["seconds"], peer["cpu_seconds"] / exact["cpu_seconds"]
        notes.append(
            f"Against copairs at {COMPARED:,} profiles, float64 on both cores: {speedup:.1f} x in wall time, "
            f"{cpu_speedup:.1f} x in CPU time, {peer['peak_gb'] / exact['peak_gb']:.1f} x the memory."
        )
    else:
        notes.append("copairs is not installed here, so it was not compared: pip install copairs.")
    result = {
        "speedup_vs_copairs": speedup, "cpu_speedup_vs_copairs": cpu_speedup, "peak_gb_50k": ours[50_000]["peak_gb"],
        "seconds": {str(n): found["seconds"] for n, found in ours.items()},
        "tables": [
            {"title": "Average precision of all profiles, blockwise",
             "head": ["program", "profiles", "seconds", "CPU seconds", "peak GB", "mAP"], "rows": rows, "notes": notes}
        ],
    }  # fmt: skip
    publish("retrieval_scaling", result, as_json=as_json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.stdout.write(json.dumps(measure(int(sys.argv[2]), sys.argv[3])) + "\n")
    else:
        main()
