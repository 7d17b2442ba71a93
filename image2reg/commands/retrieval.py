"""The command that calls mechanisms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from image2reg.commands.options import AsJson, Out, Overwrite, Seed

if TYPE_CHECKING:
    from image2reg.retrieval.calling import Retrieval

_PROFILES = typer.Argument(help="Profiles (.csv, .csv.gz, .parquet); several are put below each other.")
_ARM = typer.Option(
    "--arm", help="NAME=FILE: another kind of evidence on the same compounds (generated, expression); repeat."
)


def retrieve(
    profiles: Annotated[list[Path], _PROFILES],
    label: Annotated[str, typer.Option("--label", help="Column of mechanisms; several separated by |.")],
    *,
    out: Out,
    different: Annotated[
        str | None,
        typer.Option(
            "--different",
            help="Column of the compound, called from other compounds (default: Metadata_Compound where there is one; "
            "empty: every row is called from all others).",
        ),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Columns that make one treatment; replicates are merged.")
    ] = None,
    controls: Annotated[
        str,
        typer.Option(
            "--controls", help="Metadata_Column=value of the control wells: sphering, and what has no effect."
        ),
    ] = "",
    batch: Annotated[
        str, typer.Option("--batch", help="Column of batches; one that equals a mechanism is refused.")
    ] = "",
    arm: Annotated[list[str] | None, _ARM] = None,
    fusion: Annotated[
        str, typer.Option("--fusion", help="Arms fused late (scores) or early (features).")
    ] = "late",
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="neighbours, ntk, linear; repeat. All when not given."),
    ] = None,
    processing: Annotated[
        str,
        typer.Option(
            "--processing",
            help="default (arcsinh, sphering, hubs corrected), auto (settled on the doses of each compound, without "
            "labels; needs --controls, --by and --different) or none.",
        ),
    ] = "default",
    threshold: Annotated[float, typer.Option("--threshold", help="Least probability of a call.")] = 0.5,
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="Largest p-value of a call, and of a difference from the controls."),
    ] = 0.05,
    normalise_labels: Annotated[
        bool, typer.Option("--normalise-labels", help="Merge spellings (case, inhibitor and antagonist).")
    ] = False,
    common_features: Annotated[
        bool, typer.Option("--common-features", help="Use the features that all given tables share.")
    ] = False,
    select: Annotated[
        bool, typer.Option(help="Leave out features missing somewhere, constant, or copies (|r| above 0.9).")
    ] = False,
    crops: Annotated[
        Path | None,
        typer.Option("--crops", help="Crops of nuclei (.zarr) with the --different column, to show."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Rank mechanisms per compound with calibrated probability, p-value and evidence; no call where it is thin."""
    import json
    from dataclasses import replace

    from image2reg.atomic import atomic_directory, refuse_existing, refuse_inputs
    from image2reg.console import command_line, emit, plain
    from image2reg.errors import ConfigurationError
    from image2reg.nuclei.crops import Crops
    from image2reg.report.mechanisms import write_pages
    from image2reg.retrieval.calling import retrieve as call
    from image2reg.retrieval.notes import COMPOUND, compound_column
    from image2reg.retrieval.processing import FeatureProcessing, choose_processing
    from image2reg.retrieval.settings import METHODS, CallSettings
    from image2reg.tables import Profiles, controls_of, select_features, write_csv

    files = _arm_files(arm or [])
    refuse_inputs([out], [*profiles, *files.values(), *([crops] if crops else [])])
    refuse_existing(out, overwrite=overwrite)
    if processing not in ("default", "auto", "none"):
        raise ConfigurationError(f"--processing {processing!r}; allowed are default, auto and none.")
    if processing == "auto" and not (controls and by and different != ""):
        raise ConfigurationError("--processing auto needs --controls, --by and --different.")
    settings = CallSettings(
        methods=tuple(method or METHODS), fusion=fusion, threshold=threshold, alpha=alpha,
        processing=None if processing == "none" else FeatureProcessing(), normalise_labels=normalise_labels,
    )  # fmt: skip
    tables = [Profiles.read(path) for path in profiles]
    main = Profiles.concat(tables, common_features=common_features)
    arms = {"profiles": main} | {name: Profiles.read(path) for name, path in files.items()}
    notes = [
        f"{table.source}: {lost} of {len(table.features)} features are not in all tables and were left out."
        for table in tables
        if (lost := len(table.features) - len(main.features))
    ]
    if select:
        for name, table in arms.items():
            selection = select_features(table)
            arms[name] = selection.profiles
            notes.append(f"{name}: {selection}.")
        main = arms["profiles"]
    pictures = Crops.read(crops) if crops else None
    if processing == "auto":
        compound = compound_column(arms, different)[0] or COMPOUND
        steps, _ = choose_processing(
            main, controls=controls_of(main, controls), by=by or [], compound=compound, batch=batch
        )
        settings = replace(settings, processing=steps)
    found = call(
        arms if len(arms) > 1 else main, label=label, different=different, batch=batch, controls=controls,
        by=by or [], settings=settings, seed=seed,
    )  # fmt: skip
    found = replace(found, notes=(*notes, *found.notes))
    command = command_line("image2reg")
    with atomic_directory(out, overwrite=overwrite) as partial:
        for name in ("calls", "ranking", "evidence", "moved"):
            write_csv(getattr(found, name), partial / f"{name}.csv")
        facts = json.dumps(plain(_facts(found)), indent=1, allow_nan=False)
        (partial / "summary.json").write_text(facts, encoding="utf-8")
        title = f"Mechanisms of {', '.join(path.name for path in profiles)}"
        write_pages(found, partial, title=title, command=command, crops=pictures)
    n_called = int(found.calls["called"].sum())
    text = _said(found, n_called) + f"open {out / 'index.html'}"
    emit(
        {"out": str(out), "called": n_called, "queries": len(found.calls), **_facts(found)},
        text,
        as_json=as_json,
    )


def _said(found: Retrieval, n_called: int) -> str:
    s = found.summary
    held = "compounds" if found.compound else "rows (other rows of their compound were not)"
    return (
        f"{n_called} of {len(found.calls)} profiles called."
        + (f" {s['n_inactive']} of {s['n_tested']} do not differ from the controls." if s["n_tested"] else "")
        + "\n"
        f"held-out {held}: {s['accuracy']['value']:.3f} right [{s['accuracy']['low']:.3f}, "
        f"{s['accuracy']['high']:.3f}] of {s['n_possible']} (majority {s['majority']:.3f}), calibration error "
        f"{s['ece']:.3f} (by chance {s['ece_floor']:.3f})\n"
        + "".join(f"note: {note}\n" for note in found.notes)
    )


def _arm_files(given: list[str]) -> dict[str, Path]:
    from image2reg.errors import ConfigurationError

    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or name in files or name == "profiles":
            raise ConfigurationError(f"--arm {text!r}: write NAME=FILE, each name once (profiles is taken).")
        files[name] = Path(path)
    return files


def _facts(found: Retrieval) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "summary": found.summary,
        "compound": found.compound,
        "settings": asdict(found.settings),
        "notes": list(found.notes),
    }
