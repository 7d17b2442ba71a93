"""Calling a mechanism: planted ones are found, permuted ones are not called, and bad tables are refused in words"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_profiles import planted

from image2reg.errors import ConfigurationError, DataError, ResourceError
from image2reg.retrieval import CallSettings, Retrieval, arms, retrieve
from image2reg.retrieval.calibration import (
    abstention_curve,
    calibration_floor,
    expected_calibration_error,
    fit_temperature,
    probabilities,
)
from image2reg.retrieval.fusion import aligned_arms
from image2reg.retrieval.scores import Gallery, group_out_ridge, neighbour_scores
from image2reg.tables import Profiles, controls_of
from image2reg.tables.normalise import normalise

QUICK = CallSettings(methods=("neighbours", "linear"), n_folds=4, n_null=499)
TREATMENT = ["Metadata_Compound", "Metadata_Dose"]


def called(wells: Profiles, settings: CallSettings = QUICK, **options: object) -> Retrieval:
    given = {
        "label": "Metadata_moa",
        "different": "Metadata_Compound",
        "controls": "Metadata_Compound=DMSO",
        "by": TREATMENT,
    }
    return retrieve(wells, settings=settings, **{**given, **options})


@pytest.fixture(scope="module")
def found() -> Retrieval:
    return called(planted())


def test_planted_mechanisms_are_called_and_right(found: Retrieval) -> None:
    assert len(found.calls) == 32
    assert found.summary["accuracy"]["value"] > 0.9
    assert found.summary["majority"] == 0.25
    assert found.calls["called"].mean() > 0.6
    assert found.calls["correct"][found.calls["called"]].mean() > 0.9
    assert found.summary["map"]["p_value"] < 0.01


def test_evidence_never_comes_from_the_compound_itself(found: Retrieval) -> None:
    own = found.calls["Metadata_Compound"].to_numpy()[found.evidence["row"]]
    assert (own != found.evidence["compound"]).all()
    first = found.evidence[found.evidence["rank"] == 1]
    assert (
        first["similarity"].to_numpy() >= found.evidence[found.evidence["rank"] == 2]["similarity"].to_numpy()
    ).all()
    top = found.ranking[found.ranking["rank"] == 1]
    assert (top["n_compounds"] <= 4).all()
    right = found.calls["correct"].to_numpy().astype(bool)
    assert (top["n_compounds"].to_numpy()[right] == 3).all()  # its own compound is no evidence


def test_probabilities_sum_to_one_and_features_that_moved_are_named(found: Retrieval) -> None:
    assert found.ranking.groupby("row")["probability"].sum().to_numpy() == pytest.approx(1)
    assert found.moved.groupby("row").size().max() == 8
    strongest = found.moved[found.moved["rank"] == 1]["z"].abs()
    assert strongest.median() > 2


def test_the_ntk_is_one_of_the_methods() -> None:
    assert called(planted(), replace(QUICK, methods=("ntk",))).summary["accuracy"]["value"] > 0.9


def test_permuted_labels_are_not_called() -> None:
    wells = planted(n_mechanisms=6)
    names = np.unique(wells.column("Metadata_Compound")[wells.column("Metadata_moa") != ""])
    shares = []
    for seed in range(3):
        moved = np.random.default_rng(seed).permutation([f"moa {i % 6}" for i in range(len(names))])
        labels = dict(zip(names, moved, strict=True))
        frame = wells.frame.assign(
            Metadata_moa=[labels.get(c, "") for c in wells.column("Metadata_Compound")]
        )
        silent = called(wells.replace(frame), replace(QUICK, methods=("neighbours",))).calls
        shares.append(silent["called"].mean())
    assert np.mean(shares) <= 0.05
    assert "not better than permuted" in silent["reason"].iloc[0]


def test_compounds_without_a_label_are_called_from_all_others() -> None:
    wells = planted()
    frame = wells.frame.copy()
    frame.loc[frame["Metadata_Compound"] == "compound 20", "Metadata_moa"] = ""
    calls = called(wells.replace(frame)).calls
    unknown = calls[calls["known"] == ""]
    assert unknown["Metadata_Compound"].unique().tolist() == ["compound 20"]
    assert (unknown["mechanism"] == "moa 2").all()
    assert unknown["correct"].isna().all()


def test_a_row_without_a_label_finds_no_evidence_in_its_own_compound() -> None:
    wells = planted(n_mechanisms=2, n_compounds=2)
    frame = wells.frame.copy()
    own = (frame["Metadata_Compound"] == "compound 10") & (frame["Metadata_Dose"] == "1")
    frame.loc[own, "Metadata_moa"] = ""  # the other dose keeps its label
    found = called(wells.replace(frame))
    queried = found.calls["Metadata_Compound"].to_numpy(object)[found.evidence["row"]]
    assert (queried != found.evidence["compound"].to_numpy(object)).all()
    assert np.isfinite(found.evidence["similarity"]).all()
    assert len(found.calls) == 8


def test_wells_of_several_compounds_are_never_merged_to_one() -> None:
    with pytest.raises(
        DataError, match=r"2 of 2 treatments by .* several values of 'Metadata_Compound', such as"
    ):
        called(planted(), by=["Metadata_Dose"])


def test_labelled_rows_without_a_compound_are_not_one_compound() -> None:
    frame = planted().frame.copy()
    frame.loc[[0, 20, 40], "Metadata_Compound"] = ""
    with pytest.raises(DataError, match=r"3 of 64 rows have a value in 'Metadata_moa' and none in"):
        called(Profiles(frame))


def test_one_pair_of_compounds_is_not_enough_and_the_message_is_true() -> None:
    wells = planted()
    kept = np.isin(wells.column("Metadata_Compound"), ["compound 00", "compound 01", "compound 10", "DMSO"])
    with pytest.raises(
        DataError, match=r"held out, no two share a mechanism.*two mechanisms of two compounds"
    ):
        called(wells.rows(kept))


def test_without_a_column_of_compounds_the_reader_is_told() -> None:
    told = [note for note in called(planted(), different="").notes if "its own compound" in note]
    assert len(told) == 1
    assert not [note for note in called(planted()).notes if "its own compound" in note]


def test_compounds_are_held_out_whole_unless_asked_otherwise() -> None:
    wells = planted()
    options = {
        "label": "Metadata_moa",
        "controls": "Metadata_Compound=DMSO",
        "by": TREATMENT,
        "settings": QUICK,
    }
    taken = retrieve(wells, **options)  # type: ignore[arg-type]
    assert taken.compound == "Metadata_Compound"
    own = taken.calls["Metadata_Compound"].to_numpy(object)[taken.evidence["row"]]
    assert (own != taken.evidence["compound"].to_numpy(object)).all()
    assert [note for note in taken.notes if "was taken as the column of compounds" in note]
    assert retrieve(wells, different="", **options).compound == ""  # type: ignore[arg-type]


def test_controls_that_nobody_named_and_mechanisms_of_one_compound_are_counted() -> None:
    wells = planted()
    frame = wells.frame.copy()
    frame.loc[frame["Metadata_Compound"] == "DMSO", "Metadata_moa"] = "DMSO"
    frame.loc[frame["Metadata_Compound"] == "compound 00", "Metadata_moa"] = "lonely"
    forgotten = called(wells.replace(frame), controls="").notes
    assert [note for note in forgotten if "24 of 88 rows look like controls" in note and "--controls" in note]
    assert [
        note
        for note in forgotten
        if "2 of 6 mechanisms have a single compound" in note and "3 profiles" in note
    ]
    frame.loc[frame.index[frame["Metadata_Compound"] == "DMSO"][:6], "Metadata_Compound"] = "dmso"
    half = " ".join(called(wells.replace(frame)).notes)
    assert "6 of 70 rows look like controls" in half
    assert "--controls Metadata_Compound=DMSO,dmso." in half
    named = called(wells.replace(frame), controls="Metadata_Compound=DMSO,dmso").notes
    assert not [note for note in named if "look like controls" in note]
    assert [note for note in named if "1 of 5 mechanisms have a single compound" in note]


def test_rows_that_may_not_be_what_they_are_taken_for_are_counted() -> None:
    wells = planted()
    frame = wells.frame.assign(Metadata_Well=[f"W{i}" for i in range(len(wells))])
    frame.loc[[0, 1], ["Metadata_Compound", "Metadata_moa"]] = ""
    frame.loc[4, "Metadata_Dose"] = "1.0 uM"
    frame.loc[[5, 7], "Metadata_Well"] = "W5"
    notes = " ".join(called(Profiles(frame)).notes)
    assert "2 of 64 rows have no 'Metadata_Compound'" in notes
    assert "'Metadata_Dose' has numbers and text such as ['1.0 uM']" in notes
    assert "1 of 63 wells are in several rows, such as plate 1 W5" in notes
    assert not [note for note in called(wells).notes if "rows" in note]


def test_columns_of_places_teach_nothing_and_are_named() -> None:
    wells = planted()
    frame = wells.frame.assign(Row=pd.factorize(wells.column("Metadata_moa"))[0] * 100.0)
    leaked = called(Profiles(frame))
    assert leaked.profiles.features == wells.features
    assert [note for note in leaked.notes if "no features: 'Row'" in note]


def test_names_of_compounds_decide_nothing_among_ties() -> None:
    frame = pd.DataFrame(np.repeat(np.eye(6), [4, 1, 1, 1, 1, 1], axis=0), columns=list("abcdef")).assign(
        Metadata_moa=[f"moa {i // 3}" for i in range(9)], Metadata_Compound=[f"c{i}" for i in range(9)]
    )
    turned = frame.assign(Metadata_Compound=[f"c{9 - i}" for i in range(9)])
    quick = CallSettings(methods=("neighbours",), n_null=499, processing=None)
    first, second = (
        called(Profiles(table), quick, controls="", by=[]).ranking.sort_values(["row", "mechanism"])
        for table in (frame, turned)
    )
    np.testing.assert_array_equal(first["p_value"], second["p_value"])


def test_many_rows_and_mechanisms_cost_no_cube_of_memory() -> None:
    import tracemalloc

    wells = planted(n_mechanisms=150, n_compounds=2, n_doses=2, n_wells=1, n_features=150, n_controls=0)
    quick = CallSettings(methods=("neighbours",), n_folds=2, n_null=99, processing=None)
    tracemalloc.start()
    called(wells, quick, controls="", by=[])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600 * 600 * 150  # a byte for each pair of rows and mechanism


def test_a_profile_unlike_all_compounds_is_flagged_as_novel() -> None:
    wells = planted(n_mechanisms=5, n_compounds=6)
    frame = wells.frame.copy()
    frame.loc[frame["Metadata_moa"] == "moa 4", "Metadata_moa"] = ""  # a mechanism that no reference has
    calls = called(wells.replace(frame), replace(QUICK, novelty=0.1)).calls
    unknown = (calls["known"] == "").to_numpy()
    assert calls["novel"][unknown].mean() > 0.8
    assert calls["novel"][~unknown].mean() < 0.3
    assert calls["reason"][unknown & calls["novel"]].str.startswith("novel: less similar").all()


def positioned(*, at_once: bool, seed: int = 0) -> Profiles:
    """Planted compounds on 3 plates, and 30 inactive ones in control wells: at one position, or anywhere."""
    rng = np.random.default_rng(seed)
    rows, values = [], []
    bias = rng.normal(scale=0.7, size=(40, 30))  # what a position does to a well, on every plate
    effects = rng.choice([-3.0, 3.0], size=(4, 30))
    for plate in range(3):
        for c in range(16):
            rows.append((f"moa {c % 4}", f"c{c}", f"p{plate}", f"T{c}"))
            values.append(effects[c % 4] + rng.normal(size=30))
        for w in range(40):
            inactive = w < 20 if at_once else (w + 7 * plate) % 40 < 20
            # At one position, or at another one on each plate.
            name = f"inactive {w if at_once else (w + 7 * plate) % 40}"
            rows.append(("", name if inactive else "DMSO", f"p{plate}", f"W{w}"))
            values.append(bias[w] + rng.normal(size=30))
    metadata = pd.DataFrame(
        rows, columns=["Metadata_moa", "Metadata_Compound", "Metadata_Plate", "Metadata_Well"]
    )
    return Profiles(pd.concat([metadata, pd.DataFrame(np.array(values)).add_prefix("f")], axis=1))


@pytest.mark.parametrize("at_once", [True, False])
def test_treatments_without_an_effect_are_neither_called_nor_novel(at_once: bool) -> None:
    wells = positioned(at_once=at_once)
    found = called(wells, by=["Metadata_Compound"])
    inactive = found.calls["Metadata_Compound"].str.startswith("inactive").to_numpy()
    assert (found.calls["activity_p"][inactive] <= 0.05).mean() <= 0.15  # 5 % of 20 and chance
    assert (found.calls["activity_p"][~inactive] <= 0.05).all()
    silent = found.calls[inactive & (found.calls["activity_p"] > 0.05).to_numpy()]
    assert set(silent["reason"]) == {"not different from the controls"}
    assert not silent["novel"].any()
    assert found.summary["n_inactive"] == len(silent)
    assert found.summary["n_tested"] == len(found.calls)


def test_what_cannot_be_tested_against_controls_is_said() -> None:
    wells = planted(n_controls=4)
    few = called(wells, by=[*TREATMENT, "Metadata_Plate"])
    assert few.calls["activity_p"].isna().all()
    assert [note for note in few.notes if "64 of 64 profiles were not tested" in note and "too few" in note]
    signatures = planted(n_controls=0, seed=2)
    both = called({"image": planted(), "gene": signatures})  # type: ignore[arg-type]
    assert both.summary["n_tested"] == 0  # an effect may be in the other arm
    assert [note for note in both.notes if "no controls are known for gene" in note]


def test_nuclei_of_a_well_are_one_well_to_the_test_against_controls() -> None:
    wells = planted(n_doses=1, effect=0.0, n_controls=60)
    frame = pd.concat([wells.frame] * 8, ignore_index=True)
    frame["Metadata_Well"] = (frame.index % len(wells)).astype(str)
    features = list(wells.features)
    frame[features] += np.random.default_rng(0).normal(scale=0.1, size=(len(frame), len(features)))
    calls = called(Profiles(frame)).calls
    assert (calls["activity_p"] <= 0.05).mean() < 0.3  # as 16 independent nuclei all would be


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_arms_are_matched_by_key_and_fused(fusion: str) -> None:
    image, gene = planted(effect=2.5, seed=1), planted(effect=2.5, seed=2)
    gene = gene.rows(np.random.default_rng(0).permutation(len(gene)))
    steps = replace(QUICK, fusion=fusion)
    alone = called(image, steps).summary["nearest"]["value"]
    both = called({"image": image, "gene": gene}, steps)  # type: ignore[arg-type]
    assert len(both.calls) == 32
    assert both.summary["accuracy"]["value"] >= alone - 0.05
    with pytest.raises(ConfigurationError, match="name them"):
        called({"image": image, "gene": gene}, steps, by=[])  # type: ignore[arg-type]


def test_an_arm_of_compound_vectors_needs_no_mechanisms_of_its_own() -> None:
    wells, vectors = planted(), planted(n_wells=1, n_controls=0, seed=1)
    bare = vectors.replace(vectors.frame.drop(columns=["Metadata_moa", "Metadata_Plate", "Metadata_Batch"]))
    options = {"different": "Metadata_Compound", "batch": "Metadata_Batch", "seed": 0}
    made = [
        retrieve(
            {"profiles": wells, "vectors": table}, label="Metadata_moa", by=TREATMENT,
            controls="Metadata_Compound=DMSO", settings=QUICK, **options,
        )
        for table in (vectors, bare)
    ]  # fmt: skip
    pd.testing.assert_frame_equal(made[0].calls, made[1].calls)


def test_treatments_that_an_arm_lacks_are_counted_and_a_dose_of_1_0_is_1() -> None:
    image, gene = planted(seed=1), planted(seed=2)
    gene = gene.replace(gene.frame.assign(Metadata_Dose=gene.column("Metadata_Dose") + ".0"))
    both = called({"image": image, "gene": gene})  # type: ignore[arg-type]
    assert len(both.calls) == 32
    assert not [note for note in both.notes if "left out" in note]
    part = gene.rows(gene.column("Metadata_Compound") != "compound 00")
    notes = called({"image": image, "gene": part}).notes  # type: ignore[arg-type]
    assert [
        note
        for note in notes
        if "30 treatments are in all arms" in note
        and "2 of 32 of 'image' (compound 00 1, compound 00 2)" in note
    ]


def test_an_arm_with_duplicate_rows_or_without_common_rows_is_refused() -> None:
    table = planted(n_wells=1)
    with pytest.raises(
        DataError,
        match=r"values of .* appear more than once",
    ):
        aligned_arms({"a": table, "b": table}, key=["Metadata_moa", "Metadata_Dose"])
    treated = table.rows(table.column("Metadata_moa") != "")
    other = treated.replace(treated.frame.assign(Metadata_Compound=[f"x{i}" for i in range(len(treated))]))
    with pytest.raises(DataError, match="no row has the same"):
        aligned_arms({"a": treated, "b": other}, key=TREATMENT)


def test_features_with_gaps_are_named() -> None:
    wells = planted()
    values = wells.values
    values[[3, 4], 2] = np.nan
    with pytest.raises(
        DataError,
        match=r"1 of 12 features have 2 missing or infinite values: 'Nuclei_Texture_02' \(2\); the first "
        r"is in row 4 \(moa 0, compound 00, 2, plate 1\).*--select",
    ):
        called(wells.with_values(values))


def test_rows_that_are_there_twice_are_refused() -> None:
    wells = planted()
    twice = wells.rows(np.r_[np.arange(len(wells)), 3])
    with pytest.raises(
        DataError, match=r"1 rows repeat an earlier one in every column, the first is row 88 \(moa 0"
    ):
        called(twice)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"Metadata_moa": "one"}, {}, r"1 mechanism\(s\)"),
        ({"Metadata_moa": ""}, {}, "no row has a value in 'Metadata_moa'"),
        ({}, {"label": "Metadata_Mechanism"}, "no metadata column 'Metadata_Mechanism'; there are"),
        ({}, {"label": "MOA"}, r"no metadata column 'MOA' \(did you mean 'Metadata_moa'\?\)"),
        ({}, {"controls": "Metadata_Compound=dmso"}, r"Written in other capitals: 'dmso' \(here 'DMSO'\)"),
        ({}, {"controls": "Metadata_Compound=water"}, r"no row has Metadata_Compound in \['water'\]"),
    ],
)  # fmt: skip
def test_tables_nothing_can_be_learned_from_are_refused(change: dict, options: dict, said: str) -> None:
    wells = planted()
    with pytest.raises(DataError, match=said):
        called(wells.replace(wells.frame.assign(**change)), **options)


def test_one_compound_per_mechanism_is_refused_with_the_counts() -> None:
    with pytest.raises(DataError, match=r"no pair to learn from: 4 mechanism\(s\).*'moa 0' \(1\)"):
        called(planted(n_compounds=1))


def test_a_table_too_large_for_memory_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "LARGEST", 20)
    with pytest.raises(ResourceError, match=r"32 profiles to call.*allowed are 20.*--by"):
        called(planted())


def test_a_batch_that_is_the_mechanism_is_refused() -> None:
    wells = planted()
    frame = wells.frame.assign(Metadata_Batch=wells.column("Metadata_moa"))
    with pytest.raises(DataError, match="the mechanism is the batch in disguise"):
        called(wells.replace(frame), batch="Metadata_Batch")


def test_spellings_are_noted_and_merged_when_asked() -> None:
    wells = planted()
    frame = wells.frame.copy()
    frame["Metadata_moa"] = frame["Metadata_moa"].str.replace("moa", "MOA inhibitor of")
    odd = frame["Metadata_Compound"].isin(["compound 00", "compound 01"])
    frame.loc[odd, "Metadata_moa"] = frame.loc[odd, "Metadata_moa"].str.lower()
    spelled = wells.replace(frame)
    apart = called(spelled)
    assert "spelled in several ways" in apart.notes[0]
    assert apart.summary["n_mechanisms"] == 5
    merged = called(spelled, replace(QUICK, normalise_labels=True))
    assert merged.summary["n_mechanisms"] == 4
    assert merged.notes == ()


def test_a_compound_spelled_in_two_ways_is_told_because_it_is_called_from_itself() -> None:
    wells = planted()
    frame = wells.frame.copy()
    high = frame["Metadata_Dose"] == "2"
    frame.loc[high, "Metadata_Compound"] = frame.loc[high, "Metadata_Compound"].replace(
        {"compound 00": "Compound-00", "compound 10": "COMPOUND 10"}
    )
    notes = " ".join(called(wells.replace(frame)).notes)
    assert "2 compounds are spelled in several ways" in notes
    assert "'COMPOUND 10' = 'compound 10'; 'Compound-00' = 'compound 00'" in notes


@pytest.mark.parametrize("controls", ["Metadata_Compound=DMSO", ""])
def test_features_as_they_were_measured_are_told(controls: str) -> None:
    wells = planted()
    units = 10.0 ** np.linspace(-3, 3, wells.values.shape[1])
    measured = wells.with_values(wells.values * units + 20 * units)
    assert [note for note in called(measured, controls=controls).notes if "not on one scale" in note]
    assert not [note for note in called(wells, controls=controls).notes if "not on one scale" in note]


def test_controls_that_lie_apart_by_plate_are_told_until_they_are_normalised() -> None:
    wells = planted()
    shift = 3.0 * (wells.column("Metadata_Plate") == "plate 1")[:, None]
    measured = wells.with_values(wells.values + shift)
    controls = "Metadata_Compound=DMSO"
    (note,) = [note for note in called(measured, controls=controls).notes if "lie apart" in note]
    assert note.startswith("profiles: controls of the 2 plates lie apart by ")
    assert "image2reg.tables.normalise.normalise with by=['Metadata_Plate']" in note
    ready = normalise(measured, controls=controls_of(measured, controls), by=["Metadata_Plate"]).profiles
    assert not [note for note in called(ready, controls=controls).notes if "lie apart" in note]


def test_without_controls_nothing_is_sphered_and_the_reader_is_told() -> None:
    wells = planted(n_controls=0)
    assert "not sphered" in called(wells, controls="").notes[0]


@pytest.mark.parametrize(
    "wrong",
    [{"methods": ("svm",)}, {"methods": ()}, {"fusion": "middle"}, {"threshold": 2.0}, {"n_folds": 1}],
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        CallSettings(**wrong)


def test_leaving_a_compound_out_in_closed_form_is_refitting_without_it() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(14, 5))
    members = np.eye(3, dtype=bool)[rng.integers(3, size=14)]
    compounds = np.arange(14) // 2
    kernel = values @ values.T
    gallery = Gallery(kernel, members, compounds, ["a", "b", "c"])
    rows = np.arange(12)
    queries, left_out = group_out_ridge(kernel, gallery, np.array([12, 13]), rows, ridge=0.7)
    level = members[rows].mean(axis=0)
    for compound in range(6):
        own, rest = rows[compounds[rows] == compound], rows[compounds[rows] != compound]
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.7 * np.eye(10), members[rest] - level)
        np.testing.assert_allclose(left_out[own], kernel[np.ix_(own, rest)] @ weights + level, atol=1e-10)
    assert queries.shape == (2, 3)


def test_neighbour_scores_ignore_the_own_compound() -> None:
    similarity = np.array([[1, 0.9, 0.2], [0.9, 1, 0.1], [0.2, 0.1, 1]])
    members = np.array([[True, False], [True, False], [False, True]])
    gallery = Gallery(similarity, members, np.array([0, 0, 1]), ["a", "b"])
    scores = neighbour_scores(gallery, np.array([0]), np.arange(3))
    assert scores.tolist() == [[-np.inf, 0.2]]
    assert probabilities(scores, 1.0).tolist() == [[0, 1]]


def test_the_temperature_makes_confidence_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=400)
    scores = rng.normal(size=(400, 4)) + 1.5 * np.eye(4)[truth]
    temperature, blend, _ = fit_temperature(100 * scores, np.eye(4, dtype=bool)[truth])
    p = probabilities(100 * scores, temperature, blend=blend)
    right = p.argmax(axis=1) == truth
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.03
    assert expected_calibration_error(p.max(axis=1), right) < calibration_floor(p.max(axis=1))[1] + 0.02
    with pytest.raises(DataError, match="so no probability can be fitted"):
        fit_temperature(np.full((2, 2), -np.inf), np.eye(2, dtype=bool))


def test_calibration_error_by_hand_and_its_floor() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.05)
    mean, high = calibration_floor(np.full(1000, 0.9))
    assert mean == pytest.approx(
        np.sqrt(0.09 / 1000) * np.sqrt(2 / np.pi), rel=0.05
    )  # one bin: a folded normal
    assert high > mean


def test_the_abstention_curve_ends_where_everything_is_called() -> None:
    coverage, accuracy, threshold = abstention_curve(
        np.array([0.9, 0.8, 0.8, 0.1]), np.array([1, 0, 1, 0], bool)
    )
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert accuracy == pytest.approx([1, 2 / 3, 0.5])
    assert threshold.tolist() == [0.9, 0.8, 0.1]


def test_the_same_seed_gives_the_same_calls() -> None:
    pd.testing.assert_frame_equal(called(planted()).calls, called(planted()).calls)
