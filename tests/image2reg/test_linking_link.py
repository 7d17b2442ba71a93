"""link: what was planted is found, what was shuffled is not, and every refusal names what is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import image2reg as i2r
from image2reg.errors import ConfigurationError, DataError
from image2reg.linking.evaluation import evaluate
from image2reg.linking.ranking import LinkResult
from image2reg.linking.selection import Nested
from image2reg.linking.settings import Setting, grid
from image2reg.linking.sources import scaled
from image2reg.tables import Profiles

N_GENES, N_TRAINED, T, D = 140, 120, 8, 200


def profiles(genes: list[str], values: np.ndarray, **metadata: object) -> Profiles:
    named = pd.DataFrame({"Metadata_Gene": genes, **metadata})
    return Profiles(
        pd.concat([named, pd.DataFrame(values).add_prefix("Nuclei_Embedding_")], axis=1), source="case"
    )


def planted(noise: float = 0.0, *, seed: int = 0, rows: int = 1) -> tuple[Profiles, Profiles]:
    """Synthetic: sources are tanh of a random map of the gene embedding, plus noise in units of its spread."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(N_GENES, T))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    genes = [f"G{i:03d}" for i in range(N_GENES)]
    clean = np.tanh(y[:N_TRAINED] @ rng.normal(size=(T, D)))
    x = np.repeat(clean, rows, axis=0)
    x = x + noise * clean.std() * rng.normal(size=x.shape)
    return profiles(list(np.repeat(genes[:N_TRAINED], rows)), x), profiles(genes, y)


@pytest.fixture(scope="module")
def found() -> LinkResult:
    return i2r.link(*planted(), ridge=0.1, n_permutations=20)


def test_planted_map_without_noise_is_found(found: LinkResult) -> None:
    main = found.table.iloc[0]
    assert main["hit@1"] >= 0.95
    assert main["auc"] > 0.99
    assert main["p"] == pytest.approx(1 / 21)


