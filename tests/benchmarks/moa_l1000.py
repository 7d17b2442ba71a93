"""Mechanism and same-gene retrieval from L1000 profiles: published protocol reproduced, then label-free processing.

python tests/benchmarks/moa_l1000.py [--json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Sequence

import numpy as np
import pandas as pd
from mechanism_data import highest_doses, ljp005, ta_orf
from result_files import asked_for_json, interval, publish

from image2reg.expression.connectivity import connectivity
from image2reg.expression.gene_sets import extreme_genes
from image2reg.retrieval import average_precision, choose_processing, percent_replicating
from image2reg.retrieval.labels import incidence
from image2reg.retrieval.processing import FeatureProcessing
from image2reg.retrieval.significance import compound_interval, label_permutation_test, mean_average_precision
from image2reg.retrieval.similarity import local_scaling, similarity_matrix
from image2reg.tables import Profiles
from image2reg.tables.aggregate import aggregate

PLAIN = FeatureProcessing(arcsinh=False, sphering=0.0, neighbours=0)
N_NULL = 500


def arm(
    name: str,
    profiles: Profiles,
    *,
    label: str,
    unit: str,
    multilabel: str = "",
    neighbours: int = 0,
    similarity: str = "cosine",
) -> tuple[list, float]:
    """Score one arm: mAP with its interval over units, null by permuted labels, hit@1, hit@5."""
    scores = average_precision(
        profiles,
        same=[label],
        multilabel=multilabel,
        neighbours=neighbours,
        similarity=similarity,
        top=(1, 5),
    )
    found = similarity_matrix(profiles, similarity)
    other = ~np.eye(len(profiles), dtype=bool)
    if neighbours:
        hub = local_scaling(found, other, neighbours=neighbours)
        found = 2 * found - hub[:, None] - hub[None]
    return _row(name, profiles, found, scores, label, unit, multilabel)


def _row(
    name: str,
    profiles: Profiles,
    found: np.ndarray,
    scores: pd.DataFrame | None,
    label: str,
    unit: str,
    multilabel: str,
) -> tuple[list, float]:
    cells = profiles.column(label)
    members = incidence(cells)[0] if multilabel else incidence([c.replace("|", "/") for c in cells])[0]
    labelled = members.any(axis=1)
    candidate = labelled[:, None] & labelled[None] & ~np.eye(len(cells), dtype=bool)
    test = label_permutation_test(found, members @ members.T > 0, candidate, n=N_NULL, seed=0)
    null = f"{test['null_mean']:.3f} ({test['null_high']:.3f})"
    if scores is None:
        return [
            name,
            f"{test['value']:.3f}",
            null,
            f"{test['p_value']:.3f}",
            None,
            None,
            test["n_queries"],
        ], test["value"]
    mean = compound_interval(scores, compound=unit)
    hits = [float(scores[f"hit@{k}"].mean()) for k in (1, 5)]
    return [name, interval(mean), null, f"{test['p_value']:.3f}", *hits, test["n_queries"]], mean.value


def connectivity_matrix(profiles: Profiles, n: int = 50) -> np.ndarray:
    """Weighted connectivity of every compound's 50 up and 50 down genes to every other, made symmetric."""
    values, genes = profiles.values, profiles.features
    scores = np.stack([connectivity(values, genes, *extreme_genes(row, genes, n=n)) for row in values])
    return (scores + scores.T) / 2


def ljp() -> tuple[dict, dict[str, float]]:
    wells, controls = ljp005()
    kept = highest_doses(wells) | controls
    wells, controls = wells.rows(kept), controls[kept]
    chosen, grid = choose_processing(wells, controls=controls, by=[], compound="Metadata_Compound")
    options = {"label": "Metadata_moa", "unit": "Metadata_Compound", "multilabel": "any"}

    def merged(steps: FeatureProcessing, method: str) -> Profiles:
        found = aggregate(steps.apply(wells, controls, []), ["Metadata_Compound"], method=method)
        return found.rows(found.column("Metadata_moa") != "")

    base = merged(PLAIN, "median")
    rows, keys = [], {}
    row, keys["map"] = arm("z against DMSO, median of 3 doses, cosine (the protocol)", base, **options)
    rows.append(row)
    rows.append(arm("the same, Spearman", base, similarity="spearman", **options)[0])
    rows.append(_row("the same, weighted connectivity (50 up, 50 down)", base, connectivity_matrix(base), None,
                     options["label"], options["unit"], "any")[0])  # fmt: skip
    rows.append(arm("MODZ of 3 doses, cosine", merged(PLAIN, "modz"), **options)[0])
    rows.append(arm("label-free choice, median of 3 doses", merged(chosen, "median"), **options)[0])
    row, keys["improved"] = arm(
        "label-free choice, local scaling (10)",
        merged(chosen, "median"),
        neighbours=chosen.neighbours,
        **options,
    )
    rows.append(row)
    table = {
        "title": "LJP005: mechanism from L1000, A375, one plate, 55 compounds, "
        f"{len(base)} with a mechanism in the repurposing table",
        "head": ["arm", "mAP", "null mAP (95 %)", "p", "hit@1", "hit@5", "queries"],
        "rows": rows,
        "notes": [_choice(chosen, grid, "a compound's wells at its other doses"), _NULL],
    }
    return table, keys


