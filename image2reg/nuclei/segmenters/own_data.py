"""A user's images and masks as fields to train on, split by a named group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from image2reg.errors import ConfigurationError, DataError
from image2reg.nuclei.pairs import LabelledField, labelled_fields
from image2reg.nuclei.segmenters.examples import NucleusField
from image2reg.wording import counted

if TYPE_CHECKING:
    from image2reg.nuclei.segmenters.recipe import SegmenterRecipe, SplitSettings

__all__ = ["split_fields"]

_SPLITS = ("train", "validation", "test")


def split_fields(
    data: Path,
    masks: Path | None,
    recipe: SegmenterRecipe,
    *,
    group: str = "field",
    channel: str | None = None,
) -> tuple[dict[str, list[NucleusField]], str]:
    """Read fields and put whole groups into training, validation and test.

    Parameters
    ----------
    data : Path
        A folder of images, or a manifest; its column ``split`` is kept where every field has one.
    masks : Path, optional
        Folder of label images named like the images; not needed where the manifest has rows of role mask.
    recipe : SegmenterRecipe
        Shares, seed and nucleus diameter.
    group : str
        ``field``, ``well``, ``plate`` or a ``Metadata_*`` column (with or without that prefix).
    channel : str, optional
        Where images have several.

    Returns
    -------
    splits : dict
        ``train``, ``validation``, ``test``.
    said : str
        The split in words.

    Raises
    ------
    DataError
        A field without masks, of another size than its masks, with several channels and none chosen, or without the
        group; a group in two splits of the manifest; fewer groups than splits.
    """
    found = labelled_fields(data, masks)
    groups = [_group(field, group) for field in found]
    given = [field.manifest_field.split if field.manifest_field else "" for field in found]
    if all(given):
        where = dict(zip(groups, given, strict=True))
        shared = sorted({g for g, split in zip(groups, given, strict=True) if where[g] != split})
        if shared:
            raise DataError(
                f"{data}: {group} {shared[0]!r} is in two splits ({len(shared)} such). Keep each {group} in one split, "
                "or empty the column 'split'."
            )
    else:
        where = _draw(sorted(set(groups)), recipe.split, group, data)
    splits: dict[str, list[NucleusField]] = {name: [] for name in _SPLITS}
    for field, name in zip(found, groups, strict=True):
        if where[name] not in splits:
            raise DataError(f"{data}: split {where[name]!r}; allowed are {', '.join(_SPLITS)}.")
        splits[where[name]].append(_read(field, name, recipe.diameter_px, channel))
    counts = ", ".join(
        f"{name} {counted(len(fields), 'field')} of {counted(len({f.group for f in fields}), 'group')}"
        for name, fields in splits.items()
    )
    return splits, f"by {group}: {counts}" + ("" if all(given) else f", drawn with seed {recipe.split.seed}")


def _group(field: LabelledField, group: str) -> str:
    if group == "field":
        return field.name
    column = group if group.startswith("Metadata_") else f"Metadata_{group[:1].upper()}{group[1:]}"
    wanted = [column] if column != "Metadata_Well" else ["Metadata_Plate", column]
    if not field.metadata.get(column):
        raise DataError(
            f"{field.name}: {column} is not known; known are {sorted(k for k, v in field.metadata.items() if v)}. Give "
            "a manifest with that column, or split by another --group."
        )
    return "/".join(field.metadata.get(name, "") for name in wanted)


def _draw(groups: list[str], settings: SplitSettings, group: str, data: Path) -> dict[str, str]:
    shares = {"validation": settings.validation, "test": settings.test}
    wanted = {name: max(1, round(share * len(groups))) for name, share in shares.items() if share > 0}
    if sum(wanted.values()) >= len(groups):
        raise ConfigurationError(
            f"{data}: {len(groups)} different {group} value(s) cannot fill {len(wanted) + 1} splits. Add images, set "
            "split.validation or split.test to 0, or split by a smaller --group."
        )
    order = [groups[i] for i in np.random.default_rng(settings.seed).permutation(len(groups))]
    where = dict.fromkeys(order, "train")
    for name, n in wanted.items():
        for _ in range(n):
            where[order.pop()] = name
    return where


def _read(field: LabelledField, group: str, diameter_px: float | None, channel: str | None) -> NucleusField:
    image = field.image()
    if len(image.channels) > 1 and channel is None:
        raise DataError(
            f"{field.name}: has {len(image.channels)} channels {list(image.channels)}. Say which shows the nuclei: "
            "--channel NAME."
        )
    place = image.find_channel(channel) if channel is not None and len(image.channels) > 1 else 0
    plane = image.select(channel=place).to_axes("YX").data
    labels = field.labels()
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{field.name}: its masks are {labels.dtype}; needed are integers, one number per nucleus."
        )
    return NucleusField(field.name, group, np.asarray(plane), labels, diameter_px, source="")
