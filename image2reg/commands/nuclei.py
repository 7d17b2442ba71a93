"""Commands that measure labelled nuclei and cut them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from image2reg.commands.options import AsJson, Out, Overwrite
from image2reg.wording import counted

if TYPE_CHECKING:
    from image2reg.nuclei.crops import Crops

_IMAGES = typer.Argument(
    help="A manifest (.csv, .parquet), a folder of images, an OME-Zarr plate or one image."
)
_LABELS = typer.Argument(
    help="A label image, or a folder or plate of them, named like the images; not needed where the manifest has masks."
)
_CHANNELS = typer.Option(
    "--channel",
    help="Channel names in order, for images that do not name them, or as the names of files say that hold one channel "
    "each; repeat.",
)
_VOXEL = typer.Option("--voxel-um", help="Pixel size in micrometres, for images that do not say.")


def features(
    images: Annotated[Path, _IMAGES],
    labels: Annotated[Path | None, _LABELS] = None,
    *,
    out: Out,
    channel: Annotated[list[str] | None, _CHANNELS] = None,
    voxel_um: Annotated[float | None, _VOXEL] = None,
    ring: Annotated[
        tuple[int, int], typer.Option("--ring", help="Gap and width of the ring around nuclei, pixels.")
    ] = (1, 4),
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure every nucleus: CellProfiler names, one row per nucleus."""
    import pandas as pd

    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.console import progress_bar
    from image2reg.errors import ProjectError
    from image2reg.nuclei.features import measure
    from image2reg.nuclei.pairs import labelled_fields
    from image2reg.tables import Profiles
    from image2reg.tables.profiles import refuse_format
    from image2reg.tables.side_tables import failure, failures_path

    refuse_inputs([out], [images, *([labels] if labels else [])])
    refuse_existing(out, overwrite=overwrite)
    refuse_format(out)
    failures_path(out)  # refused before any work
    fields = labelled_fields(images, labels, channels=_in_order(channel), voxel_um=_three(voxel_um))
    tables, failures, empty, n_cubic = [], [], [], 0
    with progress_bar("fields", silent=as_json) as report:
        for number, field in enumerate(fields, 1):
            try:
                image, numbers = field.image(), field.labels()
                table = measure(image, numbers, ring_px=ring)
            except ProjectError as error:
                failures.append(failure(field.name, error))
            else:
                n_cubic += numbers.ndim == 3 and None in image.voxel_um
                if table.empty:
                    empty.append(field.name)
                known = {name: value for name, value in field.metadata.items() if value}
                tables.append(pd.concat([pd.DataFrame(known, index=table.index), table], axis=1))
            report(number, len(fields))
    path = _write_failures(out, failures, len(fields))
    filled = [table for table in tables if len(table)]
    _refuse_none(filled, images, len(fields))
    profiles = Profiles(pd.concat(filled, ignore_index=True), source=str(out))
    profiles.write(out, overwrite=overwrite)
    said = f"{_nuclei(len(profiles), len(filled))}, {len(profiles.features)} features: {out}"
    if n_cubic:
        said += (
            f"\n{counted(n_cubic, 'stack')} measured as if voxels were cubes: the distance of planes or the pixel size "
            "is not known. A manifest's columns voxel_z_um, voxel_y_um and voxel_x_um say them"
        )
    _finish(
        {"written": str(out), "nuclei": len(profiles), "features": len(profiles.features), "cubic": n_cubic}, said,
        failures, path, empty, as_json=as_json,
    )  # fmt: skip


