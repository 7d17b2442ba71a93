"""What is predicted how well: every number of the README's staining tables, one study a call.

    python tests/benchmarks/staining_quality.py STUDY [--minutes M] [--json]

Studies train within the stated minutes on this machine (equal for every arm), score on held-out groups, and write
``tests/benchmarks/results/staining_STUDY.json``; ``tests/benchmarks/write_tables.py`` puts them into README.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from staining_data import Split, allen_crop, jurkat, mcf7, nuclear_envelope, phantoms, well
from torch import Tensor, nn

from image2reg.config import load_config
from image2reg.intervals import bootstrap_interval, paired_difference_interval
from image2reg.models.devices import accelerator_for
from image2reg.models.train import fit
from virtualstain.augment import AugmentSettings
from virtualstain.bundling import Facts
from virtualstain.evaluate import METRICS, ScoredField, block_interval, score_field
from virtualstain.fields import standardise
from virtualstain.metrics import pearson
from virtualstain.model import from_bundle, load
from virtualstain.networks import build_network
from virtualstain.networks.fnet3d import FNet3D
from virtualstain.networks.interface import StainNetwork, deploy
from virtualstain.patches import StainField
from virtualstain.recipe import Recipe
from virtualstain.scoring import stain_fields, with_target_scale
from virtualstain.staining import stain_array
from virtualstain.train import StainTask, network_arguments
from virtualstain.train import train as train_stain

RESULTS = Path(__file__).parent / "results"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# The published recipe: mean squared error, no augmentation.
FNET = {"augment": AugmentSettings.none().model_dump(), "loss": {"l1": 0, "mse": 1}}
# One network of an arm on little data, whatever the recipe of the shipped ensemble becomes.
SINGLE = {
    "network": {"name": "shuffle_unet", "arguments": {"dims": 2, "patch": (2, 2), "dropout": 0.1}},
    "training": {
        "steps": 700, "batch_size": 8, "learning_rate": 0.002, "weight_decay": 0.05, "betas": (0.9, 0.99),
        "ema_decay": 0.998, "gradient_clip": 1.0, "precision": "bf16", "checkpoint_every": 300, "log_every": 50,
    },
}  # fmt: skip
# The augmentation of models that meet other microscopes.
STRONG = {
    "augment": {"rotate": 10, "flip": False, "magnification": 1.4, "gamma": 0.2, "gain": 0.2, "offset": 0.2,
                "illumination": 0.1, "blur_px": 1.0, "noise": 0.2},
    "loss": {"l1": 1.0, "mse": 0.5, "correlation": 0.5},
}  # fmt: skip


class FlatFNet(StainNetwork):
    """fnet3d for a flat target: planes become Z (reflected up to 16), the stack of outputs is averaged over Z."""

    dims = 2

    def __init__(self, planes: int, n_outputs: int) -> None:
        super().__init__()
        self.divisor, self.extra = (16, 16), -planes % 16
        self.network = FNet3D(1, n_outputs)

    def to(self, *arguments: Any, **options: Any) -> FlatFNet:
        """Leave out the 2D memory layout: its convolutions are 3D."""
        options.pop("memory_format", None)
        return super().to(*arguments, **options) if arguments or options else self

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, planes, Y, X) to (B, K, Y, X)."""
        x = nn.functional.pad(x[:, None], (0, 0, 0, 0, 0, self.extra), mode="reflect")
        return self.network(x).mean(2)


