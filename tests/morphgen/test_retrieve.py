"""Mechanism retrieval: arms on the same queries, floors at chance, one that holds the mechanism above it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image2reg.errors import DataError
from image2reg.tables.profiles import Profiles
from morphgen.fidelity import Cells
from morphgen.retrieve import retrieval_arms, retrieve_generated

RNG = np.random.default_rng(0)
N, PER, CELLS = 24, 4, 10


def cells(centres: np.ndarray, names: list[str]) -> Cells:
    rows = np.repeat(np.arange(len(names)), CELLS)
    table = pd.DataFrame(centres[rows] + RNG.normal(0, 0.5, (len(rows), 8))).add_prefix("Nuclei_F")
    return Cells(table, np.array(names)[rows], np.zeros((len(rows), 4), np.float32))


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr("morphgen.fidelity.measure_cells", lambda *_, **__: cells(np.zeros((1, 8)), ["m"]))
    mechanism = np.repeat(np.arange(N // PER), PER)
    names = [f"p{i}" for i in range(N)]
    frame = pd.DataFrame({"Metadata_Perturbation": names, "Metadata_moa": [f"moa{m}" for m in mechanism]})
    genes = pd.DataFrame(RNG.normal(size=(N // PER, 30))[mechanism] + RNG.normal(0, 2.5, (N, 30)))
    genes = genes.add_prefix("G")
    signatures = Profiles(pd.concat([frame, genes], axis=1))
    known = pd.DataFrame({"Metadata_Perturbation": ["t0", "t1", "t2"]})
    training = Profiles(pd.concat([known, genes.iloc[:3]], axis=1))
    drawn = cells(RNG.normal(size=(N // PER, 8))[mechanism] + RNG.normal(0, 0.2, (N, 8)), names)
    trained = cells(RNG.normal(size=(3, 8)), ["t0", "t1", "t2"])
    return signatures, drawn, trained, training


def test_arms_are_scored_on_the_same_queries(made):
    signatures, drawn, trained, training = made
    arms = retrieval_arms(signatures, drawn, trained, np.zeros((3, 1, 8, 8)), training, real=drawn)
    assert set(arms) == {
        "raw signature", "generated", "mean image", "any training nuclei", "nearest training signature",
        "shuffled signatures", "real morphology",
    }  # fmt: skip
    table = retrieve_generated(arms, label="Metadata_moa").set_index("arm")
    value = table["map"]
    assert value["generated"] == pytest.approx(value["real morphology"])
    assert value["generated"] > 0.8
    for floor in ("any training nuclei", "shuffled signatures"):
        assert value[floor] < value["generated"] - 0.3
    assert "raw signature + generated" in table.index


def test_perturbations_without_nuclei_or_twice_are_refused(made):
    signatures, drawn, trained, training = made
    fewer = drawn.take(np.flatnonzero(drawn.groups != "p3"))
    with pytest.raises(DataError, match=r"0 perturbations repeat and 1 have no generated nuclei \['p3'\]"):
        retrieval_arms(signatures, fewer, trained, np.zeros((3, 1, 8, 8)), training)
    with pytest.raises(DataError, match=r"1 have no real nuclei \['p3'\]"):
        retrieval_arms(signatures, drawn, trained, np.zeros((3, 1, 8, 8)), training, real=fewer)