def test_progress_is_told_of_every_shuffle() -> None:
    told: list[tuple[int, int]] = []
    i2r.link(*planted(), n_permutations=3, progress=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_shuffled_labels_are_at_chance(found: LinkResult) -> None:
    assert found.table.iloc[0]["permuted"] == pytest.approx(0.5, abs=0.05)


def test_every_baseline_stands_beside(found: LinkResult) -> None:
    methods = found.table["method"].tolist()
    assert methods[0] == "ntk depth 1, ridge 0.1, centred cosine"
    assert methods[1] == "linear, ridge 0.1, centred cosine"
    assert methods[2].startswith("published recipe: ntk depth 1, ridge 1, uncentred euclidean")
    assert methods[3:] == ["train mean, euclidean", "random", "permuted sources (20 times)"]
    assert (found.table["low"] <= found.table["auc"]).all()
    curve = found.curves[found.curves["method"] == methods[0]]
    assert curve["k"].tolist() == list(range(1, N_GENES + 1))
    assert curve["hit"].is_monotonic_increasing
    assert curve["hit"].iloc[-1] == 1.0
    assert (curve["k_auc_low"] <= curve["k_auc"]).all()


def test_noise_costs_what_it_should() -> None:
    hits = [
        i2r.link(*planted(noise), ridge=0.1, n_permutations=0).table.iloc[0]["auc"] for noise in (0, 3, 30)
    ]
    assert hits[0] > hits[1] > hits[2]


def test_nested_choice_is_strict_and_named() -> None:
    result = i2r.link(*planted(1.0), nested=True, n_permutations=3)
    assert result.table.iloc[0]["method"] == "nested choice"
    assert result.rankings["setting"].str.contains("ridge").all()
    assert "chosen inside the training genes, from 12 settings" in result.notes[0]


def test_settings_chosen_equally_often_are_told_apart_by_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and the linear baseline follow the most frequent one: the same in every run."""
    settings = grid()

    def equally(*_: object, **__: object) -> Nested:
        folds = np.arange(24) % len(settings)
        return Nested(np.random.default_rng(0).normal(size=(24, 30)), tuple(settings[::-1]), folds)

    monkeypatch.setattr("image2reg.linking.evaluation.nested_scores", equally)
    rng = np.random.default_rng(0)
    x, table = scaled(rng.normal(size=(24, 5))), rng.normal(size=(30, 4))
    made = evaluate(x, np.arange(24), table, settings, allowed=np.ones(30, bool), n_permutations=0)
    assert f"most often {settings[0]}." in made.notes[0]


def test_nested_choice_on_noise_is_at_chance() -> None:
    _, target = planted()
    noise = np.random.default_rng(1).normal(size=(N_TRAINED, 40))
    source = profiles([f"G{i:03d}" for i in range(N_TRAINED)], noise)
    assert i2r.link(source, target, nested=True, n_permutations=0).table.iloc[0]["auc"] == pytest.approx(
        0.5, abs=0.08
    )


def test_rows_of_a_gene_are_left_out_together() -> None:
    source, target = planted(2.0, rows=3)
    result = i2r.link(source, target, by_row=True, n_permutations=5)
    assert len(result.rankings) == N_TRAINED
    assert result.table.iloc[0]["auc"] > 0.9
    # A gene whose three rows are the same would be found by its own copies if those stayed in.
    twins, _ = planted(rows=2)
    noise = np.random.default_rng(0).normal(size=(N_TRAINED, 30)).repeat(2, axis=0)
    assert i2r.link(twins.with_values(noise, [f"n{i}" for i in range(30)]), target, by_row=True,
                    n_permutations=0).table.iloc[0]["auc"] == pytest.approx(0.5, abs=0.08)  # fmt: skip


def test_a_query_is_ranked_as_a_gene_held_out() -> None:
    rng = np.random.default_rng(0)
    table, own = rng.normal(size=(20, 4)), np.repeat(np.arange(12), [40, 30, *[2] * 9, 1])
    x = scaled(rng.normal(size=(len(own), 6)) + table[own][:, :1])
    for rows in (slice(None), np.unique(own, return_index=True)[1]):  # single rows, and one a gene
        options = {"allowed": np.ones(20, bool), "n_permutations": 0}
        held = evaluate(x[rows], own[rows], table, [Setting()], **options).scores[-1]
        others = own[rows] != 11
        query = evaluate(x[rows][others], own[rows][others], table, [Setting()], **options).query
        assert query(x[-1:])[0] == pytest.approx(held)


def test_genes_that_cannot_be_told_apart_are_no_finds() -> None:
    """Embeddings of five classes: each gene shares its own with a fifth of the candidates."""
    rng = np.random.default_rng(0)
    genes = [f"G{i:03d}" for i in range(N_GENES)]
    source = profiles(genes[:N_TRAINED], rng.normal(size=(N_TRAINED, 40)))
    main = i2r.link(
        source, profiles(genes, np.eye(5)[rng.integers(0, 5, N_GENES)]), n_permutations=5
    ).table.iloc[0]
    assert main["low"] < 0.5 < main["high"]
    assert main["permuted"] == pytest.approx(0.5, abs=0.03)
    assert main["hit@1"] == 0


def test_many_rows_are_fitted_on_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = planted(1.0, rows=3)
    exact = i2r.link(source, target, by_row=True, n_permutations=0)
    monkeypatch.setattr("image2reg.linking.evaluation.EXACT_ROWS", 100)
    monkeypatch.setattr("image2reg.linking.evaluation.N_CENTRES", 120)
    centres = i2r.link(source, target, by_row=True, n_permutations=0)
    assert centres.table.iloc[0]["auc"] == pytest.approx(exact.table.iloc[0]["auc"], abs=0.05)


def test_training_genes_can_be_excluded_and_candidates_listed() -> None:
    source, target = planted()
    result = i2r.link(source, target, exclude_training=True, n_permutations=0)
    assert set(result.rankings["n_candidates"]) == {N_GENES - N_TRAINED + 1}
    named = [f"G{i:03d}" for i in range(30)]
    listed = i2r.link(source, target, candidates=named, n_permutations=0)
    assert set(listed.rankings["n_candidates"]) == {30, 31}
    for row in listed.rankings.itertuples():
        assert set(row.best.split()) <= {*named, row.gene}
    few = i2r.link(source, target, candidates=named[:3], n_permutations=0).rankings
    assert few["best"].str.split().str.len().tolist() == few["n_candidates"].tolist()
    with pytest.raises(DataError, match=r"1 of 2 candidates are not in the embedding, such as \['NOPE'\]"):
        i2r.link(source, target, candidates=["G001", "NOPE"])


def test_origins_are_reported_apart_and_queries_ranked() -> None:
    source, target = planted()
    generated, _ = planted(seed=0, noise=5.0)
    both = Profiles.concat([
        source.replace(source.frame.assign(Metadata_Origin="real")),
        generated.replace(generated.frame.assign(Metadata_Origin="generated")),
    ])  # fmt: skip
    frame = both.frame.copy()
    frame.loc[frame["Metadata_Gene"] == "G007", "Metadata_Gene"] = ""
    frame["Metadata_Compound"] = np.where(frame["Metadata_Gene"] == "", "drug", "")
    result = i2r.link(both.replace(frame), target, n_permutations=0)
    assert result.table["origin"].unique().tolist() == ["real", "generated"]
    real, generated_row = (result.table[result.table["origin"] == o].iloc[0] for o in ("real", "generated"))
    assert real["auc"] > generated_row["auc"]
    best = result.queries[(result.queries["origin"] == "real") & (result.queries["rank"] == 1)]
    assert best["Metadata_Compound"].tolist() == ["drug"]
    assert best["candidate"].tolist() == ["G007"]  # its gene was never told


def test_too_few_genes_are_refused_and_nothing_is_called_absent_that_is_there() -> None:
    source, target = planted()
    with pytest.raises(DataError, match=r"2 genes of origin 'real' .* leaving one out needs at least 3\.$"):
        i2r.link(source.rows(np.arange(2)), target)


def test_the_gene_may_stand_in_another_column() -> None:
    source, target = planted()
    renamed = source.replace(source.frame.rename(columns={"Metadata_Gene": "Metadata_Perturbation"}))
    result = i2r.link(renamed, target, gene="Metadata_Perturbation", n_permutations=0)
    assert result.table.iloc[0]["auc"] > 0.99
    with pytest.raises(DataError, match="no metadata column 'Metadata_Gene'; there are"):
        i2r.link(renamed, target)


@pytest.mark.parametrize("by_row", [False, True])
def test_rows_of_one_well_without_a_gene_are_one_query_and_counted(by_row: bool) -> None:
    source, target = planted(rows=3)
    gene = source.column("Metadata_Gene")
    frame = source.frame.assign(
        Metadata_Gene=np.select([gene == "G007", gene == "G003", gene == "G004"], ["", "", "g004"], gene),
        Metadata_Well=np.where(gene == "G007", "A01", np.where(gene == "G003", "A02", gene)),
        Metadata_Object=np.arange(len(source)),
    )
    result = i2r.link(source.replace(frame), target, by_row=by_row, n_permutations=0)
    best = result.queries[result.queries["rank"] == 1]
    assert best["candidate"].tolist() == ["G004", "G003", "G007"]  # what names a gene comes first
    assert best["Metadata_Count"].tolist() == ["3", "3", "3"]
    assert best["Metadata_Well"].tolist() == ["G004", "A02", "A01"]
    assert set(best["Metadata_Object"]) == {""}
    assert "g004. Written in other capitals: 'g004' (here 'G004')." in result.notes[0]
    assert "6 rows without a gene, ranked as 2 queries" in " ".join(result.notes)


def test_ranks_begin_at_one(found: LinkResult) -> None:
    assert found.rankings["rank"].min() == 1
    assert (found.rankings["rank"] <= found.rankings["n_candidates"]).all()
    assert (found.rankings.loc[found.rankings["rank"] == 1, "tied_rank"] >= 1).all()
    first = found.rankings["best"].str.split().str[0] == found.rankings["gene"]
    assert (first == (found.rankings["rank"] == 1)).all()


def test_genes_absent_from_the_network_are_named_and_counted() -> None:
    source, target = planted()
    renamed = source.frame.assign(
        Metadata_Gene=np.where(
            source.column("Metadata_Gene") == "G003", "LOST1", source.column("Metadata_Gene")
        )
    )
    result = i2r.link(source.replace(renamed), target, n_permutations=0)
    assert result.absent == ("LOST1",)
    assert result.notes[0] == "1 of 120 genes are absent from the embedding and are ranked as queries: LOST1."


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_too_few_targets_are_refused(kept: int) -> None:
    source, target = planted()
    genes = source.column("Metadata_Gene").copy()
    genes[kept:] = "ELSEWHERE"
    with pytest.raises(
        DataError, match=f"case: {kept} gene.* of origin 'real' .* in the embedding; .* at least 3"
    ):
        i2r.link(source.replace(source.frame.assign(Metadata_Gene=genes)), target)


def test_identical_embeddings_are_refused() -> None:
    source, target = planted()
    with pytest.raises(DataError, match="embeddings of all 140 genes are identical; nothing can be ranked"):
        i2r.link(source, target.with_values(np.ones((N_GENES, T))))


def test_identical_profiles_are_refused_and_flat_features_counted() -> None:
    source, target = planted()
    with pytest.raises(DataError, match=f"none of the {D} features varies over the 120 rows"):
        i2r.link(source.with_values(np.ones((N_TRAINED, D))), target)
    values = source.values
    values[:, :3] = 7.0
    result = i2r.link(source.with_values(values), target, n_permutations=0)
    assert result.notes == (f"real: 3 of {D} features do not vary and say nothing.",)


def test_values_that_are_not_finite_are_placed() -> None:
    source, target = planted()
    values = source.values
    values[4, 2] = np.nan
    placed = (
        rf"1 of {D} features hold values that are not finite, in 1 of 120 rows, the first in row 5 \((.*)\)"
    )
    for name in ("G004", "ELSEWHERE"):  # a gene to learn from, and a query
        genes = source.frame.assign(
            Metadata_Gene=[*source.column("Metadata_Gene")[:4], name, *source.column("Metadata_Gene")[5:]]
        )
        with pytest.raises(DataError, match=placed) as refused:
            i2r.link(source.replace(genes).with_values(values), target)
        assert f"({name}), 'Nuclei_Embedding_2'. Leave out" in str(refused.value)
    with pytest.raises(DataError, match="8 embedding values are not finite"):
        i2r.link(
            source, target.with_values(np.where(np.arange(N_GENES)[:, None] == 3, np.nan, target.values))
        )


def test_a_gene_with_two_embeddings_is_refused() -> None:
    source, target = planted()
    doubled = target.frame.assign(
        Metadata_Gene=np.where(np.arange(N_GENES) == 1, "G000", target.column("Metadata_Gene"))
    )
    with pytest.raises(DataError, match=r"1 genes have more than one embedding, such as \['G000'\]"):
        i2r.link(source, target.replace(doubled))


def test_an_embedding_without_a_gene_is_refused() -> None:
    source, target = planted()
    nameless = target.frame.assign(Metadata_Gene=[*target.column("Metadata_Gene")[:-1], ""])
    with pytest.raises(DataError, match="Metadata_Gene is empty in 1 rows"):
        i2r.link(source, target.replace(nameless))


def test_wrong_settings_are_refused() -> None:
    source, target = planted()
    with pytest.raises(ConfigurationError, match="nested or by_row, not both"):
        i2r.link(source, target, nested=True, by_row=True)
    with pytest.raises(ConfigurationError, match="ridge is 0"):
        i2r.link(source, target, ridge=0.0)
    with pytest.raises(ConfigurationError, match="kernel 'rbf' is not known"):
        i2r.link(source, target, kernel="rbf")
