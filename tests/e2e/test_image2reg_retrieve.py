"""``image2reg retrieve`` as a user types it: files, pages, numbers, exit codes"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted
from typer.testing import CliRunner

import image2reg
from image2reg.cli import app
from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.crops import Crops
from image2reg.tables import Profiles

SAMPLE = Path(image2reg.__file__).parent / "samples" / "planted-mechanisms" / "profiles.csv"
QUESTION = [
    "--label", "Metadata_moa", "--different", "Metadata_Compound", "--by", "Metadata_Compound", "--by", "Metadata_Dose",
    "--controls", "Metadata_Compound=DMSO", "--method", "neighbours",
]  # fmt: skip


class Links(HTMLParser):
    """What a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["retrieve", *map(str, arguments)], catch_exceptions=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("retrieve") / "mechanisms"
    result = run(SAMPLE, *QUESTION, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_the_shipped_sample_is_called_with_tables_and_pages(done: tuple[Path, dict]) -> None:
    out, answer = done
    assert answer["queries"] == 48
    assert answer["summary"]["accuracy"]["value"] > 0.8
    assert answer["summary"]["map"]["p_value"] < 0.01
    calls = Profiles.read(SAMPLE)
    names = sorted(set(calls.column("Metadata_Compound")) - {"DMSO"})
    assert len(list((out / "compounds").glob("*.html"))) == len(names) == 24
    assert {p.name for p in out.iterdir()} == {
        "calls.csv", "ranking.csv", "evidence.csv", "moved.csv", "summary.json", "index.html", "compounds",
    }  # fmt: skip
    assert json.loads((out / "summary.json").read_text())["summary"] == answer["summary"]


def test_the_unknown_compound_is_called_from_the_others(done: tuple[Path, dict]) -> None:
    calls = pd.read_csv(done[0] / "calls.csv", dtype=str, keep_default_na=False)
    unknown = calls[calls["known"] == ""]
    assert unknown["Metadata_Compound"].unique().tolist() == ["compound 53"]
    assert unknown["mechanism"].unique().tolist() == ["moa 5"]


def test_pages_stand_alone_and_say_what_a_call_rests_on(done: tuple[Path, dict]) -> None:
    out = done[0]
    for page in [out / "index.html", *(out / "compounds").glob("*.html")]:
        links = Links()
        links.feed(page.read_text())
        assert "script" not in links.tags
        assert all((page.parent / link).is_file() or link.startswith("data:") for link in links.found), page
    index = (out / "index.html").read_text()
    assert "Expected calibration error" in index
    assert "labels permuted" in index
    page = next((out / "compounds").glob("*compound-53.html")).read_text()
    for part in (
        "Mechanisms",
        "Nearest compounds",
        "Features that moved most",
        "a call needs",
        "random rankings",
    ):
        assert part in page
    assert "In the table" not in page


def test_nuclei_are_shown_and_names_cannot_break_a_page(tmp_path: Path) -> None:
    wells = planted(n_mechanisms=2, n_compounds=2, n_doses=1)
    frame = wells.frame.copy()
    frame.loc[frame["Metadata_Compound"] == "compound 00", "Metadata_Compound"] = "<script>../x"
    wells.replace(frame).write(tmp_path / "wells.csv")
    images = np.random.default_rng(0).integers(0, 1000, size=(12, 1, 16, 16)).astype(np.uint16)
    owners = pd.DataFrame({"Metadata_Compound": ["<script>../x"] * 8 + ["compound 10"] * 4})
    Crops(images, owners).write(tmp_path / "nuclei.zarr")
    result = run(
        tmp_path / "wells.csv", *QUESTION, "--out", tmp_path / "out", "--crops", tmp_path / "nuclei.zarr"
    )
    assert result.exit_code == 0, result.output
    page = next((tmp_path / "out" / "compounds").glob("*script-x.html")).read_text()
    assert page.count("data:image/png") >= 6
    assert "<script>" not in page
    assert "8 nuclei, DNA, contrast" in page


def test_existing_results_and_unknown_words_are_refused(done: tuple[Path, dict], tmp_path: Path) -> None:
    again = run(SAMPLE, *QUESTION, "--out", done[0])
    assert isinstance(again.exception, DataError)
    assert "already exists" in str(again.exception)
    for extra, said in (
        (["--processing", "auto", "--controls", ""], "--processing auto needs --controls"),
        (["--processing", "magic"], "allowed are default, auto and none"),
        (["--arm", "no-file"], "write NAME=FILE"),
        (["--fusion", "middle"], "allowed are 'late' and 'early'"),
    ):
        wrong = run(SAMPLE, *QUESTION, "--out", tmp_path / "x", *extra)
        assert isinstance(wrong.exception, ConfigurationError)
        assert said in str(wrong.exception)
    assert not (tmp_path / "x").exists()


def test_tables_with_other_features_are_joined_only_when_asked(tmp_path: Path) -> None:
    wells = planted()
    first, second = np.arange(len(wells)) % 2 == 0, np.arange(len(wells)) % 2 == 1
    wells.rows(first).write(tmp_path / "a.csv")
    other = wells.rows(second)
    other.with_values(other.values[:, :8], other.features[:8]).write(tmp_path / "b.csv")
    both = [tmp_path / "a.csv", tmp_path / "b.csv", *QUESTION, "--out", tmp_path / "out"]
    refused = run(*both)
    assert isinstance(refused.exception, DataError)
    assert "features differ" in str(refused.exception)
    assert run(*both, "--common-features").exit_code == 0


def test_another_arm_and_a_processing_settled_on_doses(tmp_path: Path) -> None:
    planted(seed=1).write(tmp_path / "images.csv")
    expression = planted(seed=2)
    expression.rows(expression.column("Metadata_moa") != "").write(tmp_path / "l1000.parquet")
    result = run(
        tmp_path / "images.csv", *QUESTION, "--arm", f"expression={tmp_path / 'l1000.parquet'}", "--processing", "auto",
        "--batch", "Metadata_Batch", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["queries"] == 32
    assert answer["settings"]["processing"]["neighbours"] == 10
    sphered = answer["settings"]["processing"]["sphering"] > 0
    assert [note for note in answer["notes"] if "not sphered" in note] == (
        ["expression: no controls were named, so these profiles are not sphered."] if sphered else []
    )


def test_the_python_call_gives_the_same(done: tuple[Path, dict]) -> None:
    from image2reg.retrieval import CallSettings

    found = image2reg.retrieve(
        Profiles.read(SAMPLE),
        label="Metadata_moa",
        different="Metadata_Compound",
        by=["Metadata_Compound", "Metadata_Dose"],
        controls="Metadata_Compound=DMSO",
        settings=CallSettings(methods=("neighbours",)),
    )
    assert found.summary["accuracy"]["value"] == done[1]["summary"]["accuracy"]["value"]


def test_results_never_replace_a_table_of_another_arm(tmp_path: Path) -> None:
    out = tmp_path / "results"
    out.mkdir()
    planted(seed=2).write(out / "l1000.parquet")
    arm = ["--arm", f"expression={out / 'l1000.parquet'}"]
    refused = run(SAMPLE, *QUESTION, *arm, "--out", out, "--overwrite")
    assert isinstance(refused.exception, ConfigurationError)
    assert "is the input" in str(refused.exception)
    assert (out / "l1000.parquet").is_file()


def test_an_option_that_is_wrong_is_refused_before_the_processing_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settled(*_: object, **__: object) -> None:
        pytest.fail("the processing was settled first")

    monkeypatch.setattr("image2reg.retrieval.processing.choose_processing", settled)
    auto = [SAMPLE, *QUESTION, "--processing", "auto", "--out", tmp_path / "out"]
    for wrong in (["--threshold", "7"], ["--arm", "l1000=none.csv"], ["--crops", tmp_path / "none.zarr"]):
        assert isinstance(run(*auto, *wrong).exception, ConfigurationError | DataError)


def test_the_summary_is_json_where_a_number_is_undefined(done: tuple[Path, dict], tmp_path: Path) -> None:
    calls = pd.read_csv(done[0] / "calls.csv")
    best = calls[calls["known"].notna()].groupby("Metadata_Compound")["probability"].max().nlargest(2)
    result = run(SAMPLE, *QUESTION, "--out", tmp_path / "out", "--threshold", float(best.mean()))
    assert result.exit_code == 0, result.output

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    text = (tmp_path / "out" / "summary.json").read_text()
    called = json.loads(text, parse_constant=refuse)["summary"]["accuracy_called"]
    assert called["low"] is None  # one compound is called, and has no interval
    assert "one group only" in called["reason"]


def test_a_score_without_compounds_is_not_called_held_out_compounds(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    rows = ["--label", "Metadata_moa", "--method", "neighbours", "--controls", "Metadata_Compound=DMSO"]
    named = run(SAMPLE, *rows, "--out", tmp_path / "named")
    assert "held-out compounds: " in named.output
    alone = run(SAMPLE, *rows, "--different", "", "--out", out)
    assert alone.exit_code == 0, alone.output
    assert "held-out rows (other rows of their compound were not): " in alone.output
    text = (out / "index.html").read_text()
    assert "its own compound" in text
    for untrue in (
        "Held-out compounds",
        "without its own compound",
        "not same compound",
        "the compound was held out",
    ):
        assert untrue not in text + next((out / "compounds").glob("*.html")).read_text()
    assert json.loads((out / "summary.json").read_text())["compound"] == ""


def test_gaps_name_the_option_that_leaves_them_out_and_features_lost_are_counted(tmp_path: Path) -> None:
    sample = Profiles.read(SAMPLE)
    frame = sample.frame.copy()
    frame.loc[3, sample.features[0]] = np.nan
    sample.replace(frame).write(tmp_path / "gaps.csv")
    refused = run(tmp_path / "gaps.csv", *QUESTION, "--out", tmp_path / "out")
    assert "row 4" in str(refused.exception)
    assert "--select" in str(refused.exception)
    done = run(tmp_path / "gaps.csv", *QUESTION, "--select", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert "1 missing somewhere" in json.loads(done.stdout)["notes"][0]

    half = sample.values[:, 1:]
    tables = [sample.rows(slice(0, 60)), sample.with_values(half, sample.features[1:]).rows(slice(60, None))]
    for name, table in zip("ab", tables, strict=True):
        table.write(tmp_path / f"{name}.csv")
    both = [tmp_path / "a.csv", tmp_path / "b.csv", "--common-features"]
    notes = json.loads(run(*both, *QUESTION, "--out", tmp_path / "both", "--json").stdout)["notes"]
    assert f"a.csv: 1 of {len(sample.features)} features are not in all tables" in notes[0]


def test_the_index_shows_the_best_call_of_a_compound_and_how_many_of_its_doses_were_called(
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    from image2reg.report.mechanisms import write_pages
    from image2reg.retrieval import CallSettings

    wells = Profiles.read(SAMPLE)
    found = image2reg.retrieve(
        wells, label="Metadata_moa", by=["Metadata_Compound", "Metadata_Dose"], controls="Metadata_Compound=DMSO",
        settings=CallSettings(methods=("neighbours",)),
    )  # fmt: skip
    calls = found.calls.copy()
    own = calls.index[calls["Metadata_Compound"] == "compound 00"]
    calls.loc[own, ["probability", "called", "reason"]] = [
        [0.9, False, "p-value above alpha"],
        [0.6, True, ""],
    ]
    index, *pages = write_pages(replace(found, calls=calls), tmp_path, title="t", command="c")
    row = next(line for line in index.read_text().split("<tr>") if ">compound 00<" in line)
    assert f"Dose {calls['Metadata_Dose'][own[1]]}<" in row
    assert "1 of 2" in row
    assert "0.600" in row
    assert "no call" not in row
    page = next(page for page in pages if "compound-00" in page.name).read_text()
    assert "Call: " in page
    assert ">Dose " in page
    assert "Plate plate" not in page
    missed = page.partition(f">Dose {calls['Metadata_Dose'][own[0]]}<")[2].partition("<h2")[0]
    assert "No call (p-value above alpha)" in missed
    assert f"p of no difference from the controls {calls['activity_p'][own[0]]:.2g}" in missed
