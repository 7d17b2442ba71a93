"""Plan the measuring of a screen, once for all its shards: each reads its own part of what the first one wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image2reg.engine import Plan, Shard, finished_elsewhere, keep_plan, kept_plan, make_plan, planning
from image2reg.engine.plan import SEEN
from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.segmenters.catalogue import load_segmenter, segmenter_sha256
from image2reg.provenance import file_sha256, json_sha256
from image2reg.screen.look_ahead import look_ahead
from image2reg.screen.planned_fields import PlannedFields, planned_fields, seen_images
from image2reg.screen.settings import ScreenSettings
from image2reg.screen.sources import fields_in_layout, nuclear_channel, open_screen, plates_in_layout
from image2reg.screen.usual_size import usual_diameter
from image2reg.tables.listing import image_paths
from image2reg.tables.manifest import Manifest
from image2reg.tables.profiles import Profiles
from image2reg.wording import counted

__all__ = ["Asked", "plan_screen", "plan_shard"]


@dataclass(frozen=True)
class Asked:
    """What a call asks for; arguments of `image2reg.screen.run_screen`.

    Attributes
    ----------
    with_sets : bool
        Gene sets are given.
    version : str
        Of the program; part of the plan.
    """

    data: Path
    control: str
    positive: str | None
    settings: ScreenSettings
    channels: Sequence[str]
    pattern: str | None
    layout: Path | None
    with_sets: bool
    device: str
    version: str

    def open(self) -> Manifest | Profiles:
        """Open the data (`image2reg.screen.sources.open_screen`)."""
        return open_screen(self.data, channels=self.channels, pattern=self.pattern, layout=self.layout)

    def fields(self, manifest: Manifest) -> PlannedFields:
        """Put the fields in order, and refuse what can be refused before any image is read."""
        measure = self.settings.measure
        fields = planned_fields(manifest, nuclear_channel(manifest, measure.nuclei))
        if measure.tta:
            load_segmenter(measure.model, device=self.device, tta=True)  # refused now, not field by field
        return look_ahead(fields, self.control, self.positive, self.settings, with_sets=self.with_sets)

    def fingerprint(self) -> str:
        """Hash what the plan is made from: the images, by table or folder, what names them, and how it is measured."""
        if not self.data.exists():
            self.open()  # says what is missing
        is_folder = self.data.is_dir()
        names = json_sha256(image_paths(self.data)) if is_folder else file_sha256(self.data)
        said = {
            "data": [names, self.root().resolve().name, list(self.channels), self.pattern],
            "layout": self._names_in_layout(),
            "measure": self.settings.measure.model_dump(mode="json"),
            "model": segmenter_sha256(self.settings.measure.model),
            "version": self.version,
        }
        return json_sha256(said)

    def _names_in_layout(self) -> list[Any]:
        """Give what a layout says that names fields; the plates of a folder may be called after its plates."""
        if self.layout is None:
            return []
        return [fields_in_layout(self.layout), plates_in_layout(self.layout) if self.data.is_dir() else []]

    def root(self) -> Path:
        """Folder that the paths of images are relative to."""
        return self.data if self.data.is_dir() else self.data.parent


def plan_shard(asked: Asked, out: Path, shard: Shard, *, overwrite: bool) -> tuple[Plan, tuple[str, ...]]:
    """Read a shard's part of the plan; who comes first makes it, and gets the notes on what it was made from.

    A shard looks at its own images only, and needs memory for its own part.

    Raises
    ------
    ConfigurationError
        The data are profiles, or see `plan_screen`.
    DataError
        See `plan_screen`; another plan lies in `out`.
    ResourceError
        `out` cannot be written.
    """
    made_from = asked.fingerprint()
    if plan := _own_part(out, made_from, shard, asked.root()):
        return plan, ()
    with planning(out):
        if plan := _own_part(out, made_from, shard, asked.root()):  # another one made it meanwhile
            return plan, ()
        opened = asked.open()
        if not isinstance(opened, Manifest):
            raise ConfigurationError(
                "--shard divides the measuring of images; these profiles are measured already."
            )
        keep_plan(out, plan_screen(asked, asked.fields(opened), out, made_from), overwrite=overwrite)
        if plan := kept_plan(out, made_from, shard):
            return plan, opened.notes
    raise DataError(f"{out}: the plan written there cannot be read again. Check the disk.")


def _own_part(out: Path, made_from: str, shard: Shard, root: Path) -> Plan | None:
    """Read the part of a plan that was made from the same, unless an image of it changed, or came, since."""
    plan = kept_plan(out, made_from, shard)
    for position in () if plan is None else shard.positions(len(plan)):
        unit = plan.unit(position)
        noted = unit.get(SEEN, {})
        # One that came goes into the plan before it is measured, or nobody would notice that it is replaced later.
        if {**noted, **seen_images(unit, root)} != noted:
            return None
    return plan


def plan_screen(asked: Asked, fields: PlannedFields, out: Path, made_from: str) -> Plan:
    """Make the plan of a screen; call it within `image2reg.engine.planning`.

    Nuclei of a few control fields are measured on the way, if it is not told how large they are
    (`image2reg.screen.usual_size`).

    Parameters
    ----------
    asked : Asked
    fields : PlannedFields
    out : Path
        Folder of the screen.
    made_from : str
        `Asked.fingerprint`.

    Raises
    ------
    DataError
        A folder lacks images whose fields are measured already.
    ResourceError
        `out` cannot be written.
    """
    measure = asked.settings.measure
    measured_by = {
        **measure.model_dump(mode="json"),
        "nuclei": fields.nuclei,
        "model_sha256": segmenter_sha256(measure.model),
        "version": asked.version,
    }
    measured_by["usual_px"] = usual_diameter(fields, out, measured_by, asked.control, device=asked.device)
    plan = make_plan("image2reg screen: nuclei of fields", fields.units(), measured_by, made_from=made_from)
    if asked.data.is_dir() and (gone := finished_elsewhere(out, plan)):
        raise DataError(
            f"{asked.data}: holds no images any more of {counted(len(gone), 'field')} measured in {out}, such as "
            f"{gone[0]!r}, and their results would be lost. Put the images back, choose another --out, or give a "
            "manifest: it lists what belongs to the screen, and images in it may be archived once they are measured."
        )
    return plan
