"""The command that links profiles to genes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from image2reg.commands.options import AsJson, Device, Out, Overwrite, Seed


def link(
    *,
    source: Annotated[Path, typer.Option(help="Profiles; rows without a gene are queries.")],
    target: Annotated[Path, typer.Option(help="Gene embedding that image2reg genes wrote.")],
    out: Out,
    gene: Annotated[
        str, typer.Option(help="Column of the source that names the perturbed gene.")
    ] = "Metadata_Gene",
    kernel: Annotated[str, typer.Option(help="ntk, linear or laplace.")] = "ntk",
    depth: Annotated[int, typer.Option(help="Hidden layers of the ntk.")] = 1,
    ridge: Annotated[float, typer.Option(help="Ridge added to the kernel's diagonal.")] = 1.0,
    nested: Annotated[
        bool, typer.Option("--nested", help="Choose kernel, depth and ridge inside training genes.")
    ] = False,
    candidates: Annotated[Path | None, typer.Option(help="Genes to rank, one a line; default: all.")] = None,
    exclude_training: Annotated[
        bool, typer.Option("--exclude-training", help="Take the source's other genes off the candidates.")
    ] = False,
    by_row: Annotated[
        bool, typer.Option("--by-row", help="Fit on single rows instead of gene means.")
    ] = False,
    replicate: Annotated[
        str | None, typer.Option(help="Column replicates share: whiten by what differs among them, first.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Column whose median is taken off before whitening.")
    ] = None,
    select: Annotated[
        bool, typer.Option(help="Leave out features missing somewhere, constant, or copies (|r| above 0.9).")
    ] = False,
    permutations: Annotated[int, typer.Option(help="Shuffles of gene labels behind p.", min=0)] = 100,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Rank genes for profiles, and score it on genes held out, beside every baseline."""
    from image2reg.atomic import atomic_directory, refuse_existing, refuse_inputs
    from image2reg.console import command_line, emit, progress_bar
    from image2reg.errors import ConfigurationError
    from image2reg.genes.building import read_targets
    from image2reg.linking.kernels import kernel_device
    from image2reg.linking.ranking import link as link_profiles
    from image2reg.linking.sources import replicate_whitened
    from image2reg.provenance import run_record, write_run
    from image2reg.report.linking import linking_report
    from image2reg.tables import Profiles
    from image2reg.tables.selection import select_features

    refuse_inputs([out], [source, target, *([candidates] if candidates else [])])
    refuse_existing(out, overwrite=overwrite)
    if batch is not None and replicate is None:
        raise ConfigurationError(
            "--batch is taken off before whitening; name with --replicate what replicates share."
        )
    profiles, selected = Profiles.read(source), []
    if select:
        n_before, profiles = len(profiles.features), select_features(profiles).profiles
        selected = [f"{n_before - len(profiles.features)} features left out, {len(profiles.features)} kept"]
    if replicate is not None:
        profiles = replicate_whitened(profiles, replicate, batch=batch)
    with progress_bar("shuffling", silent=as_json, unit="shuffle") as progress:
        result = link_profiles(
            profiles, Profiles.read(target), gene=gene, kernel=kernel, depth=depth, ridge=ridge, nested=nested,
            candidates=None if candidates is None else read_targets(candidates), exclude_training=exclude_training,
            by_row=by_row, n_permutations=permutations, seed=seed, device=str(kernel_device(device)),
            progress=progress,
        )  # fmt: skip
    inputs = {"source": source, "target": target} | ({"candidates": candidates} if candidates else {})
    record = run_record(seed=seed, inputs=inputs)
    with atomic_directory(out, overwrite=overwrite) as made:
        for name in ("table", "rankings", "queries", "curves"):
            if len(frame := getattr(result, name)):
                frame.to_parquet(made / f"{name}.parquet", index=False)
        linking_report(
            made / "report.html", result, title=f"Genes linked to {source.name}",
            command=command_line("image2reg"),
            provenance={"started": record["started"], "inputs": record["inputs"], "versions": record["versions"]},
        )  # fmt: skip
        write_run(made, record)
    lines = [
        f"{r['origin']}: {r['method']}: AUC {r['auc']:.3f} [{r['low']:.3f}, {r['high']:.3f}]"
        + (f", p {r['p']:.3f}" if r["p"] == r["p"] else "")
        for r in result.table.to_dict("records")
    ]
    n_queries = int((result.queries["rank"] == 1).sum()) if len(result.queries) else 0
    emit(
        {"written": str(out), "table": result.table.to_dict("records"), "absent": list(result.absent),
         "notes": [*selected, *result.notes], "n_queries": n_queries},
        "\n".join([*lines, *selected, *result.notes, str(out / "report.html")]),
        as_json=as_json,
    )  # fmt: skip
