"""Connectivity scores against the definition written out gene by gene, and gene sets from files"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression.connectivity import (
    connectivity,
    enrichment_score,
    normalised_connectivity,
    signature_similarity,
    tau,
)
from image2reg.expression.gene_sets import extreme_genes, paired_sets, read_gmt

GENES = [f"G{i}" for i in range(20)]


def written_out(signature: np.ndarray, members: set[int], weight: float) -> float:
    """Walk down the ranked genes, up at members, down elsewhere, and keep the largest deviation."""
    order = sorted(range(len(signature)), key=lambda i: -signature[i])
    total = sum(abs(signature[i]) ** weight for i in members)
    running, best = 0.0, 0.0
    for i in order:
        running += (
            abs(signature[i]) ** weight / total if i in members else -1 / (len(signature) - len(members))
        )
        best = running if abs(running) > abs(best) else best
    return best


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0])
def test_enrichment_is_the_walk_written_out(weight: float) -> None:
    rng = np.random.default_rng(0)
    signatures = rng.normal(size=(8, 20))
    members = {0, 3, 7, 12}
    mask = np.isin(np.arange(20), list(members))
    expected = [written_out(row, members, weight) for row in signatures]
    np.testing.assert_allclose(enrichment_score(signatures, mask, weight=weight), expected, atol=1e-12)


def test_a_signature_connects_to_itself_and_opposes_its_mirror() -> None:
    signature = np.linspace(3, -3, 20)
    up, down = extreme_genes(signature, GENES, n=4)
    assert up == ("G0", "G1", "G2", "G3")
    assert down == ("G19", "G18", "G17", "G16")
    scores = connectivity(np.stack([signature, -signature]), GENES, up, down)
    assert scores == pytest.approx([1, -1])
    # Both sets at the top: the same sign, so no connection.
    assert connectivity(signature[None], GENES, GENES[:2], GENES[2:4]).tolist() == [0]


def test_normalised_scores_have_mean_magnitude_one_per_sign_and_group() -> None:
    scores = np.array([0.2, 0.6, -0.1, 0.0, 0.5])
    found = normalised_connectivity(scores, groups=["A375", "A375", "A375", "A375", "U2OS"])
    assert found == pytest.approx([0.5, 1.5, -1, 0, 1])
    with pytest.raises(DataError, match="1 groups for 5 scores"):
        normalised_connectivity(scores, groups=["a"])


def test_tau_is_the_signed_share_of_the_bank_that_is_weaker() -> None:
    bank = np.array([[0.1, 2.0], [-0.2, 2.0], [0.9, 2.0], [0.3, 2.0]])
    assert tau(np.array([0.5, -1.0]), bank).tolist() == [75, 0]
    assert tau(np.array([-0.5, 3.0]), bank).tolist() == [-75, 100]
    with pytest.raises(DataError, match=r"allowed is \(queries, 2\)"):
        tau(np.array([0.5, 1]), bank.T)


def test_similarities_and_refusals() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20)), rng.normal(size=(3, 20))
    from scipy.stats import spearmanr

    assert signature_similarity(a, b, "spearman")[1, 2] == pytest.approx(spearmanr(a[1], b[2]).statistic)
    with pytest.raises(DataError, match="same genes in the same order"):
        signature_similarity(a, b[:, :5])
    with pytest.raises(DataError, match="none of the 1 up genes"):
        connectivity(a, GENES, ["TP53"], ["G1"])
    with pytest.raises(DataError, match="in the up and in the down set"):
        connectivity(a, GENES, ["G1"], ["G1"])
    with pytest.raises(DataError, match="1 values that are not finite"):
        connectivity(np.where(np.arange(20) == 3, np.nan, a[:1]), GENES, ["G1"], ["G2"])
    with pytest.raises(DataError, match="holds 20 of 20"):
        enrichment_score(a, np.ones(20, bool))
    with pytest.raises(ConfigurationError, match="1 to 10 of 20 genes"):
        extreme_genes(a[0], GENES, n=11)


def test_gmt_files_are_read_and_paired(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("drug_UP\tna\tA\tB\tA\ndrug_DN\t\tC\nlone\tx\tD\n\n", encoding="utf-8")
    sets = read_gmt(path)
    assert sets == {"drug_UP": ("A", "B"), "drug_DN": ("C",), "lone": ("D",)}
    assert paired_sets(sets) == {"drug": (("A", "B"), ("C",))}
    with pytest.raises(DataError, match="has a partner"):
        paired_sets({"lone": ("D",)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\n", "line 1: 'a\\\\tb' has no gene"),
        ("a\t\tG\na\t\tG\n", "line 2: the set 'a' appears twice"),
        ("\n", "no gene set"),
    ],
)
def test_gmt_files_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_gmt(path)
    with pytest.raises(DataError, match="cannot be read as GMT"):
        read_gmt(tmp_path / "missing.gmt")
