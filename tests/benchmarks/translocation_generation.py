"""FKHR-GFP translocation by dose: cells of doses that were left out, generated and measured like real ones.

    python tests/benchmarks/translocation_generation.py [--json] [--runs FOLDER]

72 wells, 11 dose levels, two half-plates. Of doses 1 to 9 every other one is left out, first the odd, then the even ones:
each lies between two that are trained on, as with one left out at a time, for two trainings instead of nine. The
autoencoder sees control wells only. The condition is the dose, on the scale of its effect, and the half-plate. The
generator's settings were fixed on doses that are trained on; trains for about three hours of one processor core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from conditional_runs import (
    KEY,
    Study,
    alike,
    kept_cells,
    kept_crops,
    one,
    profiles,
    renamed,
    some_of_each,
    together,
    usable_features,
    well_precision,
    wells_of,
)
from generation_data import translocation
from result_files import interval, publish
from scipy import optimize, stats

from image2reg.config import load_config
from image2reg.intervals import bootstrap_interval
from image2reg.models.bundle import Bundle
from image2reg.models.spec import DataSource
from image2reg.nuclei.crops import Crops
from image2reg.randomness import generator
from image2reg.tables.profiles import Profiles
from morphgen.bundling import load_autoencoder
from morphgen.crops import CropSet, IntensityRange
from morphgen.descriptors import descriptor_names
from morphgen.fidelity import Cells, shuffled
from morphgen.recipe import DiffusionRecipe, VaeRecipe
from morphgen.residual import ResidualTexture
from morphgen.sample import MorphologyGenerator
from morphgen.sampling import FROM_CONTROL
from morphgen.signature_condition import condition_of

LEFT_OUT = ((1, 3, 5, 7, 9), (2, 4, 6, 8))
LEVELS, HALVES = range(11), ("AC", "EG")
TARGETS = [f"{half}{level}" for half in HALVES for level in range(1, 10)]
RATIO = "Nuclei_RingIntensity_NucleusToRing_GFP"
N_CELLS, WELL_CELLS, N_WELLS = 90, 60, 3
# Of the dose's coordinate: what one level adds to the logarithm of the fitted GFP ratio.
PER_LEVEL = 0.1
CHANNELS = ("GFP", "DNA")
# The measurement that the ratio is a line in.
TOLD_BY = descriptor_names(CHANNELS).index("GFP_in_to_around_DNA")
STUDY = Study(
    name="translocation",
    channels=CHANNELS,
    nucleus_channel=1,
    vae=load_config(
        VaeRecipe,
        None,
        overrides=[
            "autoencoder={widths: [64], latent_channels: 12}",
            "loss={kl: 1.0e-06, noise: 0.3}",
            "range_quantiles=[0.0, 0.9995]",
            "training={steps: 1000, batch_size: 32, validate_every: 3000, learning_rate: 0.002}",
        ],
    ),
    # As the planted generator: morphology between condition and image, settled there. The condition is three numbers;
    # noise about a third as wide as the gap between two doses keeps what is expected smooth over the gap (settled by
    # leaving out trained doses: it halves the error of the expected morphology).
    diffusion=load_config(
        DiffusionRecipe,
        None,
        overrides=[
            "denoiser={widths: [96, 160], attention: [true, true]}",
            "condition={tokens: 2, width: 32, hidden: 64, noise: 0.2, drop: 0.1}",
            "prior={condition: {tokens: 2, width: 32, hidden: 64, noise: 0.2, drop: 0.0}}",
            "prior.training.learning_rate=0.001",
            "prior.training.weight_decay=0.3",
            "views=4",
            "training={steps: 6000, batch_size: 32, learning_rate: 0.001, warmup_steps: 50, ema_decay: 0.995, "
            "validate_every: 9000, checkpoint_every: 200}",
        ],
    ),
    source=DataSource(
        name="ExampleSBSImages (BBBC013-like)", licence="BSD-3-Clause", credit="CellProfiler; I. Ravkin"
    ),
    command="python tests/benchmarks/translocation_generation.py",
    split="every other dose left out; the autoencoder on control wells",
)


def _response(
    wells: Any, shift: float, low: float, high: float, middle: float, slope: float, asymmetry: float
) -> Any:
    """Five-parameter logistic (Richards 1959) of (level, second half or not), whose bends need not be alike."""
    level, second = wells
    return low + (high - low) / (1 + np.exp(slope * (middle - level - shift * second))) ** np.exp(asymmetry)


def fitted_effect(ratio: pd.DataFrame, left_out: tuple[int, ...]) -> pd.Series:
    """Logarithm of the GFP ratio by (half, level): parallel curves through the wells of the doses that are trained on.

    Two drugs of one mechanism have one curve, shifted by their relative potency (Finney 1978).
    """
    seen = ratio[~ratio["level"].isin(left_out)]
    wells = (seen["level"].to_numpy(float), (seen["half"] == HALVES[1]).to_numpy(float))
    fitted, _ = optimize.curve_fit(_response, wells, seen["log_ratio"], p0=(0.0, -0.2, 1.9, 4.5, 1.5, 0.0))
    return pd.Series(
        {
            f"{half}{level}": _response((level, i), *fitted)
            for i, half in enumerate(HALVES)
            for level in LEVELS
        }
    )


Fit = Callable[[pd.DataFrame, tuple[int, ...]], pd.Series]


def sigmoids(ratio: pd.DataFrame, left_out: tuple[int, ...]) -> pd.Series:
    """As `fitted_effect`, with a symmetric sigmoid for each drug by itself."""
    found = {}
    for half in HALVES:
        seen = ratio[(ratio["half"] == half) & ~ratio["level"].isin(left_out)]
        fitted, _ = optimize.curve_fit(
            lambda level, *shape: _response((level, 0), 0.0, *shape, 0.0),
            seen["level"].to_numpy(float), seen["log_ratio"], p0=(-0.2, 1.9, 4.5, 1.5),
        )  # fmt: skip
        found |= {f"{half}{level}": _response((level, 0), 0.0, *fitted, 0.0) for level in LEVELS}
    return pd.Series(found)


def left_out_effects(ratio: pd.DataFrame, fit: Fit = fitted_effect) -> Iterator[tuple[str, pd.Series]]:
    """Each left-out half and dose, with the curve that was fitted without it."""
    for doses in LEFT_OUT:
        effect = fit(ratio, doses)
        yield from ((half + str(dose), effect) for half in HALVES for dose in doses)


def conditions(effect: pd.Series) -> Profiles:
    """Dose on the scale of its effect, half-plate and their product, so that each half has a curve of its own.

    Where the response is flat the level itself still counts a little.
    """
    dose = effect + PER_LEVEL * effect.index.str[2:].astype(int)
    half = np.where(effect.index.str.startswith("AC"), -1.0, 1.0)
    table = pd.DataFrame({"dose": dose.to_numpy(), "half": half, "both": dose.to_numpy() * half})
    table.insert(0, KEY, effect.index)
    return Profiles(table, source="dose and half-plate")


def is_held_back(wells: np.ndarray) -> np.ndarray:
    """Every fifth control well, on which the autoencoder was checked."""
    return np.isin(wells, np.unique(wells)[::5])


def trained_autoencoder(runs: Path) -> tuple[Bundle, Crops]:
    """The autoencoder, trained on control wells if it is not there, and all cells of the plate."""
    crops = kept_crops(runs / "crops", translocation)
    controls = crops.rows(np.isin(crops.column("Metadata_Level").astype(int), (0, 10)))
    controls = controls.rows(~is_held_back(controls.column("Metadata_Well").astype(str)))
    training = CropSet(
        images=np.asarray(controls.images, np.float32), channels=STUDY.channels, name=STUDY.name
    )
    return STUDY.autoencoder(training, runs / "vae"), crops


def drawn(vae: Bundle, crops: Crops, ratio: pd.DataFrame, runs: Path) -> dict[str, Cells]:
    """Draw the left-out doses with each fold's generator: from noise, under no condition, from control cells; measure."""
    made = [fold(doses, vae, crops, ratio, runs) for doses in LEFT_OUT]
    return {name: together([arms[name] for arms in made]) for name in made[0]}


