"""The command that says what in the nuclei told the classes apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from image2reg.commands.options import AsJson, Out, Overwrite, Seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from image2reg.embedding.training import TrainedEncoder


def explain(
    crops: Annotated[Path, typer.Argument(help="Crops of nuclei: a .zarr directory (image2reg crops).")],
    out: Out,
    *,
    label: Annotated[str, typer.Option("--label", help="Metadata column, e.g. Metadata_Treatment.")],
    control: Annotated[str, typer.Option("--control", help="Its value that is the control.")],
    unit: Annotated[
        str,
        typer.Option(
            "--unit", help="What was treated as a whole: well, field or a column; intervals are over it."
        ),
    ] = "well",
    model: Annotated[
        Path | None,
        typer.Option("--model", help="An encoder trained by classification; without it no Score-CAM."),
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", help="Input to explain: nucleus or context.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Crops per class that are explained.", min=1)] = 32,
    bins: Annotated[
        Path | None,
        typer.Option("--bins", help="CSV of genome bins: chromosome, start, end, changed (0 or 1)."),
    ] = None,
    bed: Annotated[
        Path | None, typer.Option("--bed", help="Intervals to look for them in, e.g. LADs.")
    ] = None,
    spot_sigma: Annotated[
        float, typer.Option("--spot-sigma", help="Scale of condensation spots, pixels.", min=0.5)
    ] = 1.0,
    seed: Seed = 0,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Show what told the classes apart: Score-CAM with checks, radial profile, spots, enrichment; one HTML page."""
    import json

    import numpy as np

    from image2reg.atomic import atomic_directory, refuse_existing, refuse_inputs
    from image2reg.console import command_line, emit, plain
    from image2reg.embedding.contrasts import chromatin_profiles, contrast
    from image2reg.embedding.enrichment import enrichment, read_bed, read_bins
    from image2reg.errors import ConfigurationError
    from image2reg.nuclei.crops import Crops
    from image2reg.provenance import run_record, write_run
    from image2reg.randomness import generator
    from image2reg.report.explanation import explanation_page, verdict
    from image2reg.tables import write_csv

    if (bins is None) != (bed is None):
        raise ConfigurationError(
            "--bins and --bed go together: bins that changed, and intervals to find them in."
        )
    refuse_inputs([out], [path for path in (crops, model, bins, bed) if path is not None])
    refuse_existing(out, overwrite=overwrite)
    found = enrichment(read_bins(bins), read_bed(bed)) if bins is not None and bed is not None else None
    cut = Crops.read(crops).load()
    labels = cut.column(label)
    encoder = None if model is None else _encoder(model, label, labels)
    table = contrast(
        chromatin_profiles(cut, spot_sigma_px=spot_sigma), label, control=control, unit=unit, seed=seed
    )
    attributions, variant, channels = {}, "", list(cut.channels)
    if encoder is not None:
        from image2reg.embedding.score_cam import VARIANT, explain_crops

        variant, channels = VARIANT, list(encoder.recipe.channels)
        rng = generator(seed, "explained crops")
        for name in encoder.classes:
            members = np.flatnonzero(labels == name)
            chosen = np.sort(rng.permutation(members)[:n])
            if len(chosen):
                attributions[name] = explain_crops(encoder, cut.rows(chosen), name, branch=branch, seed=seed)  # type: ignore[arg-type]
    files = {"bins": bins, "bed": bed, "model": None if model is None else model / "bundle.json"}
    record = run_record(seed=seed, inputs={name: path for name, path in files.items() if path is not None})
    digest = (
        cut.rows(labels != "").digest() if "" in labels else cut.digest()
    )  # as train encoder leaves them out
    record["inputs"]["crops"] = {"path": str(crops), "sha256": digest}
    trained = [] if encoder is None else [_trained_on(encoder.trained_on, digest)]
    page = explanation_page(
        f"{label}: {control} against the rest",
        attributions,
        channels,
        table,
        variant=variant,
        unit=unit,
        command=command_line("image2reg"),
        provenance={
            **({"trained on": trained[0]} if trained else {}),
            **{name: record[name] for name in ("started", "inputs", "versions")},
        },
        enriched=found,
    )
    checks = {name: a.summary() | {"failed": list(a.failures())} for name, a in attributions.items()}
    summary = {
        "score_cam": variant, "checks": checks, "trained_on": trained,
        "contrasts": table.to_dict("records"), "enrichment": found.as_dict() if found else None,
    }  # fmt: skip
    with atomic_directory(out, overwrite=overwrite) as partial:
        page.write(partial / "report.html")
        write_csv(table, partial / "contrasts.csv")
        write_run(partial, record)
        (partial / "checks.json").write_text(json.dumps(plain(checks), indent=1, allow_nan=False), "utf-8")
    lines = [f"{name}: {verdict(a)} {_checks(a.summary())}" for name, a in attributions.items()] + trained
    strong = table.reindex(table.effect.abs().sort_values(ascending=False).index).head(5)
    lines += [
        f"{r.feature}: {r.difference:+.3g} "
        + (f"[{r.low:.3g}, {r.high:.3g}]" if np.isfinite(r.low) else f"(no interval: one {unit} on a side)")
        for r in strong.itertuples()
    ]
    emit(
        summary | {"report": str(out / "report.html")},
        "\n".join([*lines, f"report {out / 'report.html'}"]),
        as_json=as_json,
    )


def _encoder(model: Path, label: str, labels: NDArray[Any]) -> TrainedEncoder:
    from image2reg.embedding.encoder import load_encoder
    from image2reg.errors import DataError

    encoder = load_encoder(model)
    if not set(encoder.classes) & set(labels):
        raise DataError(
            f"{model}: none of its classes {list(encoder.classes)[:8]} is a value of {label!r} "
            f"({sorted(set(labels))[:8]}). Give the --label it was trained on by classification, or no --model."
        )
    return encoder


def _checks(found: dict[str, float]) -> str:
    return (
        f"(deletion {found['deletion_auc']:.3f}, random order {found['random_deletion_auc']:.3f}; insertion "
        f"{found['insertion_auc']:.3f}, random order {found['random_insertion_auc']:.3f}; correlation with random "
        f"weights {found['random_weights_correlation']:.3f}; empty input {found['empty_probability']:.3f})"
    )


def _trained_on(before: str, now: str) -> str:
    """Say what is known about whether the explained nuclei were trained on."""
    if before == now:
        return "The encoder was trained on these very nuclei: maps show what it learned, not that it holds elsewhere."
    if before:
        return "The encoder was trained on other crops than these; whether single nuclei are in both is not known."
    return "Whether the encoder was trained on these nuclei is not known."
