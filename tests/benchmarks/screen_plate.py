"""A real plate from raw images to hits in one command, and what the screen's statistics promise, measured.

    python tests/benchmarks/screen_plate.py [--json] [--simulations N] [--model NAME] [--out DIR]

The plate: U2OS FKHR-GFP translocation (BBBC013-like), 72 wells, GFP and DNA, two half-plates of nine dose steps; its
metadata give steps, not concentrations. Layout and manifest are made from the folder; the command is
``image2reg screen``. The simulations are of planted screens: three plates of 40 perturbations and 16 control wells.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from image2reg.intervals import bootstrap_interval
from image2reg.randomness import generator
from image2reg.screen import benjamini_hochberg, median_polish, ssmd
from image2reg.screen.normalise import MAD_TO_SD
from image2reg.screen.permutations import control_p_values, plate_p_values

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VIRTUALSTAIN_DATA", ROOT.parent / "shared" / "data"))
PLATE = DATA / "sbs_bbbc013_u2os_translocation"
RESULTS = Path(__file__).parent / "results" / "screen_plate.json"
RATIO = "Nuclei_RingIntensity_NucleusToRing_GFP"
COMMAND = [
    "--channel", "DNA=Channel2", "--channel", "GFP=Channel1", "--pattern", r"(?P<Well>[A-H]-\d\d)$",
    "--control", 'Metadata_Control == "negative"', "--positive", 'Metadata_Control == "positive"',
    "--group", "Metadata_Perturbation", "--group", "Metadata_Dose_step", "--dose", "Metadata_Dose_step",
]  # fmt: skip


def write_layout(path: Path) -> pd.DataFrame:
    """What was in which well: half-plate, dose step and kind of control, as the data set's own table says."""
    table = pd.read_csv(PLATE / "1049_Metadata.csv")
    half = table["Row"].map(lambda row: "half A-D" if row in "ABCD" else "half E-H")
    kind = table["SBS_Controls"].map({-1: "negative", 0: "", 1: "positive"})
    layout = pd.DataFrame(
        {
            "Well": table["Row"] + table["Column"].astype(str),
            "Perturbation": half.where(kind != "negative", "untreated"),
            "Dose_step": table["SBS_Doses"],
            "Control": kind,
        }
    )
    layout.to_csv(path, index=False)
    return layout


def real_plate(model: str | None, kept: Path | None) -> dict[str, object]:
    """Run the command on the folder and read its tables; fields that are measured in `kept` already are not again."""
    with tempfile.TemporaryDirectory() as folder:
        out = kept or Path(folder) / "screen"
        layout = write_layout(Path(folder) / "layout.csv")
        words = [
            sys.executable, "-c", "from image2reg.cli import main; main()", "screen", "--data", str(PLATE / "images"),
            "--layout", f"{folder}/layout.csv", "--out", str(out), "--json", *COMMAND, *(["--overwrite"] if kept else []),
            *(["--model", model] if model else []),
        ]  # fmt: skip
        done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        wells = pd.read_csv(out / "wells.csv")
        hits = pd.read_csv(out / "hits.csv")
        fields = pd.read_csv(out / "fields.csv")
    top = wells["Metadata_Dose_step"] == layout["Dose_step"].max()
    last = wells["Metadata_Dose_step"] == layout["Dose_step"].max() - 1
    control = wells["Metadata_Control"] == "negative"
    quality = next(row for row in done["quality"] if row["readout"] == RATIO)
    lower = (wells.loc[control, RATIO].mean(), wells.loc[control, RATIO].std())
    upper = (wells.loc[top, RATIO].mean(), wells.loc[top, RATIO].std())
    small = hits[hits["is_control"] & (hits["q"] <= 0.05)]
    return {
        "z_prime": quality["z_prime"], "ssmd": quality["ssmd"], "ratio_negative": lower, "ratio_positive": upper,
        "top_dose_hits": f"{int(wells.loc[top, 'Hit'].sum())} of {int(top.sum())}",
        "top_treated_hits": f"{int(wells.loc[last, 'Hit'].sum())} of {int(last.sum())}",
        "control_hits": int(wells.loc[control, "Hit"].sum()), "n_controls": int(control.sum()),
        "control_groups_beyond_chance": [[r["name"], r["score"].partition("_")[2], r["effect"], r["q"]] for _, r in small.iterrows()],
        "ec50": {
            row["series"]: {k: row[k] for k in ("ec50", "low", "high", "slope", "bottom", "top", "n_wells")}
            for row in done["ec50"] if row["readout"] == RATIO
        },
        "n_hits": done["n_hits"], "n_tested": done["n_tested"], "nuclei": done["nuclei"], "kept_out": done["kept_out"],
        "seconds_measuring": done["seconds"], "fields": len(fields), "model": model or "nuclei",
    }  # fmt: skip


