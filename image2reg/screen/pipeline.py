"""A screen in one go: fields to nuclei (by the engine, restartable), to wells, to quality, hits and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from image2reg.atomic import refuse_existing
from image2reg.engine import Outcome, Shard, planning, run_plan
from image2reg.errors import ConfigurationError, DataError
from image2reg.provenance import run_record, write_run
from image2reg.screen.curves import fit_curves, one_text_per_dose
from image2reg.screen.exhibits import make_exhibits
from image2reg.screen.failed_wells import with_failed_wells
from image2reg.screen.fields import measure_field, without_nuclei
from image2reg.screen.gene_level import gene_scores, without_controls
from image2reg.screen.hits import call_hits, called_wells, controls_apart, out_of_reach
from image2reg.screen.look_ahead import groups, refuse_no_genes, without_name
from image2reg.screen.pathways import over_representation, read_gmt
from image2reg.screen.planning import Asked, plan_screen, plan_shard
from image2reg.screen.plates import CONTROL, PLATE, control_columns
from image2reg.screen.predicted import FIELD_PREDICTED_BY, note_origins, with_origin
from image2reg.screen.quality import plate_quality
from image2reg.screen.queries import select_rows
from image2reg.screen.result import HITS, ScreenResult
from image2reg.screen.rules import RULES, call_by_rule
from image2reg.screen.settings import ScreenSettings
from image2reg.screen.times import note_times
from image2reg.screen.usual_size import measured_on_others
from image2reg.screen.wells import (
    COUNT,
    SCORES,
    one_row_per_well,
    pick_readouts,
    score_wells,
    well_table,
    without_scale,
)
from image2reg.tables.fields import IDENTITY
from image2reg.tables.manifest import Manifest
from image2reg.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from image2reg.screen.planned_fields import PlannedFields

__all__ = ["run_screen"]


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
    record = run_record(configuration=settings, seed=settings.call.seed)
    asked = Asked(
        Path(data), control, positive, settings, channels, pattern, layout, sets is not None, device,
        record["versions"].get("virtualstain", ""),
    )  # fmt: skip
    measure = partial(
        run_plan,
        directory=out,
        engine=engine,
        n_workers=n_workers,
        shard=shard,
        overwrite=overwrite,
        progress=progress,
    )
    if shard is not None:
        plan, notes = plan_shard(asked, out, shard, overwrite=overwrite)
        work = partial(measure_field, root=asked.root(), settings=plan.settings, device=device)
        return replace(measure(plan, work), notes=notes)
    made_from = asked.fingerprint()  # before the data are listed: what comes in between is another plan's
    opened = asked.open()
    if not isinstance(opened, Manifest):
        wells = one_row_per_well(opened.frame, source=opened.source)
        result = _judge(wells, opened.frame, control, positive, settings, sets, "")
        if "Metadata_Object" in opened.frame and COUNT in result.readouts:
            result.notes.append(
                f"{COUNT} is the number of rows of each well: a table of nuclei knows no fields that failed or should "
                "be kept out, and no wells without nuclei; the wells.csv of a screen does"
            )
    else:
        fields = asked.fields(opened)
        with planning(out):
            plan = plan_screen(asked, fields, out, made_from)
        begun = time.monotonic()
        work = partial(measure_field, root=fields.root, settings=plan.settings, device=device)
        outcome = measure(plan, work)
        seconds = time.monotonic() - begun
        fields = with_origin(fields, outcome.results)
        result = _from_images(outcome, fields, control, positive, settings, sets)
        result.notes, result.usual_px = [*opened.notes, *result.notes], plan.settings["usual_px"]
        if result.usual_px is not None and (other := measured_on_others(fields, out, control)):
            result.notes.append(other)
        result.exhibits = make_exhibits(outcome, fields, result.hits, result.wells, settings.call)
        every = range(len(fields))
        outcome.results.write("nuclei", out / "nuclei.parquet", every, said=fields.said, overwrite=True)
        result.seconds = seconds if outcome.n_run else 0.0
    result.write(out)
    write_run(out, record)
    return result


def _from_images(
    outcome: Outcome,
    planned: PlannedFields,
    control: str,
    positive: str | None,
    settings: ScreenSettings,
    sets: dict[str, frozenset[str]] | None,
) -> ScreenResult:
    import pandas as pd

    failures = [(f.unit, f.kind, f.error) for f in outcome.results.failed.values()]
    if len(failures) == len(planned):
        raise DataError(f"all {len(planned)} fields failed; the first: {failures[0][2]}")
    fields = _filled(outcome.results.read("fields", range(len(planned)), said=planned.said))
    fields = without_nuclei(fields, select_rows(fields, control))
    fields = fields.drop(columns=FIELD_PREDICTED_BY, errors="ignore")  # told by `planned` now
    tables = []
    # Plate by plate: a plate's nuclei fit in memory, those of a genome do not.
    plates = dict(iter(fields.groupby(PLATE, sort=False)))
    number, names = planned.metadata[PLATE].factorize()
    place = planned.said.select([name for name in IDENTITY if name in planned.metadata])
    of_plate = np.split(np.arange(len(planned)), np.flatnonzero(np.diff(number)) + 1)
    for plate, positions in zip(names, of_plate, strict=True):
        if plate in plates:
            own = outcome.results.read("nuclei", positions.tolist(), said=place)
            tables.append(
                well_table(
                    own, plates[plate], keep_out=settings.call.keep_out, min_nuclei=settings.call.min_nuclei
                )
            )
    wells = _filled(with_failed_wells(pd.concat(tables, ignore_index=True), planned.metadata))
    result = _judge(wells, fields, control, positive, settings, sets, planned.nuclei)
    result.fields, result.failures = fields, failures
    lost = [plate for plate in names if plate not in plates]
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
    rows: pd.DataFrame,
    control: str,
    positive: str | None,
    settings: ScreenSettings,
    sets: dict[str, frozenset[str]] | None,
    nuclei: str,
) -> ScreenResult:
    """Scores, quality, hits and curves of wells, which were made of `rows`."""
    call = settings.call
    wells = wells.assign(**{CONTROL: control_columns(wells, control, positive)})
    readouts = pick_readouts(wells, call.readouts, nuclei)
    group_by, dose = groups(wells, call.group_by, call.dose)
    if dose:
        wells = wells.assign(**{dose: one_text_per_dose(wells, dose)})
    genes_known = call.gene in wells and bool(wells[call.gene].ne("").any())
    if sets is not None:
        refuse_no_genes(wells, call.gene)
    wells = score_wells(wells, readouts)
    scores = [SCORES[call.normalise] + readout for readout in readouts]
    by = list(dict.fromkeys([*group_by, call.gene])) if genes_known else group_by
    hits = call_hits(
        wells, scores, by, null=call.null, fdr=call.fdr, min_effect=call.min_score,
        min_replicates=call.min_replicates, seed=call.seed,
    )  # fmt: skip
    wells = called_wells(
        wells, hits, by, dict(zip(scores, readouts, strict=True)), min_score=call.min_score, null=call.null
    )
    if call.rule:
        wells["Metadata_Rule"] = call_by_rule(wells, call.rule)
    curves = fit_curves(wells, readouts, group_by, dose) if dose else []
    genes = None
    if genes_known:
        reagents = without_controls(hits, wells, call.gene)
        genes = gene_scores(reagents, call.gene, fdr=call.fdr, min_effect=call.min_score)
    pathways = None
    if sets is not None and genes is not None:
        # A gene that could not become a hit is no background: its sets would look poor in hits, the others rich. Nor is
        # one of positive controls alone: it was chosen because it acts.
        tested = set(genes.loc[genes["q"].notna(), call.gene]) & set(
            wells.loc[wells[CONTROL].eq(""), call.gene]
        )
        if tested:
            pathways = over_representation(set(genes.loc[genes["hit"], call.gene]) & tested, tested, sets)
    result = ScreenResult(wells, plate_quality(wells, readouts), hits, readouts, curves, genes, pathways)
    result.notes += without_scale(wells, readouts)
    if bare := without_name(wells, [name for name in group_by if name != dose]):
        result.notes.append(bare)
    result.notes += [*note_times(rows, wells, group_by), *note_origins(rows, wells)]
    if sets is not None and pathways is None:
        result.notes.append("no gene was tested (each has too few wells), so pathways were not")
    if beyond := out_of_reach(hits, call.fdr):
        result.notes.append(f"nothing could be called: {beyond}")
    if call.null == "controls" and (place := controls_apart(wells, hits)):
        result.notes.append(place)
    return result
