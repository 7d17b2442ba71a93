"""A prediction against the real stain: one unit, the voxels that count, and what a reader must know."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from image2reg.errors import DataError
from image2reg.images import Image, write
from image2reg.images.plates import write_plate
from image2reg.models.spec import Normalisation
from virtualstain import scored_runs
from virtualstain.batch import predict_many
from virtualstain.loading import open_manifest
from virtualstain.model import OUTPUT, StainModel
from virtualstain.scored_runs import evaluate_model, evaluate_pair

LOG = {
    "model": "some 1.0.0", "unit": "log(1 + counts), relative",
    OUTPUT: Normalisation(
        method="zscore", scope="image", transform="log1p", centre=(6.0,), scale=(0.7,)
    ).model_dump_json(),
}  # fmt: skip


def stain(seed: int = 0, size: int = 120) -> np.ndarray:
    return np.round(np.exp(np.random.default_rng(seed).normal(6, 0.7, (1, 1, size, size)))).astype(np.float32)


def image(values: np.ndarray, *channels: str, voxel: float | None = 0.5, **said: str) -> Image:
    return Image(values.astype(np.float32), "CZYX", (None, voxel, voxel), channels, annotations=said)


def value(table, metric: str = "pearson", column: str = "value") -> float:
    return float(table[table["metric"] == metric].iloc[0][column])


def test_the_real_stain_is_brought_to_the_unit_that_the_prediction_has(tmp_path: Path) -> None:
    real, made, logged = tmp_path / "real.tif", tmp_path / "made.ome.tif", tmp_path / "logged.tif"
    counts = stain()
    noisy = np.log1p(counts) + np.random.default_rng(1).normal(0, 0.5, counts.shape)
    write(image(noisy, "Hoechst", **LOG), made)
    write(image(counts, "Hoechst"), real)
    write(image(np.log1p(counts), "Hoechst"), logged)
    done, same = evaluate_pair(made, real), evaluate_pair(made, logged)
    assert value(done.scores) == pytest.approx(
        np.corrcoef(np.log1p(counts).ravel(), noisy.ravel())[0, 1], abs=1e-4
    )
    assert value(done.scores, "ssim") > 0.5
    assert any("was brought to it" in note for note in done.notes)
    assert any("taken as log(1 + counts)" in note for note in same.notes)
    np.testing.assert_allclose(done.scores["value"], same.scores["value"], atol=1e-4)
    write(image(noisy, "Hoechst"), tmp_path / "silent.ome.tif")
    notes = evaluate_pair(tmp_path / "silent.ome.tif", real).notes
    assert any("can hardly be one unit" in note for note in notes)


def test_both_ways_to_score_a_model_agree(make_model: Callable[..., StainModel], tmp_path: Path) -> None:
    folder, model = tmp_path / "own", make_model(offset=(2, 0))
    folder.mkdir()
    cells = np.random.default_rng(3).integers(100, 900, (3, 1, 90, 80)).astype(np.float32)
    cells[:, :, :, :30] = 0  # what registration left
    whole = image(cells, "Brightfield", "Hoechst", "Mito")
    write(whole, folder / "A01.ome.tif")
    open_manifest(folder, inputs=["Brightfield"], targets=["Hoechst", "Mito"]).write(folder / "m.csv")
    by_model = evaluate_model(str(model.bundle.directory), folder / "m.csv", device="cpu")
    predict_many([folder / "A01.ome.tif"], tmp_path / "p.ome.tif", model=model)
    by_pair = evaluate_pair(tmp_path / "p.ome.tif", folder / "A01.ome.tif", out=tmp_path / "ev")
    for column in ("value", "floor", "ceiling"):
        np.testing.assert_allclose(by_pair.scores[column], by_model.scores[column], atol=1e-4, err_msg=column)
    assert any("zero borders" in note for note in by_pair.notes)
    predict_many([folder / "A01.ome.tif"], tmp_path / "on_input.ome.tif", model=model, input_frame=True)
    notes = evaluate_pair(tmp_path / "on_input.ome.tif", folder / "A01.ome.tif").notes
    assert any("predict without --input-frame" in note for note in notes)
    page = (tmp_path / "ev" / "report.html").read_text()
    assert "zero borders" in page
    assert "tiny 1.0.0" in page


def test_what_was_not_scored_is_said(tmp_path: Path) -> None:
    both, real = tmp_path / "both.ome.tif", tmp_path / "real.ome.tif"
    write(image(np.concatenate([stain(0), stain(1)]), "Lamin", "Mitochondria"), both)
    write(image(np.concatenate([stain(0), stain(1)]), "lamin", "Mito", voxel=0.65), real)
    done = evaluate_pair(both, real, out=tmp_path / "ev")
    said = " | ".join(done.notes)
    assert set(done.scores["channel"]) == {"Lamin"}
    assert "not scored: Mitochondria" in said
    assert "(it has Mito)" in said
    assert "voxel sizes differ: ? x 0.5 x 0.5 um" in said
    assert "nuclei were not scored: no stain is called hoechst" in said
    assert "not given" in (tmp_path / "ev" / "report.html").read_text()  # no label-free image
    write(image(stain(), "Hoechst", voxel=None), tmp_path / "bare.ome.tif")
    notes = evaluate_pair(*[tmp_path / "bare.ome.tif"] * 2).notes
    assert notes == ("nuclei were not scored: their pixel size is not known",)


def test_a_prediction_that_is_worse_than_its_input_is_called_so(tmp_path: Path) -> None:
    write(image(stain(5), "Hoechst"), tmp_path / "made.ome.tif")
    write(image(np.concatenate([stain(0), stain(0)]), "BF", "DAPI"), tmp_path / "real.ome.tif")
    done = evaluate_pair(tmp_path / "made.ome.tif", tmp_path / "real.ome.tif")
    assert value(done.scores, column="floor") == pytest.approx(1)
    assert "the only stain there is" in done.notes[0]
    assert "below its floor, 1.000" in done.notes[-1]


def test_plates_are_scored_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(f"A/{well}", str(f)) for well in (1, 2, 3) for f in (0, 1)]
    fields = {place: image(stain(k, 40), "Hoechst") for k, place in enumerate(places)}
    write_plate(tmp_path / "real.ome.zarr", fields)
    write_plate(tmp_path / "made.ome.zarr", {place: fields[place] for place in places[1:]})
    alive: list[weakref.ref] = []
    most, scored = [0], scored_runs.score_pair

    def watched(pair):
        gc.collect()
        most[0] = max(most[0], sum(r() is not None for r in alive))
        made = scored(pair)
        alive.append(weakref.ref(made.channels[0].truth))
        return made

    monkeypatch.setattr(scored_runs, "score_pair", watched)
    done = evaluate_pair(tmp_path / "made.ome.zarr", tmp_path / "real.ome.zarr", out=tmp_path / "ev")
    assert (value(done.scores), value(done.scores, column="n")) == (pytest.approx(1), 5)
    assert "1 field of" in done.notes[0]
    assert most[0] <= 2  # what is being scored, and the first: it might be the only one
    assert len(alive) == 5 + 3  # those that the report shows are made again
    page = (tmp_path / "ev" / "report.html").read_text()
    assert "The worst, the median and the best of 5 fields" in page
    with pytest.raises(DataError, match=r"is a plate, .* is not. Give two plates, or one field"):
        evaluate_pair(tmp_path / "made.ome.zarr", tmp_path / "real.ome.zarr" / "A" / "1" / "0")
