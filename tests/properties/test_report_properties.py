"""Escaping is an identity for the reader, whatever the text; the scale bar never lies."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from image2reg.report.figures import scale_bar
from image2reg.report.page import fill

printable = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf")))


@given(printable)
def test_text_survives_as_text_and_makes_no_tag(text) -> None:
    seen: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            seen.append(tag)
            assert dict(attrs) in ({}, {"title": text})

    made = fill('<p title="{text}">{text}</p>', text=text)
    Parser().feed(made)
    assert seen == ["p"]
    assert unescape(made[made.index(">") + 1 : -4]) == text


@given(printable)
def test_escaping_happens_once(text) -> None:
    inner = fill("{text}", text=text)
    assert fill("{inner}", inner=inner) == inner


@given(st.integers(8, 20_000), st.floats(0.01, 5))
def test_scale_bar_has_the_length_it_says(width, pixel) -> None:
    share, label = scale_bar(width, pixel)
    number, unit = label.split()
    length_um = float(number) * (1000 if unit == "mm" else 1)
    assert abs(share * width * pixel - length_um) <= 1e-6 * length_um
    assert share + 1e-9 >= 0.1
    assert share <= 0.25 + 1e-9
