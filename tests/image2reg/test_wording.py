"""Numbers with their nouns."""

import pytest

from image2reg.wording import counted


@pytest.mark.parametrize(
    ("n", "nouns", "said"),
    [(0, ("field",), "0 fields"), (1, ("field",), "1 field"), (2000, ("nucleus", "nuclei"), "2,000 nuclei"),
     (1, ("nucleus", "nuclei"), "1 nucleus")],
)  # fmt: skip
def test_one_is_singular(n, nouns, said):
    """And large numbers can be read."""
    assert counted(n, *nouns) == said
