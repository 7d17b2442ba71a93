"""The engine: cost per unit, memory, equal bytes whatever runs it, kills; and frames per second end to end.

    python tests/benchmarks/engine.py [--json] [--units N] [--kills N] [--fields N] [--model NAME]

Times are processor times of the measured process, so that a busy machine does not count. The frames are those of the
real plate (640 x 640, two channels), once as one channel of nuclei and once with the second channel measured too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from engine_work import kill_at_random, nothing, squares  # noqa: E402

from image2reg.engine import Shard, make_plan, run_plan  # noqa: E402
from image2reg.screen.plates import well_name  # noqa: E402

DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
IMAGES = DATA / "sbs_bbbc013_u2os_translocation" / "images"
RESULTS = Path(__file__).parent / "results" / "engine.json"
HAS_DASK = importlib.util.find_spec("distributed") is not None
FRAMES = 4_276_224  # of the genome-wide siRNA screen, all channels; its nuclear channel is a third
PAPER_PX, PLATE_PX = 1104 * 1104, 640 * 640
PAPER_NUCLEI = 44  # per frame: 436 in the ten test images of the screen's U-Net


def plan_of(n: int):
    return make_plan("benchmark", ({"name": f"u{i}", "seed": i} for i in range(n)), {})


def empty_units(n: int) -> dict[str, float]:
    """Processor and wall milliseconds per empty unit, and peak memory; run in a process of its own."""
    begun, wall = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_plan(plan_of(n), nothing, folder)
        assert outcome.is_complete
        files = len(list(Path(folder, "units").rglob("*.*")))
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3
    return {
        "units": n, "cpu_ms": 1e3 * (time.process_time() - begun) / n, "wall_ms": 1e3 * (time.perf_counter() - wall) / n,
        "peak_mb": peak, "files": files,
    }  # fmt: skip


def apart(n: int) -> dict[str, float]:
    """`empty_units` in a fresh process, so that memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--only-empty", str(n)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def table_bytes(outcome, folder: Path) -> list[bytes]:
    for name in ("rows", "units"):
        outcome.results.write(name, folder / f"{name}.parquet", range(outcome.n_units), overwrite=True)
    return [(folder / f"{name}.parquet").read_bytes() for name in ("rows", "units")]


def equal_bytes(n: int) -> dict[str, object]:
    """Are the tables of every way of running equal to those of one process?"""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        expected = table_bytes(run_plan(plan_of(n), squares, root / "serial"), root)
        found = {
            "two processes": table_bytes(run_plan(plan_of(n), squares, root / "two", n_workers=2), root)
            == expected
        }
        for index in (3, 1, 2):
            last = run_plan(plan_of(n), squares, root / "shards", shard=Shard(index, 3))
        found["three shards"] = table_bytes(last, root) == expected
        if HAS_DASK:
            dask = run_plan(plan_of(n), squares, root / "dask", engine="dask", n_workers=2)
            found["dask, two processes"] = table_bytes(dask, root) == expected
    return found


def killed(engine: str, n_kills: int) -> dict[str, object]:
    """Kill one of two workers at random moments; compare the tables with those of an undisturbed run."""
    n = 30 * n_kills
    with tempfile.TemporaryDirectory() as folder:
        root, pids = Path(folder), Path(folder) / "pids"
        pids.mkdir()
        expected = table_bytes(run_plan(plan_of(n), squares, root / "serial"), root)
        over, kills = threading.Event(), []
        killer = threading.Thread(target=lambda: kills.append(kill_at_random(pids, n_kills, 3, over.is_set)))
        killer.start()
        work = partial(squares, pause_s=0.04, pids=str(pids))
        outcome = run_plan(plan_of(n), work, root / "killed", engine=engine, n_workers=2)
        over.set()
        killer.join()
        same = table_bytes(outcome, root) == expected
    return {
        "engine": engine,
        "units": n,
        "kills": kills[0],
        "identical": same,
        "failed": len(outcome.results.failed),
    }


