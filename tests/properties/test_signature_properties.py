"""Gene alignment holds for any order and any gap: order is irrelevant, missing genes are always named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image2reg.errors import DataError
from image2reg.expression import ID_KINDS, align, landmark_genes

GENES = landmark_genes()
PLACES = st.lists(st.integers(0, 977), min_size=1, max_size=60, unique=True)


@given(PLACES, st.sampled_from(ID_KINDS), st.randoms(use_true_random=False))
def test_order_of_ids_is_irrelevant_and_gaps_are_named(places, kind, random):
    wanted = GENES.symbol.iloc[places].tolist()
    shuffled = random.sample(places, len(places))
    kept = shuffled[: max(1, len(places) // 2)]
    found = align([*GENES[kind].iloc[kept].tolist(), "other"], genes=wanted)
    assert found.kind == kind
    assert set(found.missing) == {GENES.symbol.iloc[p] for p in set(places) - set(kept)}
    for gene, place in zip(wanted, found.places, strict=True):
        assert place < 0 or GENES.symbol.iloc[kept[place]] == gene


@given(PLACES, st.sampled_from(ID_KINDS))
def test_every_gene_that_repeats_is_named_with_its_places(places, kind):
    ids = GENES[kind].iloc[places].tolist()
    found = align(ids * 2, genes=GENES.symbol.iloc[places].tolist())
    assert found.duplicates == {GENES.symbol.iloc[p]: (i, i + len(ids)) for i, p in enumerate(places)}


@given(st.lists(st.text(alphabet="qxz", min_size=1, max_size=5), min_size=1, max_size=5))
def test_ids_that_are_no_genes_are_never_taken_for_some(ids):
    with pytest.raises(DataError, match="none of"):
        align(ids)
    np.testing.assert_array_equal(GENES.shape, (978, 3))
