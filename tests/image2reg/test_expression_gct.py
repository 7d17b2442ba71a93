"""GCT and GCTX: exact round trips, parts in bounded memory, refusals that name what is wrong."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.expression import ExpressionTable, gctx, read, read_metadata, write
from image2reg.expression.gct import file_kind

SUFFIXES = (".gct", ".gctx")


def small_table(n_rows: int = 6, n_columns: int = 4) -> ExpressionTable:
    generator = np.random.default_rng(5)
    values = pd.DataFrame(
        generator.standard_normal((n_rows, n_columns)),
        index=[f"{200000 + i}_at" for i in range(n_rows)],
        columns=[f"LJP005:A{i:02d}" for i in range(n_columns)],
    )
    values.iloc[1, 2] = np.nan
    rows = pd.DataFrame({"gene_id": range(1017, 1017 + n_rows), "symbol": [f"G{i}" for i in range(n_rows)]})
    columns = pd.DataFrame(
        {
            "dose": [0.1, np.nan, 1 / 3, *range(3, n_columns)][:n_columns],
            "idose": ["10 µM", None, '5"', *["-"] * n_columns][:n_columns],
            "plate": [f"{i:03d}" for i in range(n_columns)],
        }
    )
    return ExpressionTable(
        values, rows.set_axis(values.index), columns.set_axis(values.columns), source="small table"
    )


def assert_same(first: ExpressionTable, second: ExpressionTable) -> None:
    assert_frame_equal(first.values, second.values, check_exact=True)
    for name in ("row_metadata", "column_metadata"):
        # GCTX keeps no order of fields.
        one, other = getattr(first, name).sort_index(axis=1), getattr(second, name).sort_index(axis=1)
        assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_keeps_every_bit_text_beyond_ascii_and_leading_zeros(tmp_path, suffix):
    table = small_table()
    table.write(tmp_path / f"t{suffix}")
    back = read(tmp_path / f"t{suffix}")
    assert back.values.dtypes.eq(np.float32).all()
    assert_same(table, back)
    assert back.column_metadata["idose"].iloc[0] == "10 µM"
    assert back.column_metadata["plate"].tolist() == ["000", "001", "002", "003"]
    assert back.row_metadata["gene_id"].dtype == np.int64
    assert np.isnan(back.column_metadata["dose"].iloc[1])
    assert back.source == str(tmp_path / f"t{suffix}")


@pytest.mark.parametrize("name", ["test_l1000.gct", "test_l1000_highprecision.gctx"])
def test_real_plate_round_trips_exactly_in_both_formats(shared_data, tmp_path, name):
    table = read(shared_data / "reader_fixtures" / name)
    assert table.shape == (978, 377)
    assert table.values.index[0] == "200814_at"
    assert table.values.columns[0] == "LJP005_A375_24H_X1_B19:A03"
    assert table.row_metadata["pr_gene_id"].dtype == np.int64
    for suffix in SUFFIXES:
        table.write(tmp_path / f"again{suffix}")
        assert_same(table, read(tmp_path / f"again{suffix}"))


@pytest.mark.parametrize("name", ["test_l1000.gct", "test_l1000_highprecision.gctx"])
def test_part_of_a_real_plate_is_the_part_of_the_whole(shared_data, name):
    path = shared_data / "reader_fixtures" / name
    table = read(path)
    rows, columns = table.values.index[[900, 3, 500]], table.values.columns[[300, 2]]
    assert_same(read(path, rows=rows, columns=columns), table.select(rows=rows, columns=columns))
    row_metadata, column_metadata = read_metadata(path)
    assert_frame_equal(row_metadata, table.row_metadata)
    assert_frame_equal(column_metadata, table.column_metadata)


@pytest.mark.parametrize(("written", "named"), [(".gct", ".gctx"), (".gctx", ".gct"), (".gctx", ".txt")])
def test_content_decides_the_format_not_the_suffix(tmp_path, written, named):
    table = small_table()
    table.write(tmp_path / f"t{written}")
    renamed = (tmp_path / f"t{written}").rename(tmp_path / f"other{named}")
    assert file_kind(renamed) == written[1:]
    assert_same(table, read(renamed))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (["200004_at", "200000_at"], None),
        ("200002_at", slice(None, None, 2)),
        (slice(-2, None), ["LJP005:A03", "LJP005:A01"]),
        (pd.Index(["200005_at"]), slice(1, 2)),
    ],
)
def test_parts_come_in_the_order_asked_for(tmp_path, suffix, rows, columns):
    table = small_table()
    table.write(tmp_path / f"t{suffix}")
    part = read(tmp_path / f"t{suffix}", rows=rows, columns=columns)
    assert_same(part, table.select(rows=rows, columns=columns))
    if isinstance(rows, list):
        assert list(part.values.index) == rows
        assert list(part.row_metadata.index) == rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_integer_ids_become_text_and_can_be_asked_for_as_integers(tmp_path, suffix):
    values = pd.DataFrame(np.eye(3), index=[1017, 1019, 7157], columns=[1.0, 2.0, 3.0])
    write(ExpressionTable(values), tmp_path / f"t{suffix}")
    back = read(tmp_path / f"t{suffix}", rows=[7157, 1017])
    assert list(back.values.index) == ["7157", "1017"]
    assert list(back.values.columns) == ["1", "2", "3"]
    assert back.values.loc["7157", "3"] == 1


def write_gct(path, lines):
    path.write_text("\n".join("\t".join(map(str, line)) for line in lines) + "\n", encoding="utf-8")
    return path


GCT = [
    ("#1.3",),
    (2, 3, 1, 1),
    ("id", "symbol", "a", "b", "c"),
    ("dose", "na", 10, -666, 2.5),
    (1017, "CDK2", 1, -666, "NA"),
    (1019, -666, "NaN", 5, 6),
]


def changed(line: int, field: int, entry: object) -> list[tuple]:
    lines = [list(fields) for fields in GCT]
    lines[line][field] = entry
    return lines


def test_minus_666_is_missing_in_text(tmp_path):
    table = read(write_gct(tmp_path / "t.gct", GCT))
    np.testing.assert_array_equal(
        table.values.to_numpy(), np.array([[1, np.nan, np.nan], [np.nan, 5, 6]], np.float32)
    )
    assert table.column_metadata["dose"].fillna(-1).tolist() == [10, -1, 2.5]
    assert table.row_metadata["symbol"].isna().tolist() == [False, True]


def test_minus_666_is_missing_in_hdf5_also_where_numbers_are_stored_as_numbers(tmp_path):
    with h5py.File(tmp_path / "t.gctx", "w") as file:
        file["/0/DATA/0/matrix"] = np.array([[1, -666], [3, 4]], np.float64)
        file["/0/META/ROW/id"] = np.array([1017, 1019])
        file["/0/META/COL/id"] = np.array(["a", "b"], dtype=h5py.string_dtype())
        file["/0/META/COL/dose"] = np.array([-666, 2.5])
        file["/0/META/COL/time"] = np.array([-666, 24])
    table = read(tmp_path / "t.gctx")
    assert np.isnan(table.values.loc["1019", "a"])
    assert table.values.loc["1019", "b"] == 4
    assert table.column_metadata.isna().loc["a"].all()
    assert table.column_metadata.loc["b"].tolist() == [2.5, 24]


def test_gct_1_2_reads(tmp_path):
    lines = [("#1.2",), (1, 2), ("NAME", "Description", "a", "b"), ("1017", "cyclin", 1, 2)]
    table = read(write_gct(tmp_path / "t.gct", lines))
    assert table.row_metadata.loc["1017", "Description"] == "cyclin"
    assert table.values.loc["1017"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (changed(5, 0, 1017), r"1 row ids appear more than once: '1017' \(2 times\)\. Allowed is one each"),
        (changed(2, 4, "a"), r"1 column ids appear more than once: 'a' \(2 times\)"),
        (changed(4, 0, " "), r"1 of 2 row ids are empty \(first at position 0"),
        (changed(4, 2, "1O"), r"line 5, row '1017', column 'a': '1O' is not a number"),
        (changed(4, 2, "1_0"), r"line 5, row '1017', column 'a': '1_0' is not a number"),
        (changed(4, 3, "1e39"), r"line 5, row '1017': a value lies outside the range of float32"),
        (changed(1, 0, 3), r"2 rows of the 3 that line 2 announces\. The file is cut short"),
        (changed(1, 0, 1), r"2 rows of the 1 that line 2 announces"),
        (changed(1, 1, 4), r"line 3 has 5 fields of the 6 \(1 id, 1 row fields, 4 columns\) that line 2"),
        (changed(1, 3, 9), r"4 of the 10 header lines that line 2 announces"),
        (changed(1, 2, "x"), r"line 1 is '#1.3' and line 2 is '2\\t3\\tx\\t1'; allowed are '#1.3' with four"),
        (changed(1, 0, 0), r"announces 0 rows and 3 columns; allowed is at least one of each"),
        ([*GCT[:5], (1019, "x", 1)], r"line 6 has 3 fields of the 5"),
    ],
)
def test_damaged_text_is_refused_with_its_place(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read(write_gct(tmp_path / "t.gct", lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"neither GCT \(starts with '#1.3' or '#1.2'\) nor GCTX \(HDF5\); it starts with b''"),
        (b"gene,a,b\n", r"neither GCT .* it starts with b'gene,a,b"),
        (b"\x1f\x8b\x08\x00", r"compressed with gzip; .* Run gunzip"),
        (b"#1.3\n1\t1\t0\t0\nid\t\xb5M\n1\t2\n", r"byte 0xb5 is not UTF-8 text\. Save the file as UTF-8"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, r"could not be read \(OSError: .* is damaged or cut short"),
    ],
)
def test_other_content_is_refused_by_what_it_is(tmp_path, content, message):
    (tmp_path / "t.gctx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.gctx")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "absent.gct")
    with pytest.raises(DataError, match="may not be read as a file"):
        read_metadata(tmp_path)


def gctx_file(path, **replaced):
    parts = {
        "/0/DATA/0/matrix": np.ones((2, 3), np.float32),
        "/0/META/ROW/id": np.array(["g1", "g2", "g3"], dtype="S"),
        "/0/META/COL/id": np.array(["a", "b"], dtype="S"),
        **replaced,
    }
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value
    return path


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"/0/DATA/0/matrix": None}, r"no dataset /0/DATA/0/matrix inside the file\. A GCTX file holds"),
        ({"/0/META/COL/id": None}, r"no dataset /0/META/COL/id inside"),
        ({"/0/DATA/0/matrix": np.ones((3, 2))}, r"shape \(3, 2\).* ask for \(2, 3\) .* It is transposed"),
        ({"/0/DATA/0/matrix": np.ones((2, 4))}, r"shape \(2, 4\).* The file is damaged"),
        ({"/0/DATA/0/matrix": np.full((2, 3), b"x")}, r"type \|S1; the ids ask for \(2, 3\)"),
        ({"/0/META/ROW/id": np.array(["g1", "g2", "g1"], dtype="S")}, r"row ids appear .*'g1' \(2 times\)"),
        ({"/0/META/COL/id": np.array(["a", ""], dtype="S")}, r"1 of 2 column ids are empty"),
        ({"/0/META/COL/dose": np.ones(3)}, r"column metadata field 'dose' has 3 entries for 2 columns"),
        ({"/0/META/COL/dose": np.ones((2, 2))}, r"/0/META/COL/dose has shape \(2, 2\)"),
        ({"/0/META/COL/dose/unit": np.ones(2)}, r"no dataset /0/META/COL/dose inside"),
        ({"/0/DATA/0/matrix": np.full((2, 3), 1e39)}, r"outside the range of float32"),
        ({"/0/DATA/0/matrix": h5py.ExternalLink("x.h5", "/m")}, r"no dataset /0/DATA/0/matrix inside"),
    ],
)
def test_damaged_hdf5_is_refused_with_its_place(tmp_path, replaced, message):
    with pytest.raises(DataError, match=message):
        read(gctx_file(tmp_path / "t.gctx", **replaced))


def test_values_in_another_file_are_refused(tmp_path):
    gctx_file(tmp_path / "other.gctx")
    linked = h5py.ExternalLink("other.gctx", "/0/DATA/0/matrix")
    with pytest.raises(DataError, match="matrix lies in another file; allowed is one file"):
        read(gctx_file(tmp_path / "t.gctx", **{"/0/DATA/0/matrix": linked}))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_and_damaged_files_give_a_table_or_one_kind_of_error(tmp_path, suffix):
    small_table().write(tmp_path / f"t{suffix}")
    whole = (tmp_path / f"t{suffix}").read_bytes()
    target = tmp_path / f"damaged{suffix}"
    for twentieth in range(20):
        target.write_bytes(whole[: len(whole) * twentieth // 20])
        with pytest.raises(DataError, match=str(target)):
            read(target)
    generator = np.random.default_rng(17)
    n_refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            damaged[place] ^= 1 << generator.integers(8)
        target.write_bytes(damaged)
        try:
            read(target)
        except DataError:
            n_refused += 1
    assert n_refused > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"rows": ["200001_a", "200003_at"]},
            r"1 of 2 row ids asked for are not in the file: '200001_a'\. The file has 6; "
            r"the nearest to '200001_a' is '200001_at'\. Ask for ids that read_metadata\(\) lists",
        ),
        ({"columns": ["x"]}, r"column ids .* not in the file: 'x'.* it has ids such as 'LJP005:A00'"),
        ({"rows": ["200001_at", "200001_at"]}, r"the subset asked for: 1 row ids appear more than once"),
        ({"rows": []}, r"the subset asked for holds no row id; the file has 6"),
        ({"columns": slice(9, 12)}, r"the subset asked for holds no column id; the file has 4"),
    ],
)
def test_a_part_that_is_not_there_is_refused_by_name(tmp_path, suffix, part, message):
    small_table().write(tmp_path / f"t{suffix}")
    with pytest.raises(DataError, match=message):
        read(tmp_path / f"t{suffix}", **part)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.values.iloc.__setitem__((0, 0), -666), r"holds the value -666, which GCT and GCTX use"),
        (lambda t: t.row_metadata.insert(0, "id", 1), r"row metadata fields 'id' cannot be stored"),
        (lambda t: t.column_metadata.insert(0, "a/b", 1), r"column metadata fields 'a/b' cannot be stored"),
        (lambda t: t.row_metadata.insert(0, "n", "a\tb"), r"row metadata 'n': 6 entries hold a tab"),
        (lambda t: t.row_metadata.insert(0, "\ud800", "a"), r"row metadata 'field names': 1 entries hold"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, suffix, change, message):
    table = small_table()
    change(table)
    with pytest.raises(DataError, match=message):
        write(table, tmp_path / f"t{suffix}")
    assert not list(tmp_path.iterdir())


def test_writing_refuses_other_suffixes_empty_tables_and_existing_files(tmp_path):
    table = small_table()
    with pytest.raises(ConfigurationError, match=r"suffix is '.csv'; allowed are .gct \(text\) and .gctx"):
        table.write(tmp_path / "t.csv")
    with pytest.raises(DataError, match="0 rows and 2 columns; allowed is at least one of each"):
        ExpressionTable(pd.DataFrame(columns=["a", "b"], dtype=np.float32)).write(tmp_path / "t.gct")
    table.write(tmp_path / "t.gct")
    with pytest.raises(DataError, match="already exists"):
        table.write(tmp_path / "t.gct")
    table.select(rows=slice(2)).write(tmp_path / "t.gct", overwrite=True)
    assert read(tmp_path / "t.gct").shape == (2, 4)


@pytest.mark.parametrize(
    ("suffix", "place"), [(".gct", "image2reg.expression.gct_text"), (".gctx", "image2reg.expression.gctx")]
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, suffix, place):
    target = tmp_path / f"t{suffix}"
    small_table().write(target)
    before = target.read_bytes()
    function = {".gct": "write_text", ".gctx": "write_hdf5"}[suffix]

    def half_written(*arguments, **_options):
        arguments[3].write_bytes(before[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"{place}.{function}", half_written)
    with pytest.raises(ResourceError, match="No space left"):
        small_table(3).write(target, overwrite=True)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_the_same_table_gives_the_same_bytes_under_any_folder(tmp_path):
    for suffix in SUFFIXES:
        small_table().write(tmp_path / "one" / f"t{suffix}")
        small_table().write(tmp_path / "two" / f"t{suffix}")
        assert (tmp_path / "one" / f"t{suffix}").read_bytes() == (
            tmp_path / "two" / f"t{suffix}"
        ).read_bytes()


def sparse_gctx(path, n_columns, n_rows, *, chunks, column_places, row_places):
    """A GCTX of full shape in which only the wanted values exist on disk."""
    with h5py.File(path, "w") as file:
        matrix = file.create_dataset(
            "/0/DATA/0/matrix", (n_columns, n_rows), "f4", chunks=chunks, fill_time="never"
        )
        for i in column_places:
            matrix[i, row_places] = i + row_places / 2**14
        file["/0/META/ROW/id"] = np.char.add("g", np.arange(n_rows).astype(str)).astype("S")
        file["/0/META/COL/id"] = np.char.add("s", np.arange(n_columns).astype(str)).astype("S")


@pytest.mark.parametrize("chunks", [None, (64, 512)])
def test_part_of_a_10000_by_12328_file_costs_the_memory_of_the_part(tmp_path, chunks):
    generator = np.random.default_rng(3)
    column_places = np.sort(generator.choice(10_000, 12, replace=False))
    row_places = np.sort(generator.choice(12_328, 978, replace=False))
    path = tmp_path / "big.gctx"
    sparse_gctx(path, 10_000, 12_328, chunks=chunks, column_places=column_places, row_places=row_places)
    rows, columns = [f"g{i}" for i in row_places[::-1]], [f"s{i}" for i in column_places[::-1]]
    read(path, rows=rows[:2], columns=columns[:2])  # imports and caches are not counted
    tracemalloc.start()
    part = read(path, rows=rows, columns=columns)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The whole matrix is 493 MB, the 978 rows of all columns 39 MB, two axes of ids about 3 MB.
    assert peak < 10e6
    expected = column_places[None, ::-1] + row_places[::-1, None] / 2**14
    np.testing.assert_array_equal(part.values.to_numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("chunks", [None, (50, 300)])
def test_memory_beside_the_result_does_not_grow_with_the_file(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(gctx, "BLOCK_BYTES", 2**18)
    beside = []
    for n_columns in (200, 800):
        path = tmp_path / f"{n_columns}.gctx"
        places = np.arange(1500)
        with h5py.File(path, "w") as file:
            numbers = np.arange(n_columns * 1500, dtype=np.float32).reshape(n_columns, 1500)
            matrix = file.create_dataset("matrix", data=numbers, chunks=chunks)
            tracemalloc.start()
            values = gctx._values(matrix, places, np.arange(n_columns), path)
            beside.append(tracemalloc.get_traced_memory()[1] - values.nbytes)
            tracemalloc.stop()
            np.testing.assert_array_equal(values, numbers.T)
    assert max(beside) < 4 * 2**18
    assert beside[1] < 1.15 * beside[0] + 50_000


def test_rows_of_a_text_file_that_are_not_asked_for_are_not_kept(tmp_path):
    table = ExpressionTable(pd.DataFrame(np.arange(240_000, dtype=np.float32).reshape(1200, 200)))
    table.write(tmp_path / "t.gct")
    read(tmp_path / "t.gct", rows=["0"])
    tracemalloc.start()
    part = read(tmp_path / "t.gct", rows=["1199", "5"], columns=["199"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.values["199"].tolist() == [239_999, 1199]
    assert peak < 0.9e6  # as float32 the table is 0.96 MB, as text over 12


def test_metadata_is_aligned_by_id_and_must_fit(tmp_path):
    values = pd.DataFrame(np.eye(2), index=["a", "b"], columns=["x", "y"])
    table = ExpressionTable(values, pd.DataFrame({"n": [2, 1]}, index=["b", "a"]))
    assert table.row_metadata["n"].tolist() == [1, 2]
    assert table.column_metadata.index.tolist() == ["x", "y"]
    assert repr(table) == "ExpressionTable(2 rows x 2 columns, 1 row fields, 0 column fields)"
    with pytest.raises(DataError, match=r"rows of the table: 1 against 2, 1 without metadata \('b'\)"):
        ExpressionTable(values, pd.DataFrame({"n": [1]}, index=["a"]))
    with pytest.raises(DataError, match="metadata fields appear more than once: 'n'"):
        ExpressionTable(values, pd.DataFrame([[1, 2], [3, 4]], index=["a", "b"], columns=["n", "n"]))
    with pytest.raises(
        DataError, match=r"expression table: 1 row ids appear more than once: '1' \(2 times\)"
    ):
        ExpressionTable(pd.DataFrame(np.eye(2), index=[1, "1"]))
    with pytest.raises(DataError, match="column ids are empty"):
        ExpressionTable(pd.DataFrame(np.eye(2), columns=["a", None]))
    with pytest.raises(DataError, match="expression values must be numbers, but could not convert"):
        ExpressionTable(pd.DataFrame([["one"]]))


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_neither_pandas_nor_h5py_nor_cmappy():
    heavy = "{'pandas', 'h5py', 'cmapPy', 'torch'}"
    assert run_python(f"import image2reg.expression, sys; print({heavy} & set(sys.modules))") == "set()"


def test_numpy_pandas_and_cmappy_itself_stay_as_they_are(tmp_path):
    code = f"""
import numpy, pandas
before = set(dir(numpy)), pandas.to_numeric
from cmapPy.pandasGEXpress import parse_gct, parse_gctx, write_gct, write_gctx
from image2reg.expression import ExpressionTable, read
for suffix in ("gct", "gctx"):
    ExpressionTable(pandas.DataFrame([[1.0]])).write({str(tmp_path)!r} + "/t." + suffix)
    read({str(tmp_path)!r} + "/t." + suffix)
assert before == (set(dir(numpy)), pandas.to_numeric)
assert parse_gct.pd is parse_gctx.pd is write_gct.pd is pandas
assert write_gctx.numpy is parse_gct.np is numpy
assert write_gctx.add_gctx_to_out_name("t") == "t.gctx"
print("untouched")
"""
    assert run_python(code) == "untouched"
