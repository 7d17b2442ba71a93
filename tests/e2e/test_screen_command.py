"""The screen through the command line: one command, its JSON, its exit codes, its shards."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
from small_plate import write_plate


def image2reg(*words, code=0):
    done = subprocess.run(
        [sys.executable, "-c", "from image2reg.cli import main; main()", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def options(folder, out):
    return [
        "screen", "--data", folder / "manifest.csv", "--control", 'Metadata_Control == "negative"',
        "--positive", 'Metadata_Control == "positive"', "--model", "classical", "--out", out,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plate")
    write_plate(folder, doses=(1, 4, 8))
    return folder


def test_one_command_from_images_to_report_and_a_broken_frame(plate, tmp_path):
    (plate / "B02_DNA.tif").write_bytes(b"")
    done = image2reg(*options(plate, tmp_path / "out"), "--json", code=5)
    result = json.loads(done.stdout)
    assert result["control_hits"] == 0
    assert {tuple(w) for w in result["hit_wells"]} >= {("p1", "A07"), ("p1", "B07"), ("p1", "C07")}
    assert [f[0] for f in result["failures"]] == ["p1/B02"]
    assert "the file is empty (0 bytes)" in (tmp_path / "out" / "failures.csv").read_text()
    assert (tmp_path / "out" / "report.html").stat().st_size > 20_000
    again = image2reg(*options(plate, tmp_path / "out"), code=3)
    assert "already exists" in again.stderr


def test_a_folder_goes_on_without_a_truncated_image_and_says_what_it_left_out(plate, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in plate.glob("*.tif"):
        (images / path.name).write_bytes(path.read_bytes())
    (images / "A05_GFP.tif").write_bytes((images / "A05_GFP.tif").read_bytes()[:200])
    (images / "x.tif").write_bytes(b"text")
    frame = pd.read_csv(plate / "manifest.csv", dtype=str).drop_duplicates("Metadata_Well")
    frame.filter(regex="Well|Perturbation|Dose|Control").to_csv(tmp_path / "layout.csv", index=False)
    words = [
        "screen", "--data", images, "--channel", "DNA", "--channel", "GFP", "--layout", tmp_path / "layout.csv",
        "--control", 'Metadata_Control == "negative"', "--model", "classical", "--set", "measure.diameter_px=17.5",
    ]  # fmt: skip
    told = json.loads(image2reg(*words, "--out", tmp_path / "a", "--json", code=5).stdout)
    assert "images/A05" in [failure[0] for failure in told["failures"]]
    assert told["notes"][0] == "x.tif: left out, no channel asked for is in its name"
    assert "note: x.tif: left out" in image2reg(*words, "--out", tmp_path / "b", code=5).stdout
    shards = [image2reg(*words, "--out", tmp_path / "c", "--shard", f"{i}/9").stdout for i in (1, 2)]
    assert ["note: x.tif: left out" in said for said in shards] == [True, False]  # who makes the plan says it
    failed = image2reg(*words, "--out", tmp_path / "c", "--shard", "3/9", code=5).stdout
    assert f"1 field of all shards failed so far; see {tmp_path / 'c' / 'failures.csv'}" in failed


def test_a_shard_says_what_is_left(plate, tmp_path):
    done = image2reg(*options(plate, tmp_path / "out"), "--shard", "1/7", "--json")
    assert json.loads(done.stdout) == {"run": 3, "left": 18, "failed": 0, "notes": []}


def test_wrong_options_end_with_code_2(plate, tmp_path):
    assert "call.fdr" in image2reg(*options(plate, tmp_path / "o"), "--fdr", "2", code=2).stderr