def crops(
    images: Annotated[Path, _IMAGES],
    labels: Annotated[Path | None, _LABELS] = None,
    *,
    out: Out,
    size: Annotated[int, typer.Option("--size", help="Edge length of a crop, pixels (even).")] = 64,
    keep_border: Annotated[
        bool,
        typer.Option(
            "--keep-border", help="Also cut nuclei whose crop reaches beyond the field; its edge is repeated."
        ),
    ] = False,
    channel: Annotated[list[str] | None, _CHANNELS] = None,
    voxel_um: Annotated[float | None, _VOXEL] = None,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Cut a square around every nucleus that lies far enough from the field's edge; one .zarr directory for all."""
    import numpy as np

    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.console import progress_bar
    from image2reg.errors import DataError, ProjectError
    from image2reg.nuclei.crops import cut_crops, refuse_size, write_crops
    from image2reg.nuclei.pairs import labelled_fields
    from image2reg.tables.side_tables import failure, failures_path

    refuse_inputs([out], [images, *([labels] if labels else [])])
    refuse_existing(out, overwrite=overwrite)
    refuse_size(size)
    failures_path(out)  # refused before any work
    fields = labelled_fields(images, labels, channels=_in_order(channel), voxel_um=_three(voxel_um))
    usable, failures, empty, n, n_border, n_larger = [], [], [], 0, 0, 0
    # once for the numbers, so that the crops themselves can go straight to disk
    for field in fields:
        try:
            image, numbers = field.image(), field.labels()
            cut = cut_crops(image, numbers, size_px=size, whole=not keep_border)
        except ProjectError as error:
            failures.append(failure(field.name, error))
            continue
        n_cut = 0 if cut is None else len(cut)
        n_found = len(np.unique(numbers[numbers > 0]))
        n, n_border = n + n_cut, n_border + n_found - n_cut
        if cut is not None:
            usable.append(field)
            n_larger += _n_larger(cut)
        elif not n_found:
            empty.append(field.name)
    path = _write_failures(out, failures, len(fields))
    if n_border and not usable:
        raise DataError(
            f"{images}: the crops of {size} px of all {counted(n_border, 'nucleus', 'nuclei')} would reach beyond the "
            "field's edge. Give a smaller --size, or --keep-border to repeat the edge."
        )
    _refuse_none(usable, images, len(fields))

    def parts() -> Any:
        with progress_bar("fields", silent=as_json) as report:
            for number, field in enumerate(usable, 1):
                found: Crops | None = cut_crops(
                    field.image(),
                    field.labels(),
                    size_px=size,
                    metadata=field.metadata,
                    whole=not keep_border,
                )
                if found is not None:
                    yield found
                report(number, len(usable))

    write_crops(out, parts(), n=n, overwrite=overwrite)
    left = f"\n{counted(n_border, 'nucleus', 'nuclei')} near the edge left out" if n_border else ""
    if n_larger:
        cut_off = counted(n_larger, "nucleus", "nuclei")
        left += f"\n{cut_off} cut by the edge of the crop; a larger --size shows them whole"
    _finish(
        {"written": str(out), "nuclei": n, "left_out": n_border, "larger": n_larger},
        f"{_nuclei(n, len(usable))}: {out}{left}",
        failures, path, empty, as_json=as_json,
    )  # fmt: skip


def _n_larger(crops: Crops) -> int:
    """Count nuclei that reach the edge of their crop."""
    from image2reg.nuclei.crops import OWN

    own = crops.masks == OWN
    return int((own[:, [0, -1]].any(axis=(1, 2)) | own[:, :, [0, -1]].any(axis=(1, 2))).sum())


def _three(voxel_um: float | None) -> tuple[float | None, float | None, float | None]:
    return (None, voxel_um, voxel_um)


def _in_order(channels: list[str] | None) -> list[str] | None:
    from image2reg.errors import ConfigurationError

    wrong = [name for name in channels or [] if "=" in name]
    if wrong:
        own = " ".join(f"--channel {name.partition('=')[0]}" for name in channels or [])
        raise ConfigurationError(
            f"--channel {wrong[0]}: here channels are named in the order in which the file holds them, without '='. "
            f"Write {own}."
        )
    return channels


def _nuclei(n: int, n_fields: int) -> str:
    return f"{counted(n, 'nucleus', 'nuclei')} of {counted(n_fields, 'field')}"


def _refuse_none(filled: list[Any], images: Path, n_fields: int) -> None:
    from image2reg.errors import DataError

    if not filled:
        raise DataError(
            f"{images}: no nucleus in {counted(n_fields, 'field')}, so there is nothing to write. Look at the labels."
        )


def _write_failures(out: Path, failures: list[dict[str, str]], n_fields: int) -> Path | None:
    from image2reg.errors import DataError
    from image2reg.tables.side_tables import write_failures

    if failures and len(failures) == n_fields:
        raise DataError(f"all {n_fields} fields failed; the first: {failures[0]['error']}")
    return write_failures(failures, out)


def _finish(
    result: dict[str, Any],
    text: str,
    failures: list[dict[str, str]],
    path: Path | None,
    empty: list[str],
    *,
    as_json: bool,
) -> None:
    from image2reg.console import emit

    if empty:
        text += f"\n{counted(len(empty), 'field')} without a nucleus, such as {empty[0]}"
    if failures:
        text += f"\n{len(failures)} failed; see {path}"
    emit(result | {"failures": failures, "empty": empty}, text, as_json=as_json)
    if failures:
        raise typer.Exit(5)
