"""The command `growth`: planted time lapses (synthetic) in, doubling times out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from image2reg.cli import app
from image2reg.errors import BundleError
from tests.small_nuclei import discs

DOUBLING_H = {"ctrl": 12.0, "drug": 40.0}


def grow(*words, rc=0):
    result = CliRunner().invoke(app, ["growth", *map(str, words)])
    assert result.exit_code == rc, result.output
    return result


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Two synthetic series of eight frames, three hours apart, whose nuclei double as `DOUBLING_H` says."""
    folder, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    for name, doubling in DOUBLING_H.items():
        spots = [(24 + 34 * i, 24 + 34 * j) for i in range(9) for j in range(9)]
        rng.shuffle(spots)
        for frame in range(8):
            image, _ = discs((320, 320), spots[: round(20 * 2 ** (3 * frame / doubling))], 22)
            tifffile.imwrite(folder / f"{name}_t{frame:02d}.tif", image.astype(np.uint16))
    return folder


def test_doubling_times_of_counted_nuclei(cells, tmp_path):
    told = json.loads(
        grow(cells, "--minutes", 180, "--model", "classical", "--out", tmp_path / "o", "--json").stdout
    )
    found = {row["series"]: row for row in told["rates"] if row["measure"] == "n_objects"}
    for name, doubling in DOUBLING_H.items():
        assert found[name]["doubling_h"] == pytest.approx(doubling, rel=0.06)
        assert found[name]["doubling_h_low"] <= doubling * 1.02
        assert found[name]["doubling_h_high"] >= doubling * 0.98
    curve = pd.read_csv(tmp_path / "o" / "growth.csv")
    assert curve.groupby("series")["hours"].max().tolist() == [21, 21]
    assert "doubles in" in (tmp_path / "o" / "report.html").read_text()


def test_a_time_axis_gives_what_files_give(cells, tmp_path):
    stack = np.stack([tifffile.imread(path) for path in sorted(cells.glob("ctrl_*.tif"))])
    tifffile.imwrite(tmp_path / "ctrl.ome.tif", stack, metadata={"axes": "TYX"})
    options = ("--minutes", 180, "--diameter-px", 22, "--model", "classical", "--out")
    grow(tmp_path / "ctrl.ome.tif", *options, tmp_path / "stack")
    grow(*sorted(cells.glob("ctrl_*.tif")), *options, tmp_path / "files")
    one, other = (pd.read_csv(tmp_path / name / "rates.csv") for name in ("stack", "files"))
    pd.testing.assert_frame_equal(one, other)


def test_a_frame_that_cannot_be_read_is_listed_and_tried_again(cells, tmp_path):
    folder = tmp_path / "cells"
    folder.mkdir()
    for path in cells.glob("drug_*.tif"):
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (folder / "drug_t03.tif").read_bytes()
    header = len(whole) - 2000
    (folder / "drug_t03.tif").write_bytes(whole[:header])
    words = (folder, "--minutes", 180, "--model", "classical", "--diameter-px", 22, "--out", tmp_path / "o")
    said = grow(*words, rc=5).stdout
    assert "1 frame failed" in said
    assert "drug at 9 h" in (tmp_path / "o" / "failures.csv").read_text()
    assert len(pd.read_csv(tmp_path / "o" / "growth.csv")) == 7
    (folder / "drug_t03.tif").write_bytes(whole)
    grow(*words, "--overwrite")
    assert not (tmp_path / "o" / "failures.csv").exists()
    assert len(pd.read_csv(tmp_path / "o" / "growth.csv")) == 8


def test_confluence_without_a_stain(tmp_path):
    """Synthetic phase contrast: texture that spreads by a twentieth of the field per hour."""
    rng = np.random.default_rng(0)
    for frame in range(6):
        field = np.full((200, 200), 120.0)
        edge = 40 + 10 * frame
        field[:, :edge] += rng.normal(0, 30, (200, edge))
        tifffile.imwrite(tmp_path / f"gap_t{frame}.tif", field.clip(0, 255).astype(np.uint8))
    said = json.loads(
        grow(tmp_path, "--minutes", 60, "--model", "texture", "--out", tmp_path / "o", "--json").stdout
    )
    (row,) = said["rates"]
    assert row["measure"] == "confluence"
    assert row["change_per_h"] == pytest.approx(0.05, rel=0.05)


def test_a_model_nobody_knows_is_answered_with_those_there_are(cells, tmp_path, monkeypatch):
    """Also those that need no bundle."""
    monkeypatch.setenv("VIRTUALSTAIN_MODELS", str(tmp_path))
    words = ["growth", cells, "--minutes", 9, "--model", "textur", "--out", tmp_path / "o"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert isinstance(result.exception, BundleError)
    assert "Did you mean 'texture'? There are: classical, nuclei, texture" in str(result.exception)
    assert not (tmp_path / "o").exists()