def fold(
    doses: tuple[int, ...], vae: Bundle, crops: Crops, ratio: pd.DataFrame, runs: Path
) -> dict[str, Cells]:
    """Train the generator that never sees these doses, and draw them."""
    folder, n = runs / f"without_{'_'.join(map(str, doses))}", WELL_CELLS * N_WELLS
    effect = fitted_effect(ratio, doses)
    table = conditions(effect)
    seen = crops.rows(~np.isin(crops.column("Metadata_Level").astype(int), doses))
    model = STUDY.generator(STUDY.crop_set(seen.images, keys_of(seen), table), vae, folder)
    wanted = conditions(calibrated(model, effect, doses))
    targets = list(wanted.column(KEY).astype(str))
    own = STUDY.drawn(model, wanted, n, folder / "generated")
    as_fitted = table.rows(np.isin(table.column(KEY).astype(str), targets))
    plain = STUDY.drawn(model, as_fitted, n, folder / "uncalibrated")
    free = STUDY.drawn(model, wanted.rows(np.arange(1)), n, folder / "unconditional", guidance=0.0)
    carried = []
    for row, key in enumerate(wanted.column(KEY).astype(str)):
        begin = nearest_controls(key, effect, seen, n)
        path = folder / f"from_controls_{key}"
        carried.append(
            STUDY.drawn(model, wanted.rows(np.array([row])), n, path, control=begin, **FROM_CONTROL)
        )
    return {
        "own": own, "plain": plain, "free": renamed(free, dict.fromkeys(targets, str(free.groups[0]))), "carried": together(carried),
    }  # fmt: skip


