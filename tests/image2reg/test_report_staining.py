"""The staining report: what it must state, how it chooses fields, and that it stays one small file."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import DataError
from image2reg.report import FieldPanel, Flag, Page, ScoreRow, page, staining_report
from image2reg.report.scores import score_table
from image2reg.report.staining import choose_fields

RNG = np.random.default_rng(0)


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    return reader


def panel(name: str = "A1", *, score: float | None = None, size: int = 48, **changes) -> FieldPanel:
    real = RNG.normal(100, 20, (6, size, size)).astype(np.float32)
    arguments = {
        "input": RNG.normal(1000, 50, (6, size, size)).astype(np.float32),
        "predicted": {"Hoechst": real + 5},
        "real": {"Hoechst": real},
        "voxel_um": (0.5, 0.25, 0.25),
        "input_name": "brightfield",
        "units": "counts",
        "score": score,
    }
    return FieldPanel(name, **{**arguments, **changes})


ROWS = [
    ScoreRow(
        "Hoechst",
        "pearson",
        0.66,
        0.61,
        0.7,
        9,
        "field",
        0.21,
        0.93,
        "best single input plane",
        "camera noise",
    ),
    ScoreRow("Hoechst", "psnr", 21.37, n=9),
]


def write(path, **changes):
    arguments = {"title": "Plate 7", "command": "virtualstain demo", "fields": [panel()], "scores": ROWS}
    return staining_report(path, **{**arguments, **changes})


def test_page_states_limits_scores_bounds_interval_level_and_command(tmp_path) -> None:
    flags = [Flag("look at the focus", "info", "A1"), Flag("voxel size guessed", "error")]
    out = write(tmp_path / "r.html", flags=flags, provenance={"Seed": 7, "Versions": {"torch": "2.13.0"}})
    text = read(out).text
    for words in (
        *("0.660", "0.610 to 0.700", "floor 0.210 · ceiling 0.930", "9 fields", "21.4", "no interval"),
        *("virtualstain demo", "Seed", "torch", "2.13.0", "62 % of the way"),
        *(
            "brightfield",
            "predicted",
            "real",
            "error",
            "plane",
            "of 6",
            "top up",
            "0.5\N{EN DASH}99.8 % of real",
        ),
        *(
            "counts",
            "10 µm" if "10 µm" in text else "2 µm",
            "look at the focus",
            "voxel size guessed",
            "The only field.",
        ),
    ):
        assert words in text, words
    assert text.index("voxel size guessed") < text.index("look at the focus")  # the worst flag first


def test_predicted_and_real_state_the_same_limits_and_the_error_its_own(tmp_path) -> None:
    reader = read(write(tmp_path / "r.html"))
    ends = re.findall(r"([\d.]+)([\d.,]+) counts", reader.text)
    grey = re.findall(
        r'<div class="key"><span>([^<]*)</span>.*?<span>([^<]*)</span>', (tmp_path / "r.html").read_text()
    )
    assert len(grey) == 4, ends
    assert grey[1] == grey[2]
    assert grey[3][0].startswith("\N{MINUS SIGN}")
    assert grey[3][1] == "+" + grey[3][0][1:]
    assert "mean 5," in reader.text


def test_every_picture_is_inline_and_has_its_own_alternative_text(tmp_path) -> None:
    pictures = [attributes for tag, attributes in read(write(tmp_path / "r.html")).tags if tag == "img"]
    assert len(pictures) == 8  # four planes and their side views
    assert all(p["src"].startswith("data:image/png;base64,") for p in pictures)
    alternatives = [p["alt"] for p in pictures]
    assert len(set(alternatives)) == 8
    assert "Hoechst real, field A1, side view" in alternatives


def test_worst_median_and_best_are_shown_and_it_says_so(tmp_path) -> None:
    fields = [panel(f"site {i}", score=s, size=16) for i, s in enumerate([0.5, 0.9, 0.1, 0.7, 0.3])]
    chosen, how = choose_fields(fields)
    assert [(role, f.score) for role, f in chosen] == [("worst", 0.1), ("median", 0.5), ("best", 0.9)]
    assert "worst, the median and the best of 5 fields by Pearson r" in how
    text = read(write(tmp_path / "r.html", fields=fields)).text
    assert "site 2worst · Pearson r 0.1" in text
    assert "site 3" not in text


def test_fields_without_score_are_shown_in_order_and_it_says_so() -> None:
    chosen, how = choose_fields(
        [panel("a", size=8), panel("b", score=0.3, size=8), panel("c", score=float("nan"), size=8)]
    )
    assert [f.name for _, f in chosen] == ["a", "b", "c"]
    assert "2 of them had no score" in how


def test_prediction_without_truth_is_a_report_too(tmp_path) -> None:
    text = read(write(tmp_path / "r.html", fields=[panel(real={})], scores=[])).text
    assert text.count("no real image") == 3  # in place of two pictures, and in short
    assert "No scores" in text
    assert "of predicted" in text


def test_flat_stain_of_a_stack_shows_the_stack_by_its_middle(tmp_path) -> None:
    stain = RNG.random((1, 3, 24))  # fewer rows than the smoothing of the side view is wide
    field = FieldPanel("A1", RNG.random((13, 3, 24)), {"DNA": stain}, {"DNA": stain})
    text = read(write(tmp_path / "r.html", fields=[field])).text
    assert "middle plane, 7 of 13" in text
    assert "plane 1 of 1" not in text
    thin = RNG.random((4, 3, 24))
    assert "of 4" in read(write(tmp_path / "s.html", fields=[FieldPanel("A1", thin, {"DNA": thin})])).text


def test_missing_values_and_flat_images_are_said_and_drawn(tmp_path) -> None:
    holes = np.full((16, 16), 3.0, np.float32)
    holes[:4] = np.nan
    field = FieldPanel("A1", np.zeros((16, 16), np.uint8), {"DNA": holes}, {"DNA": np.full((16, 16), 3.0)})
    text = read(write(tmp_path / "r.html", fields=[field])).text
    assert "mid-grey where there is no value" in text
    assert "real is constant" in text
    assert "µm" not in text.split("Scores")[0]  # no voxel size, no scale bar


def test_table_of_the_evaluation_is_accepted_and_a_wrong_one_refused(tmp_path) -> None:
    row = {
        "channel": "DNA",
        "metric": "ssim",
        "value": 0.5,
        "low": np.nan,
        "n": 3,
        "level": "well",
        "median": 0.4,
    }
    table = pd.DataFrame([row])
    text = read(write(tmp_path / "r.html", scores=table)).text
    assert "3 wells" in text
    with pytest.raises(DataError, match=r"no column 'metric'; found \['channel', 'value', 'low'"):
        write(tmp_path / "s.html", scores=table.drop(columns="metric"))


def test_large_fields_shrink_until_the_page_fits_and_get_a_detail(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(page, "MAX_PAGE_BYTES", 700_000)
    truth = {"DNA": RNG.random((1040, 1040))}
    field = FieldPanel("A1", RNG.random((1040, 1040)), {"DNA": RNG.random((1040, 1040))}, truth)
    out = write(tmp_path / "r.html", fields=[field])
    assert 100_000 < out.stat().st_size <= 700_000
    assert "detail at full resolution" in read(out).text


def test_page_that_cannot_fit_is_refused_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(page, "MAX_PAGE_BYTES", 9_000)
    with pytest.raises(DataError, match=r"bytes; allowed are 9,000\. Show fewer fields"):
        write(tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_existing_page_is_kept_unless_told_otherwise(tmp_path) -> None:
    out = tmp_path / "r.html"
    out.write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        write(out)
    assert out.read_text() == "mine"
    assert "Plate 7" in read(write(out, overwrite=True)).text
    assert list(tmp_path.iterdir()) == [out]


def test_same_content_same_bytes(tmp_path) -> None:
    field = panel()
    first, second = (write(tmp_path / name, fields=[field]).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_page_grows_by_sections_and_escapes_its_title() -> None:
    built = Page("a < b", "c & d")
    built.section("Results & more", page.fill("<p>{x}</p>", x=3))
    text = built.render()
    assert "<title>a &lt; b</title>" in text
    assert "<h2>Results &amp; more</h2><p>3</p>" in text


def test_importing_the_report_draws_nothing_in() -> None:
    code = "import sys, image2reg.report; print({'PIL', 'matplotlib', 'torch'} & set(sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_a_share_of_nuclei_found_is_drawn_on_the_way_to_all_of_them() -> None:
    few, all_of_them = (score_table([ScoreRow("DAPI", "nuclei_f1@0.5", v, floor=0.0)]) for v in (0.1, 1.0))
    assert 'cx="23.8"' in few.split("key:")[0]
    assert 'cx="184.0"' in all_of_them.split("key:")[0]
