"""Fidelity and the follow test: floors score low, a second real sample scores high, bad crops are refused in words."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from image2reg.errors import DataError
from morphgen import planted
from morphgen.agreement import compare_features, ks_statistics
from morphgen.closeness import closeness, density_coverage, frechet, kernel_distance, memorisation
from morphgen.fidelity import Cells, evaluate, floors, measure_cells, shuffled
from morphgen.follow import follow_test
from morphgen.halves import halves

RNG = np.random.default_rng(0)


def cells(data: planted.PlantedData) -> Cells:
    return measure_cells(data.images, data.signatures.column("Metadata_Perturbation")[data.signature_index])


def signatures(data: planted.PlantedData) -> pd.DataFrame:
    return pd.DataFrame(data.signatures.values, index=data.signatures.column("Metadata_Perturbation"))


@pytest.fixture(scope="module")
def planted_arms():
    names = planted.dataset("unseen", n_per_signature=1).signatures.column("Metadata_Perturbation")[::3]
    options = {"n_per_signature": 12, "signatures": list(names)}
    real, second = (planted.dataset("unseen", seed=seed, **options) for seed in (1, 2))
    train = planted.dataset("train", n_per_signature=1)
    training = cells(train)
    truth, again = cells(real), cells(second)
    arms = {"second real sample": again} | floors(
        again,
        truth,
        training,
        train.images,
        signatures=signatures(real),
        training_signatures=signatures(train),
    )
    return evaluate(truth, arms, signatures=signatures(real), training=training, permutations=99)


def test_every_arm_stands_where_it_must(planted_arms):
    scores = pd.DataFrame({name: arm.scores() for name, arm in planted_arms.items()})
    ceiling, mean = scores["second real sample"], scores["mean image"]
    assert ceiling["ks_share"] > 0.97
    assert ceiling["follow_signature_p"] <= 0.02
    assert ceiling["follow_real"] > 0.7
    assert abs(ceiling["kernel"]) < 0.1
    for name in ("mean image", "any training nuclei", "nearest training signature", "shuffled signatures"):
        assert scores[name]["ks_share"] < ceiling["ks_share"] - 0.1
        assert scores[name]["r2_means"] < 0.3 < ceiling["r2_means"]
        assert scores[name]["follow_real"] < 0.5
    for name in ("any training nuclei", "shuffled signatures"):
        assert scores[name]["follow_signature_p"] > 0.02
    assert mean["frechet"] > 100 * max(ceiling["frechet"], 0.01)
    assert mean["coverage"] < 0.05
    assert ceiling["coverage"] > 0.8
    # Training nuclei are their own nearest training image; a second real sample is as far away as the first.
    assert scores["any training nuclei"]["nearest_training_ratio"] < 1e-6
    assert 0.8 < ceiling["nearest_training_ratio"] < 1.2


def test_agreement_names_features_and_channels(planted_arms):
    table = planted_arms["mean image"].agreement.features
    assert set(table["channel"]) == {"DNA", "shape"}
    assert {"Nuclei_AreaShape_Area", "Nuclei_Texture_Contrast_DNA_3"} <= set(table["feature"])
    assert table["ks_mean"].between(0, 1).all()


def test_ks_is_that_of_scipy_with_ties_too():
    first, second = RNG.normal(size=(40, 6)).round(1), RNG.normal(0.3, 1, (55, 6)).round(1)
    distance, p = ks_statistics(first, second)
    for column in range(6):
        expected = stats.ks_2samp(first[:, column], second[:, column], method="asymp")
        assert distance[column] == pytest.approx(expected.statistic, abs=1e-12)
        assert p[column] == pytest.approx(expected.pvalue, rel=1e-9)


def test_ks_share_grows_as_nuclei_become_few():
    """Why the number of nuclei stands beside it: the same difference is missed in small samples."""
    shares = []
    for n in (10, 300):
        a = pd.DataFrame(RNG.normal(size=(2 * n, 20))).add_prefix("Nuclei_F")
        b = pd.DataFrame(RNG.normal(0.5, 1, (2 * n, 20))).add_prefix("Nuclei_F")
        found = compare_features(a, b, np.repeat([0, 1], n), np.repeat([0, 1], n))
        shares.append(found.ks_share)
        assert found.n_cells == n
    assert shares[0] > 0.7
    assert shares[1] < 0.1


def test_frechet_of_gaussians_is_the_closed_form_at_any_n():
    for n in (400, 3000):
        a, b = RNG.normal(0, 1, (n, 8)), RNG.normal(0.5, 2, (n, 8))
        assert frechet(a, b) == pytest.approx(8 * (0.25 + 1), rel=0.12)
        assert abs(frechet(a, RNG.normal(0, 1, (n, 8)))) < 0.15


def test_frechet_refuses_few_images_instead_of_padding_them():
    with pytest.raises(DataError, match="30 images in 8 dimensions; allowed are 32 or more"):
        frechet(RNG.normal(size=(30, 8)), RNG.normal(size=(30, 8)))


def test_kernel_distance_is_unbiased_at_equal_clouds():
    found = [kernel_distance(RNG.normal(size=(40, 6)), RNG.normal(size=(40, 6))) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)
    assert kernel_distance(RNG.normal(size=(200, 6)), RNG.normal(1, 1, (200, 6))) > 1


def test_density_and_coverage_of_equal_collapsed_and_distant_clouds():
    real = RNG.normal(size=(300, 4))
    density, coverage = density_coverage(real, RNG.normal(size=(300, 4)))
    assert density == pytest.approx(1, abs=0.15)
    assert coverage > 0.9
    assert density_coverage(real, np.zeros((300, 4)))[1] < 0.2
    assert density_coverage(real, real + 100) == (0.0, 0.0)


def test_density_and_coverage_of_many_nuclei_keep_no_distance_of_every_pair():
    clouds = RNG.normal(size=(2, 4000, 4))
    tracemalloc.start()
    density, coverage = density_coverage(*clouds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 4000 * 8 / 2
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2.0**-5, abs=0.02)  # the sixth neighbour of two equal clouds mixed


def test_copies_of_training_images_are_seen():
    training, held_out = RNG.normal(size=(200, 10)), RNG.normal(size=(200, 10))
    copied = memorisation(training, training[:100] + 0.01, held_out)
    fresh = memorisation(training, RNG.normal(size=(200, 10)), held_out)
    assert copied["ratio"] < 0.05
    assert copied["closer"] == 1
    assert fresh["low"] < fresh["ratio"] < fresh["high"]


def test_training_images_are_no_held_out_ones():
    training = RNG.normal(size=(50, 10))
    with pytest.raises(DataError, match=r"50 of 50 held-out real images are in the training images too"):
        memorisation(training, RNG.normal(size=(20, 10)), training)


def test_closeness_sees_each_channel():
    real = np.hstack([RNG.normal(size=(400, 10)), RNG.normal(size=(400, 10))])
    other = real.copy()
    other[:, 10:] *= 0.1
    assert closeness(real, other)["kernel"] > closeness(real, real[RNG.permutation(400)])["kernel"] + 0.01


def test_follow_test_finds_a_map_and_nothing_where_there_is_none():
    vectors = RNG.normal(size=(40, 100))
    image = np.tanh(vectors @ RNG.normal(size=(100, 12)) / 10)
    found = follow_test(vectors, image, real_means=image + RNG.normal(0, 0.2, image.shape), permutations=499)
    assert found.signature_p == found.real_p == 1 / 500
    p = [
        follow_test(vectors, RNG.normal(size=(40, 12)), permutations=99, seed=s).signature_p
        for s in range(60)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_follow_test_of_a_constant_generator_is_a_clear_no():
    found = follow_test(RNG.normal(size=(20, 50)), np.ones((20, 5)), permutations=99)
    assert found.signature_correlation == 0
    assert found.signature_p == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (5, "5 signatures and 5 sets of features; allowed are equal numbers, at least 6"),
        (6, "features of 1 perturb"),
    ],
)
def test_follow_test_refuses_few_perturbations_and_nan(rows, message):
    means = np.ones((rows, 3))
    means[0, 0] = np.nan
    with pytest.raises(DataError, match=message):
        follow_test(np.ones((rows, 4)), means)


def test_crops_of_mixed_size_or_channels_are_refused_with_counts():
    crops = [np.zeros((1, 64, 64))] * 3 + [np.zeros((2, 64, 64))] + [np.zeros((1, 48, 48))]
    with pytest.raises(
        DataError, match=r"mixed size or channel count: .*\(1, 64, 64\) \(3 crops\), \(2, 64, 64\)"
    ):
        measure_cells(crops, range(5))


def test_other_crops_are_refused():
    with pytest.raises(DataError, match=r"allowed is \(N, C, Y, X\)"):
        measure_cells(np.zeros((3, 64, 64)), range(3))
    with pytest.raises(DataError, match="1 of 2 crops hold NaN or infinity, first crop 1"):
        measure_cells(np.stack([np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan)]), range(2))
    with pytest.raises(DataError, match="2 crops and 3 perturbation labels"):
        measure_cells(np.zeros((2, 1, 8, 8)), range(3))


def test_one_nucleus_per_perturbation_is_refused():
    table = pd.DataFrame(RNG.normal(size=(20, 3))).add_prefix("Nuclei_F")
    with pytest.raises(
        DataError, match=r"20 of 20 perturbations have fewer than 8 nuclei .*\(first 0: 1 real, 1 other\)"
    ):
        compare_features(table, table, np.arange(20), np.arange(20))


def test_a_perturbation_without_signature_is_refused(planted_arms):
    assert planted_arms
    some = Cells(
        pd.DataFrame({"Nuclei_F": RNG.normal(size=20)}), np.repeat(["a", "b"], 10), np.zeros((20, 4))
    )
    with pytest.raises(DataError, match=r"1 perturbations have no signature, such as \['b'\]"):
        evaluate(some, {"x": some}, signatures=pd.DataFrame([[1.0]], index=["a"]))


def test_a_perturbation_with_several_signatures_is_refused():
    some = Cells(
        pd.DataFrame({"Nuclei_F": RNG.normal(size=20)}), np.repeat(["a", "b"], 10), np.zeros((20, 4))
    )
    with pytest.raises(DataError, match=r"1 perturbations have several signatures, such as \['b'\]"):
        evaluate(some, {"x": some}, signatures=pd.DataFrame([[1.0], [2.0], [3.0]], index=["a", "b", "b"]))


def test_the_nearest_training_signature_is_one_with_nuclei_and_one_perturbation_is_not_shuffled(
    monkeypatch,
):
    monkeypatch.setattr("morphgen.fidelity.measure_cells", lambda *_, **__: some)
    some = Cells(pd.DataFrame({"Nuclei_F": np.arange(4.0)}), np.repeat(["a"], 4), np.zeros((4, 4)))
    trained = Cells(pd.DataFrame({"Nuclei_F": 10 + np.arange(4.0)}), np.repeat(["t"], 4), np.zeros((4, 4)))
    vectors = pd.DataFrame([[1.0, 2.0, 4.0], [1.0, 2.0, 5.0], [4.0, 2.0, 1.0]], index=["a", "empty", "t"])
    made = floors(
        some, some, trained, np.zeros((4, 1, 8, 8)), signatures=vectors, training_signatures=vectors
    )
    assert set(made) == {"mean image", "any training nuclei", "nearest training signature"}
    assert (made["nearest training signature"].features["Nuclei_F"] >= 10).all()


def test_no_perturbation_keeps_its_own_nuclei_when_shuffled():
    some = Cells(pd.DataFrame({"Nuclei_F": np.arange(12.0)}), np.repeat(list("abcd"), 3), np.zeros((12, 4)))
    other = shuffled(some)
    assert (other.groups != some.groups).all()
    assert sorted(other.groups) == sorted(some.groups)


def test_a_channel_whose_name_begins_anothers_keeps_its_own_features():
    channels = ("D", "DNA", "DNA_2")
    images = planted.dataset("unseen", n_per_signature=1).images[:24]
    three = np.concatenate([images, images[:, :, ::-1], images[..., ::-1] ** 2], axis=1)
    table = measure_cells(three, np.repeat([0, 1], 12), channels=channels).features
    made = compare_features(
        table, table, np.repeat([0, 1], 12), np.repeat([0, 1], 12), channels=channels
    ).features
    own = made[made["feature"].str.startswith("Nuclei_Intensity_MeanIntensity_")].set_index("feature")[
        "channel"
    ]
    assert own.to_dict() == {f"Nuclei_Intensity_MeanIntensity_{name}": name for name in channels}
    counts = made["channel"].value_counts()
    assert counts["D"] == counts["DNA"] == counts["DNA_2"]


def test_the_ceiling_is_of_other_wells_where_a_perturbation_has_several() -> None:
    rows = [("A", "1", "B02")] * 20 + [("A", "1", "B03")] * 12 + [("A", "2", "B02")] * 9  # B02 of two plates
    rows += [("B", "1", "C02")] * 24 + [("C", "1", "D02")] * 30 + [("C", "1", "D03")] * 3
    metadata = pd.DataFrame(rows, columns=["Metadata_Perturbation", "Metadata_Plate", "Metadata_Well"])
    real, drawn = metadata["Metadata_Perturbation"].to_numpy(), np.repeat(["C", "B", "A"], 10)
    chosen = halves(metadata, real, drawn, ["A", "B", "C"])
    wells = [
        set(metadata.iloc[part].query("Metadata_Perturbation == 'A'").agg(tuple, axis=1))
        for part in (chosen.first, chosen.second)
    ]
    assert not wells[0] & wells[1]
    for groups, part in ((real, chosen.first), (real, chosen.second), (drawn, chosen.drawn)):
        assert np.unique(groups[part], return_counts=True)[1].tolist() == [10, 10, 10]
    assert not set(chosen.first) & set(chosen.second)
    assert chosen.notes[0].startswith("both halves of the real nuclei are of the same wells for 2 of 3 ")
    assert "'B', 'C'" in chosen.notes[0]
    (note,) = halves(metadata, real, drawn, ["A"]).notes
    assert note.startswith("10 nuclei of each perturbation in every arm")


def test_without_wells_the_ceiling_is_said_to_share_them() -> None:
    real = np.repeat(["A", "B"], 20)
    for metadata in (pd.DataFrame(index=range(40)), pd.DataFrame({"Metadata_Well": [""] * 40})):
        assert "for 2 of 2 perturbations" in halves(metadata, real, real, ["A", "B"]).notes[0]