def frames(n: int, model: str) -> list[dict[str, object]]:
    """Frames per second of one core, end to end: read, judge, segment, measure, write."""
    from image2reg.screen.fields import measure_field
    from image2reg.screen.planned_fields import planned_fields
    from image2reg.screen.settings import MeasureSettings
    from image2reg.screen.usual_size import usual_diameter
    from image2reg.tables import Manifest

    rows = []
    for channels in (("DNA",), ("DNA", "GFP")):
        files = {"DNA": "Channel2-*.tif", "GFP": "Channel1-*.tif"}
        listed = {channel: sorted(IMAGES.glob(files[channel]))[: n + 1] for channel in channels}
        rows_of = [
            {"path": listed[c][i].name, "role": "input", "channel": c, "Metadata_Plate": "p", "Metadata_Well": f"A{i + 1:02d}"}
            for i in range(n + 1)
            for c in channels
        ]  # fmt: skip
        fields = planned_fields(Manifest(pd.DataFrame(rows_of), IMAGES), "DNA")
        units = list(fields.units())
        settings = {**MeasureSettings(model=model).model_dump(mode="json"), "nuclei": "DNA"}
        work = partial(measure_field, root=IMAGES, settings=settings)
        work(units[n])  # loads libraries and the model
        with tempfile.TemporaryDirectory() as folder:
            every = 'Metadata_Plate == "p"'
            settings["usual_px"] = usual_diameter(fields, Path(folder), settings, every)
            begun = time.process_time()
            outcome = run_plan(make_plan("frames", units[:n], {}), work, folder)
            outcome.results.write("nuclei", Path(folder) / "nuclei.parquet", range(n))
            seconds = (time.process_time() - begun) / n
            n_nuclei = len(outcome.results.read("nuclei", range(n)))
            size = (Path(folder) / "nuclei.parquet").stat().st_size
        rows.append(
            {
                "channels": len(channels), "fields": n, "model": model, "cpu_s_per_field": seconds,
                "frames_per_s": len(channels) / seconds, "nuclei_per_field": n_nuclei / n, "bytes_per_nucleus": size / n_nuclei,
            }
        )  # fmt: skip
    return rows


