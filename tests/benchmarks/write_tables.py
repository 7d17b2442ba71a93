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
            number(r["ssim"]), number(r["psnr"], 1), number(r["floor"]), number(r["ceiling"]), r.get("steps", "–"),
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
        "steps",
    )
    budget = result.get("budget", "equal training minutes for each arm of ours")
    return markdown(head, rows) + f"\n\n`{result['command']}` ({budget})"


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
    if "peak_gb_quarter" in result:
        facts.append(
            f"64 × 2048 × 2048 from OME-Zarr to OME-Zarr: {result['peak_gb']:.2f} GB, {result['memory_ratio']:.2f} × "
            f"what a quarter of that stack needs"
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


def measured(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def glance() -> str:
    """One line per job: what was measured, and what it has to be read against."""
    bundle = json.loads(
        (ROOT / "virtualstain" / "weights" / "brightfield-nuclei" / "bundle.json").read_text()
    )
    stain = next(m for m in bundle["metrics"] if m["name"] == "pearson")
    speed_, features, plate = (
        measured("staining_speed"),
        measured("nucleus_features"),
        measured("screen_plate"),
    )
    genes, moa, planted = (
        measured("gene_linking"),
        measured("moa_bbbc021"),
        measured("planted_generation")["unseen"],
    )
    low, high = stain["ci95"]
    rows = [
        ("brightfield to Hoechst, experiments never seen", f"Pearson {stain['value']:.3f} ({low:.3f} to {high:.3f})",
         f"best input plane {stain['floor']:.3f}"),
        ("a 32 × 256 × 256 block through the 3D default", f"{speed_['speedup_vs_fnet']:.1f} × faster than fnet3d", "both deployed alike"),
        ("features of 500 nuclei", f"{features['seconds_500_nuclei']:.2f} s", f"{features['speedup']:.0f} × faster than a regionprops loop"),
        ("translocation plate, images to hits", f"Z′ {plate['z_prime']:.2f}", "0.5 counts as a good assay"),
        ("genes from profiles, held out", f"AUC {genes['best.auc']:.3f} ({genes['best.low']:.3f} to {genes['best.high']:.3f})",
         f"published recipe {genes['published_recipe.auc']:.3f}, shuffled {genes['permuted.auc']:.3f}"),
        ("mechanism from other compounds (BBBC021)", f"{moa['nsc']:.3f} right", "plain cosine 0.913"),
        ("nuclei generated for signatures of test genes (planted)", f"R² {planted['r2']:.2f}, follow test p = {planted['follow_p']:.3f}",
         f"ceiling {planted['ceiling_r2']:.2f}, shuffled {planted['shuffled_r2']:.2f}"),
    ]  # fmt: skip
    return markdown(("job", "measured", "read against"), rows)


# Of the screen's own network at IoU 0.9, by its notebook's counts of its own test fields.
N_TRUE, N_PREDICTED, N_FOUND, N_MISSED, N_FALSE = 436, 425, 320, 116, 30
SCREEN_PAPER = (2 * N_FOUND / (N_TRUE + N_PREDICTED), 2 * N_FOUND / (2 * N_FOUND + N_MISSED + N_FALSE))


def systems() -> str:
    """One line per published system: what follows it here, and what was measured of both in one place."""

    def pearson(study: str, arm: str, *channels: str) -> str:
        rows = {row["channel"]: row["pearson"] for row in measured(study)["rows"] if row["arm"] == arm}
        return ", ".join(f"{channel} {rows[channel]:.3f}" for channel in channels)

    stains, fnet = ("DAPI", "MAP2", "NFH"), "fnet3d, fnet's recipe"
    speed_, sampling, genes = measured("staining_speed"), measured("sampling_speed"), measured("gene_linking")
    planted, nuclei = measured("planted_generation")["unseen"], measured("nucleus_segmentation")
    alone, second, both = measured("staining_privileged")["tables"][0]["rows"]
    *_, (frames, correlation, ours, plain) = (
        row for row in measured("growth")["tables"][0]["rows"] if row[1] == 0.5
    )
    own, cost = nuclei["scores"]["Aits own screen, --tta"], nuclei["cost"]["nuclei, frame as it is"]
    small, resnet = measured("explain")["score_cam"][:2]
    rows = [
        ("fnet (Ounkomol 2018)", "`virtualstain train`; its network is `fnet3d`",
         f"synthetic stacks, equal minutes: {pearson('staining_phantom', 'shuffle_unet 3D, default recipe', 'Hoechst')}, "
         f"{speed_['speedup_vs_fnet']:.1f} × faster", f"fnet3d: {pearson('staining_phantom', fnet, 'Hoechst')}"),
        ("in-silico labelling (Christiansen 2018)", "`phase-neuron`, on rows of their well that training never saw",
         pearson("staining_well", "`phase-neuron` as shipped", *stains), f"fnet3d, one network: {pearson('staining_well', fnet, *stains)}"),
        ("PICS (Kandel 2020)", "`virtualstain predict`, `image2reg growth`",
         f"three stains of a 13 × 1024 × 768 stack in {speed_['well_seconds']:.1f} s on two threads; a growth rate's 95 % interval "
         f"holds it {ours:.0%} of the time", f"least squares: {plain:.0%} ({frames} frames, errors correlated by {correlation})"),
        ("privileged masks (LUPI, HASTE)", "`loss.nuclei`, `loss.emphasis` of a recipe",
         f"brightfield to Hoechst, new experiments: as a second output Pearson {second[1]:.3f}, {second[4]:.0%} of nuclei found; "
         f"with more weight near nuclei {both[1]:.3f}, {both[4]:.0%}", f"without masks: {alone[1]:.3f}, {alone[4]:.0%}"),
        ("MorphDiff", "`morphgen`",
         f"{sampling['seconds_small']:.2f} s of CPU per image; planted genes never seen: R² {planted['r2']:.2f}",
         f"published sizes: {sampling['seconds_morphdiff']:.0f} s; ceiling {planted['ceiling_r2']:.2f}, shuffled {planted['shuffled_r2']:.2f}"),
        ("Image2Reg", "`image2reg embed`, `network`, `genes`, `link`",
         f"held-out genes: AUC {genes['best.auc']:.3f} ({genes['best.low']:.3f} to {genes['best.high']:.3f})",
         f"its recipe: {genes['published_recipe.auc']:.3f}; shuffled {genes['permuted.auc']:.3f}"),
        ("genome-wide nucleus screen (Aits lab)", "`image2reg segment`, `screen`",
         f"its nuclei, other plate: F1@0.9 {own['f1@0.9']:.3f}, by its own definition {own['theirs']:.3f}; "
         f"{cost['times_fewer_operations']:.0f} × fewer operations, {cost['times_faster']:.0f} × faster at full size",
         "its network on its test fields: {:.3f}, {:.3f}".format(*SCREEN_PAPER)),
        ("SoRa epigenetic profiling", "`image2reg train encoder`, `explain`",
         f"treated nuclei of an unseen half plate: AUC {small['auc']:.3f} in {small['core_seconds']:.1f} core s; maps checked against random weights",
         f"its nine convolutions: {resnet['auc']:.3f} in {resnet['core_seconds']:.1f} s; no check"),
    ]  # fmt: skip
    return markdown(("published", "here", "measured", "read against"), rows)


RENDER: dict[str, Callable[[dict[str, Any]], str]] = {
    "staining_well": arms, "staining_phantom": arms, "staining_allen": arms, "staining_envelope": arms, "staining_gan": gan,
    "staining_robustness": robustness, "staining_jurkat": jurkat, "staining_speed": speed,
}  # fmt: skip


SUMMARIES: dict[str, Callable[[], str]] = {"models": models, "glance": glance, "systems": systems}


def generic(result: dict[str, Any]) -> str:
    """``tables``: list of {title, head, rows, notes}; ``command``: what made them."""
    parts = []
    for table in result["tables"]:
        parts += [f"*{table['title']}*"] if table.get("title") else []
        cells = [
            [number(v) if isinstance(v, float) else "–" if v is None else v for v in row]
            for row in table["rows"]
        ]
        parts.append(markdown(table["head"], cells))
        parts += ["\n".join(f"- {note}" for note in table["notes"])] if table.get("notes") else []
    return "\n\n".join([*parts, f"`{result['command']}`"])


def render(name: str) -> str:
    if name in SUMMARIES:
        return SUMMARIES[name]()
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "*Not measured yet.*"
    return RENDER.get(name, generic)(json.loads(path.read_text()))


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