def calibrated(model: MorphologyGenerator, effect: pd.Series, doses: tuple[int, ...]) -> pd.Series:
    """Effects to tell for the left-out doses: those under which the model expects the ratio that the curve says.

    What the model expects of `TOLD_BY` is a line in the logarithm of the ratio, drawn through the doses trained on.
    """

    def expected(effects: pd.Series) -> np.ndarray:
        condition = condition_of(conditions(effects), model.genes)
        return model.prior.expected(condition)[:, TOLD_BY].detach().numpy()

    seen = effect[~effect.index.str[2:].astype(int).isin(doses)]
    slope, base = np.polyfit(expected(seen), seen, 1)
    grid, found = np.linspace(effect.min(), effect.max(), 101), {}
    for key in (half + str(dose) for half in HALVES for dose in doses):
        ratio = base + slope * expected(pd.Series(grid, index=[key] * len(grid)))
        found[key] = float(np.interp(effect[key], np.maximum.accumulate(ratio), grid))
    return pd.Series(found)


def nearest_end(key: str, effect: pd.Series) -> str:
    """Negative or positive wells of the same half-plate, whichever the curve says are more alike."""
    ends = [f"{key[:2]}{level}" for level in (LEVELS[0], LEVELS[-1])]
    return min(ends, key=lambda end: abs(effect[end] - effect[key]))


def nearest_controls(key: str, effect: pd.Series, seen: Crops, n: int) -> np.ndarray:
    """Crops of the wells of `nearest_end`."""
    rows = np.flatnonzero(keys_of(seen) == nearest_end(key, effect))
    return np.asarray(seen.images[np.sort(generator(0, "controls", key).permutation(rows)[:n])], np.float32)


def keys_of(crops: Crops) -> np.ndarray:
    return (crops.column("Metadata_Half") + crops.column("Metadata_Level")).astype(str)


def round_trip(vae: Bundle, images: np.ndarray) -> np.ndarray:
    """Through the autoencoder and back, with the fine texture drawn as in sampling: the best a generator can do."""
    network, scale = load_autoencoder(vae), IntensityRange.stored(vae.spec.normalisation.output)
    texture = ResidualTexture(**vae.spec.domain["residual"])
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        parts = [network(x) for x in torch.from_numpy(scale.apply(images)).split(64)]
        strength = STUDY.diffusion.residual
        parts = [texture.draw(x, strength * torch.randn(x.shape, generator=noise)) for x in parts]
    return scale.undo(torch.cat(parts).numpy())


def floors(real: Cells, crops: Crops, ratio: pd.DataFrame) -> dict[str, Cells]:
    """What needs no generator: the mean cell, and real cells of control wells and of the doses next to the one left out."""

    def shifted(by: int) -> Cells:
        beside = renamed(real, {key: f"{key[:2]}{int(key[2:]) + by}" for key in TARGETS})
        return some_of_each(beside, WELL_CELLS * N_WELLS, seed=2)

    below, above = shifted(-1), shifted(1)
    both = together((below, above))
    both = both.take(generator(0, "mixed").permutation(len(both)))
    mean = STUDY.measured(np.asarray(crops.images, np.float32).mean(axis=0, keepdims=True), ["mean"])
    ends = {key: nearest_end(key, effect) for key, effect in left_out_effects(ratio)}
    return {
        "floor: mean image": mean.take(
            np.zeros(len(TARGETS) * N_CELLS, np.int64), np.repeat(TARGETS, N_CELLS)
        ),
        "floor: real control cells, unchanged": some_of_each(
            renamed(real, ends), WELL_CELLS * N_WELLS, seed=2
        ),
        "floor: real cells of the dose below": below,
        "floor: real cells of both next doses, mixed": both,
    }


