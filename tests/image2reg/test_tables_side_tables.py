"""Tables beside a result: where they lie, what they replace and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from image2reg.errors import DataError
from image2reg.tables.side_tables import failure, failures_path, write_failures


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("labels", "labels/failures.csv"),
        ("run.2", "run.2/failures.csv"),
        (".", "failures.csv"),
        ("a/x.csv", "a/x.failures.csv"),
        ("a/x.ome.tif", "a/x.failures.csv"),
        ("plate.1.ZARR", "plate.1.failures.csv"),
    ],
)
def test_a_folder_holds_its_list_and_a_file_has_it_beside(out: str, expected: str) -> None:
    assert failures_path(Path(out)) == Path(expected)


def test_a_list_replaces_an_earlier_one_and_goes_with_the_failures(tmp_path: Path) -> None:
    for source in ("=a.tif", "b.tif"):
        path = write_failures([failure(source, DataError("empty"))], tmp_path / "x.csv")
    assert path == tmp_path / "x.failures.csv"
    assert path.read_text() == "source,kind,error\nb.tif,DataError,empty\n"
    assert write_failures([], tmp_path / "x.csv") is None
    assert not path.exists()


@pytest.mark.parametrize("failures", [[], [failure("a", DataError("empty"))]])
def test_a_table_of_another_kind_stays(tmp_path: Path, failures: list[dict[str, str]]) -> None:
    path = tmp_path / "failures.csv"
    path.write_text("freezer,date\n1,May\n")
    with pytest.raises(DataError, match=r"its columns are \['freezer', 'date'\], not .* Move it away"):
        write_failures(failures, tmp_path)
    assert path.read_text() == "freezer,date\n1,May\n"
