"""Retrieval against scikit-learn and, where they are installed, copairs and pycytominer.

scikit-learn's average precision agrees to 1e-12 where no candidates tie; copairs to 1e-9. p-values agree within
five standard errors of their random rankings; their correction, given equal p-values, to 1e-12.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted
from sklearn.metrics import average_precision_score

from image2reg.retrieval import average_precision, false_discovery_rate, mean_average_precision
from image2reg.retrieval.similarity import similarity_matrix
from image2reg.tables import Profiles, select_features
from image2reg.tables.aggregate import aggregate
from image2reg.tables.normalise import fit_sphering, normalise


def random_table(seed: int, *, n: int = 90) -> Profiles:
    """Compounds of 1 to 6 wells, so that there are singletons; mechanisms, plates; NaN in no feature."""
    rng = np.random.default_rng(seed)
    compound = rng.integers(25, size=n)
    frame = pd.DataFrame(rng.normal(size=(n, 15)), columns=[f"Nuclei_f{i}" for i in range(15)])
    frame.insert(0, "Metadata_Plate", [f"p{i}" for i in rng.integers(3, size=n)])
    frame.insert(0, "Metadata_moa", [f"m{c % 7}" for c in compound])
    frame.insert(0, "Metadata_Compound", [f"c{c}" for c in compound])
    return Profiles(frame, source="random")


PAIRS = [
    {"same": ["Metadata_moa"], "different": ["Metadata_Compound"]},
    {"same": ["Metadata_Compound"]},
    {"same": ["Metadata_Compound"], "different": ["Metadata_Plate"], "negative_same": ["Metadata_Plate"],
     "negative_different": ["Metadata_Compound"]},
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_average_precision(seed: int) -> None:
    table = random_table(seed)
    found = average_precision(table, same=["Metadata_moa"], different=["Metadata_Compound"])
    similarity, moa, compound = (
        similarity_matrix(table),
        table.column("Metadata_moa"),
        table.column("Metadata_Compound"),
    )
    for q in range(len(table)):
        seen = (moa != moa[q]) | (compound != compound[q])
        seen[q] = False
        if found["n_positives"][q]:
            expected = average_precision_score(moa[seen] == moa[q], similarity[q, seen])
            assert found["average_precision"][q] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", PAIRS)
@pytest.mark.parametrize("similarity", ["cosine", "pearson"])
def test_copairs_average_precision(options: dict, similarity: str) -> None:
    peer = pytest.importorskip("copairs.map", reason="copairs is not installed (pip install copairs)")
    for seed in range(3):
        table = random_table(seed)
        ours = average_precision(table, similarity=similarity, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = peer.average_precision(
                table.metadata, table.values, options["same"], options.get("different", []),
                options.get("negative_same", []), options.get("negative_different", options["same"]),
                distance={"cosine": "cosine", "pearson": "correlation"}[similarity], progress_bar=False,
            )  # fmt: skip
        both = (theirs["n_pos_pairs"] > 0).to_numpy()
        assert both.sum() > 20
        np.testing.assert_array_equal(ours["n_positives"], theirs["n_pos_pairs"])
        np.testing.assert_array_equal(ours["n_candidates"], theirs["n_total_pairs"])
        for mine, other in (
            ("average_precision",) * 2,
            ("normalised_average_precision", "normalized_average_precision"),
        ):
            np.testing.assert_allclose(ours[mine][both], theirs[other][both], atol=1e-9)


def test_copairs_multilabel_average_precision() -> None:
    peer = pytest.importorskip(
        "copairs.map.multilabel", reason="copairs is not installed (pip install copairs)"
    )
    rng = np.random.default_rng(0)
    table = random_table(0)
    sets = [sorted(set(rng.integers(6, size=rng.integers(1, 4)))) for _ in range(len(table))]
    table = table.replace(table.frame.assign(Metadata_moa=["|".join(f"m{i}" for i in s) for s in sets]))
    ours = average_precision(table, same=["Metadata_moa"], multilabel="each").set_index(["row", "label"])
    metadata = table.metadata.assign(
        Metadata_row=np.arange(len(table)), Metadata_moa=[[f"m{i}" for i in s] for s in sets]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.average_precision(
            metadata, table.values, ["Metadata_moa"], [], [], ["Metadata_moa"], multilabel_col="Metadata_moa",
            progress_bar=False,
        ).set_index(["Metadata_row", "Metadata_moa"])  # fmt: skip
    assert len(theirs) == len(ours)
    np.testing.assert_allclose(
        ours["average_precision"].reindex(theirs.index), theirs["average_precision"], atol=1e-9
    )


def test_copairs_mean_average_precision() -> None:
    peer = pytest.importorskip("copairs.map", reason="copairs is not installed (pip install copairs)")
    table = planted(noise=4.0)
    table = table.rows(table.column("Metadata_moa") != "")
    ours = mean_average_precision(
        average_precision(table, same=["Metadata_Compound"]), n_null=4000
    ).set_index("group")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = peer.average_precision(
            table.metadata,
            table.values,
            ["Metadata_Compound"],
            [],
            [],
            ["Metadata_Compound"],
            progress_bar=False,
        )
        theirs = peer.mean_average_precision(
            scores, ["Metadata_Compound"], null_size=4000, threshold=0.05, seed=0, progress_bar=False
        ).set_index("Metadata_Compound")
    theirs = theirs.loc[ours.index]
    np.testing.assert_allclose(ours["mean_average_precision"], theirs["mean_average_precision"], atol=1e-9)
    p = theirs["p_value"].to_numpy()
    assert (np.abs(ours["p_value"] - p) <= 5 * np.sqrt(2 * np.maximum(p * (1 - p), 1 / 4000) / 4000)).all()
    np.testing.assert_allclose(false_discovery_rate(p), theirs["corrected_p_value"], atol=1e-12)


@pytest.mark.parametrize("method", ["standardize", "mad_robustize"])
def test_pycytominer_normalize(method: str) -> None:
    peer = pytest.importorskip("pycytominer", reason="pycytominer is not installed (pip install pycytominer)")
    table = planted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.normalize(
            table.frame, features=table.features, meta_features=list(table.metadata.columns),
            samples="Metadata_Compound == 'DMSO'", method=method, mad_robustize_epsilon=0,
        )  # fmt: skip
    controls = table.column("Metadata_Compound") == "DMSO"
    ours = normalise(
        table, controls=controls, method={"standardize": "standard"}.get(method, "robust")
    ).profiles
    # pycytominer divides by the standard deviation over n, and by a MAD scaled with more digits than 1.4826.
    factor = np.sqrt(23 / 24) if method == "standardize" else 1.0
    np.testing.assert_allclose(
        ours.values * 1.0, theirs[table.features].to_numpy() * factor, rtol=1e-4, atol=1e-9
    )


def test_pycytominer_sphering() -> None:
    peer = pytest.importorskip(
        "pycytominer.operations.transform", reason="pycytominer is not installed (pip install pycytominer)"
    )
    controls = pd.DataFrame(
        np.random.default_rng(0).normal(size=(60, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    )
    theirs = peer.Spherize(method="ZCA", epsilon=0).fit(controls).transform(controls).to_numpy()
    ours = fit_sphering(controls.to_numpy(), regularisation=0, rank=5).apply(controls.to_numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_pycytominer_aggregate_consensus_and_selection() -> None:
    peer = pytest.importorskip("pycytominer", reason="pycytominer is not installed (pip install pycytominer)")
    table = planted(n_wells=4)
    table = table.rows(table.column("Metadata_moa") != "")
    by = ["Metadata_Compound", "Metadata_Dose"]
    options = {"replicate_columns": by, "features": table.features}
    # pycytominer looks at positive correlations alone; a feature that all others contain makes them so.
    joined = table.with_values(table.values + 20 * np.random.default_rng(0).normal(size=(len(table), 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        median = peer.consensus(table.frame, operation="median", **options)
        weighted = peer.consensus(table.frame, operation="modz", **options)
        kept = peer.feature_select(
            joined.frame, features=table.features, operation=["correlation_threshold"], corr_threshold=0.95
        )
    np.testing.assert_allclose(aggregate(table, by).values, median[table.features].to_numpy(), atol=1e-12)
    merged = aggregate(table, by, method="modz").values
    # pycytominer rounds its weights to the precision of its correlations.
    np.testing.assert_allclose(merged, weighted[table.features].to_numpy(), atol=2e-3)
    chosen = select_features(joined, most_correlated=0.95).profiles.features
    assert 0 < len(chosen) < 12
    assert chosen == [name for name in kept.columns if name in table.features]


def test_pycytominer_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    peer = pytest.importorskip("pycytominer", reason="pycytominer is not installed (pip install pycytominer)")
    from pycytominer.cyto_utils import infer_cp_features, load_profiles

    table = planted()
    controls = table.column("Metadata_Compound") == "DMSO"
    for name in ("ours.csv", "ours.parquet"):
        normalise(table, controls=controls).profiles.write(tmp_path / name)
        loaded = load_profiles(str(tmp_path / name))
        assert infer_cp_features(loaded) == table.features
        assert infer_cp_features(loaded, metadata=True) == list(table.metadata.columns)
    written = {"theirs.csv.gz": {"compression_options": "gzip"}, "theirs.parquet": {"output_type": "parquet"}}
    for name, options in written.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.normalize(
                table.frame, features=table.features, meta_features=list(table.metadata.columns),
                samples="Metadata_Compound == 'DMSO'", output_file=str(tmp_path / name), **options,
            )  # fmt: skip
        again = Profiles.read(tmp_path / name)
        assert again.features == table.features
        np.testing.assert_array_equal(again.column("Metadata_Compound"), table.column("Metadata_Compound"))
