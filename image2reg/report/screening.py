"""Report of a screen: can the plates be trusted, what was called, how dose changes it, and what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from image2reg.report.page import Html, Page, definition_list, fill, join
from image2reg.report.plots import colour_key, control_strip, crop_rows, dose_plot, plate_map
from image2reg.report.tables import frame_table
from image2reg.screen.plates import CONTROL, PLATE, WELL, parse_well, plate_grid, plate_shape
from image2reg.screen.predicted import PREDICTED_BY
from image2reg.screen.wells import SCORES
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from image2reg.screen.result import ScreenResult
    from image2reg.screen.settings import CallSettings

__all__ = ["screen_report"]

_MAX_PLATES, _MAX_ROWS, _MAX_CURVES = 6, 40, 24
_FULL_SCORE = 10.0
_GOOD_Z_PRIME = 0.5
_MEANING = {
    "robust-z": "Robust z: 0 is the median of the plate's negative controls, 1 their spread (1.4826 MAD)",
    "b-score": "B-score: 0 is what row and column of the plate let expect, 1 the spread of its samples (1.4826 MAD)",
}


def screen_report(
    path: Path | str,
    result: ScreenResult,
    settings: CallSettings,
    *,
    title: str,
    command: str,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page that opens offline.

    Parameters
    ----------
    path : Path
    result : ScreenResult
    settings : CallSettings
    title, command : str
        `command` is printed as what remakes the page.
    provenance : mapping
        ``run.json``.
    overwrite : bool

    Raises
    ------
    DataError
        The file exists and `overwrite` is False.
    """
    page = Page(title, _subtitle(result))
    page.section("In short", _cards(result), _flags(result, settings))
    page.section("Plates", *_plates(result, settings))
    page.section("Controls and quality", *_controls(result))
    if result.curves:
        page.section("Dose and response", *_curves(result))
    page.section("Hits", *_hits(result, settings))
    for name, table in (("Genes", result.genes), ("Pathways", result.pathways)):
        if table is not None:
            note = f"The first {min(len(table), _MAX_ROWS)} of {len(table)}."
            if name == "Genes":
                note += " A gene of the library is judged by its reagents there, not by those of positive controls."
            page.section(name, frame_table(table.head(_MAX_ROWS), note))
    if result.exhibits:
        page.section("What hits look like", *_exhibits(result))
    said = {"settings": settings.model_dump(mode="json"), **dict(provenance or {})}
    page.section("How this was made", fill("<pre>{command}</pre>", command=command), definition_list(said))
    return page.write(path, overwrite=overwrite)


def _subtitle(result: ScreenResult) -> str:
    said = [counted(result.wells[PLATE].nunique(), "plate"), counted(len(result.wells), "well")]
    if result.fields is not None:
        said += [counted(len(result.fields), "field"), counted(result.n_nuclei, "nucleus", "nuclei")]
    if result.usual_px is not None:
        said.append(f"those of controls {result.usual_px:.3g} px across")
    return ", ".join(said)


def _cards(result: ScreenResult) -> Html:
    quality = result.quality
    best = quality.loc[quality["z_prime"].idxmax()] if quality["z_prime"].notna().any() else None
    hits = result.hits[result.hits["hit"]]
    called = hits.loc[~hits["is_control"], "name"].nunique()
    tested = result.hits.loc[~result.hits["is_control"], "name"].nunique()
    wells, fields = result.wells, result.fields
    control = wells[CONTROL] == "negative"
    hit_wells = counted(int(wells.loc[~control, "Hit"].sum()), "well")
    n_positive = wells.loc[wells[CONTROL] == "positive", "Metadata_Group"].nunique()
    among = f" ({counted(n_positive, 'positive control')} among them)" if n_positive else ""
    cards = [
        ("Hits", f"{called}", f"of {counted(tested, 'perturbation')}{among}, in {hit_wells}"),
        (
            "Negative controls called", f"{int(wells.loc[control, 'Hit'].sum())}",
            f"of {counted(int(control.sum()), 'well')}; they are tested like all others",
        ),
        (
            "Best Z\N{PRIME}", "\N{EN DASH}" if best is None else f"{best['z_prime']:.2f}",
            "no positive controls were named" if best is None else f"{best['readout']} (plate {best['plate']})",
        ),
        (
            "Fields kept out", f"{result.n_kept_out}",
            "by their flags" if fields is None else f"of {len(fields)}; {len(result.failures)} more failed",
        ),
    ]  # fmt: skip
    return fill(
        '<div class="cards">{cards}</div>',
        cards=join(
            fill('<div class="card"><h3>{a}</h3><div class="value">{b}</div><p>{c}</p></div>', a=a, b=b, c=c)
            for a, b, c in cards
        ),
    )


