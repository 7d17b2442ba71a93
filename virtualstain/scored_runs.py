"""What the command `evaluate` does: predictions and real stains in, a score table and a report out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from image2reg.atomic import atomic_file, make_folder, refuse_existing, refuse_unmakeable
from image2reg.errors import DataError
from image2reg.nuclei.match import Matching, match_dataset
from image2reg.report.staining import shown_fields
from virtualstain.evaluate import ScoredField, score_table
from virtualstain.loading import evaluable_fields, open_manifest
from virtualstain.model import StainModel, load
from virtualstain.objects import NUCLEAR, score_nuclei
from virtualstain.pairs import ScoredPair, open_pairs, score_pair
from virtualstain.patches import StainField
from virtualstain.scoring import mean_pearson, stain_fields
from virtualstain.staining_page import below_floor, write_report

__all__ = ["Evaluation", "evaluate_model", "evaluate_pair"]

MOST_NOTES = 12
NUCLEUS_UM = 15.0  # typical Hoechst nucleus of a cultured human cell


@dataclass(frozen=True)
class Evaluation:
    """A score table (`virtualstain.evaluate.summarise`, and nuclei found) and what to know before reading it."""

    scores: pd.DataFrame
    notes: tuple[str, ...] = ()


def evaluate_model(
    name: str,
    data: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    command: str = "",
) -> Evaluation:
    """Predict the fields of one split and score them; with `out`, also write ``scores.csv`` and ``report.html``.

    Fields without any real stain are left out; a manifest without splits is scored whole. Fields are predicted one by
    one, and those that the report shows once more, so that memory does not grow with their number.

    Raises
    ------
    DataError
        No field has a real stain, or the model would refuse to predict one (another voxel size, other planes).
    """
    if out is not None:
        refuse_existing(out, overwrite=overwrite)
        refuse_unmakeable(out / "scores.csv")
    model = load(name, device=device)
    manifest = open_manifest(data, inputs=model.inputs, targets=model.outputs)
    drawn = bool((manifest.frame["split"] != "").any())
    if drawn:
        manifest = manifest.where(split=split)
    fields = evaluable_fields(model, manifest)
    if not fields:
        raise DataError(
            f"{data}: no field of split '{split}' has a real {' or '.join(model.outputs)} to score against."
        )
    log = model.bundle.spec.normalisation.output.transform == "log1p"
    scored = _ScoredOneByOne(
        [partial(_stained, model, item, log=log) for item in fields],
        [model.voxel_um[2]] * len(fields),
    )
    notes = scored.notes
    if not drawn:
        notes += (
            "the data say no split: every field was scored, those that trained the model too if they are among them. "
            "Draw it before training (virtualstain check FOLDER --split-by ... --out MANIFEST)",
        )
    if any(model.offset_px):
        y, x = model.offset_px[1:]
        notes += (
            f"compared where the training microscope's stain camera records, {y}, {x} pixels (y, x) off the input",
        )
    if out is not None:
        _write(out, scored, model=model, voxel_um=model.voxel_um, notes=notes, unit=model.unit, command=command,
               provenance={"data": str(data)}, overwrite=overwrite)  # fmt: skip
    return Evaluation(scored.table, notes)


def evaluate_pair(
    prediction: Path, truth: Path, *, out: Path | None = None, overwrite: bool = False, command: str = ""
) -> Evaluation:
    """Score a predicted image, or plate, against the real one; `out` as in `evaluate_model`.

    Channels are paired by name, or the only ones with each other; `virtualstain.pairs.score_pair` says in what unit.

    Raises
    ------
    DataError
        Nothing can be paired, or what is paired differs in shape.
    """
    if out is not None:
        refuse_existing(out, overwrite=overwrite)
        refuse_unmakeable(out / "scores.csv")
    pairs, unpaired = open_pairs(prediction, truth)
    scored = _ScoredOneByOne(
        [partial(score_pair, pair) for pair in pairs], [pair.voxel_um[2] for pair in pairs]
    )
    notes = (*unpaired, *scored.notes)
    if out is not None:
        made = pairs[0].made
        _write(out, scored, model=None, voxel_um=pairs[0].voxel_um, notes=notes, unit=made.annotations.get("unit", ""),
               command=command, overwrite=overwrite,
               provenance={"prediction": str(prediction), "real": str(truth), **_maker(made.annotations)})  # fmt: skip
    return Evaluation(scored.table, notes)


def _maker(said: Any) -> dict[str, str]:
    return {"predicted by": said["model"]} if "model" in said else {}


def _stained(model: StainModel, item: StainField, *, log: bool) -> ScoredPair:
    return ScoredPair(stain_fields(model, [item])[0], log)


class _ScoredOneByOne:
    """Fields that are made, scored and forgotten one after the other; `again` makes those that a report shows."""

    def __init__(self, makers: Sequence[Callable[[], ScoredPair]], pixels: Sequence[float | None]) -> None:
        self.makers, self.pixels = makers, pixels
        self.ranks: list[float] = []
        self._matched: list[Matching] = []
        self._notes: dict[str, int] = {}
        self._nuclear = ""
        table = score_table(self._each())
        self.table = pd.concat([table, self._nuclear_rows()], ignore_index=True)
        if not self._matched:
            why = (
                "their pixel size is not known"
                if self._nuclear
                else f"no stain is called {', '.join(NUCLEAR)}"
            )
            self._notes[f"nuclei were not scored: {why}"] = len(makers)
        n = len(makers)
        said = [text if n in {1, k} else f"{text} ({k} of {n} fields)" for text, k in self._notes.items()]
        if len(said) > MOST_NOTES:
            said[MOST_NOTES:] = [f"and {len(said) - MOST_NOTES} more notes on other fields"]
        self.notes = (*said, *below_floor(self.table))

    def _each(self) -> Iterator[ScoredField]:
        for make, pixel in zip(self.makers, self.pixels, strict=True):
            made = make()
            for note in made.notes:
                self._notes[note] = self._notes.get(note, 0) + 1
            self.ranks.append(mean_pearson(made.channels))
            for item in made.channels:
                if item.channel.lower() in NUCLEAR:
                    self._nuclear = self._nuclear or item.channel
                    if pixel is not None:
                        found = score_nuclei(
                            [item], diameter_px=NUCLEUS_UM / pixel, intensity="log" if made.log else "linear"
                        )
                        self._matched += found["by_field"]
                yield item

    def again(self) -> list[list[ScoredField]]:
        return [self.makers[index]().channels for index in shown_fields(self.ranks)]

    def _nuclear_rows(self) -> pd.DataFrame:
        """Rows for nuclei found in the predicted against those found in the real stain."""
        if not self._matched:
            return pd.DataFrame()
        pooled = match_dataset(self._matched)
        return pd.DataFrame([
            {
                "channel": self._nuclear, "metric": f"nuclei_{name}@{threshold:g}",
                "value": float(getattr(pooled, name)[index]), "low": np.nan, "high": np.nan, "n": pooled.n_true,
                "level": "nucleus", "floor": 0.0, "ceiling": np.nan, "median": np.nan,
            }
            for index, threshold in enumerate(pooled.thresholds)
            for name in ("f1", "ap")
        ])  # fmt: skip


def _write(out: Path, scored: _ScoredOneByOne, *, overwrite: bool, **page: Any) -> None:
    make_folder(out)
    with atomic_file(out / "scores.csv", overwrite=overwrite) as partial:
        scored.table.to_csv(partial, index=False)
    write_report(
        out / "report.html", page.pop("model"), scored.again(), scored.table, flags=page.pop("notes"),
        n_fields=sum(map(math.isfinite, scored.ranks)) or len(scored.ranks), overwrite=overwrite, **page,
    )  # fmt: skip
