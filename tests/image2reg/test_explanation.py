"""Explanations: maps, their checks, profiles from the lamina inwards, spots, enrichment"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from drawn_nuclei import drawn_crops, small_recipe
from typer.testing import CliRunner

from image2reg.cli import app
from image2reg.embedding.contrasts import chromatin_profiles, contrast
from image2reg.embedding.encoder import save_encoder
from image2reg.embedding.enrichment import enrichment, read_bed, read_bins
from image2reg.embedding.networks import build_encoder
from image2reg.embedding.score_cam import Attribution, explain_crops
from image2reg.embedding.training import TrainedEncoder, train_encoder
from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.crops import OTHER, Crops
from image2reg.nuclei.regions import Regions
from image2reg.nuclei.spots import measure_spots
from image2reg.report.explanation import verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def trained() -> tuple[TrainedEncoder, Crops]:
    """Classes differ in the brightness of a neighbour, so that the map has one right place."""
    crops = drawn_crops(72, signal="region")
    recipe = small_recipe(20, variant="context")
    return train_encoder(crops, crops.column("Metadata_Treatment"), recipe), crops


def test_the_map_points_at_what_the_classes_differ_in(trained: tuple[TrainedEncoder, Crops]) -> None:
    encoder, crops = trained
    chosen = crops.rows(crops.column("Metadata_Treatment") == "b").rows(np.arange(8))
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    found = explain_crops(encoder, chosen, "b")
    assert all(torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items())
    neighbour = np.asarray(chosen.masks) == OTHER
    inside, share = found.maps[neighbour].sum() / found.maps.sum(), neighbour.mean()
    assert found.maps.shape == (8, 24, 24)
    assert inside > 1.3 * share
    checks = found.summary()
    assert checks["deletion_auc"] < checks["random_deletion_auc"]
    # here even an untrained network looks at the only bright thing there is: what the check is for
    assert 0.5 < checks["random_weights_correlation"] < 0.9999
    assert np.allclose(found.deletion[:, 0], found.insertion[:, -1], atol=1e-5)
    assert checks["empty_probability"] == pytest.approx(float(found.insertion[:, 0].mean()), abs=1e-5)
    with pytest.raises(ConfigurationError, match="class 'c', branch 'context'"):
        explain_crops(encoder, chosen, "c")


def test_a_shifted_nucleus_scores_the_same_with_a_pooled_head() -> None:
    # I15: the study's own head is tied to positions
    torch.manual_seed(0)
    network = build_encoder("resnet9", branches=["nucleus"], n_channels=1, n_features=16, n_classes=2).eval()
    image = torch.zeros(1, 1, 96, 96)
    image[:, :, 30:50, 30:50] = torch.rand(20, 20)
    with torch.inference_mode():
        here, there = network({"nucleus": image}), network({"nucleus": image.roll((16, 8), (2, 3))})
    assert torch.allclose(here, there, atol=1e-3)
    convolutions = [
        m
        for m in network.branches["nucleus"].modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    assert len(convolutions) == 9


def test_radial_profile_tells_rim_from_centre_with_wells_as_units() -> None:
    crops = drawn_crops(96)  # class b has a bright rim
    table = contrast(chromatin_profiles(crops), "Metadata_Treatment", control="a").set_index("feature")
    rim = table.loc["Nuclei_RadialDistribution_MeanFrac_DNA_1of5"]
    centre = table.loc["Nuclei_RadialDistribution_MeanFrac_DNA_5of5"]
    assert rim.low > 0 > centre.high
    assert (rim.n_control, rim.n_treated) == (6, 6)
    assert table.loc["Nuclei_RadialDistribution_LaminaFraction_DNA", "difference"] > 0
    assert table.loc["Nuclei_AreaShape_Area", "low"] < 0 < table.loc["Nuclei_AreaShape_Area", "high"]


def test_a_nucleus_measures_the_same_whichever_nuclei_stand_beside_it() -> None:
    crops = drawn_crops(60)
    plate = crops.column("Metadata_Plate") == "p1"
    crops.images[plate] += 40  # a brighter background: nothing of the nuclei
    whole, alone = chromatin_profiles(crops), chromatin_profiles(crops.rows(plate))
    np.testing.assert_allclose(whole.values[plate], alone.values)
    crops.images[plate] -= 40
    np.testing.assert_allclose(chromatin_profiles(crops).values, whole.values, rtol=1e-4)


def test_a_single_image_per_side_has_no_interval() -> None:
    crops = drawn_crops(24)
    table = contrast(chromatin_profiles(crops), "Metadata_Treatment", control="a", unit="Metadata_Treatment")
    assert table.low.isna().all()
    assert (table.n_treated == 1).all()
    with pytest.raises(DataError, match="must hold 'dmso' and something else; it holds"):
        contrast(chromatin_profiles(crops), "Metadata_Treatment", control="dmso")


def attribution(**changed: object) -> Attribution:
    """Maps that pass: removed first they take the class away, shown first they bring it."""
    falls = np.linspace(1, 0, 21) ** 3 * np.ones((4, 1))
    plain = {"maps": np.zeros((4, 2, 2)), "inputs": np.zeros((4, 1, 2, 2)), "random_correlation": np.full(4, 0.3),
             "deletion": falls, "insertion": 1 - falls, "random_deletion": np.linspace(1, 0, 21) + 0 * falls,
             "random_insertion": np.linspace(0, 1, 21) + 0 * falls}  # fmt: skip
    return Attribution(**{**plain, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "said"),
    [({}, "The maps pass their checks."),
     ({"random_correlation": np.full(4, 0.95)}, "with random weights the map is nearly the same (correlation 0.95)"),
     ({"insertion": np.zeros((4, 21))}, "showing the map's pixels first raises the class no more"),
     ({"deletion": np.ones((4, 21))}, "taking the map's pixels away first lowers the class no more"),
     ({"deletion": np.zeros((4, 21)) + 0.6 * (np.arange(21) > 19)}, "an empty input is taken for this class"),
     ({"beside": "nucleus"}, "looks through another branch too (nucleus)")],
)  # fmt: skip
def test_maps_that_fail_a_check_are_not_to_be_read(changed: dict[str, object], said: str) -> None:
    assert said in verdict(attribution(**changed))
    assert verdict(attribution(**changed)).startswith("Do not read" if changed else "The maps pass")


def test_without_a_model_the_page_promises_no_maps_and_one_plate_has_no_interval(tmp_path: Path) -> None:
    crops = drawn_crops(24)
    crops.metadata["Metadata_Plate"] = "p1"
    crops.write(tmp_path / "c.zarr")
    words = ["explain", str(tmp_path / "c.zarr"), "--out", str(tmp_path / "x"), "--label", "Metadata_Treatment",
             "--control", "a", "--unit", "plate"]  # fmt: skip
    said = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert "(no interval: one plate on a side)" in said
    assert "nan" not in said
    assert "Score-CAM" not in (tmp_path / "x" / "report.html").read_text()


def test_spots_are_counted_and_a_smooth_nucleus_has_none() -> None:
    y, x = np.indices((60, 120))
    labels = (np.hypot(y - 30, x - 30) < 24) * 1 + (np.hypot(y - 30, x - 90) < 24) * 2
    image = 100.0 + 0 * x
    for cy, cx in ((20, 22), (34, 40), (42, 24)):
        image += 80 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 4.0)
    regions = Regions(labels)
    found = measure_spots(regions, image.reshape(-1)[regions.inside])
    assert found["SpotCount"].tolist() == [3, 0]
    assert found["SpotIntensityRatio"][0] > 1.2
    assert np.isnan(found["SpotIntensityRatio"][1])
    assert found["SpotAreaFraction"][1] == 0
    dark = measure_spots(regions, -image.reshape(-1)[regions.inside])
    assert np.isnan(dark["SpotCount"]).all()


def runs(rng: np.random.Generator, n: int, length: int, share: float) -> np.ndarray:
    return np.repeat(rng.random(n // length) < share, length)


def test_enrichment_finds_planted_overlap_and_the_shift_null_knows_runs() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    inside = runs(rng, n, 60, 0.4)
    bins = pd.DataFrame({"chromosome": "chr1", "start": np.arange(n) * 10, "end": np.arange(n) * 10 + 10})
    lads = bins[inside]
    planted = enrichment(bins.assign(changed=inside & (rng.random(n) < 0.5)), lads)
    assert planted.odds_ratio > 10
    assert planted.p_enriched < 0.01
    p = [enrichment(bins.assign(changed=runs(rng, n, 60, 0.3)), lads).p_enriched for _ in range(100)]
    # Fisher's test would call most of these significant
    assert np.mean(np.array(p) < 0.05) < 0.12


def test_odds_ratio_and_half_covered_bins() -> None:
    bins = pd.DataFrame(
        {
            "chromosome": ["1"] * 6,
            "start": range(0, 60, 10),
            "end": range(10, 70, 10),
            "changed": [1, 1, 0, 0, 0, 1],
        }
    )
    lads = pd.DataFrame({"chromosome": ["1", "1"], "start": [0, 3], "end": [7, 15]})  # overlapping: 0 to 15
    found = enrichment(bins, lads)
    assert (found.n_inside, found.n_changed, found.n_both) == (2, 3, 2)
    assert found.odds_ratio == pytest.approx(2.5 * 3.5 / (0.5 * 1.5))


@pytest.mark.parametrize("seed", [5, 7, 12])
def test_intervals_may_overlap_and_lie_in_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 180, 8)
    lads = pd.DataFrame({"chromosome": "1", "start": starts, "end": starts + rng.integers(1, 60, 8)})
    bins = pd.DataFrame({"chromosome": "1", "start": range(0, 250, 10), "end": range(10, 260, 10)})
    bins["changed"] = np.arange(25) % 2
    covered = np.zeros(250, bool)
    for start, end in zip(lads.start, lads.end, strict=True):
        covered[start:end] = True
    inside = covered.reshape(25, 10).sum(axis=1) >= 5
    found = enrichment(bins, lads)
    assert (found.n_inside, found.n_both) == (inside.sum(), inside[1::2].sum())


def test_bed_files_and_tables_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "lads.bed"
    path.write_text("track name=x\nchr1\t0\t100\nchr1\t90\tx\n")
    with pytest.raises(DataError, match=r"line 3 is no interval: 'chr1\\t90\\tx'"):
        read_bed(path)
    bins = pd.DataFrame({"chromosome": ["1"], "start": [0], "end": [1], "changed": [1]})
    lads = pd.DataFrame({"chromosome": ["chr1"], "start": [0], "end": [100]})
    with pytest.raises(DataError, match="share no chromosome"):
        enrichment(bins, lads)
    with pytest.raises(DataError, match="1 of 1 bins are changed"):
        enrichment(bins, lads.assign(chromosome="1"))
    with pytest.raises(DataError, match=r"columns \['changed'\] are missing"):
        enrichment(bins.drop(columns="changed"), lads)


@pytest.mark.parametrize(
    ("row", "seen"),
    [("1,10,20,", "''"), ("1,10,20,-1", "'-1'"), ("1,20,10,1", "'20', '10'"), ("1,x,20,1", "'x'")],
)
def test_a_bin_that_is_none_is_named(tmp_path: Path, row: str, seen: str) -> None:
    path = tmp_path / "bins.csv"
    path.write_text(f"chromosome,start,end,changed,p\n1,0,10,1,0.1\n{row},0.2\n")
    with pytest.raises(DataError, match=rf"1 of 2 rows are no bins, the first in line 3: .*{seen}.*0 or 1"):
        read_bins(path)
    path.write_text("chromosome,start,end\n1,0,10\n")
    with pytest.raises(DataError, match=r"columns \['changed'\] are missing; there are"):
        read_bins(path)


def explained(folder: Path, *words: str) -> str:
    with pytest.raises((DataError, ConfigurationError)) as refused:
        CliRunner().invoke(
            app, ["explain", str(folder / "c.zarr"), "--label", "Metadata_Treatment", "--control", "a", *words],
            catch_exceptions=False,
        )  # fmt: skip
    return str(refused.value)


def test_what_cannot_be_explained_is_refused_before_the_work(
    tmp_path: Path, trained: tuple[TrainedEncoder, Crops], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, crops = trained
    crops.write(tmp_path / "c.zarr")
    save_encoder(encoder, tmp_path / "e")
    monkeypatch.setattr("image2reg.embedding.contrasts.chromatin_profiles", None)
    model = ("--model", str(tmp_path / "e"))
    (tmp_path / "there").mkdir()
    assert "already exists" in explained(tmp_path, "--out", str(tmp_path / "there"))
    assert "is the input" in explained(tmp_path, *model, "--out", str(tmp_path / "e"), "--overwrite")
    said = explained(tmp_path, *model, "--label", "Metadata_Plate", "--out", str(tmp_path / "x"))
    assert "none of its classes ['a', 'b'] is a value of 'Metadata_Plate'" in said


def test_nuclei_without_a_label_are_on_neither_side() -> None:
    crops = drawn_crops(48)
    crops.metadata.loc[:9, "Metadata_Treatment"] = ""
    found = chromatin_profiles(crops)
    named = found.rows(found.column("Metadata_Treatment") != "")
    both, known = (contrast(table, "Metadata_Treatment", control="a") for table in (found, named))
    pd.testing.assert_frame_equal(both, known)


def test_the_command_writes_one_page(tmp_path: Path, trained: tuple[TrainedEncoder, Crops]) -> None:
    encoder, crops = trained
    crops.write(tmp_path / "c.zarr")
    save_encoder(encoder, tmp_path / "e")
    n = 40
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"chromosome": "1", "start": np.arange(n), "end": np.arange(n) + 1, "changed": rng.integers(0, 2, n)}
    )
    frame.to_csv(tmp_path / "bins.csv", index=False)
    (tmp_path / "lads.bed").write_text("1\t0\t20\n")
    words = ["explain", "c.zarr", "--out", "x", "--label", "Metadata_Treatment", "--control", "a", "--model", "e",
             "--n", "3", "--bins", "bins.csv", "--bed", "lads.bed"]  # fmt: skip
    names = {"c.zarr", "x", "e", "bins.csv", "lads.bed"}
    result = CliRunner().invoke(
        app, [str(tmp_path / w) if w in names else w for w in words], catch_exceptions=False
    )
    assert result.exit_code == 0
    html = (tmp_path / "x" / "report.html").read_text()
    assert "The encoder was trained on these very nuclei" in html
    assert "The encoder was trained on these very nuclei" in result.stdout
    for text in (
        "Score-CAM with its checks",
        "How this was made",
        "effect: the difference over the standard deviation",
    ):
        assert text in html
    failed = json.loads((tmp_path / "x" / "checks.json").read_text())["b"]["failed"]
    said = f"Do not read these maps: {'; '.join(failed)}." if failed else "The maps pass their checks."
    assert f"<b>{said}</b>" in html
    assert f"b: {said} (deletion " in result.stdout
    assert "random weights correlation" in html
    assert "softmax of the scores over channels" in html
    assert "Changed bins" in html
    assert len(pd.read_csv(tmp_path / "x" / "contrasts.csv")) > 8