def _flags(result: ScreenResult, settings: CallSettings) -> Html:
    found: list[tuple[str, str]] = []
    if result.failures:
        unit, _, error = result.failures[0]
        n_failed = counted(len(result.failures), "field")
        found.append(("error", f"{n_failed} failed (failures.csv), the first {unit}: {error}"))
    found += [("warning", note) for note in result.notes]
    if result.fields is not None:
        flags = result.fields["Metadata_Flags"].str.split(";").explode()
        for flag, n in flags[flags != ""].value_counts().items():
            found.append(("warning", f"{counted(n, 'field')} {flag}"))
    unseen = result.wells["Nuclei_Count"].isna() if "Nuclei_Count" in result.wells else False
    if np.any(unseen):
        n_unseen = counted(int(np.sum(unseen)), "well")
        found.append(("warning", f"{n_unseen} without a field that can be judged: {_named(result, unseen)}"))
    empty = result.wells[[r for r in result.readouts if r != "Nuclei_Count"]].isna().all(axis=1) & ~unseen
    if len(result.readouts) > 1 and empty.any():
        n_empty = counted(int(empty.sum()), "well")
        named = _named(result, empty)
        found.append(("warning", f"{n_empty} with too few nuclei for anything but their count: {named}"))
    best = result.quality.groupby("plate", sort=False)["z_prime"].max()
    poor = best[best < _GOOD_Z_PRIME]
    if len(poor):
        n_poor = f"{counted(len(poor), 'plate')} of {len(best)}"
        named = ", ".join(f"{plate} (best {value:.2f})" for plate, value in poor.head(5).items())
        found.append(
            (
                "warning",
                f"no readout has Z\N{PRIME} \N{GREATER-THAN OR EQUAL TO} 0.5 on {n_poor}: {named}",
            )
        )
    wells_of = result.hits[~result.hits["is_control"]].groupby("name")["n_replicates"].max()
    if n_few := int((wells_of < settings.min_replicates).sum()):
        wells = f"in fewer than {counted(settings.min_replicates, 'well')} with a score"
        found.append(("info", f"{counted(n_few, 'perturbation')} {wells}: ranked, never hits"))
    items = [fill('<li class="{k}"><b>{k}</b>{t}</li>', k=kind, t=text) for kind, text in found]
    return fill('<ul class="flags">{items}</ul>', items=join(items)) if items else Html("")


def _named(result: ScreenResult, chosen: Any) -> str:
    """Name the first wells, with their plate where there are several."""
    wells = result.wells.loc[chosen, [PLATE, WELL]].head(5)
    several = result.wells[PLATE].nunique() > 1
    return ", ".join(f"{plate}/{well}" if several else well for plate, well in wells.to_numpy().tolist())


def _plates(result: ScreenResult, settings: CallSettings) -> list[Html]:
    plates = list(result.wells[PLATE].unique())
    shape = plate_shape(list(result.wells[WELL]))
    maps = []
    for plate in plates[:_MAX_PLATES]:
        for readout in result.readouts:
            score = SCORES[settings.normalise] + readout
            rows = result.wells[result.wells[PLATE] == plate]
            kinds = np.full(shape, None, dtype=object)
            for well, kind in zip(rows[WELL], rows[CONTROL], strict=True):
                kinds[parse_well(well)] = kind
            grid = plate_grid(list(rows[WELL]), rows[score].to_numpy(np.float64), shape=shape)
            predicted = PREDICTED_BY in rows and rows[PREDICTED_BY].ne("").any()
            title = f"{readout}, plate {plate}{' (predicted)' if predicted else ''}"
            maps.append(plate_map(grid, kinds, _FULL_SCORE, title))
    parts = [fill('<div class="plots">{maps}</div>', maps=join(maps))]
    if len(plates) > _MAX_PLATES:
        parts.append(
            fill(
                '<p class="note">The first {n} of {all} plates; all are in wells.csv.</p>',
                n=_MAX_PLATES,
                all=len(plates),
            )
        )
    return [*parts, colour_key(_FULL_SCORE, _MEANING[settings.normalise])]


