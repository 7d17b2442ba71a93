"""GCT and GCTX against the files read by hand, and against cmapPy itself.

Values are compared bit for bit. Metadata is compared with cmapPy's to one part in 1e15: its `pandas.to_numeric` is
off by the last digit in a fifth of the decimals of a real field; ours is what Python's `float` reads. cmapPy's own
readers run unchanged under the pandas of today, with a deprecation warning each (`to_numeric(errors="ignore")`) that
is silenced here.
"""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pandas as pd
import pytest

from image2reg.expression import ExpressionTable, read

MATRIX, ROW, COLUMN = "/0/DATA/0/matrix", "/0/META/ROW", "/0/META/COL"


def l1000_like(n_rows: int = 20, n_columns: int = 9) -> ExpressionTable:
    generator = np.random.default_rng(11)
    values = pd.DataFrame(
        generator.standard_normal((n_rows, n_columns)).astype(np.float32),
        index=np.arange(n_rows) * 7 + 1017,
        columns=[f"REP.A001_A375_24H:{i}" for i in range(n_columns)],
    )
    rows = pd.DataFrame({"symbol": [f"GENE{i}" for i in range(n_rows)], "is_lm": 1}, index=values.index)
    columns = pd.DataFrame({"dose": np.linspace(0.1, 10, n_columns), "cell": "U2OS"}, index=values.columns)
    columns.iloc[1] = np.nan
    return ExpressionTable(values, rows, columns)


def cmappy(parser: str, path, **options):
    """The original cmapPy, not our private copy."""
    module = pytest.importorskip(f"cmapPy.pandasGEXpress.{parser}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return module.parse(str(path), **options)


def test_real_gctx_against_h5py_by_hand(shared_data):
    path = shared_data / "reader_fixtures" / "test_l1000_highprecision.gctx"
    table = read(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(table.values.to_numpy(), file[MATRIX][...].T)
        for frame, group in ((table.row_metadata, file[ROW]), (table.column_metadata, file[COLUMN])):
            assert [name.encode() for name in frame.index] == list(group["id"][...])
            assert sorted(frame.columns) == sorted(set(group) - {"id"})
            for name in frame.columns:
                stored = group[name][...]
                missing = frame[name].isna().to_numpy()
                if stored.dtype.kind in "if":
                    np.testing.assert_array_equal(frame[name].to_numpy()[~missing], stored[~missing])
                    np.testing.assert_array_equal(missing, stored == -666)
                    continue
                assert set(stored[missing]) <= {b"-666", b"NaN", b"nan", b"NA"}
                if frame[name].dtype == object:
                    assert [text.encode() for text in frame[name][~missing]] == list(stored[~missing])
                else:
                    np.testing.assert_array_equal(frame[name][~missing], stored[~missing].astype(float))


def test_real_gct_against_its_lines_by_hand(shared_data):
    path = shared_data / "reader_fixtures" / "test_l1000.gct"
    table = read(path)
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[2:]]
    n_row_fields, n_column_fields = table.row_metadata.shape[1], table.column_metadata.shape[1]
    assert list(table.values.columns) == lines[0][1 + n_row_fields :]
    body = lines[1 + n_column_fields :]
    assert list(table.values.index) == [fields[0] for fields in body]
    by_hand = np.array([[float(text) for text in fields[1 + n_row_fields :]] for fields in body])
    np.testing.assert_array_equal(table.values.to_numpy(), by_hand.astype(np.float32))
    doses = next(fields for fields in lines if fields[0] == "pert_dose")[1 + n_row_fields :]
    expected = [np.nan if text == "-666" else float(text) for text in doses]
    np.testing.assert_array_equal(table.column_metadata["pert_dose"].to_numpy(float), expected)


@pytest.mark.parametrize(
    ("parser", "name"), [("parse_gct", "test_l1000.gct"), ("parse_gctx", "test_l1000_highprecision.gctx")]
)
def test_real_files_read_as_cmappy_reads_them(shared_data, parser, name):
    path = shared_data / "reader_fixtures" / name
    table, theirs = read(path), cmappy(parser, path)
    pd.testing.assert_frame_equal(table.values, theirs.data_df, check_exact=True, check_names=False)
    for ours, other in (
        (table.row_metadata, theirs.row_metadata_df),
        (table.column_metadata, theirs.col_metadata_df),
    ):
        pd.testing.assert_frame_equal(ours, other, rtol=1e-15, atol=0, check_names=False)


@pytest.mark.parametrize(("parser", "suffix"), [("parse_gct", ".gct"), ("parse_gctx", ".gctx")])
def test_cmappy_reads_what_we_write(tmp_path, parser, suffix):
    table = l1000_like()
    table.write(tmp_path / f"t{suffix}")
    theirs = cmappy(parser, tmp_path / f"t{suffix}")
    pd.testing.assert_frame_equal(table.values, theirs.data_df, check_exact=True, check_names=False)
    for ours, other in (
        (table.row_metadata, theirs.row_metadata_df),
        (table.column_metadata, theirs.col_metadata_df),
    ):
        pd.testing.assert_frame_equal(ours, other, rtol=1e-15, atol=0, check_names=False, check_like=True)


def test_part_of_a_gctx_is_cmappys_part(tmp_path):
    table = l1000_like()
    table.write(tmp_path / "t.gctx")
    rows, columns = list(table.values.index[[2, 5, 17]]), list(table.values.columns[[1, 8]])
    theirs = cmappy("parse_gctx", tmp_path / "t.gctx", rid=rows, cid=columns)
    ours = read(tmp_path / "t.gctx", rows=rows, columns=columns)
    pd.testing.assert_frame_equal(ours.values, theirs.data_df, check_exact=True, check_names=False)


def test_layout_of_a_written_gctx(tmp_path):
    table = l1000_like()
    table.write(tmp_path / "t.gctx")
    with h5py.File(tmp_path / "t.gctx") as file:
        assert file.attrs["version"] == b"GCTX1.0"
        assert file.attrs["src"] == "t.gctx"
        assert file[MATRIX].shape == table.shape[::-1]
        assert file[MATRIX].dtype == np.float32
        np.testing.assert_array_equal(file[MATRIX][...].T, table.values.to_numpy())
        assert file[ROW]["id"][0] == b"1017"
        assert file[ROW]["is_lm"].dtype == np.int64
        assert file[COLUMN]["cell"][...].tolist()[:3] == [b"U2OS", b"-666", b"U2OS"]
        assert file[COLUMN]["dose"][1] == b"-666"


def test_lines_of_a_written_gct(tmp_path):
    table = l1000_like(3, 2)
    table.write(tmp_path / "t.gct")
    lines = (tmp_path / "t.gct").read_bytes().decode("utf-8").split("\n")
    assert lines[:2] == ["#1.3", "3\t2\t2\t2"]
    assert lines[2].split("\t") == ["id", "symbol", "is_lm", *table.values.columns]
    assert lines[4].split("\t") == ["cell", "-666", "-666", "U2OS", "-666"]
    assert [float(text) for text in lines[5].split("\t")[3:]] == pytest.approx(
        table.values.iloc[0], abs=0, rel=1e-7
    )
    assert len(lines) == 9
    assert lines[-1] == ""
