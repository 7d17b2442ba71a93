"""The models at hand: what each takes, gives and scores, and whether it still gives what it gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image2reg.models.bundle import Bundle
from image2reg.models.golden import verdict
from image2reg.models.golden import verify as verify_golden
from image2reg.models.registry import Entry, list_bundles
from image2reg.wording import counted_level

__all__ = ["catalogue", "catalogue_lines"]


def _run_sample(bundle: Bundle, path: Path) -> NDArray[np.float32]:
    from virtualstain.model import from_bundle

    return from_bundle(bundle).predict_array(_read_sample(path), where=str(path))


def _read_sample(path: Path) -> NDArray[Any]:
    from image2reg.images.readers import read

    return read(path).to_axes("CZYX").load().data


def catalogue(*, verify: bool = False) -> list[dict[str, Any]]:
    """Describe every shipped and local staining model.

    Parameters
    ----------
    verify : bool
        Check all hashes and rerun the golden sample; ``problem`` says what differs.

    Returns
    -------
    list of dict
        ``name, path, summary, inputs, outputs, unit, offset_px, planes, voxel_um, voxel_tolerance, limits, metrics,
        verified, problem``.
    """
    from virtualstain.model import KIND, roots

    return [
        _describe(entry, verify=verify)
        for entry in list_bundles(roots())
        if entry.spec is None or entry.spec.kind == KIND
    ]


def _describe(entry: Entry, *, verify: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": entry.name, "path": str(entry.path), "summary": "", "inputs": [], "outputs": [], "unit": "",
        "offset_px": [0, 0, 0], "planes": None, "voxel_um": None, "voxel_tolerance": None, "limits": [],
        "metrics": [], "verified": None, "problem": entry.problem,
    }  # fmt: skip
    if entry.spec is None:
        return row
    port = entry.spec.inputs[0]
    row |= {
        "summary": entry.spec.summary,
        "inputs": list(port.channels),
        "outputs": list(entry.spec.outputs[0].channels),
        "unit": entry.spec.outputs[0].transform,
        "offset_px": list(entry.spec.outputs[0].offset_px),
        "planes": port.n_planes,
        "voxel_um": list(port.voxel_um),
        "voxel_tolerance": port.voxel_tolerance,
        "limits": list(entry.spec.limits),
        "metrics": [m.model_dump(mode="json") for m in entry.spec.metrics],
    }
    if not verify:
        return row
    return row | verdict(entry.path, lambda bundle: verify_golden(bundle, _run_sample, read=_read_sample))


def catalogue_lines(rows: list[dict[str, Any]]) -> str:
    """Print the models for a terminal."""
    lines = []
    for row in rows:
        state = {True: "  [verified]", False: "  [FAILED]", None: ""}[row["verified"]]
        lines.append(f"{row['name']}{state}")
        if row["problem"]:
            lines.append(f"  problem: {row['problem']}")
        if not row["inputs"]:
            continue
        planes = {None: "any number of planes", 1: "single planes"}.get(
            row["planes"], f"{row['planes']} planes"
        )
        voxel = " x ".join("any" if v is None else f"{v:g}" for v in row["voxel_um"])
        lines.append(f"  {row['summary']}")
        lines.append(
            f"  {', '.join(row['inputs'])} ({planes}, voxel {voxel} um) to {', '.join(row['outputs'])}"
        )
        if any(row["offset_px"]):
            y, x = row["offset_px"][1:]
            lines.append(f"  its training microscope recorded the stain {y}, {x} pixels (y, x) off the input")
        if row["unit"]:
            lines.append(f"  values: {row['unit']}")
        scores = [m for m in row["metrics"] if m["name"] == "pearson"]
        for m in scores:
            floor = f", floor {m['floor']:.2f}" if m["floor"] is not None else ""
            ci = f" ({m['ci95'][0]:.2f} to {m['ci95'][1]:.2f})" if m["ci95"] else ""
            lines.append(
                f"  Pearson {m['channel']} {m['value']:.2f}{ci}{floor}, {counted_level(m['n'], m['level'])}"
            )
        lines.append(f"  {row['path']}")
    return "\n".join(lines) if lines else "no model found"
