"""Morphology autoencoders against JPEG at the same rate, channel by channel.

    python tests/benchmarks/vae_reconstruction.py [--json] [--runs FOLDER]

Latents are rounded and cost what an ideal entropy code needs; JPEG gets all crops of a channel as one picture, tables and
header counted, and never fewer bits. Two autoencoders: that of the shipped generator on planted nuclei of test fields, and
that of the translocation benchmark (``--runs``: its folder, trained if not there) on wells of doses it has not seen.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from planted_generation import MODEL
from result_files import publish
from translocation_generation import STUDY, trained_autoencoder

from image2reg.models.bundle import Bundle
from image2reg.models.registry import find_bundle
from image2reg.nuclei.crops import Crops
from image2reg.randomness import generator
from morphgen import planted
from morphgen.bundling import load_autoencoder
from morphgen.crops import IntensityRange
from morphgen.reconstruction_report import jpeg_round_trip, quantised_round_trip, reconstruction_table
from morphgen.sample import roots

N_CROPS = 400
STEPS = (0.125, 0.5, 1.0)


def rows_of(name: str, bundle: Bundle, crops: np.ndarray, channels: tuple[str, ...]) -> list[list[Any]]:
    """Autoencoder and JPEG at three rates: bits per pixel and channel, PSNR, SSIM, feature error and correlation."""
    network, scale = load_autoencoder(bundle), IntensityRange.stored(bundle.spec.normalisation.output)
    rows = []
    for step in STEPS:
        ours, bits = quantised_round_trip(network, scale, crops, step=step)
        theirs, jpeg_bits = jpeg_round_trip(crops, scale, bits_per_crop=bits)
        for arm, made, rate in (("autoencoder", ours, bits), ("JPEG", theirs, jpeg_bits)):
            for row in reconstruction_table(crops, made, scale, channels).itertuples():
                per_pixel = rate / np.prod(crops.shape[1:])
                rows.append(
                    [name, row.channel, f"{step:g}", arm, f"{per_pixel:.2f}", f"{row.psnr:.1f}", f"{row.ssim:.3f}",
                     f"{row.feature_error:.3f}", f"{row.feature_r:.3f}"]
                )  # fmt: skip
    return sorted(rows, key=lambda r: (r[0], r[1], float(r[2]), r[3] == "JPEG"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=Path, help="folder of the translocation benchmark")
    options = parser.parse_args()
    nuclei = planted.dataset("unseen", n_per_signature=6).images[:N_CROPS]
    rows = rows_of("planted nuclei (BBBC039)", find_bundle(MODEL, roots()), nuclei, ("DNA",))
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        vae, crops = trained_autoencoder(runs)
        rows += rows_of("translocation plate", vae, unseen_cells(crops), STUDY.channels)
    head = ["crops", "channel", "rounding of latents (sd)", "arm", "bits per pixel", "PSNR (dB)", "SSIM",
            "feature error (sd)", "feature r"]  # fmt: skip
    notes = [
        f"{N_CROPS} crops that neither autoencoder saw. Rate: entropy of the rounded latents, or the size of the JPEG file "
        "at the lowest quality that is not smaller, over all channels.",
        "Feature error: median over features of the mean absolute difference, in standard deviations over cells.",
    ]
    result = {
        f"{r[0]}, {r[1]}, {r[2]}, {r[3]}": dict(zip(head[4:], map(float, r[4:]), strict=True)) for r in rows
    }
    title = "Autoencoder against JPEG at the same rate"
    publish(
        "vae_reconstruction",
        {"scores": result, "tables": [{"title": title, "head": head, "rows": rows, "notes": notes}]},
        as_json=options.json,
    )


def unseen_cells(crops: Crops) -> np.ndarray:
    """Cells of the treated doses: the autoencoder saw control wells alone."""
    treated = np.flatnonzero(~np.isin(crops.column("Metadata_Level").astype(int), (0, 10)))
    chosen = generator(0, "reconstruction").permutation(treated)[:N_CROPS]
    return np.asarray(crops.images, np.float32)[np.sort(chosen)]


if __name__ == "__main__":
    main()