class Truth:
    """Real cells of the left-out doses: a sample of each, the ratio's interval of one more well, profiles of wells."""

    def __init__(self, real: Cells, wells: np.ndarray) -> None:
        self.cells, self.wells = real, wells
        ratio = np.log(real.features[RATIO].groupby([real.groups, wells]).median())
        by_key = ratio.groupby(level=0)
        self.middle, self.n_wells = by_key.mean(), by_key.count()
        freedom = len(ratio) - by_key.ngroups
        # The spread between wells of a dose, pooled over doses, on the logarithm of the ratio.
        spread = np.sqrt(((ratio - by_key.transform("mean")) ** 2).sum() / freedom)
        self.reach = stats.t.ppf(0.975, freedom) * spread * np.sqrt(1 + 1 / self.n_wells)
        self.names = usable_features(real)
        self.real_wells = profiles(real, wells, self.names)

    def scores(
        self, arm: Cells, *, wells: np.ndarray | None = None, real: Cells | None = None
    ) -> pd.DataFrame:
        """One row per left-out dose: KS share, GFP ratio and its error, whether within, precision of retrieval.

        `real` other than all real cells is for arms that are real cells themselves.
        """
        queries = profiles(arm, wells_of(arm, WELL_CELLS) if wells is None else wells, self.names).dropna()
        table = pd.DataFrame(
            {
                "ks_share": {key: alike(one(real or self.cells, key), one(arm, key), N_CELLS).ks_share for key in TARGETS},
                "log_ratio": np.log(arm.features[RATIO].groupby(arm.groups).median()),
                "retrieval": well_precision(queries, self.real_wells),
            }
        ).loc[TARGETS]  # fmt: skip
        table["error"] = (table["log_ratio"] - self.middle[TARGETS]).abs()
        table["within"] = table["error"] <= self.reach[TARGETS]
        return table

    def ceilings(self) -> dict[str, pd.DataFrame]:
        """Real cells against real cells: others of the same wells, and those of one well against the other wells."""
        rank = pd.Series(self.wells).groupby(self.wells).cumcount().to_numpy()
        last = pd.Series(self.wells).groupby(self.cells.groups).transform("max").to_numpy() == self.wells
        odd, some = rank % 2 == 1, rank < WELL_CELLS
        part = {name: self.cells.take(np.flatnonzero(rows)) for name, rows in
                {"even": ~odd, "odd": odd, "last": last, "others": ~last, "some": some}.items()}  # fmt: skip
        same = self.scores(part["odd"], real=part["even"])
        same["retrieval"] = self.scores(part["some"], wells=self.wells[some])["retrieval"]
        another = self.scores(part["last"], real=part["others"]).assign(retrieval=np.nan)
        return {
            "ceiling: other real cells of the same wells": same,
            "ceiling: one real well against the others": another,
        }


def curve_alone(ratio: pd.DataFrame, truth: Truth, fit: Fit = fitted_effect) -> pd.DataFrame:
    """The curve through the trained doses, read at the left-out ones: a ratio without any image."""
    effect = pd.Series({key: found[key] for key, found in left_out_effects(ratio, fit)})[TARGETS]
    error = (effect - truth.middle[TARGETS]).abs()
    return pd.DataFrame({"log_ratio": effect, "error": error, "within": error <= truth.reach[TARGETS]})


def summary(found: pd.DataFrame) -> list[str]:
    """KS share, ratio within, error of the ratio, retrieval: means over the left-out doses."""
    cells = []
    for name in ("ks_share", "within", "error", "retrieval"):
        known = name in found and found[name].notna().all()
        cells.append(f"{found[name].astype(float).mean():.3f}" if known else "–")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=Path, help="keep crops and trainings here, and continue what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        result = measured(runs)
    publish("translocation_generation", result, as_json=options.json)


def measured(runs: Path) -> dict[str, Any]:
    vae, crops = trained_autoencoder(runs)
    wells, keys = crops.column("Metadata_Well").astype(str), keys_of(crops)
    real = kept_cells(runs / "real", lambda: STUDY.measured(crops.images, keys))
    ratio = np.log(real.features[RATIO].groupby(wells).median()).rename("log_ratio").to_frame()
    ratio["half"] = crops.metadata.groupby("Metadata_Well")["Metadata_Half"].first()
    ratio["level"] = crops.metadata.groupby("Metadata_Well")["Metadata_Level"].first().astype(int)
    made = drawn(vae, crops, ratio, runs)
    truth = Truth(real, wells)
    order = generator(0, "through").permutation(np.flatnonzero(np.isin(keys, TARGETS)))
    rows = order[pd.Series(keys[order]).groupby(keys[order]).cumcount().to_numpy() < 2 * WELL_CELLS]
    through = kept_cells(
        runs / "through", lambda: STUDY.measured(round_trip(vae, crops.images[rows]), keys[rows])
    )
    found = {
        "generated": truth.scores(made["own"]),
        "generated from control cells": truth.scores(made["carried"]),
        "generated, effect told without calibration": truth.scores(made["plain"]),
        "floor: generated, conditions exchanged": truth.scores(shuffled(made["own"])),
        "floor: unconditional model": truth.scores(made["free"]),
        **{name: truth.scores(arm) for name, arm in floors(real, crops, ratio).items()},
        "floor: curve through the trained doses, no image": curve_alone(ratio, truth),
        "floor: a symmetric sigmoid for each drug, no image": curve_alone(ratio, truth, sigmoids),
        "real cells through the autoencoder": truth.scores(through),
        **truth.ceilings(),
    }
    return {**keyed(found), "tables": tables(found, truth)}


