"""The command line as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from image2reg.console import run
from image2reg.errors import DataError
from image2reg.images import Image, read, write

MODEL = "phase-neuron"
MAIN = "from virtualstain.cli import main; main()"


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run the command in this process through the same door as the console script."""
    from virtualstain.cli import app

    monkeypatch.setattr(sys, "argv", ["virtualstain", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run(app)
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = Image(rng.normal(30000, 5000, (1, 13, 70, 90)).astype(np.uint16), "CZYX", channels=("Phase",))
    write(image, tmp_path / "stack.ome.tif")
    return tmp_path / "stack.ome.tif"


def test_the_installed_command_runs_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "demo", "--out", str(tmp_path / "demo"), "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one JSON object and nothing else
    scores = {(row["channel"], row["metric"]): row for row in result["scores"]}
    for channel in ("DAPI", "MAP2", "NFH"):
        row = scores[channel, "pearson"]
        assert row["value"] > row["floor"] + 0.2  # the strip was never trained on; a plane alone says little
        assert row["low"] < row["value"] < row["high"]
    page = Path(result["report"]).read_text()
    assert "DAPI" in page
    assert "virtualstain demo" in page
    assert read(result["predicted"]).channels == ("DAPI", "MAP2", "NFH")


def test_help_names_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capsys, monkeypatch, "--help")
    assert code == 0
    assert all(name in out for name in ("demo", "models", "check", "train", "predict", "evaluate"))


def test_models_are_listed_and_verified(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capsys, monkeypatch, "models", "--verify", "--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert code == 0
    assert {"brightfield-nuclei", "phase-neuron", "phantom-3d"} <= set(rows)
    assert all(row["verified"] and not row["problem"] for row in rows.values())


def test_one_stack_to_one_file(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stain.ome.zarr"
    code, printed, err = call(capsys, monkeypatch, "predict", stack, "--model", MODEL, "--out", out)
    assert (code, err) == (0, "")
    assert str(out) in printed
    assert "values: counts of the training set" in printed
    listed = call(capsys, monkeypatch, "models")[1]
    assert "values: log(1 + counts), relative" in listed
    assert "10 fields in groups" in listed
    assert read(out).sizes == {"C": 3, "Z": 1, "Y": 70, "X": 90}
    code, _, err = call(capsys, monkeypatch, "predict", stack, "--model", MODEL, "--out", out)
    assert code == 3
    assert "already exists" in err
    assert "--overwrite" in err
    assert call(capsys, monkeypatch, "predict", stack, "--model", MODEL, "--out", out, "--overwrite")[0] == 0
    monkeypatch.setattr("image2reg.console.LINE_SECONDS", 0)  # work that takes long, in a script or a log
    again = call(capsys, monkeypatch, "predict", stack, "--model", MODEL, "--out", out, "--overwrite")
    assert again[2] == "predicting: 1 of 1\n"


def test_many_images_go_on_after_a_failure(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ome.tif").write_bytes(stack.read_bytes())
    (folder / "b.ome.tif").write_bytes(stack.read_bytes()[:4000])
    write(Image(np.ones((5, 30, 30), np.uint16), "ZYX"), folder / "c.tif")
    code, printed, _ = call(
        capsys, monkeypatch, "predict", folder, "--model", MODEL, "--out", tmp_path / "out"
    )
    assert code == 5
    assert "2 failed" in printed
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "b.ome.tif" in failures
    assert "5 planes in Z, but model 'phase-neuron' was trained on stacks of 13" in failures
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.ome.tif", "failures.csv"]


def test_what_holds_for_every_image_is_noted_once_and_what_was_there_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = np.random.default_rng(0).integers(500, 999, (64, 64)).astype(np.uint16)
    (tmp_path / "in").mkdir()
    for name in "abc":
        cells[:6] = 0 if name == "c" else cells[6:12]
        write(Image(cells, "YX", (None, 0.3112, 0.3112), ("BF",)), tmp_path / "in" / f"{name}.ome.tif")
    words = ("predict", tmp_path / "in", "--model", "brightfield-nuclei", "--out", tmp_path / "out")
    code, printed, _ = call(capsys, monkeypatch, *words)
    assert code == 0
    assert printed.count("lies in the frame") == 1
    assert "note on all 3: the stain lies in the frame" in printed
    assert printed.count("  note: 9.4% of the field is exactly zero at the border") == 1
    assert "3 results already there, left as they are" in call(capsys, monkeypatch, *words, "--resume")[1]


def test_files_of_other_channels_are_told_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = np.random.default_rng(0).integers(500, 999, (64, 64)).astype(np.uint16)
    (tmp_path / "in").mkdir()
    for name in ("A01_BF", "A01_DAPI"):
        write(Image(cells, "YX", (None, 0.3112, 0.3112)), tmp_path / "in" / f"{name}.tif")
    words = ("predict", tmp_path / "in", "--model", "brightfield-nuclei", "--channel", "BF", "--out")
    code, printed, _ = call(capsys, monkeypatch, *words, tmp_path / "out")
    assert code == 0
    assert "1 file of other channels left out" in printed
    assert json.loads(call(capsys, monkeypatch, *words, tmp_path / "2", "--json")[1])["other_channels"] == 1


def test_a_manifest_is_made_with_the_voxel_size_that_plain_files_lack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = np.random.default_rng(0).integers(500, 999, (40, 40)).astype(np.uint16)
    for name in ("A01_BF", "A01_DAPI"):
        write(Image(cells, "YX"), tmp_path / f"{name}.tif")
    words = ("check", tmp_path, "--input", "BF", "--target", "DAPI", "--out", tmp_path / "m.csv")
    code, _, err = call(capsys, monkeypatch, *words, "--voxel-um", "0.65")
    assert (code, "write three (Z,Y,X), as in --voxel-um -,0.65,0.65" in err) == (2, True)
    assert call(capsys, monkeypatch, *words, "--voxel-um", "-,0.65,0.65")[0] == 0
    assert (tmp_path / "m.csv").read_text().count(",0.65,0.65,") == 2


def test_an_image_over_the_limit_is_refused_before_it_is_decoded(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Imported before: a module first loaded now would keep the patched limit for all tests after this one.
    for module in ("virtualstain.loading", "virtualstain.predict"):
        importlib.import_module(module)
    monkeypatch.setattr("image2reg.images.limits.default_max_bytes", lambda: 5000)
    code, _, err = call(
        capsys, monkeypatch, "predict", stack, "--model", MODEL, "--out", tmp_path / "x.ome.tif"
    )
    assert code == 6
    assert "stack.ome.tif" in err
    assert not (tmp_path / "x.ome.tif").exists()


def test_each_bad_input_gets_one_clear_line_and_its_exit_code(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated, thin, flat, nan = (tmp_path / f"{name}.tif" for name in ("cut", "thin", "flat", "nan"))
    truncated.write_bytes(stack.read_bytes()[: stack.stat().st_size // 2])
    write(Image(np.arange(4 * 900, dtype=np.uint16).reshape(4, 30, 30), "ZYX"), thin)
    write(Image(np.full((13, 30, 30), 9, np.uint16), "ZYX"), flat)
    write(
        Image(np.where(np.arange(13 * 900).reshape(13, 30, 30) == 77, np.nan, 1.5).astype(np.float32), "ZYX"),
        nan,
    )
    write(
        Image(np.zeros((2, 13, 30, 30), np.uint16), "CZYX", channels=("GFP", "RFP")), tmp_path / "two.ome.tif"
    )
    plane = tmp_path / "plane.tif"
    write(Image(np.random.default_rng(0).integers(0, 999, (64, 64)).astype(np.uint16), "YX"), plane)
    coarse = tmp_path / "coarse.ome.tif"
    write(Image(read(plane).load().data, "YX", (None, 0.9, 0.9), ("Brightfield",)), coarse)
    cases = [
        (tmp_path / "nothing.tif", MODEL, 3, "no such file"),
        (truncated, MODEL, 3, "cut.tif"),
        (thin, MODEL, 3, "4 planes in Z, but model"),
        (flat, MODEL, 3, "constant image"),
        (nan, MODEL, 3, "NaN or infinite"),
        (tmp_path / "two.ome.tif", MODEL, 3, "channel 'Phase' is missing"),
        (stack, "phase-neurons", 4, "Did you mean 'phase-neuron'"),
        (plane, "brightfield-nuclei", 3, "Pass --voxel-um"),
        (coarse, "brightfield-nuclei", 3, "--resample"),
    ]
    out = tmp_path / "out"
    for source, model, expected, words in cases:
        code, printed, err = call(
            capsys, monkeypatch, "predict", source, "--model", model, "--out", out / "x.ome.zarr"
        )
        assert (code, printed) == (expected, ""), (source.name, err)
        assert err.startswith("error: "), err
        assert words in err, err
        assert "Traceback" not in err
        assert not out.exists() or list(out.iterdir()) == []


def test_wrong_options_are_usage_errors(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("predict", stack, "--model", MODEL, "--out", tmp_path / "x.ome.tif")
    code, _, err = call(capsys, monkeypatch, *common, "--voxel-um", "0.3,0.3")
    assert code == 2
    assert "write three (Z,Y,X)" in err
    code, _, err = call(capsys, monkeypatch, *common, "--tile", "0,64,64")
    assert code == 2
    assert "at least 1 voxel" in err
    code, _, err = call(capsys, monkeypatch, *common, "--tile", "100")
    assert (code, "as in --tile 1,512,512" in err) == (2, True)
    assert call(capsys, monkeypatch, *common, "--tile", "inf,64,64")[0] == 2
    code, _, err = call(capsys, monkeypatch, *common, "--device", "gpu")
    assert code == 2
    assert "device 'gpu' is unknown or not there; allowed: auto, cpu, cuda" in err
    (tmp_path / "file").write_text("not a folder")
    for command in (
        ("demo",),
        common[:-2],
        ("evaluate", "--prediction", stack, "--truth", stack, "--overwrite"),
    ):
        code, _, err = call(capsys, monkeypatch, *command, "--out", tmp_path / "file")
        assert code == 6
        assert "could not be written" in err
    assert call(capsys, monkeypatch, "predict", stack)[0] == 2
    assert call(capsys, monkeypatch, "evaluate", "--model", MODEL)[0] == 2


def test_the_recorded_command_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def recorded(*_: object, command: str, **__: object) -> None:
        told.append(command)
        raise DataError("far enough")

    monkeypatch.setattr("virtualstain.runs.train_from", recorded)
    monkeypatch.setattr("virtualstain.scored_runs.evaluate_model", recorded)
    words = ("--data", "my plate", "--out", "a run")
    call(capsys, monkeypatch, "train", *words)
    call(capsys, monkeypatch, "evaluate", "--model", "m", *words)
    assert told == [
        "virtualstain train --data 'my plate' --out 'a run'",
        "virtualstain evaluate --model m --data 'my plate' --out 'a run'",
    ]
