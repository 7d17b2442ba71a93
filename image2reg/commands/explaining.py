"""The command that says what in the nuclei told the classes apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from image2reg.commands.options import AsJson, Out, Overwrite, Seed


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
    from image2reg.console import emit, plain
    from image2reg.embedding.contrasts import chromatin_profiles, contrast
    from image2reg.embedding.enrichment import enrichment, read_bed, read_bins
    from image2reg.errors import ConfigurationError, DataError
    from image2reg.nuclei.crops import Crops
    from image2reg.randomness import generator
    from image2reg.report.explanation import explanation_page
    from image2reg.tables import write_csv

    if (bins is None) != (bed is None):
        raise ConfigurationError(
            "--bins and --bed go together: bins that changed, and intervals to find them in."
        )
    refuse_inputs([out], [path for path in (crops, model, bins, bed) if path is not None])
    refuse_existing(out, overwrite=overwrite)
    found = None
    if bins is not None and bed is not None:
        found = enrichment(read_bins(bins), read_bed(bed))
    cut = Crops.read(crops).load()
    labels = cut.column(label)
    encoder = None
    if model is not None:
        from image2reg.embedding.encoder import load_encoder

        encoder = load_encoder(model)
        if not set(encoder.classes) & set(labels):
            raise DataError(
                f"{model}: none of its classes {list(encoder.classes)[:8]} is a value of {label!r} "
                f"({sorted(set(labels))[:8]}). Give the --label it was trained on by classification, or no --model."
            )
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
    page = explanation_page(
        f"{label}: {control} against the rest",
        attributions,
        channels,
        table,
        variant=variant,
        unit=unit,
        enriched=found,
    )
    summary = {
        "score_cam": variant, "checks": {name: a.summary() for name, a in attributions.items()},
        "contrasts": table.to_dict("records"), "enrichment": found.as_dict() if found else None,
    }  # fmt: skip
    with atomic_directory(out, overwrite=overwrite) as partial:
        page.write(partial / "report.html")
        write_csv(table, partial / "contrasts.csv")
        checks = json.dumps(plain(summary["checks"]), indent=1, allow_nan=False)
        (partial / "checks.json").write_text(checks, encoding="utf-8")
    lines = [
        f"{name}: {', '.join(f'{k} {v:.3f}' for k, v in a.summary().items())}"
        for name, a in attributions.items()
    ]
    strong = table.reindex(table.effect.abs().sort_values(ascending=False).index).head(5)
    lines += [f"{r.feature}: {r.difference:+.3g} [{r.low:.3g}, {r.high:.3g}]" for r in strong.itertuples()]
    emit(
        summary | {"report": str(out / "report.html")},
        "\n".join([*lines, f"report {out / 'report.html'}"]),
        as_json=as_json,
    )