def keyed(found: dict[str, pd.DataFrame]) -> dict[str, Any]:
    return {
        **scores_of(found, "generated"),
        "from_controls": scores_of(found, "generated from control cells"),
        "arms": {
            name: {
                k: float(table[k].mean()) for k in ("ks_share", "within", "error", "retrieval") if k in table
            }
            for name, table in found.items()
        },
    }


def scores_of(found: dict[str, pd.DataFrame], arm: str) -> dict[str, Any]:
    own, same = found[arm], found["ceiling: other real cells of the same wells"]
    by_dose = own["retrieval"].to_numpy() / same["retrieval"].mean()
    return {
        "ratio_within": float(own["within"].mean()),
        "ks_share": float(own["ks_share"].mean()),
        "ks_share_ci95": bootstrap_interval(own["ks_share"].to_numpy(), seed=0).as_dict(),
        "dose_retrieval": float(by_dose.mean()),
        "dose_retrieval_ci95": bootstrap_interval(by_dose, seed=0).as_dict(),
    }


def tables(found: dict[str, pd.DataFrame], truth: Truth) -> list[dict[str, Any]]:
    own, same = found["generated"], found["ceiling: other real cells of the same wells"]
    by_dose = [
        [key[:2], key[2:], f"{np.exp(own.log_ratio[key]):.2f}", f"{np.exp(truth.middle[key]):.2f}",
         " to ".join(f"{np.exp(truth.middle[key] + sign * truth.reach[key]):.2f}" for sign in (-1, 1)),
         "yes" if own.within[key] else "no", f"{own.ks_share[key]:.3f}", f"{same.ks_share[key]:.3f}",
         f"{own.retrieval[key]:.3f}", f"{same.retrieval[key]:.3f}"]
        for key in TARGETS
    ]  # fmt: skip
    keys = keyed(found)
    return [
        {
            "title": f"Cells of doses that were left out ({len(TARGETS)} doses x {WELL_CELLS * N_WELLS} cells)",
            "head": ["arm", f"KS share (n = {N_CELLS})", "GFP ratio within", "error of log ratio", "retrieval (mAP)"],
            "rows": [[name, *summary(table)] for name, table in found.items()],
            "notes": [
                "GFP ratio: nucleus over ring, median of cells; within: inside the 95 % interval of one more real well of "
                "that dose (spread between wells pooled over doses).",
                "KS share: features not rejected at FDR 5 %, dose by dose. Real cells of a neighbouring dose pass most tests "
                "too: on this plate most features hardly depend on the dose.",
                f"Retrieval: medians of wells of {WELL_CELLS} cells find the real wells of their dose and half-plate among all 72; "
                f"generated over real: {interval(keys['dose_retrieval_ci95'])}, from control cells "
                f"{interval(keys['from_controls']['dose_retrieval_ci95'])}.",
                "From control cells: those of the negative or the positive wells of that half-plate, whichever the curve says are "
                "nearer, by inversion with guidance.",
                f"Generators of {STUDY.diffusion.training.steps} steps of {STUDY.diffusion.training.batch_size} cells each.",
                "One plate, three wells per dose and half. The scale of the dose is a curve fitted to the doses trained on: one "
                "asymmetric sigmoid, shifted between the two drugs by their relative potency. Its form was chosen among "
                "several with the left-out doses in view, a symmetric sigmoid for each drug among them.",
                "The effect that is told is calibrated: the one under which the prior expects the curve's ratio, read on the doses "
                "trained on. This was added after the row without it had been read.",
            ],
        },
        {
            "title": "Dose by dose",
            "head": ["half-plate", "level", "GFP ratio, generated", "real", "one more real well (95 %)", "within",
                     "KS share", "real against real", "mAP, generated", "real"],
            "rows": by_dose,
        },
    ]  # fmt: skip


if __name__ == "__main__":
    main()
