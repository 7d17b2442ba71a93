"""Mechanism retrieval from generated nuclei under signature noise: ``python tests/benchmarks/moa_generated.py [--json]``.

PLANTED: signatures of test genes, which the shipped generator never saw, and the phenotypes a made-up map gives them.
A mechanism is a group of planted effects: one of eight clusters of the standardised parameters of the training
signatures (k-means), to which a test signature belongs by its noiseless parameters; neither generator nor noise has a
part in it. Signatures get noise of replicate wells (1: as much as one well has about the consensus), the generator and
every other arm read the noisy ones; real nuclei under the true phenotype are the ceiling. Positives are other genes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from planted_generation import MODEL, cells_of
from result_files import asked_for_json, publish
from sklearn.cluster import KMeans

from image2reg.tables.profiles import Profiles
from morphgen import planted
from morphgen.fidelity import measure_cells
from morphgen.retrieve import RAW, retrieval_arms, retrieve_generated
from morphgen.sample import load

N_CELLS, MECHANISMS, NOISES = 24, 8, (0.0, 0.5, 1.0, 2.0)
HEAD = ["arm", "mAP (95 %)", "null (95 %)", "p", "hit@1", "gain over raw signature (95 %)", "paired p"]


def mechanisms() -> tuple[KMeans, np.ndarray, np.ndarray]:
    """Clusters of the training signatures' parameters, and what standardises parameters."""
    parameters = planted.phenotype_map()(planted.signature_table("train").values)
    middle, spread = parameters.mean(axis=0), parameters.std(axis=0)
    return KMeans(MECHANISMS, n_init=20, random_state=0).fit((parameters - middle) / spread), middle, spread


def rows_of(table: pd.DataFrame) -> list[list[str]]:
    def gain(row: pd.Series) -> str:
        if pd.isna(row["gain"]):
            return "–"
        return f"{row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]"

    return [
        [row["arm"], f"{row['map']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
         f"{row['null']:.3f} ({row['null_high']:.3f})", f"{row['p_value']:.3f}", f"{row['hit@1']:.3f}", gain(row),
         "–" if pd.isna(row["gain_p"]) else f"{row['gain_p']:.4f}"]
        for _, row in table.iterrows()
    ]  # fmt: skip


def main() -> None:
    as_json = asked_for_json(__doc__)
    model, (clusters, middle, spread) = load(MODEL), mechanisms()
    training = planted.dataset("train", n_per_signature=8, seed=10)
    trained = cells_of(training)
    result: dict[str, object] = {"noise": {}}
    tables = []
    for noise in NOISES:
        data = planted.dataset("unseen", n_per_signature=N_CELLS, noise=noise, seed=21)
        frame = data.signatures.frame.copy()
        group = clusters.predict((data.parameters - middle) / spread)
        frame.insert(0, "Metadata_moa", [f"group {k + 1}" for k in group])
        signatures = Profiles(frame, source=f"planted test signatures, noise {noise:g}")
        crops = model.generate(signatures, n=N_CELLS, seed=0)
        drawn = measure_cells(np.asarray(crops.images), crops.column("Metadata_Perturbation"))
        arms = retrieval_arms(
            signatures, drawn, trained, training.images, training.signatures, real=cells_of(data)
        )
        table = retrieve_generated(arms, label="Metadata_moa", different="Metadata_Gene", n_null=1000)
        scores = table.set_index("arm")
        result["noise"][f"{noise:g}"] = {  # type: ignore[index]
            "generated": scores.loc["generated", "map"], "raw": scores.loc[RAW, "map"],
            "real": scores.loc["real morphology", "map"], "shuffled": scores.loc["shuffled signatures", "map"],
            **{k: scores.loc["generated", k] for k in ("gain", "gain_low", "gain_high", "gain_p")},
        }  # fmt: skip
        notes = [
            f"{int(table['n_queries'].iloc[0])} queries of {int(table['n_compounds'].iloc[0])} test genes, "
            f"{MECHANISMS} groups of planted effects, {N_CELLS} nuclei each; intervals and pairs over genes.",
        ]
        title = f"Planted mechanisms of unseen signatures, signature noise {noise:g}"
        tables.append({"title": title, "head": HEAD, "rows": rows_of(table), "notes": notes})
    tables[-1]["notes"].append(
        "What a generator gains over the raw signature is a distance learnt from training images, no new evidence."
    )
    publish("moa_generated", {**result, "tables": tables}, as_json=as_json)


if __name__ == "__main__":
    main()