N_PLATES, N_DRUGS, N_CONTROLS = 3, 40, 16


def simulated_scores(rng: np.random.Generator, n: int, planted: int, effect: float) -> np.ndarray:
    """(screens, plates, wells) robust z: 16 control wells, then the perturbations, the first `planted` of them shifted."""
    values = rng.normal(size=(n, N_PLATES, N_CONTROLS + N_DRUGS))
    values[..., N_CONTROLS : N_CONTROLS + planted] += effect
    control = values[..., :N_CONTROLS]
    median = np.median(control, axis=-1, keepdims=True)
    return (values - median) / (MAD_TO_SD * np.median(np.abs(control - median), axis=-1, keepdims=True))


def p_values(scores: np.ndarray, null: str, rng: np.random.Generator) -> np.ndarray:
    """(screens, groups) p as `call_hits` takes them: perturbations first, then one group per control well of a plate."""
    n, wells = len(scores), N_CONTROLS + N_DRUGS
    group = np.r_[N_DRUGS + np.arange(N_CONTROLS), np.arange(N_DRUGS)]  # of a well, in its screen
    plates = np.repeat(np.arange(N_PLATES), wells)
    groups = np.tile(group, N_PLATES)
    if null == "plates":
        sample = groups < N_DRUGS
        return np.stack([plate_p_values(one.ravel(), plates, groups, wells, sample, rng) for one in scores])
    many = np.arange(n)[:, None]
    negative = np.tile(np.tile(np.arange(wells) < N_CONTROLS, N_PLATES), n)
    p, _ = control_p_values(
        scores.ravel(),
        (plates + N_PLATES * many).ravel(),
        (groups + wells * many).ravel(),
        n * wells,
        negative,
        rng,
    )
    return p.reshape(n, wells)


def simulations(n: int) -> list[dict[str, object]]:
    """False discoveries in null screens, and power and false discoveries with planted hits."""
    rows = []
    for null in ("controls", "plates"):
        for planted, effect in ((0, 0.0), (8, 2.0), (8, 3.0), (8, 5.0)):
            rng = generator(11, null, planted, int(effect))
            p = p_values(simulated_scores(rng, n, planted, effect), null, rng)
            called = np.array([benjamini_hochberg(one) <= 0.05 for one in p])
            false = called[:, planted:].sum(axis=1) / np.maximum(called.sum(axis=1), 1)
            found = called[:, :planted].mean(axis=1) if planted else None
            rows.append(
                {
                    "null": null, "planted": planted, "effect": effect, "runs": n,
                    "fdr": bootstrap_interval(false, seed=0).as_dict(),
                    "power": None if found is None else bootstrap_interval(found, seed=0).as_dict(),
                }
            )  # fmt: skip
    return rows


