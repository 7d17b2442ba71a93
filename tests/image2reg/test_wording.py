"""Numbers with their nouns."""

import pytest

from image2reg.wording import counted, counted_level


@pytest.mark.parametrize(
    ("n", "nouns", "said"),
    [(0, ("field",), "0 fields"), (1, ("field",), "1 field"), (2000, ("nucleus", "nuclei"), "2,000 nuclei"),
     (1, ("nucleus", "nuclei"), "1 nucleus")],
)  # fmt: skip
def test_one_is_singular(n, nouns, said):
    """And large numbers can be read."""
    assert counted(n, *nouns) == said


@pytest.mark.parametrize(
    ("n", "level", "said"),
    [(13, "nucleus", "13 nuclei"), (1, "nucleus", "1 nucleus"), (16, "block", "16 blocks"),
     (10, "field in group", "10 fields in groups")],
)  # fmt: skip
def test_units_of_a_score_have_their_plural(n, level, said):
    assert counted_level(n, level) == said
