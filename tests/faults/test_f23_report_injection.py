"""F23: a name that is markup stays a name, wherever in the report it can appear."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from image2reg.report import FieldPanel, Flag, ScoreRow, staining_report
from image2reg.report.page import MAX_PAGE_BYTES

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": '" onerror="alert(1)" x="',
    "template": "{__class__} {0} %s </style></title>",
    "picture": "<img src=https://example.org/x.png>",
    "entity": "&lt;b&gt; javascript:alert(1)",
    "hidden": "DNA\x00\u202e\ud800\x1b[31m",
}
ALLOWED_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "small",
    ),
    *("ul", "li", "b", "i", "div", "span", "figure", "figcaption", "img", "pre", "code", "dl", "dt", "dd"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "line", "circle", "rect"),
}


class Inspector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.problems: list[str] = []
        self.text = ""
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (
                name in {"src", "href", "srcset", "action", "data"} and not value.startswith("data:")
            ):
                self.problems.append(f"{tag} {name}={value}")
            if name in {"alt", "title", "aria-label"}:
                self.attributes.append(value)
        if tag == "img" and not dict(attrs).get("alt"):
            self.problems.append("img without alt")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_shown_and_never_obeyed(kind, tmp_path) -> None:
    bad = HOSTILE[kind]
    image = np.arange(256.0).reshape(16, 16)
    field = FieldPanel(
        bad, image, {bad: image}, {bad: image + 1}, input_name=bad, units=bad, score=0.5, score_name=bad
    )
    out = staining_report(
        tmp_path / "r.html",
        title=bad,
        subtitle=bad,
        command=f"virtualstain predict '{bad}'",
        fields=[field, field, field, field],
        scores=[ScoreRow(bad, bad, 0.5, 0.4, 0.6, 3, bad, 0.1, 0.9, bad, bad)],
        flags=[Flag(bad, bad, bad), Flag(bad)],  # type: ignore[arg-type]
        provenance={bad: bad, "nested": {bad: bad}},
    )
    assert out.stat().st_size < MAX_PAGE_BYTES
    inspector = Inspector()
    inspector.feed(out.read_text("utf-8"))
    assert inspector.problems == []
    assert set(inspector.tags) <= ALLOWED_TAGS
    assert inspector.tags.count("title") == inspector.tags.count("style") == 1
    shown = bad if kind != "hidden" else "DNA" + "\N{REPLACEMENT CHARACTER}" * 4 + "[31m"
    assert inspector.text.count(shown) >= 15
    assert any(shown in value for value in inspector.attributes)


def test_the_page_forbids_loads_and_scripts_by_policy(tmp_path) -> None:
    image = np.arange(64.0).reshape(8, 8)
    out = staining_report(
        tmp_path / "r.html", title="t", command="c", fields=[FieldPanel("a", image, {"b": image})]
    )
    text = out.read_text("utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text.replace("&#x27;", "'")
    for word in ("http://", "https://", "@import", "url(", "<script", "<link", "<iframe"):
        assert word not in text