def orf() -> tuple[dict, dict[str, float]]:
    wells, controls = ta_orf()
    chosen, grid = choose_processing(wells, controls=controls, by=[], compound="Metadata_ORF")
    options = {"label": "Metadata_Gene", "unit": "Metadata_Gene"}

    def merged(steps: FeatureProcessing) -> Profiles:
        return aggregate(steps.apply(wells, controls, []), ["Metadata_ORF", "Metadata_Gene"], method="modz")

    rows, keys = [], {}
    row, keys["map"] = arm("z-scores, MODZ per ORF, cosine (the protocol)", merged(PLAIN), **options)
    rows.append(row)
    row, keys["sphered"] = arm("label-free choice, cosine", merged(chosen), **options)
    rows.append(row)
    row, keys["improved"] = arm(
        "label-free choice, local scaling (10)", merged(chosen), neighbours=chosen.neighbours, **options
    )
    rows.append(row)
    table = {
        "title": "TA-ORF: the other ORF of the same gene, L1000, U2OS, 324 ORFs of 189 genes",
        "head": ["arm", "mAP", "null mAP (95 %)", "p", "hit@1", "hit@5", "queries"],
        "rows": rows,
        "notes": [
            _choice(chosen, grid, "the replicate wells of an ORF"),
            _NULL,
            *replicates(wells, controls, chosen),
        ],
    }
    return table, keys


def replicates(wells: Profiles, controls: np.ndarray, chosen: FeatureProcessing) -> Sequence[str]:
    """Replicate retrieval against controls, and percent replicating, before and after; no control is used twice."""
    said = []
    fitted = controls & (
        np.cumsum(controls) % 2 == 0
    )  # every other control well: these fit, the others compete
    for name, steps in {
        "z-scores": PLAIN,
        "label-free choice, fitted on the other half of the controls": chosen,
    }.items():
        left_out = fitted if steps.sphering else np.zeros_like(fitted)
        ready = steps.transform(wells, fitted).rows(~left_out)
        control = controls[~left_out]
        frame = ready.frame.copy()
        frame["Metadata_Kind"] = np.where(control, "control", "ORF")
        # Each control well is a group of its own, so that only ORFs have replicates.
        frame["Metadata_Group"] = np.where(
            control, [f"control {i}" for i in range(len(frame))], frame["Metadata_ORF"]
        )
        ready = ready.replace(frame)
        scores = average_precision(ready, same=["Metadata_Group"], negative_different=["Metadata_Kind"])
        scores = scores[scores["Metadata_Kind"] == "ORF"]
        found = mean_average_precision(scores, n_null=10_000)
        clipped = ready.rows(~control)
        clipped = clipped.with_values(np.clip(clipped.values, -10, 10))
        share, _ = percent_replicating(clipped, replicate="Metadata_ORF", similarity="cosine")
        said.append(
            f"Replicate wells against {int(control.sum())} controls, {name}: mAP {found['mean_average_precision'].mean():.3f} "
            f"(chance {found['chance'].mean():.3f}) over {len(found)} ORFs, {100 * found['significant'].mean():.1f} % "
            f"significant at FDR 0.05; percent replicating {100 * share:.1f} (null: medians of unrelated groups of that size)."
        )
    return said


_NULL = "Null: labels permuted among compounds or ORFs, 500 times. Intervals resample compounds (LJP005) or genes (TA-ORF)."


def _choice(chosen: FeatureProcessing, grid: pd.DataFrame, of: str) -> str:
    plain = float(grid["criterion"].iloc[0])
    return (
        f"Label-free choice: arcsinh {'yes' if chosen.arcsinh else 'no'}, sphering on controls {chosen.sphering:g}, by "
        f"mean average precision of finding {of} ({plain:.3f} unprocessed, {grid['criterion'].max():.3f} chosen)."
    )


def main() -> None:
    as_json = asked_for_json(__doc__ or "")
    ljp_table, ljp_keys = ljp()
    orf_table, orf_keys = orf()
    publish(
        "moa_l1000", {"ljp": ljp_keys, "taorf": orf_keys, "tables": [ljp_table, orf_table]}, as_json=as_json
    )


if __name__ == "__main__":
    main()
