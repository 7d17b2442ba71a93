"""Any table that the formats can hold comes back from them as it was; any part is the part of the whole."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pandas.testing import assert_frame_equal

from image2reg.expression import ExpressionTable, identifiers, read
from image2reg.expression.cmappy import MISSING_MARKS, typed
from image2reg.expression.gctx import spans

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), min_size=1, max_size=6
)
IDS = TEXT.filter(lambda text: text.strip())
FIELD_NAMES = IDS.filter(lambda name: name not in ("id", "ind", ".", "..") and "/" not in name)
# A letter in front: text that reads as a number comes back as one, and marks of missing entries as missing.
LABELS = TEXT.map(lambda text: "t" + text)
VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True).filter(lambda value: value != -666)
FINITE = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != -666)
INTEGERS = st.integers(-(10**15) + 1, 10**15 - 1).filter(lambda value: value != -666)


@st.composite
def metadata(draw, ids):
    fields = {}
    for name in draw(st.lists(FIELD_NAMES, unique=True, max_size=3)):
        entries, kind = draw(
            st.sampled_from(
                [
                    (INTEGERS, "int64"),
                    (FINITE, "float64"),
                    (st.none() | FINITE, "float64"),
                    (st.none() | LABELS, object),
                    (st.sampled_from(["007", "1E5", "0x1", "+1", "1_0", "1.", " 1"]), object),
                ]
            )
        )
        column = draw(st.lists(entries, min_size=len(ids), max_size=len(ids)))
        if kind is object and all(entry is None for entry in column):
            kind = "float64"
        fields[name] = pd.Series(column, index=ids, dtype=kind)
        if kind is object:
            fields[name] = fields[name].where(fields[name].notna(), np.nan)
    return pd.DataFrame(fields, index=ids)


@st.composite
def tables(draw):
    rows = draw(st.lists(IDS, unique=True, min_size=1, max_size=5))
    columns = draw(st.lists(IDS, unique=True, min_size=1, max_size=4))
    values = draw(hnp.arrays(np.float32, (len(rows), len(columns)), elements=VALUES))
    frame = pd.DataFrame(values, index=rows, columns=columns)
    return ExpressionTable(frame, draw(metadata(rows)), draw(metadata(columns)))


def assert_same(first, second):
    assert_frame_equal(first.values, second.values, check_exact=True)
    for name in ("row_metadata", "column_metadata"):
        one, other = getattr(first, name).sort_index(axis=1), getattr(second, name).sort_index(axis=1)
        assert_frame_equal(one, other, check_exact=True, check_column_type=False)


@pytest.mark.parametrize("suffix", [".gct", ".gctx"])
@given(data=st.data())
@settings(max_examples=20)
def test_round_trip_and_parts(suffix, data):
    table = data.draw(tables())
    rows = data.draw(st.lists(st.sampled_from(list(table.values.index)), unique=True, min_size=1))
    columns = data.draw(st.none() | st.just(slice(None, None, -1)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        table.write(path)
        assert_same(read(path), table)
        assert_same(read(path, rows=rows, columns=columns), table.select(rows=rows, columns=columns))


@given(
    places=st.sets(st.integers(0, 300), min_size=1).map(sorted),
    band=st.integers(1, 40),
    longest=st.integers(1, 100),
)
def test_spans_hold_every_place_once_and_stay_short(places, band, longest):
    found = spans(np.array(places), band, longest)
    covered = [place for start, stop in found for place in places if start <= place < stop]
    assert covered == places
    assert all(stop - start <= max(longest, 1) for start, stop in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    held = {place // band for place in places}
    assert all(place // band in held for start, stop in found for place in range(start, stop))


@given(numbers=st.lists(FINITE | INTEGERS, min_size=1))
def test_printed_numbers_become_the_same_numbers(numbers):
    assert typed(pd.Series([str(number) for number in numbers])).tolist() == numbers


@given(texts=st.lists(TEXT | st.sampled_from(sorted(MISSING_MARKS)), min_size=1))
def test_text_is_kept_or_is_a_number_or_is_missing(texts):
    for text, entry in zip(texts, typed(pd.Series(texts, dtype=object)), strict=True):
        if text in MISSING_MARKS:
            assert np.isnan(entry)
        else:
            assert entry == text or entry == float(text)


@given(numbers=st.lists(st.integers(0, 2**53)))
def test_ids_are_the_same_from_integers_floats_text_and_bytes(numbers):
    texts = [str(number) for number in numbers]
    for labels in (numbers, [float(number) for number in numbers], texts, [text.encode() for text in texts]):
        assert identifiers(labels).tolist() == texts
