"""Arms in one table: the ceiling above the floor, the mean image at chance, gains with their intervals"""

from __future__ import annotations

import numpy as np
import pytest
from planted_profiles import planted

from image2reg.errors import ConfigurationError, DataError
from image2reg.retrieval import average_precision
from image2reg.retrieval.comparison import compare_arms
from image2reg.tables import Profiles
from image2reg.tables.aggregate import aggregate

KEY = ["Metadata_Compound", "Metadata_Dose"]
OPTIONS = {"label": "Metadata_moa", "key": KEY, "different": "Metadata_Compound"}


def arm(**settings: float) -> Profiles:
    wells = planted(**settings)
    return aggregate(wells.rows(wells.column("Metadata_moa") != ""), KEY, method="mean")


def test_every_arm_is_scored_on_the_same_queries() -> None:
    real, noisy = arm(effect=8), arm(effect=1.5, seed=1)
    shuffled = noisy.with_values(np.random.default_rng(0).permutation(noisy.values))
    mean = real.with_values(np.tile(real.values.mean(axis=0), (len(real), 1)))
    arms = {"L1000": noisy, "real": real, "shuffled": shuffled, "mean image": mean}
    table = compare_arms(arms, fused=[("L1000", "real")], against="L1000", **OPTIONS).set_index("arm")
    assert list(table.index) == ["L1000", "real", "shuffled", "mean image", "L1000 + real"]
    assert (table["n_queries"] == 32).all()
    assert table["map"]["real"] > table["map"]["L1000"] > table["map"]["shuffled"]
    assert table["gain_low"]["real"] > 0
    assert table["gain_p"]["real"] < 0.05
    assert np.isnan(table["gain"]["L1000"])
    assert table["p_value"]["real"] < 0.01 < table["p_value"]["shuffled"]
    assert table["map"]["mean image"] == pytest.approx(
        table["null"]["mean image"], abs=1e-9
    )  # all tied, whatever the label
    single = average_precision(real, same=["Metadata_moa"], different=["Metadata_Compound"])
    assert table["map"]["real"] == pytest.approx(single["average_precision"].mean(), abs=1e-9)


def test_rows_not_in_all_arms_are_left_out_of_all() -> None:
    real = arm()
    part = real.rows(np.arange(len(real) - 1, 3, -1))
    table = compare_arms({"a": real, "b": part}, **OPTIONS)
    assert table["n_queries"].tolist() == [28, 28]
    assert table["map"][0] == pytest.approx(table["map"][1])


def test_rows_without_a_label_do_not_lower_the_null() -> None:
    real = arm(effect=0.0)
    names = [f"unknown {i}" for i in range(len(real))]
    others = real.replace(real.frame.assign(Metadata_moa="", Metadata_Compound=names))
    alone, beside = (
        compare_arms({"a": table}, **OPTIONS).iloc[0] for table in (real, Profiles.concat([real, others]))
    )
    assert beside["map"] == pytest.approx(alone["map"])
    assert beside["null"] == pytest.approx(alone["null"])


def test_arms_that_are_not_there_and_labels_that_no_pair_shares_are_refused() -> None:
    real = arm()
    with pytest.raises(ConfigurationError, match=r"\['generated'\] are not among \['real'\]"):
        compare_arms({"real": real}, against="generated", **OPTIONS)
    lonely = real.replace(real.frame.assign(Metadata_moa=real.column("Metadata_Compound")))
    with pytest.raises(DataError, match="no two compounds share"):
        compare_arms({"real": lonely}, **OPTIONS)
