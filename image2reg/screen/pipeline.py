"""A screen in one go: fields to nuclei (by the engine, restartable), to wells, to quality, hits and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from image2reg.atomic import refuse_existing
from image2reg.engine import Outcome, Shard, make_plan, run_plan
from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.segmenters.catalogue import load_segmenter, segmenter_sha256
from image2reg.provenance import run_record, write_run
from image2reg.screen.curves import dose_numbers, fit_curves
from image2reg.screen.exhibits import make_exhibits
from image2reg.screen.failed_wells import with_failed_wells
from image2reg.screen.fields import feature_names, measure_field, without_nuclei
from image2reg.screen.gene_level import gene_scores
from image2reg.screen.hits import call_hits, called_wells, out_of_reach
from image2reg.screen.pathways import over_representation, read_gmt
from image2reg.screen.plates import CONTROL, PLATE, WELL, control_columns
from image2reg.screen.quality import plate_quality
from image2reg.screen.queries import select_rows
from image2reg.screen.result import HITS, ScreenResult
from image2reg.screen.rules import RULES, call_by_rule
from image2reg.screen.settings import ScreenSettings
from image2reg.screen.sources import nuclear_channel, open_screen, plan_units
from image2reg.screen.usual_size import usual_diameter
from image2reg.screen.wells import OF_A_WELL, SCORES, one_row_per_well, pick_readouts, score_wells, well_table
from image2reg.tables.manifest import Manifest
from image2reg.wording import counted

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["run_screen"]

DOSE, PERTURBATION = "Metadata_Dose_uM", "Metadata_Perturbation"


def run_screen(
    data: Path | str,
    out: Path | str,
    *,
    control: str,
    positive: str | None = None,
    settings: ScreenSettings | None = None,
    channels: Sequence[str] = (),
    pattern: str | None = None,
    layout: Path | None = None,
    gmt: Path | None = None,
    engine: Literal["local", "dask"] = "local",
    n_workers: int = 1,
    shard: Shard | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ScreenResult | Outcome:
    """Run a screen, or go on with one.

    Parameters
    ----------
    data : Path
        Manifest, folder of images, or profiles (`image2reg.screen.sources.open_screen`).
    out : Path
        Folder for tables; what is measured already is kept there, and a second call does only what is missing.
    control, positive : str
        Queries for the negative and positive control wells.
    settings : ScreenSettings
    channels, pattern, layout
        See `open_screen`.
    gmt : Path, optional
        Gene sets for over-representation; needs the column `settings.call.gene`.
    engine, n_workers, shard
        See `image2reg.engine.run_plan`. A shard measures its part and stops; a call without one finishes.
    device : str
    overwrite : bool
        Replace finished tables; measure what is new and images that changed since, and keep what is measured.
    progress : callable
        Called with (finished, total) fields.

    Returns
    -------
    ScreenResult, or Outcome for a shard

    Raises
    ------
    DataError
        A plate without controls, a well twice, all fields failed, or see the parts.
    ConfigurationError
        A wrong query or option.
    """
    out, settings = Path(out), settings or ScreenSettings()
    if settings.call.rule and settings.call.rule not in RULES:
        raise ConfigurationError(
            f"call.rule {settings.call.rule!r} is not known (--set call.rule=NAME); there is {sorted(RULES)}."
        )
    sets = None if gmt is None else read_gmt(gmt)
    refuse_existing(out / HITS, overwrite=overwrite)
    opened = open_screen(Path(data), channels=channels, pattern=pattern, layout=layout)
    record = run_record(configuration=settings, seed=settings.call.seed)
    if not isinstance(opened, Manifest):
        if shard is not None:
            raise ConfigurationError(
                "--shard divides the measuring of images; these profiles are measured already."
            )
        result = _judge(
            one_row_per_well(opened.frame, source=opened.source), control, positive, settings, sets, ""
        )
    else:
        nuclei = nuclear_channel(opened, settings.measure.nuclei)
        units = plan_units(opened, nuclei)
        _look_ahead(units, control, positive, settings, with_sets=sets is not None)
        if settings.measure.tta:
            load_segmenter(settings.measure.model, device=device, tta=True)  # refused now, not field by field
        measured_by = {
            **settings.measure.model_dump(mode="json"),
            "nuclei": nuclei,
            "model_sha256": segmenter_sha256(settings.measure.model),
            "version": record["versions"].get("virtualstain", ""),
        }
        usual = usual_diameter(units, opened.root, out, measured_by, control, device=device)
        measured_by["usual_px"] = usual
        plan = make_plan("image2reg screen: nuclei of fields", units, measured_by)
        begun = time.monotonic()
        outcome = run_plan(
            plan, partial(measure_field, root=opened.root, settings=measured_by, device=device), out, engine=engine,
            n_workers=n_workers, shard=shard, overwrite=overwrite, progress=progress,
        )  # fmt: skip
        if shard is not None:
            return outcome
        seconds = time.monotonic() - begun
        result = _from_images(outcome, units, control, positive, settings, sets, nuclei)
        result.notes, result.usual_px = [*opened.notes, *result.notes], usual
        result.exhibits = make_exhibits(outcome, units, result.hits, result.wells, settings.call, opened.root)
        outcome.results.write("nuclei", out / "nuclei.parquet", range(len(units)), overwrite=True)
        result.seconds = seconds if outcome.n_run else 0.0
    result.write(out)
    write_run(out, record)
    return result


def _look_ahead(
    units: list[dict[str, Any]],
    control: str,
    positive: str | None,
    settings: ScreenSettings,
    *,
    with_sets: bool,
) -> None:
    """Refuse wrong queries and readouts, plates without controls, wells of two contents before any image is read."""
    import pandas as pd

    call = settings.call
    if call.readouts:
        named = [*OF_A_WELL, *feature_names(units, settings.measure)]
        pick_readouts(pd.DataFrame(columns=named), call.readouts, "")
    frame = pd.DataFrame([unit["metadata"] for unit in units]).fillna("")
    control_columns(frame, control, positive)
    group_by, dose = _groups(frame, call.group_by, call.dose)
    if with_sets:
        _refuse_no_genes(frame, call.gene)
    used = dict.fromkeys([PERTURBATION, DOSE, CONTROL, *group_by, dose, call.gene])
    contents = [name for name in used if name in frame]
    wells = frame.groupby([PLATE, WELL], sort=False)[contents]
    several = wells.nunique().gt(1)
    if several.to_numpy().any():
        place, row = next((place, row) for place, row in several.iterrows() if row.any())
        seen = wells.get_group(place)[row.idxmax()].unique().tolist()
        raise DataError(
            f"well {'/'.join(map(str, place))} has fields with different {row.idxmax()}: {seen}. A well holds one "
            "thing: correct the manifest, or give the second plate a name of its own."
        )


def _from_images(
    outcome: Outcome,
    units: list[dict[str, Any]],
    control: str,
    positive: str | None,
    settings: ScreenSettings,
    sets: dict[str, frozenset[str]] | None,
    nuclei: str,
) -> ScreenResult:
    import pandas as pd

    failures = [(f.unit, f.kind, f.error) for f in outcome.results.failed.values()]
    if len(failures) == len(units):
        raise DataError(f"all {len(units)} fields failed; the first: {failures[0][2]}")
    fields = _filled(outcome.results.read("fields", range(len(units))))
    fields = without_nuclei(fields, select_rows(fields, control))
    tables = []
    # Plate by plate: a plate's nuclei fit in memory, those of a genome do not.
    plates = dict(iter(fields.groupby(PLATE, sort=False)))
    for plate, group in groupby(enumerate(units), key=lambda item: item[1]["metadata"][PLATE]):
        if plate in plates:
            own = outcome.results.read("nuclei", [position for position, _ in group])
            tables.append(
                well_table(
                    own, plates[plate], keep_out=settings.call.keep_out, min_nuclei=settings.call.min_nuclei
                )
            )
    wells = _filled(with_failed_wells(pd.concat(tables, ignore_index=True), units))
    result = _judge(wells, control, positive, settings, sets, nuclei)
    result.fields, result.failures = fields, failures
    lost = [str(plate) for plate in dict.fromkeys(u["metadata"][PLATE] for u in units) if plate not in plates]
    if lost:
        result.notes.append(
            f"{counted(len(lost), 'plate')} of which every field failed, in no table: {lost[:5]}"
        )
    result.n_nuclei, result.n_kept_out = int(fields["Field_Count"].sum()), int(wells["Well_KeptOut"].sum())
    return result


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    """Give metadata that are not known as empty text."""
    return table.fillna({name: "" for name in table if name.startswith("Metadata_")})


def _judge(
    wells: pd.DataFrame,
    control: str,
    positive: str | None,
    settings: ScreenSettings,
    sets: dict[str, frozenset[str]] | None,
    nuclei: str,
) -> ScreenResult:
    """Scores, quality, hits and curves of wells."""
    call = settings.call
    wells = wells.assign(**{CONTROL: control_columns(wells, control, positive)})
    readouts = pick_readouts(wells, call.readouts, nuclei)
    group_by, dose = _groups(wells, call.group_by, call.dose)
    genes_known = call.gene in wells and bool(wells[call.gene].ne("").any())
    if sets is not None:
        _refuse_no_genes(wells, call.gene)
    wells = score_wells(wells, readouts)
    scores = [SCORES[call.normalise] + readout for readout in readouts]
    by = list(dict.fromkeys([*group_by, call.gene])) if genes_known else group_by
    hits = call_hits(
        wells, scores, by, null=call.null, fdr=call.fdr, min_effect=call.min_score,
        min_replicates=call.min_replicates, seed=call.seed,
    )  # fmt: skip
    wells = called_wells(wells, hits, by, dict(zip(scores, readouts, strict=True)), min_score=call.min_score)
    if call.rule:
        wells["Metadata_Rule"] = call_by_rule(wells, call.rule)
    curves = fit_curves(wells, readouts, group_by, dose) if dose else []
    genes = None
    if genes_known:
        genes = gene_scores(hits, call.gene, fdr=call.fdr, min_effect=call.min_score)
    pathways = None
    if sets is not None and genes is not None:
        pathways = over_representation(set(genes.loc[genes["hit"], call.gene]), set(genes[call.gene]), sets)
    result = ScreenResult(wells, plate_quality(wells, readouts), hits, readouts, curves, genes, pathways)
    if beyond := out_of_reach(hits, call.fdr):
        result.notes.append(f"nothing could be called: {beyond}")
    return result


def _refuse_no_genes(wells: pd.DataFrame, gene: str) -> None:
    if gene not in wells or not wells[gene].ne("").any():
        raise DataError(
            f"--gmt: no column {gene!r} with genes in the data; name it with --set call.gene=COLUMN."
        )


def _groups(wells: pd.DataFrame, asked: Sequence[str], dose: str) -> tuple[list[str], str]:
    """Columns that make a perturbation, and the dose column ("" for none)."""
    filled = {name for name in wells if name.startswith("Metadata_") and wells[name].ne("").any()}
    dose = dose or (DOSE if DOSE in filled else "")
    group_by = list(asked) or list(dict.fromkeys(name for name in (PERTURBATION, dose) if name in filled))
    missing = [name for name in (*group_by, *([dose] if dose else ())) if name not in wells]
    if missing or not group_by:
        what = f"no column {missing[0]!r}" if missing else f"column {PERTURBATION} is empty"
        raise DataError(
            f"{what}: it is not known which wells are replicates. Fill it in the manifest, give a --layout, or name "
            f"columns with --group; there are {sorted(filled)}."
        )
    if dose:
        dose_numbers(wells, dose)  # text in it is better said now than after the hits
    return group_by, dose