def limits() -> dict[str, float]:
    """The two closed-form promises."""
    rng = np.random.default_rng(0)
    fit = median_polish(rng.normal(size=(16, 24)) + rng.normal(size=(16, 1)) * 3 + rng.normal(size=24))
    largest = max(np.abs(np.median(fit.residual, axis=axis)).max() for axis in (0, 1))
    return {"polish_residual": float(largest), "ssmd": ssmd(rng.normal(3, 1, 10**6), rng.normal(0, 1, 10**6))}


def tables(result: dict[str, object]) -> list[dict[str, object]]:
    plate, checks = result["plate"], result["limits"]
    rows = [
        ["Z′ of GFP nucleus / ring between controls", f"{result['z_prime']:.2f}", "≥ 0.5"],
        ["GFP nucleus / ring, negative and positive controls", " and ".join(f"{m:.2f} ± {s:.2f}" for m, s in (plate["ratio_negative"], plate["ratio_positive"])), "0.80 and 5.84 in the set's README"],
        ["wells of the top dose step called", result["top_dose_hits"], "all"],
        ["wells of the step below called", plate["top_treated_hits"], "–"],
        ["negative control wells called", f"{result['control_hits']} of {plate['n_controls']}", "0"],
    ]  # fmt: skip
    rows += [
        [
            f"EC50, {name} (95 % interval), dose steps",
            f"{c['ec50']:.2f} ({c['low']:.2f} to {c['high']:.2f})",
            "–",
        ]
        for name, c in result["ec50"].items()
    ]
    rows += [
        [
            "largest row or column median after median polish, 16 × 24",
            f"{checks['polish_residual']:.0e}",
            "< 1e-6",
        ],
        ["SSMD of N(3, 1) against N(0, 1), a million each", f"{checks['ssmd']:.3f}", "2.12"],
    ]
    notes = [
        f"{plate['fields']} fields, {plate['nuclei']:,} nuclei, segmenter `{plate['model']}`; {plate['kept_out']} fields kept out.",
        "A hit: permutation p against the control wells, Benjamini-Hochberg over all perturbations, readouts and control groups at 5 %, and a mean robust z of at least 3.",
    ]
    for name, readout, effect, q in plate["control_groups_beyond_chance"]:
        notes.append(
            f"By FDR alone, {name} would be called in {readout} (effect {effect:.1f}, q {q:.3f}): groups are runs of three control wells down the columns, and group 4 is E12 to G12, at the plate's edge."
        )
    simulated = [
        [
            row["null"], row["planted"], row["effect"], row["runs"],
            f"{row['fdr']['value']:.3f} ({row['fdr']['low']:.3f} to {row['fdr']['high']:.3f})",
            "–" if row["power"] is None else f"{row['power']['value']:.2f} ({row['power']['low']:.2f} to {row['power']['high']:.2f})",
        ]
        for row in result["simulations"]
    ]  # fmt: skip
    return [
        {"title": "Real plate, 72 wells, from raw images in one command", "head": ["", "measured", "wanted"], "rows": rows, "notes": notes},
        {
            "title": "Simulated screens (synthetic: 3 plates, 40 perturbations, 16 control wells), FDR 5 %",
            "head": ["null", "planted", "effect, sd", "screens", "false discovery rate", "power"], "rows": simulated,
            "notes": [
                "Effects are in standard deviations of a control well; intervals are bootstrap over screens.",
                "Permuted plates count the true hits, a fifth of the perturbations here, into the null: it is for libraries of which most members do nothing.",
            ],
        },
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--simulations", type=int, default=1000, help="null screens of each kind")
    parser.add_argument("--model", default=None, help="segmenter; the command's default when not given")
    parser.add_argument(
        "--out", type=Path, default=None, help="keep the screen here; a second run goes on with it"
    )
    asked = parser.parse_args()
    plate = real_plate(asked.model, asked.out)
    result = {key: plate[key] for key in ("z_prime", "top_dose_hits", "control_hits", "ec50")}
    result |= {"plate": plate, "limits": limits(), "simulations": simulations(asked.simulations)}
    result["command"] = "python tests/benchmarks/screen_plate.py --json"
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
