"""Signatures: genes found by any id, missing and doubled ones named, levels told apart, bad input refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import ConfigurationError, DataError
from image2reg.expression import (
    ExpressionTable,
    align,
    landmark_genes,
    level_of,
    moderated,
    read_signatures,
    zscores,
)
from image2reg.tables.aggregate import modz
from image2reg.tables.profiles import Profiles

GENES = landmark_genes()


def table(kind: str = "probe", n: int = 4, seed: int = 0) -> ExpressionTable:
    """Z-scores of all landmarks in shuffled order."""
    order = np.random.default_rng(seed).permutation(len(GENES))
    values = np.random.default_rng(seed + 1).normal(0, 1.5, (len(GENES), n))
    frame = pd.DataFrame(
        values[order], index=GENES[kind].to_numpy()[order], columns=[f"s{i}" for i in range(n)]
    )
    return ExpressionTable(
        frame, column_metadata=pd.DataFrame({"pert_iname": [f"p{i}" for i in range(n)]}, frame.columns)
    )


def written(tmp_path, frame: pd.DataFrame, name: str = "signatures.csv"):
    path = tmp_path / name
    (frame.to_parquet if name.endswith("parquet") else frame.to_csv)(path, index=False)
    return path


def wide(kind: str = "symbol", n: int = 4) -> pd.DataFrame:
    t = table(kind, n)
    return pd.concat(
        [pd.DataFrame({"Metadata_pert": [f"p{i}" for i in range(n)]}), t.values.T.reset_index(drop=True)],
        axis=1,
    )


def test_the_list_has_978_genes_and_no_id_twice():
    assert GENES.shape == (978, 3)
    assert GENES.nunique().tolist() == [978, 978, 978]


def test_the_list_is_that_of_a_real_plate(shared_data):
    found = read_signatures(shared_data / "reader_fixtures" / "test_l1000.gct", level="3")
    assert found.id_kind == "probe"
    assert found.profiles.features == GENES.symbol.tolist()
    assert len(found.profiles) == 377
    assert found.present.all()
    assert not found.notes


@pytest.mark.parametrize("kind", ["symbol", "entrez", "probe"])
@pytest.mark.parametrize(
    "suffix", ["signatures.gct", "signatures.gctx", "signatures.csv", "signatures.parquet"]
)
def test_the_same_signatures_come_out_of_every_format_and_id(tmp_path, kind, suffix):
    path = tmp_path / suffix
    if suffix.endswith(("gct", "gctx")):
        table(kind).write(path)
    else:
        written(tmp_path, wide(kind), suffix)
    found = read_signatures(path)
    np.testing.assert_allclose(
        found.profiles.values,
        table("symbol").values.loc[GENES.symbol].T,
        rtol=0,
        atol=1e-3 if suffix == "signatures.gct" else 1e-6,
    )
    assert found.id_kind == kind
    assert found.level == "4/5"


def test_content_decides_not_the_suffix(tmp_path):
    table().write(tmp_path / "a.gct")
    (tmp_path / "a.gct").rename(tmp_path / "a.csv")
    assert len(read_signatures(tmp_path / "a.csv").profiles) == 4


def test_part_of_the_signatures_in_the_order_asked_for(tmp_path):
    table().write(tmp_path / "a.gctx")
    found = read_signatures(tmp_path / "a.gctx", signatures=["s2", "s0"], genes=["TP53", "PSME1"])
    assert found.profiles.column("Metadata_Signature").tolist() == ["s2", "s0"]
    assert found.profiles.column("Metadata_pert_iname").tolist() == ["p2", "p0"]
    np.testing.assert_allclose(
        found.profiles.values, table("symbol").values.loc[["TP53", "PSME1"], ["s2", "s0"]].T, rtol=1e-6
    )


def test_genes_beyond_the_landmarks_are_left_out(tmp_path):
    t = table()
    more = pd.concat(
        [t.values, pd.DataFrame(1.0, index=[f"inferred_{i}" for i in range(300)], columns=t.values.columns)]
    )
    ExpressionTable(more).write(tmp_path / "a.gctx")
    assert read_signatures(tmp_path / "a.gctx").profiles.values.shape == (4, 978)


def test_977_genes_are_refused_by_name_and_filled_only_when_asked(tmp_path):
    path = written(tmp_path, wide().drop(columns="TP53"))
    with pytest.raises(
        DataError, match=r"1 of 978 genes are missing \(ids read as symbol\): 'TP53'.*missing='zero'"
    ):
        read_signatures(path)
    found = read_signatures(path, missing="zero")
    assert found.notes == ("1 of 978 genes are missing (ids read as symbol): 'TP53': filled with 0",)
    column = found.profiles.features.index("TP53")
    assert (found.profiles.values[:, column] == 0).all()
    assert found.present.sum() == 4 * 977
    assert not found.present[:, column].any()


def test_real_table_with_mangled_symbols_says_what_they_may_be(shared_data):
    path = shared_data / "cmea_l1000_morphology_pairs" / "l1000_130x978.csv.gz"
    with pytest.raises(DataError, match=r"2 of 978 genes are missing .*'HLA-DMA' \(perhaps 'HLA.DMA'\)"):
        read_signatures(path)


def test_duplicate_genes_are_refused_by_name_and_averaged_only_when_asked(tmp_path):
    frame = wide()
    twice = pd.concat([frame, frame[["TP53"]] + 2], axis=1)
    path = written(tmp_path, twice)
    with pytest.raises(
        DataError, match=r"1 of 978 genes appear more than once: 'TP53' \(2 times\).*duplicates='mean'"
    ):
        read_signatures(path)
    found = read_signatures(path, duplicates="mean")
    np.testing.assert_allclose(found.profiles.frame["TP53"], frame["TP53"] + 1, atol=1e-6)
    assert "averaged" in found.notes[0]


def test_a_transposed_table_is_refused(tmp_path):
    t = table("symbol", n=5)
    turned = t.values.reset_index().rename(columns={"rid": "gene"})
    with pytest.raises(
        DataError, match="is transposed: 978 of 978 genes stand in its column 'gene' and none"
    ):
        read_signatures(written(tmp_path, turned))
    ExpressionTable(t.values.T).write(tmp_path / "turned.gctx")
    with pytest.raises(
        DataError,
        match="is transposed: 978 of 978 genes stand in its columns and none",
    ):
        read_signatures(tmp_path / "turned.gctx")


def test_a_transposed_table_with_a_signature_named_as_a_gene_is_not_filled(tmp_path):
    values = table("symbol", n=3).values.set_axis(["ATF4", "x", "BAX"], axis=1)
    path = written(tmp_path, values.reset_index().rename(columns={"rid": "gene"}))
    n = sum(name in set(GENES.symbol) for name in ("ATF4", "BAX"))
    for missing in ("refuse", "zero"):
        with pytest.raises(DataError, match=f"is transposed: 978 of 978 .* column 'gene' and {n} in its"):
            read_signatures(path, missing=missing)


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (str.lower, r"978 of 978 genes are there in another case, such as '\w+' for '\w+'. Write human"),
        (lambda name: f"feature_{name}", r"none of 978 ids .* such as 'feature_.*Map them to gene symbols"),
    ],
)
def test_other_names_of_genes_are_no_transposed_table(tmp_path, rename, message):
    frame = wide(n=2).assign(Metadata_pert=["BAX", "TP53"])
    path = written(tmp_path, frame.rename(columns=lambda c: c if c.startswith("Meta") else rename(c)))
    with pytest.raises(DataError, match=message) as caught:
        read_signatures(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(tmp_path, separator, name):
    wide(n=2).to_csv(tmp_path / "a.csv", index=False, sep=separator)
    with pytest.raises(DataError, match=f"cells are separated by {name}; .* Save it as comma-separated CSV"):
        read_signatures(tmp_path / "a.csv")


def test_decimal_commas_are_named(tmp_path):
    wide(n=2).to_csv(tmp_path / "a.csv", index=False, decimal=",")
    with pytest.raises(DataError, match=r"978 columns of genes hold text, such as '.*,.*decimal point"):
        read_signatures(tmp_path / "a.csv")


def test_no_signature_is_filled_by_more_than_half(tmp_path):
    few = written(tmp_path, wide(n=2).iloc[:, :201], "few.csv")
    with pytest.raises(DataError, match=r"778 of 978 genes are missing .*Add them\.$"):
        read_signatures(few)
    with pytest.raises(DataError, match=r"2 of 2 signatures have values for fewer than half .*200 of 978"):
        read_signatures(few, missing="zero")
    one = wide(n=2)
    one.iloc[1, 1:500] = np.nan
    with pytest.raises(DataError, match=r"1 of 2 signatures .*first: 'p1', 479 of 978"):
        read_signatures(written(tmp_path, one), missing="zero")


@pytest.mark.parametrize("name", ["", "signature", "Metadata_Signature"])
def test_the_column_of_names_is_metadata_once(tmp_path, name):
    path = written(tmp_path, wide(n=2).rename(columns={"Metadata_pert": name}))
    found = read_signatures(path).profiles
    assert list(found.metadata.columns) == ["Metadata_Signature"]
    assert found.column("Metadata_Signature").tolist() == ["p0", "p1"]


def test_probe_ids_for_symbols_are_refused_when_symbols_were_promised(tmp_path):
    path = written(tmp_path, wide("probe"))
    with pytest.raises(
        DataError, match=r"0 of 978 genes are found as symbol and 978 as probe.*are of kind 'probe'"
    ):
        read_signatures(path, ids="symbol")


def test_ids_that_are_no_genes_are_refused_with_examples(tmp_path):
    frame = pd.DataFrame({"Metadata_a": ["x"], "feature_1": [1.0], "feature_2": [2.0]})
    with pytest.raises(
        DataError, match=r"none of 2 ids is one of the 978 genes wanted.*'feature_1', 'feature_2'"
    ):
        read_signatures(written(tmp_path, frame))


def test_gene_names_may_stand_in_the_metadata_of_rows(tmp_path):
    t = table("symbol")
    ids = [f"row{i}" for i in range(978)]
    renamed = ExpressionTable(
        t.values.set_axis(ids), row_metadata=pd.DataFrame({"pr_gene_symbol": t.values.index}, index=ids)
    )
    renamed.write(tmp_path / "a.gctx")
    np.testing.assert_allclose(
        read_signatures(tmp_path / "a.gctx").profiles.values, t.values.loc[GENES.symbol].T, rtol=1e-6
    )


def test_nan_is_refused_with_its_place_and_filled_only_when_asked(tmp_path):
    frame = wide()
    frame.loc[2, "TP53"] = np.nan
    path = written(tmp_path, frame)
    with pytest.raises(
        DataError,
        match=r"1 of 3912 values are missing or not finite in 1 signatures \(first: 'p2', gene 'TP53'\)",
    ):
        read_signatures(path)
    found = read_signatures(path, missing="zero")
    assert not found.present[2, found.profiles.features.index("TP53")]
    assert found.present.sum() == 3911


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda z: np.exp(z + 6), r"look like fluorescence \(level 2\): median .*Normalise it to level 3"),
        (lambda z: z / 3 + 8, r"look like log2 expression \(level 3\).*level='3'.*zscores"),
    ],
)
def test_another_level_is_refused(tmp_path, values, message):
    frame = wide()
    frame.iloc[:, 1:] = values(frame.iloc[:, 1:])
    with pytest.raises(DataError, match=message):
        read_signatures(written(tmp_path, frame))


def test_expression_cannot_be_filled_with_zero():
    with pytest.raises(ConfigurationError, match="level 3 is expression"):
        read_signatures("a.gct", level="3", missing="zero")


@pytest.mark.parametrize("content", [b"", b"\x00\x01binary", b"\x89PNG\r\n\x1a\n\0"])
def test_other_content_is_refused(tmp_path, content):
    (tmp_path / "a.gct").write_bytes(content)
    with pytest.raises(DataError, match="neither GCT, GCTX, Parquet nor CSV"):
        read_signatures(tmp_path / "a.gct")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_signatures(tmp_path / "none.gct")


def test_integer_ids_are_entrez_ids():
    found = align([int(GENES.entrez[5]), float(GENES.entrez[0])])
    assert found.kind == "entrez"
    assert found.places[[0, 5]].tolist() == [1, 0]
    assert len(found.missing) == 976


def test_a_gene_that_is_no_landmark_is_refused():
    with pytest.raises(ConfigurationError, match="1 genes asked for are no landmarks: 'NOTAGENE'"):
        align(["PSME1"], genes=["PSME1", "NOTAGENE"])


def test_levels_by_size():
    rng = np.random.default_rng(0)
    assert level_of(np.exp(rng.normal(6, 1, 1000))) == "2"
    assert level_of(rng.normal(8, 2, 1000).clip(0)) == "3"
    assert level_of(rng.normal(0, 2, 1000)) == "4/5"


def test_zscores_of_a_real_plate_against_vehicle_follow_the_equation(shared_data):
    """(x - median DMSO) / (1.4826 max(MAD DMSO, 0.1)), gene by gene."""
    wells = read_signatures(shared_data / "reader_fixtures" / "test_l1000.gct", level="3").profiles
    z = zscores(wells, reference="vehicle")
    controls = wells.values[wells.column("Metadata_pert_type") == "ctl_vehicle"]
    middle = np.median(controls, axis=0)
    spread = 1.4826 * np.median(np.abs(controls - middle), axis=0).clip(0.1)
    np.testing.assert_allclose(z.values, (wells.values - middle) / spread, rtol=1e-9, atol=1e-9)
    plate = zscores(wells, reference="plate").values
    assert np.abs(np.median(plate, axis=0)).max() < 1e-9
    with pytest.raises(ConfigurationError, match=r"z-scores are made from level 3.*holds z-scores already"):
        zscores(z)


def test_replicates_become_one_moderated_zscore():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(5, 30)), columns=[f"g{i}" for i in range(30)])
    frame.insert(0, "Metadata_pert_id", ["a", "a", "a", "b", "c"])
    found = moderated(Profiles(frame), by=["Metadata_pert_id"])
    assert found.column("Metadata_Count").tolist() == ["3", "1", "1"]
    np.testing.assert_allclose(found.values[0], modz(frame.iloc[:3, 1:].to_numpy()))
    np.testing.assert_array_equal(found.values[1], frame.iloc[3, 1:].to_numpy(float))


def test_metadata_keeps_leading_zeros_and_empty_cells_in_a_table(tmp_path):
    frame = wide(n=2).assign(Metadata_plate=["007", "008"], Metadata_moa=[None, "MEK inhibitor"])
    found = read_signatures(written(tmp_path, frame)).profiles
    assert found.column("Metadata_plate").tolist() == ["007", "008"]
    assert found.column("Metadata_moa").tolist() == ["", "MEK inhibitor"]


def test_rows_of_a_sorted_parquet_table_keep_their_names(tmp_path):
    frame = wide(n=3).assign(Metadata_Signature=["c", "b", "a"]).sort_values("Metadata_Signature")
    frame.to_parquet(tmp_path / "sorted.parquet")  # with its index 2, 1, 0
    found = read_signatures(tmp_path / "sorted.parquet").profiles
    assert found.column("Metadata_Signature").tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found.frame["TP53"], frame["TP53"])


def test_lines_that_end_in_a_separator_are_refused(tmp_path):
    path = written(tmp_path, wide(n=2))
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(line + "," for line in lines)]))
    with pytest.raises(DataError, match="rows have more cells than the 979 columns"):
        read_signatures(path)
