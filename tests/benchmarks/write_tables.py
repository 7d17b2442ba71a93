"""Write the measured tables into README between their markers, from ``tests/benchmarks/results/*.json``.

    python tests/benchmarks/write_tables.py [--check]

Nothing in those tables is typed by hand; ``--check`` fails when README and results disagree.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
Rows = list[dict[str, Any]]


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(v) for v in row) + " |" for row in rows])


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(row: dict[str, Any]) -> str:
    return f"{number(row['low'])} to {number(row['high'])}"


def arms(result: dict[str, Any]) -> str:
    rows = [
        (
            r["arm"], r["channel"], number(r["pearson"]), interval(r), f"{r['n']} {r['level']}s", number(r["spectral_pearson"]),
            number(r["ssim"]), number(r["psnr"], 1), number(r["floor"]), number(r["ceiling"]),
        )
        for r in result["rows"]
    ]  # fmt: skip
    head = (
        "arm",
        "channel",
        "Pearson",
        "95 % interval",
        "n",
        "spectral Pearson",
        "SSIM",
        "PSNR (dB)",
        "floor",
        "ceiling",
    )
    return markdown(head, rows) + f"\n\n`{result['command']}` (equal training minutes for each arm of ours)"


def gan(result: dict[str, Any]) -> str:
    rows = []
    for arm, features in result["features"].items():
        for name, values in features.items():
            if isinstance(values, dict):
                error = f"{number(values['error'])} ({interval(values)})"
                rows.append((arm, name, number(values["r"]), error, features["n_nuclei"]))
    head = ("arm", "nuclear feature (DAPI)", "Pearson r", "mean relative error (95 %)", "nuclei")
    return arms(result) + "\n\n" + markdown(head, rows)


def robustness(result: dict[str, Any]) -> str:
    rows = [
        (r["disturbance"], number(r["pearson"]), interval(r), number(r["median"]), r["n"])
        for r in result["rows"]
    ]
    head = ("input", "mean Pearson with log Hoechst", "95 % interval", "median", "fields")
    return markdown(head, rows) + f"\n\n`{result['command']}`"


def jurkat(result: dict[str, Any]) -> str:
    low, high = result["integrated_r_ci95"]
    gain = result["gain"]
    rows = [
        ("Pearson per cell", number(result["pearson"]), "", number(result["mean_image_pearson"]) + " (mean image)"),
        ("gain over the mean image", number(gain["value"]), f"{number(gain['low'])} to {number(gain['high'])}", "0"),
        (
            "integrated DNA inside G1, r", number(result["integrated_r_in_g1"]), f"{number(low)} to {number(high)}",
            f"{number(result['ridge_reference'])} (ridge)",
        ),
        (
            f"G1 against G2 and mitosis, AUC ({result['n_phase']} held-out cells of experiment 1)",
            number(result["phase_auc_predicted"]), "", f"0.5; from real DNA {number(result['phase_auc_real'])}",
        ),
    ]  # fmt: skip
    head = ("score", "value", "95 % interval", "floor or reference")
    return (
        markdown(head, rows) + f"\n\n{result['n_test']} cells of experiment 2 (all G1). `{result['command']}`"
    )


def speed(result: dict[str, Any]) -> str:
    rows = [
        (
            r["network"],
            f"{r['parameters']:,}",
            number(r["gflop"], 1),
            number(r["seconds"]),
            number(r["peak_gb"], 2),
        )
        for r in result["table"]
    ]
    head = ("32 × 256 × 256 block", "parameters", "GFLOP", "seconds", "peak GB")
    low, high = result["speedup_range"]
    facts = [
        f"default against fnet3d, side by side: {result['speedup_vs_fnet']:.1f} × less time ({low:.1f} to {high:.1f})",
        f"the 13 × 1024 × 768 well, read, predicted in three channels and written: {result['well_seconds']:.1f} s",
    ]
    if "peak_gb_x4" in result:
        facts.append(
            f"64 × 2048 × 2048 from OME-Zarr to OME-Zarr: {result['peak_gb']:.2f} GB; four times the stack: "
            f"{result['peak_gb_x4']:.2f} GB ({result['memory_ratio']:.2f} ×)"
        )
    lines = "\n".join(f"- {fact}" for fact in facts)
    return f"{markdown(head, rows)}\n\n{lines}\n\n`python tests/benchmarks/staining_speed.py --json` on {result['machine']}"


def models() -> str:
    rows = []
    for path in sorted((ROOT / "virtualstain" / "weights").glob("*/bundle.json")):
        spec = json.loads(path.read_text())
        inputs = spec["inputs"][0]
        planes = {None: "any", 1: "1"}.get(inputs["n_planes"], inputs["n_planes"])
        for metric in spec["metrics"]:
            if metric["name"] in ("pearson",) or "nuclei" in metric["name"]:
                low, high = metric["ci95"] or (None, None)
                rows.append(
                    (
                        f"`{spec['name']}`", f"{', '.join(inputs['channels'])}, {planes} planes", metric["channel"], metric["name"],
                        number(metric["value"]), f"{number(low)} to {number(high)}", f"{metric['n']} ({metric['level']})",
                        number(metric["floor"]), number(metric["ceiling"]),
                    )
                )  # fmt: skip
    head = (
        "model",
        "input",
        "stain",
        "score on held-out groups",
        "value",
        "95 % interval",
        "n",
        "floor",
        "ceiling",
    )
    return markdown(head, rows)


RENDER: dict[str, Callable[[dict[str, Any]], str]] = {
    "staining_well": arms, "staining_phantom": arms, "staining_allen": arms, "staining_envelope": arms, "staining_gan": gan,
    "staining_robustness": robustness, "staining_jurkat": jurkat, "staining_speed": speed,
}  # fmt: skip


def render(name: str) -> str:
    if name == "models":
        return models()
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "*Not measured yet.*"
    return RENDER[name](json.loads(path.read_text()))


def rewrite(text: str) -> str:
    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found[1]} -->\n{render(found[1])}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    a = parser.parse_args()
    readme = ROOT / "README.md"
    new = rewrite(readme.read_text())
    if a.check:
        sys.exit(
            0
            if new == readme.read_text()
            else "README's tables are not those of tests/benchmarks/results; run write_tables.py"
        )
    readme.write_text(new)


if __name__ == "__main__":
    main()