def _controls(result: ScreenResult) -> list[Html]:
    strips = []
    for readout in result.readouts:
        values = result.wells[readout].to_numpy(np.float64)
        kinds = result.wells[CONTROL].to_numpy(object)
        if np.isfinite(values).any():
            by_kind = {kind: values[kinds == kind] for kind in ("negative", "", "positive")}
            strips.append(control_strip({k: v for k, v in by_kind.items() if len(v)}, readout))
    columns = [
        "plate",
        "readout",
        "n_negative",
        "n_positive",
        "z_prime",
        "ssmd",
        "grade",
        "control_cv",
        "edge",
        "gradient",
    ]
    columns[1:1] = [name for name in ("origin",) if name in result.quality]
    table = result.quality[columns].head(_MAX_ROWS)
    table = table.rename(
        columns={"n_negative": "neg.", "n_positive": "pos.", "z_prime": "Z\N{PRIME}", "control_cv": "CV"}
    )
    note = (
        "Z\N{PRIME} 0.5 and above separates the controls well; SSMD is the small-sample estimator, graded excellent "
        "from 3, good from 2, inferior from 1; edge and gradient are position effects in units of the wells' spread."
    )
    return [fill('<div class="plots">{strips}</div>', strips=join(strips)), frame_table(table, note)]


def _curves(result: ScreenResult) -> list[Html]:
    supported = [c for c in result.curves if not c.fit.reason]
    plots = []
    for curve in supported[:_MAX_CURVES]:
        fit, present = curve.fit, curve.doses[curve.doses > 0]
        grid = np.geomspace(present.min(), present.max(), 80)
        interval = f"{fit.ec50:.3g} ({fit.low:.3g} to {fit.high:.3g})"
        title = f"{curve.name}: {curve.readout}, EC50 {interval}"
        ec50 = (fit.ec50, fit.low, fit.high)
        plots.append(dose_plot(curve.doses, curve.responses, (grid, fit.predict(grid)), ec50, title, "dose"))
    flat = len(result.curves) - len(supported)
    note = "Four-parameter logistic; band: 95 % profile-likelihood interval of the EC50; blue: negative controls."
    if len(supported) > _MAX_CURVES:
        note += f" The first {_MAX_CURVES} of {len(supported)} curves; all are in dose_response.csv."
    if flat:
        note += (
            f" {flat} left out: a constant fits as well, or doses are too few or far off (dose_response.csv)."
        )
    return [fill('<div class="plots">{plots}</div><p class="note">{note}</p>', plots=join(plots), note=note)]


def _hits(result: ScreenResult, settings: CallSettings) -> list[Html]:
    columns = ["name", "readout", "effect", "ssmd", "n_replicates", "agreement", "p", "q", "hit", "note"]
    table = result.hits.assign(readout=result.hits["score"].str.partition("_")[2])[columns]
    table = table.rename(columns={"name": "perturbation", "n_replicates": "wells"})
    beyond = " beyond their controls'" if settings.null == "controls" else ""
    note = (
        f"The first {min(len(table), _MAX_ROWS)} of {len(table)} tests (hits.csv). A hit has q at or below "
        f"{settings.fdr:g} and an effect of at least {settings.min_score:g} up or down; effect: mean "
        f"{'robust z' if settings.normalise == 'robust-z' else 'B-score'} of the wells{beyond}; ssmd: against the "
        "negative controls of their plates; agreement: share of the wells on the effect's side; p by permutation "
        f"{'against the control wells' if settings.null == 'controls' else 'of whole plates'}, q over all tests."
    )
    return [frame_table(table.head(_MAX_ROWS), note)]


def _exhibits(result: ScreenResult) -> list[Html]:
    parts = []
    for shown in result.exhibits:
        rows = {f"well {shown.well}": shown.crops, f"control well {shown.control_well}": shown.control_crops}
        parts.append(
            fill(
                '<h3>{name}<small>{readout}</small></h3><div class="plots">{rows}</div>',
                name=shown.name, readout=shown.readout, rows=crop_rows(rows, shown.channels, shown.name),
            )
        )  # fmt: skip
    n_hits = result.hits.loc[result.hits["hit"] & ~result.hits["is_control"], "name"].nunique()
    note = (
        f"{len(result.exhibits)} of {counted(n_hits, 'hit')}: the strongest that have nuclei left and images. Nuclei "
        "nearest to the median of their well; one contrast per channel for a hit and its control."
    )
    return [*parts, fill('<p class="note">{note}</p>', note=note)]