def train_arm(
    splits: Split, recipe: Recipe, minutes: float | None, network: StainNetwork | None = None
) -> tuple[list[ScoredField], dict[str, Any]]:
    """Train one arm for `minutes` or its recipe's own steps, predict the test fields with its best (or last) weights."""
    training, reference = standardise(splits["train"], recipe)
    validation, _ = standardise(splits.get("validation", ()), recipe, reference=reference)
    test, _ = standardise(splits["test"], recipe, reference=reference)
    torch.manual_seed(0)
    network = network or build_network(**network_arguments(recipe, planes=int(training[0].inputs.shape[1])))
    task = StainTask(network, recipe, training, validation)
    settings = recipe.training
    if minutes is not None:
        steps = steps_for(task, minutes)
        settings = settings.model_copy(
            update={
                "steps": steps,
                "warmup_steps": min(100, steps // 10),
                "validate_every": max(1, steps // 4),
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        result = fit(task, settings, Path(folder) / "run", device="auto")
    n_parameters = sum(p.numel() for p in network.parameters())
    network.load_state_dict(result.best_state or result.last_state)
    network = deploy(network.cpu())
    scored, seconds = [], 0.0
    for item in test:
        start = time.perf_counter()
        predicted = stain_array(
            network,
            item.read_input,
            tuple(item.inputs.shape[1:]),
            n_outputs=len(recipe.targets),
            tile=recipe.tile,
        )
        seconds += time.perf_counter() - start
        scored += channels_of(item, predicted, recipe, reference[1])
    facts = {
        "parameters": n_parameters,
        "steps": result.steps_done,
        "train_minutes": result.seconds / 60,
        "predict_seconds": seconds,
    }
    return scored, facts


def steps_for(task: StainTask, minutes: float) -> int:
    """Count the steps that fit into the minutes here, so that every arm's schedule runs to its end.

    Processor time, shared out over the threads: what else the machine does must not favour an arm.
    """
    computing = accelerator_for(task.recipe.training, "cpu")
    seconds = []
    for step in range(4):
        start = time.process_time()
        batch = task.batch(step, np.random.default_rng(step))
        for phase in task.phases:
            with computing.autocast():
                loss = task.loss(phase, batch)["loss"]
            loss.backward()
        seconds.append((time.process_time() - start) / torch.get_num_threads())
    for module in task.phases.values():
        module.zero_grad(set_to_none=True)
    return max(20, int(60 * minutes / np.median(seconds[1:])))


def channels_of(
    item: StainField, predicted: np.ndarray, recipe: Recipe, reference: Sequence[Any]
) -> list[ScoredField]:
    """Pair predictions in network units with the truth in network units: scores do not depend on the unit."""
    valid = np.ones(item.plane, bool) if item.valid is None else item.valid
    return [
        ScoredField(
            item.name, item.group, name, np.asarray(item.inputs), item.target_scale[k].apply(np.asarray(item.targets[k])),
            predicted[k], np.broadcast_to(valid, predicted[k].shape), data_range=6.0, typical=0.0,
        )
        for k, name in enumerate(recipe.targets)
    ]  # fmt: skip


def rows_of(arm: str, scored: Sequence[ScoredField], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per channel: mean of every metric, interval of Pearson over fields, or over blocks of one field."""
    rows = []
    for channel in dict.fromkeys(item.channel for item in scored):
        items = [item for item in scored if item.channel == channel]
        scores = [score_field(item) for item in items]
        interval = (
            bootstrap_interval([s["pearson"] for s in scores], seed=0)
            if len(items) > 1
            else block_interval(items[0])
        )
        rows.append(
            {
                "arm": arm, "channel": channel, "n": interval.n, "level": "field" if len(items) > 1 else "block",
                **{m: float(np.mean([s[m] for s in scores])) for m in METRICS},
                "low": interval.low, "high": interval.high,
                "floor": float(np.mean([s["floor_pearson"] for s in scores])),
                "ceiling": float(np.mean([s["ceiling_pearson"] for s in scores])),
                **facts,
            }
        )  # fmt: skip
    return rows


def recipe_of(base_name: str, **changes: Any) -> Recipe:
    base = load_config(Recipe, CONFIGS / f"{base_name}.yaml").model_dump()
    return Recipe(**{**base, "members": 1, **changes})


def study_well(minutes: float) -> dict[str, Any]:
    """Phase stack to three stains: the shipped ensemble, what makes it, and one network of each kind by three recipes."""
    splits, shipped = well(), load("phase-neuron")
    standard = [with_target_scale(shipped, item) for item in splits["test"]]
    made = [item for row in stain_fields(shipped, standard) for item in row]
    facts = {"parameters": sum(p.numel() for p in shipped.network.parameters())}
    rows = rows_of("`phase-neuron` as shipped", made, facts)
    # Without validation and for the steps that were settled inside the training rows, as the ensemble's members.
    whole = {**well(validation=False), "validation": []}
    for arm, changes in (
        ("one network of its recipe", {}),
        ("the same without compression", {"loss": {"l1": 0, "mse": 1}}),
    ):
        rows += rows_of(arm, *train_arm(whole, recipe_of("phase-neuron", **changes), None))
    for arm, recipe, network in (
        ("shuffle_unet 2.5D, strong augmentation", recipe_of("phase-neuron", **SINGLE, **STRONG), None),
        ("shuffle_unet 2.5D, fnet's recipe", recipe_of("phase-neuron", **SINGLE, **FNET), None),
        (
            "fnet3d, fnet's recipe",
            recipe_of("phase-neuron", **SINGLE, **FNET, patch=(13, 64, 64)),
            FlatFNet(13, 3),
        ),
    ):
        rows += rows_of(arm, *train_arm(splits, recipe, minutes, network))
    budget = "equal training minutes for the last three arms, the recipe's own steps for the two above them"
    return {"rows": rows, "budget": budget}


def study_phantom(minutes: float) -> dict[str, Any]:
    """Synthetic stacks: the thin 3D default against fnet3d, equal minutes."""
    splits, base = phantoms(), recipe_of("phantom-3d")
    fnet = recipe_of("phantom-3d", **FNET, patch=(32, 64, 64), network={"name": "fnet3d"})
    rows = rows_of("shuffle_unet 3D, default recipe", *train_arm(splits, base, minutes))
    return {"rows": rows + rows_of("fnet3d, fnet's recipe", *train_arm(splits, fnet, minutes))}


def study_gan(minutes: float) -> dict[str, Any]:
    """Regression against the GAN on the well: same split, generator, steps allowed and minutes."""
    splits, base = well(), recipe_of("phase-neuron", **SINGLE, **STRONG)
    gan = recipe_of("phase-neuron", **SINGLE, **STRONG, adversary={"weight": 0.05, "feature_matching": 4.0})
    rows: list[dict[str, Any]] = []
    items: dict[str, list[ScoredField]] = {}
    for arm, recipe in (("regression", base), ("GAN", gan)):
        items[arm], facts = train_arm(splits, recipe, minutes)
        rows += rows_of(arm, items[arm], facts)
    return {"rows": rows, "features": {arm: feature_errors(scored) for arm, scored in items.items()}}


# From the values and gradient magnitudes inside one nucleus.
NUCLEAR_FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mean": lambda v, _: v.mean(),
    "sd": lambda v, _: v.std(),
    "gradient": lambda _, g: g.mean(),
    "integrated": lambda v, _: v.sum(),
}


def feature_errors(scored: Sequence[ScoredField]) -> dict[str, Any]:
    """Nuclear features measured on predicted DAPI inside the real nuclei: Pearson r and relative error per feature."""
    from skimage.measure import regionprops

    from image2reg.nuclei.segment import segment

    dapi = next(item for item in scored if item.channel == "DAPI")
    truth, prediction = dapi.truth[0], dapi.prediction[0]
    labels = segment(truth, diameter_px=24)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in NUCLEAR_FEATURES}
    images = [(v, np.hypot(*np.gradient(v))) for v in (truth, prediction)]
    for region in regionprops(labels):
        inside = tuple(region.coords.T)
        for name, function in NUCLEAR_FEATURES.items():
            real, made = (float(function(v[inside], g[inside])) for v, g in images)
            measured[name].append((real, made))
    out: dict[str, Any] = {"n_nuclei": int(labels.max())}
    for name, pairs in measured.items():
        real, made = np.array(pairs).T
        error = bootstrap_interval(np.abs(made - real) / np.abs(real).mean(), seed=0)
        out[name] = {
            "r": float(np.corrcoef(real, made)[0, 1]),
            "error": error.value,
            "low": error.low,
            "high": error.high,
        }
    return out


def study_jurkat(minutes: float) -> dict[str, Any]:
    """Single cells of a held-out experiment: gain over the mean image, DNA content inside G1, phases from DNA."""
    splits, phases = jurkat()
    recipe = recipe_of(
        "phase-neuron", training=SINGLE["training"],
        name="jurkat-dna", inputs=("Brightfield", "Darkfield"), targets=("DNA",), patch=(1, 40, 40), tile=(1, 64, 64),
        network={"name": "shuffle_unet", "arguments": {"dims": 2, "patch": (1, 1), "widths": (32, 64, 96)}},
        input_normalisation={"scope": "dataset"}, loss={"l1": 1.0, "mse": 0.5, "correlation": 0.5},
        augment={"magnification": 1.0, "shear": 0.0, "gamma": 0.0, "illumination": 0.0, "blur_px": 0.0,
                 "gain": 0.02, "offset": 0.02, "noise": 0.05},
    )  # fmt: skip
    return jurkat_scores(splits, phases, recipe, minutes)


def jurkat_scores(
    splits: Split, phases: dict[str, np.ndarray], recipe: Recipe, minutes: float
) -> dict[str, Any]:
    """Train on experiment 1; score experiment 2 (G1 only) and, for phases, held-out cells of experiment 1."""
    test = {**splits, "test": [*splits["test"], *splits["validation"]]}
    scored, facts = train_arm(test, recipe, minutes)
    n = len(splits["test"])
    mean_image = np.mean([np.asarray(f.targets[0, 0], float) for f in splits["train"]], axis=0)
    standard = [f.truth[0] for f in scored]
    mean_standard = (mean_image - mean_image.mean()) / mean_image.std()
    own = np.array([np.corrcoef(f.prediction.ravel(), f.truth.ravel())[0, 1] for f in scored[:n]])
    floor = np.array([np.corrcoef(mean_standard.ravel(), t.ravel())[0, 1] for t in standard[:n]])
    gain = paired_difference_interval(own, floor, seed=0)
    real, made = (np.array([getattr(f, k).sum() for f in scored]) for k in ("truth", "prediction"))
    g1 = stats.pearsonr(real[:n], made[:n])
    draws = np.random.default_rng(0).integers(n, size=(2000, n))
    spread = [np.corrcoef(real[:n][d], made[:n][d])[0, 1] for d in draws]
    phase = phases["validation"]

    def auc(values: np.ndarray) -> float:
        low, high = values[n:][phase == "G1"], values[n:][np.isin(phase, ("G2", "Prophase", "Metaphase"))]
        return float(stats.mannwhitneyu(high, low).statistic / (len(high) * len(low)))

    return {
        "pearson": float(own.mean()), "mean_image_pearson": float(floor.mean()), "gain": gain.as_dict(),
        "integrated_r_in_g1": float(g1.statistic), "integrated_r_ci95": [float(v) for v in np.percentile(spread, (2.5, 97.5))],
        "n_test": n, "ridge_reference": 0.345, "phase_auc_predicted": auc(made), "phase_auc_real": auc(real),
        "n_phase": len(phase), **facts,
    }  # fmt: skip


def study_allen(minutes: float) -> dict[str, Any]:
    """One real 3D crop: trained on its left half, ours against the authors' prediction on the right half."""
    splits, published = allen_crop()
    recipe = recipe_of(
        "phantom-3d", name="allen", targets=("DNA",), patch=(32, 48, 48), inputs=("Transmitted light",),
        network={"name": "shuffle_unet", "arguments": {"dims": 3, "patch": (1, 2, 2), "widths": (32, 64, 96),
                                                       "down": ((2, 2, 2), (2, 2, 2))}},
        augment={"magnification": 1.1, "shear": 0.0, "gamma": 0.1, "illumination": 0.1, "blur_px": 0.5, "noise": 0.1},
    )  # fmt: skip
    scored, facts = train_arm(splits, recipe, minutes)
    theirs = replace_prediction(scored[0], published)
    whole = score_field(theirs)
    return {"rows": rows_of("ours, trained on the left half", scored, facts) + rows_of("authors' network (2017)", [theirs], {}),
            "authors_pearson_right_half": whole["pearson"]}  # fmt: skip


def replace_prediction(item: ScoredField, prediction: np.ndarray) -> ScoredField:
    """Put a published prediction in place of ours, with the mean and spread of the truth: its units are not stated."""
    values = prediction.astype(np.float64)
    values = (values - values.mean()) / values.std() * item.truth.std() + item.truth.mean()
    return replace(item, prediction=values.astype(np.float32))


def study_envelope(minutes: float) -> dict[str, Any]:
    """Two published patches: ours trained on the other patch alone, four published predictions on the same voxels."""
    fields, published = nuclear_envelope()
    recipe = recipe_of(
        "phantom-3d", name="envelope", targets=("Lamin B1",), patch=(16, 48, 48),
        network={"name": "shuffle_unet", "arguments": {"dims": 3, "patch": (1, 2, 2), "widths": (32, 64, 96),
                                                       "down": ((2, 2, 2), (2, 2, 2))}},
        augment={"magnification": 1.2, "shear": 0.05, "gamma": 0.2, "illumination": 0.1, "blur_px": 0.5, "noise": 0.1},
    )  # fmt: skip
    scored: list[ScoredField] = []
    facts: dict[str, Any] = {}
    for i in (0, 1):
        found, facts = train_arm({"train": [fields[1 - i]], "test": [fields[i]]}, recipe, minutes / 2)
        scored += found
    rows = rows_of("ours, trained on the other patch", scored, facts)
    for name, predictions in published.items():
        theirs = [replace_prediction(s, p) for s, p in zip(scored, predictions, strict=True)]
        rows += rows_of(f"published {name}", theirs, {})
    return {"rows": rows}


def nucleus_diameter(fields: Sequence[StainField]) -> float:
    """Typical diameter of annotated nuclei, px."""
    areas = [np.bincount(f.masks.ravel())[1:] for f in fields if f.masks is not None]
    return float(2 * np.sqrt(np.median(np.concatenate([a[a > 0] for a in areas])) / np.pi))


def study_nuclei(minutes: float) -> dict[str, Any]:
    """Annotated nuclei found in the predicted, the real and no stain by one segmenter, three protocols.

    The typical diameter is that of the training experiments' annotations.
    """
    del minutes
    from image2reg.nuclei.match import Matching, match, match_dataset
    from image2reg.nuclei.segment import segment
    from image2reg.nuclei.segmenters.catalogue import load_segmenter

    splits = mcf7()
    diameter = nucleus_diameter(splits["train"])
    model, learned = load("brightfield-nuclei"), load_segmenter("nuclei")
    predicted = stain_fields(model, [with_target_scale(model, f) for f in splits["test"]])

    def by_network(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
        filled = np.where(valid, image, image[valid].min()).astype(np.float32)
        return np.where(valid, learned.segment(filled, diameter_px=diameter), 0)

    def by_contrast(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
        return segment(image, diameter_px=diameter, mask=valid, intensity="log")

    protocols: dict[str, tuple[Callable[..., np.ndarray], Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
        "shipped `nuclei`, files as they are (predicted log, real counts)": (by_network, np.asarray, np.expm1),
        "shipped `nuclei`, both counts (predicted exponentiated)": (by_network, np.expm1, np.expm1),
        "shipped `nuclei`, both logarithms": (by_network, np.asarray, np.asarray),
        "classical, both logarithms": (by_contrast, np.asarray, np.asarray),
    }  # fmt: skip
    rows = []
    for name, (find, as_predicted, as_real) in protocols.items():
        found: dict[str, list[Matching]] = {"predicted": [], "real": [], "none": []}
        for field, (item,) in zip(splits["test"], predicted, strict=True):
            valid = item.mask[0]
            masks = np.where(valid, field.masks, 0)
            images = {
                "predicted": as_predicted(item.prediction[0]),
                "real": as_real(np.log1p(np.asarray(field.targets[0, 0], np.float64))),
                "none": np.asarray(field.inputs[0, 0], np.float64),
            }
            for stain, image in images.items():
                found[stain].append(match(masks, find(image, valid), thresholds=(0.5,)))
        counts = {k: np.array([(m.tp[0], m.n_true) for m in v]) for k, v in found.items()}
        draws = np.random.default_rng(0).integers(len(predicted), size=(2000, len(predicted)))
        ratios = [counts["predicted"][d, 0].sum() / max(counts["real"][d, 0].sum(), 1) for d in draws]
        recall = {k: float(match_dataset(v).recall[0]) for k, v in found.items()}
        low, high = (float(q) for q in np.percentile(ratios, (2.5, 97.5)))
        rows.append([name, recall["predicted"], recall["real"], recall["none"], recall["predicted"] / recall["real"],
                     f"{low:.2f} to {high:.2f}", int(counts["real"][:, 1].sum())])  # fmt: skip
    head = [
        "segmenter",
        "predicted",
        "real stain",
        "brightfield itself (floor)",
        "predicted / real",
        "95 % (fields)",
        "nuclei",
    ]
    note = f"recall at IoU 0.5 of annotated nuclei, typical diameter {diameter:.0f} px from the training experiments"
    return {"tables": [{"head": head, "rows": rows, "notes": [note]}]}


# What training reads beside the stain: nothing, annotated nuclei as a second output that is thrown away afterwards
# (learning with privileged information), and that and more weight to stain in and near them, as shipped.
PRIVILEGES = {
    "the stain alone": {"nuclei": 0.0, "emphasis": 0.0},
    "nuclei as a second output": {"nuclei": 0.5, "emphasis": 0.0},
    "and more weight near nuclei (shipped)": {"nuclei": 0.5, "emphasis": 5.0},
}
PRIVILEGED_SEEDS = (0, 1)
PRIVILEGED_STEPS = {"registration": 300, "training": 600}


def privileged_network(arm: str, seed: int) -> list[dict[str, Any]]:
    """Train one network of an arm and score it on the test fields: correlation, annotated nuclei found."""
    from image2reg.nuclei.match import match
    from image2reg.nuclei.segmenters.catalogue import load_segmenter

    splits, learned = mcf7(validation=False), load_segmenter("nuclei")
    diameter = nucleus_diameter(splits["train"])
    told = recipe_of("brightfield-nuclei").model_dump()
    told["loss"] |= PRIVILEGES[arm]
    told["registration"]["steps"] = PRIVILEGED_STEPS["registration"]
    told["training"] |= {"steps": PRIVILEGED_STEPS["training"], "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        facts = Facts(command="", licence="for measurement only")
        trained = train_stain(
            {"train": splits["train"]}, Recipe(**told), Path(folder) / "run", facts=facts, device="cpu"
        )
        model = from_bundle(trained.bundle)
        predicted = stain_fields(model, [with_target_scale(model, f) for f in splits["test"]])
    rows = []
    for field, (item,) in zip(splits["test"], predicted, strict=True):
        valid = item.mask[0]
        image = np.where(valid, item.prediction[0], item.prediction[0][valid].min()).astype(np.float32)
        labels = np.where(valid, learned.segment(image, diameter_px=diameter), 0)
        found = match(np.where(valid, field.masks, 0), labels, thresholds=(0.5,))
        r = pearson(item.truth, item.prediction, mask=item.mask)
        rows.append(
            {"group": field.group, "pearson": r, "found": int(found.tp[0]), "annotated": int(found.n_true)}
        )
    return rows


def privileged_table(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Put the arms beside each other; intervals over experiments, of differences over the same fields and seeds."""
    (alone, first), *others = rows.items()
    groups = [row["group"] for row in first]

    def column(arm: str) -> list[float]:
        return [row["pearson"] for row in rows[arm]]

    table = []
    for arm in (alone, *(name for name, _ in others)):
        value = bootstrap_interval(column(arm), groups=groups, seed=0)
        recall = sum(row["found"] for row in rows[arm]) / sum(row["annotated"] for row in rows[arm])
        gain = paired_difference_interval(column(arm), column(alone), groups=groups, seed=0)
        shown = "" if arm == alone else f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        table.append([arm, value.value, f"{value.low:.3f} to {value.high:.3f}", shown, recall])
    head = [
        "training reads",
        "Pearson",
        "95 % (experiments)",
        "more than the stain alone",
        "nuclei found (recall at IoU 0.5)",
    ]
    note = (
        f"{len(first) // len(PRIVILEGED_SEEDS)} fields of {len(set(groups))} experiments that training did not see, "
        f"{len(PRIVILEGED_SEEDS)} single networks per arm, {PRIVILEGED_STEPS['training']} steps each after "
        f"{PRIVILEGED_STEPS['registration']} for registration. Nuclei by the shipped segmenter in the predicted logarithm."
    )
    return {"tables": [{"head": head, "rows": table, "notes": [note]}]}


def study_privileged(minutes: float) -> dict[str, Any]:
    """Nucleus masks that only training sees: what they are worth on experiments it did not see."""
    del minutes
    return privileged_table(
        {
            arm: [row for seed in PRIVILEGED_SEEDS for row in privileged_network(arm, seed)]
            for arm in PRIVILEGES
        }
    )


def study_robustness(minutes: float) -> dict[str, Any]:
    """The shipped brightfield model on its held-out experiments, each recorded worse than it was."""
    del minutes
    return robustness_table(load("brightfield-nuclei"), mcf7()["test"])


def robustness_table(model: Any, fields: Sequence[StainField]) -> dict[str, Any]:
    """Pearson on disturbed copies of the inputs; for magnification the truth is magnified too."""
    from scipy import ndimage

    def gamma(g: float) -> Callable[[np.ndarray], np.ndarray]:
        def apply(x: np.ndarray) -> np.ndarray:
            low, high = float(x.min()), float(x.max())
            return low + (high - low) * ((x - low) / (high - low)) ** g

        return apply

    def gradient(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: x * np.linspace(1 - strength, 1 + strength, x.shape[-1], dtype=np.float32)

    rng = np.random.default_rng(0)
    disturbances: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "as recorded": lambda x: x,
        "gamma 0.7": gamma(0.7),
        "gamma 1.4": gamma(1.4),
        "blur 1 px": lambda x: ndimage.gaussian_filter(x, (0, 0, 1, 1)),
        "blur 2 px": lambda x: ndimage.gaussian_filter(x, (0, 0, 2, 2)),
        "noise 0.2 sd": lambda x: x + 0.2 * x.std() * rng.standard_normal(x.shape).astype(np.float32),
        "noise 0.5 sd": lambda x: x + 0.5 * x.std() * rng.standard_normal(x.shape).astype(np.float32),
        "illumination ±30 %": gradient(0.3),
    }
    rows = []
    for name, disturb in disturbances.items():
        changed = [
            with_target_scale(model, replace(f, inputs=disturb(np.asarray(f.inputs, np.float32))))
            for f in fields
        ]
        rows.append(robust_row(name, stain_fields(model, changed)))
    for factor in (0.7, 0.85, 1.2, 1.4):
        changed = [with_target_scale(model, magnified(f, factor)) for f in fields]
        rows.append(robust_row(f"magnification {factor}, not told", stain_fields(model, changed)))
    flipped = [with_target_scale(model, f) for f in fields]
    rows.append(robust_row("test-time augmentation (--tta)", stain_fields(model, flipped, tta=True)))
    return {"rows": rows}


def magnified(item: StainField, factor: float) -> StainField:
    from scipy import ndimage

    def zoom(v: np.ndarray, order: int) -> np.ndarray:
        return ndimage.zoom(v, [1] * (v.ndim - 2) + [factor, factor], order=order)

    return replace(
        item,
        inputs=zoom(np.asarray(item.inputs, np.float32), 1),
        targets=zoom(np.asarray(item.targets, np.float32), 1),
        valid=None if item.valid is None else zoom(item.valid.astype(np.float32), 1) > 0.99,
        masks=None,
    )


def robust_row(name: str, scored: Sequence[Sequence[ScoredField]]) -> dict[str, Any]:
    values = [score_field(item)["pearson"] for row in scored for item in row]
    interval = bootstrap_interval(values, seed=0)
    return {"disturbance": name, "pearson": interval.value, "low": interval.low, "high": interval.high,
            "median": float(np.median(values)), "n": interval.n}  # fmt: skip


STUDIES = {
    name.removeprefix("study_"): function
    for name, function in list(globals().items())
    if name.startswith("study_")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each arm")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result = {"study": a.study, "minutes": a.minutes, "command": f"python tests/benchmarks/staining_quality.py {a.study} "
              f"--minutes {a.minutes:g}", **STUDIES[a.study](a.minutes)}  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1)
    (RESULTS / f"staining_{a.study}.json").write_text(text + "\n")
    if a.json:
        print(json.dumps(result))
        return
    for row in result.get("rows", [result]):
        print("  ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
