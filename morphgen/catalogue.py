"""The generators at hand: what each takes, draws and scores, and whether it still draws what it drew."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from image2reg.models.bundle import Bundle
from image2reg.models.golden import verdict
from image2reg.models.golden import verify as verify_golden
from image2reg.models.registry import Entry, list_bundles
from image2reg.tables.profiles import Profiles

__all__ = ["catalogue", "catalogue_lines", "verify_bundle"]

KINDS = ("morphgen-vae", "morphgen-diffusion")


def _run_sample(bundle: Bundle, path: Path) -> NDArray[np.float32]:
    from morphgen.bundling import crops_of, golden_options, load_autoencoder

    if path.suffix != ".csv":
        import tifffile
        import torch

        with torch.no_grad():
            return load_autoencoder(bundle)(torch.from_numpy(crops_of(tifffile.imread(path), bundle))).numpy()
    from morphgen.sample import MorphologyGenerator

    frame = pd.read_csv(io.BytesIO(path.read_bytes()), dtype={})
    text = {name: frame[name].astype(str) for name in frame if name.startswith("Metadata_")}
    signature = Profiles(frame.assign(**text), source=str(path))
    drawn = list(MorphologyGenerator(bundle).draw(signature, n=4, **golden_options(bundle)))
    return np.concatenate([images for images, _ in drawn])


def verify_bundle(bundle: Bundle) -> Any:
    """Rerun the golden sample; see `image2reg.models.golden.verify`."""
    import tifffile

    from morphgen.bundling import crops_of

    return verify_golden(bundle, _run_sample, read=lambda path: crops_of(tifffile.imread(path), bundle))


def catalogue(*, verify: bool = False) -> list[dict[str, Any]]:
    """Describe every shipped and local autoencoder and generator.

    Parameters
    ----------
    verify : bool
        Check all hashes and rerun the golden sample; ``problem`` says what differs.

    Returns
    -------
    list of dict
        ``name, kind, path, summary, inputs, outputs, metrics, verified, problem``.
    """
    roots = [Path(__file__).parent / "weights"]
    entries = [e for e in list_bundles(roots) if e.spec is None or e.spec.kind in KINDS]
    return [_describe(entry, verify=verify) for entry in entries]


def _describe(entry: Entry, *, verify: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": entry.name, "kind": "", "path": str(entry.path), "summary": "", "inputs": [], "outputs": [],
        "metrics": [], "verified": None, "problem": entry.problem,
    }  # fmt: skip
    if entry.spec is None:
        return row
    row |= {
        "kind": entry.spec.kind,
        "summary": entry.spec.summary,
        "inputs": list(entry.spec.inputs[0].channels),
        "outputs": list(entry.spec.outputs[0].channels),
        "metrics": [m.model_dump(mode="json") for m in entry.spec.metrics],
    }
    return row | verdict(entry.path, verify_bundle) if verify else row


def catalogue_lines(rows: list[dict[str, Any]]) -> str:
    """Print the models for a terminal."""
    lines = []
    for row in rows:
        state = {True: "  [verified]", False: "  [FAILED]", None: ""}[row["verified"]]
        lines.append(f"{row['name']}  {row['kind']}{state}")
        lines += [f"  problem: {row['problem']}"] if row["problem"] else []
        lines += [f"  {row['summary']}"] if row["summary"] else []
        for m in row["metrics"]:
            floor = f", floor {m['floor']:.2f}" if m["floor"] is not None else ""
            ceiling = f", ceiling {m['ceiling']:.2f}" if m["ceiling"] is not None else ""
            ci = " ({:.3g} to {:.3g})".format(*m["ci95"]) if m["ci95"] else ""
            lines.append(f"  {m['name']} {m['value']:.3g}{ci}{floor}{ceiling}, n = {m['n']} {m['level']}")
            lines += [f"    {m['note']}"] if m["note"] else []
        lines.append(f"  {row['path']}")
    return "\n".join(lines) if lines else "no model found"