def screen_table(path: Path) -> None:
    """Write the table of images of a genome-wide screen; names only, there are no images."""
    wells, sites = [well_name(row, column) for row in range(16) for column in range(24)], range(16)
    n_plates = FRAMES // (len(wells) * len(sites) * 3)
    number = np.arange(FRAMES)
    plate, well, site = number // (3 * 16 * 384), number // (3 * 16) % 384, number // 3 % 16
    channel = np.array(["DNA", "GFP", "Actin"], object)[number % 3]
    is_control = well % 24 < 2
    text = {
        "Metadata_Plate": np.array([f"plate{i}" for i in range(n_plates)], object)[plate],
        "Metadata_Well": np.array(wells, object)[well], "Metadata_Site": np.array([str(i) for i in sites], object)[site],
    }  # fmt: skip
    gene = np.array([f"G{i}" for i in range(n_plates * 128)], object)[plate * 128 + well // 3]
    frame = pd.DataFrame(
        {
            "path": ["{}/{}_s{}_{}.tif".format(*parts) for parts in zip(*text.values(), channel, strict=True)],
            "role": "input", "channel": channel, **text, "Metadata_Gene": np.where(is_control, "", gene),
            "Metadata_Perturbation": np.where(is_control, "OTP", gene + "_" + (well % 3).astype(str).astype(object)),
        }
    )  # fmt: skip
    frame.to_parquet(path, index=False)


def plan_once(folder: Path, shard: str) -> dict[str, float]:
    """Seconds and memory of a shard of a genome-wide screen before its first image; run in a process of its own."""
    from image2reg.screen.planning import Asked, plan_shard
    from image2reg.screen.settings import ScreenSettings

    settings = ScreenSettings.model_validate({"measure": {"model": "classical", "diameter_px": 25}})
    control = 'Metadata_Perturbation == "OTP"'
    asked = Asked(folder / "images.parquet", control, None, settings, (), None, None, False, "cpu", "")
    before = time.process_time()
    plan, _ = plan_shard(asked, folder / "screen", Shard.parse(shard), overwrite=False)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3
    return {
        "fields": len(plan.lines),
        "of": len(plan),
        "cpu_s": time.process_time() - before,
        "peak_mb": peak,
    }


def planned() -> list[dict[str, float]]:
    """The first shard of a hundred, which makes the plan, and another."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        screen_table(Path(folder) / "images.parquet")
        for shard in ("1/100", "57/100"):
            command = [sys.executable, __file__, "--only-plan", folder, shard]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout) | {"shard": shard})
        found[0]["plan_mb"] = (Path(folder) / "screen" / "plan.jsonl").stat().st_size / 1e6
    return found


def tables(result: dict[str, object]) -> list[dict[str, object]]:
    memory, rows = result["empty"], []
    rows += [
        [
            f"{row['units']:,} empty units",
            f"{row['cpu_ms']:.3f} ms of processor, {row['wall_ms']:.3f} ms of wall time each; peak {row['peak_mb']:.0f} MB; {row['files']} files",
        ]
        for row in memory
    ]
    rows += [
        [f"tables equal to one process's: {name}", "byte-identical" if same else "DIFFERENT"]
        for name, same in result["equal"].items()
    ]
    for row in result["killed"]:
        rows.append(
            [
                f"{row['kills']} kills of one of two workers, {row['engine']}, {row['units']} units",
                f"{'byte-identical' if row['identical'] else 'DIFFERENT'}, {row['failed']} failed",
            ]
        )
    one = result["frames"][0]
    scale = PAPER_PX / PLATE_PX
    n_frames = FRAMES // 3
    seconds = one["cpu_s_per_field"] * scale
    arithmetic = [
        ["frames of the screen (384 wells × 16 fields × 3 channels × 232 plates)", f"{FRAMES:,}"],
        ["of which nuclei (a third)", f"{n_frames:,}"],
        ["processor time per 640 × 640 frame here", f"{one['cpu_s_per_field']:.2f} s"],
        [f"times {scale:.2f} for 1104 × 1104 pixels", f"{seconds:.2f} s"],
        [
            "frames per second and core, 640 × 640 and 1104 × 1104",
            f"{1 / one['cpu_s_per_field']:.2f} and {1 / seconds:.2f}",
        ],
        ["all nuclear frames, one core", f"{n_frames * seconds / 86_400:.1f} days"],
        ["2 cores", f"{n_frames * seconds / 86_400 / 2:.1f} days"],
        ["100 shards of one core", f"{n_frames * seconds / 3_600 / 100:.1f} hours"],
        [
            f"table of nuclei at {PAPER_NUCLEI} per frame (as in the screen's test images) and {one['bytes_per_nucleus']:.0f} bytes each",
            f"{n_frames * PAPER_NUCLEI * one['bytes_per_nucleus'] / 1e9:.0f} GB",
        ],
        *(
            [
                f"before the first image of shard {row['shard']}, {what}",
                f"{row['cpu_s']:.1f} s of processor, peak {row['peak_mb']:,.0f} MB",
            ]
            for row, what in zip(
                result["planned"], ("which makes the plan", "which reads its part"), strict=True
            )
        ),
        ["the engine's own part of all that", f"{n_frames * memory[-1]['cpu_ms'] / 1e3:.0f} s"],
    ]
    two = result["frames"][1]
    notes = [
        f"Segmenter `{one['model']}`, {one['nuclei_per_field']:.0f} nuclei per field, {one['fields']} fields; reading, quality, segmentation, all features and writing included. The diameter is not given: it is measured once per screen, on nine fields, which is not counted. Scaling by area is generous: these fields hold several times the nuclei of the screen's.",
        f"With a second channel measured, {two['cpu_s_per_field']:.2f} s per field, {two['frames_per_s']:.2f} frames per second and core. Processor times, taken while other jobs ran on the machine.",
    ]
    notes.append(
        f"The plan of {FRAMES:,} images in three channels is {result['planned'][0]['plan_mb']:,.0f} MB of text; names only, there are no images: a shard looks at the size and time of each of its own, the first at those of all."
    )
    if not HAS_DASK:
        notes.append("dask was not installed: its rows are left out.")
    return [
        {"title": "The engine", "head": ["", "measured"], "rows": rows, "notes": []},
        {
            "title": "What one frame makes of a genome-wide screen",
            "head": ["", ""],
            "rows": arithmetic,
            "notes": notes,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--units", type=int, default=100_000, help="empty units of the largest run")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fields", type=int, default=12, help="real fields that are timed")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--only-empty", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only-plan", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only_plan:
        print(json.dumps(plan_once(Path(asked.only_plan[0]), asked.only_plan[1])))
        return
    if asked.only_empty:
        print(json.dumps(empty_units(asked.only_empty)))
        return
    result = {
        "empty": [apart(n) for n in sorted({1000, 20_000, asked.units})],
        "equal": equal_bytes(300),
        "killed": [killed(engine, asked.kills) for engine in (["local", "dask"] if HAS_DASK else ["local"])],
        "frames": frames(asked.fields, asked.model),
        "planned": planned(),
    }
    result |= {
        "ms_per_empty_unit": result["empty"][-1]["cpu_ms"], "identical": all(result["equal"].values()),
        "killed_identical": all(row["identical"] for row in result["killed"]),
        "memory_ratio": result["empty"][-1]["peak_mb"] / result["empty"][0]["peak_mb"],
        "frames_per_s_per_core": 1 / result["frames"][0]["cpu_s_per_field"],
        "command": "python tests/benchmarks/engine.py --json",
    }  # fmt: skip
    result["tables"] = tables(result)
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if asked.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        for table in result["tables"]:
            print(
                f"\n{table['title']}\n{pd.DataFrame(table['rows'], columns=table['head']).to_string(index=False)}"
            )
            print("\n".join(table["notes"]))


if __name__ == "__main__":
    main()
