"""Cost of prediction: the fast default beside the published fnet, a whole well, and memory against stack size.

    python tests/benchmarks/staining_speed.py [--json] [--only speed|memory] [--device cpu|cuda]

Times are medians of alternating runs in one process; what is quoted is the ratio. Both networks are deployed
alike (norms folded, fast layout). Peak memory is that of a process of its own. ``--only`` runs one half.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from staining_data import DATA
from torch.utils.flop_counter import FlopCounterMode

from image2reg.images import OmeZarrWriter, read
from virtualstain.model import load
from virtualstain.networks import build_network
from virtualstain.networks.interface import StainNetwork, deploy
from virtualstain.predict import predict_to
from virtualstain.staining import forward

RESULTS = Path(__file__).parent / "results" / "staining_speed.json"
BLOCK = (32, 256, 256)
FAST = {
    "dims": 3,
    "patch": (1, 4, 4),
    "widths": (32, 96, 128),
    "down": ((2, 2, 2), (2, 2, 2)),
    "out_channels": 1,
}


PARAMETERS: dict[str, int] = {}  # as trained: counted before norms are folded


def counted(name: str, network: StainNetwork) -> StainNetwork:
    PARAMETERS[name] = sum(p.numel() for p in network.parameters())
    return deploy(network)


def networks() -> dict[str, StainNetwork]:
    return {
        "fnet3d (published)": counted("fnet3d (published)", build_network("fnet3d")),
        "monai_unet": counted("monai_unet", build_network("monai_unet", strides=((1, 2, 2), 2, 2))),
        "shuffle_unet 3D (default)": counted(
            "shuffle_unet 3D (default)", build_network("shuffle_unet", **FAST)
        ),
    }


def cost_table(device: str, rounds: int) -> list[dict[str, object]]:
    """FLOPs, parameters, seconds and peak memory of one block, networks in turn within each round."""
    x = torch.randn(1, 1, *BLOCK, device=device)
    nets = {name: net.to(device) for name, net in networks().items()}
    seconds: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for round_ in range(rounds + 1):
            for name, net in nets.items():
                start = time.perf_counter()
                forward(net, x).sum().item()
                if round_:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, net in nets.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            forward(net, x)
        rows.append(
            {
                "network": name,
                "parameters": PARAMETERS[name],
                "gflop": counter.get_total_flops() / 1e9,
                "seconds": statistics.median(seconds[name]),
                "times": seconds[name],
                "peak_gb": peak_of("block", name)
                if device == "cpu"
                else torch.cuda.max_memory_allocated() / 1e9,
            }
        )
    return rows


def peak_gb() -> float:
    """Peak resident memory of this process; ru_maxrss would start from that of the process that called it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6


def peak_of(task: str, *arguments: str) -> float:
    """Peak memory in GB of one task in a process of its own."""
    command = [sys.executable, __file__, "--task", task, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def task_block(name: str) -> None:
    with torch.inference_mode():
        forward(networks()[name], torch.randn(1, 1, *BLOCK))


def task_stream(source: str, target: str) -> None:
    image = read(source)
    predict_to(load("phantom-3d"), image, Path(target))


def write_stack(path: Path, shape: tuple[int, int, int]) -> None:
    """Write a brightfield-like stack (smooth noise, synthetic) block by block."""
    rng = np.random.default_rng(0)
    with OmeZarrWriter(
        path, shape=(1, *shape), axes="CZYX", dtype=np.dtype(np.uint16), voxel_um=(0.5, 0.25, 0.25), channels=("Brightfield",)
    ) as writer:  # fmt: skip
        for z in range(0, shape[0], 8):
            part = rng.normal(1000, 60, (1, min(8, shape[0] - z), *shape[1:])).astype(np.uint16)
            writer[(slice(0, 1), slice(z, z + part.shape[1]), slice(0, shape[1]), slice(0, shape[2]))] = part


def memory(folder: Path) -> dict[str, float]:
    """Stream 64 x 2048 x 2048 and a quarter of that, OME-Zarr to OME-Zarr."""
    out: dict[str, float] = {}
    for key, shape in (("peak_gb_quarter", (64, 1024, 1024)), ("peak_gb", (64, 2048, 2048))):
        source, target = folder / f"{key}.ome.zarr", folder / f"{key}.out.ome.zarr"
        write_stack(source, shape)
        start = time.perf_counter()
        out[key] = peak_of("stream", str(source), str(target))
        out[key.replace("peak_gb", "stream_seconds")] = time.perf_counter() - start
    return out | {"memory_ratio": out["peak_gb"] / out["peak_gb_quarter"]}


def well_seconds(folder: Path, rounds: int = 3) -> float:
    """Read, predict three channels and write the 13 x 1024 x 768 well; model loading included."""
    source = DATA / "isl_condition_b_phase_to_fluor" / "wellA4_phase_zstack_13x1024x768_u16.tif"
    times = []
    for i in range(rounds):
        start = time.perf_counter()
        predict_to(load("phase-neuron"), read(source), folder / f"well{i}.ome.tif")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def speed(device: str, rounds: int) -> dict[str, object]:
    """All networks on one block, side by side, and how much faster the default is."""
    rows = cost_table(device, rounds)
    ratios = [x / y for x, y in zip(rows[0]["times"], rows[-1]["times"], strict=True)]
    return {
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "speedup_vs_fnet": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "table": [{k: v for k, v in row.items() if k != "times"} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["speed", "memory"], help="the other part keeps its last result")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", nargs="+")
    a = parser.parse_args()
    if a.task:
        {"block": task_block, "stream": task_stream}[a.task[0]](*a.task[1:])
        print(peak_gb())
        return
    result: dict[str, object] = json.loads(RESULTS.read_text()) if a.only and RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if a.only != "memory":
            result |= speed(a.device, a.rounds) | {"well_seconds": well_seconds(Path(folder))}
        if a.only != "speed":
            result |= memory(Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    if a.json:
        print(json.dumps(result))
        return
    print(f"{'network':<28}{'parameters':>12}{'GFLOP':>9}{'seconds':>9}{'peak GB':>9}")
    for row in result["table"]:
        print(
            f"{row['network']:<28}{row['parameters']:>12,}{row['gflop']:>9.1f}{row['seconds']:>9.3f}{row['peak_gb']:>9.2f}"
        )
    for key, value in result.items():
        if key != "table":
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
