"""Profiles: one row per nucleus, well or perturbation, `Metadata_*` columns and numeric features.

Names follow CellProfiler and pycytominer (``Metadata_Well``, ``Nuclei_AreaShape_Area``), so that files pass between
those tools and this one unchanged. What a column means is in its name alone: ``Metadata_`` is text, everything else
is a number.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from image2reg.atomic import atomic_file
from image2reg.errors import DataError
from image2reg.tables.cells import refuse_separator, refuse_shifted, restore_cell, write_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["ORIGINS", "Profiles", "refuse_format"]

METADATA = "Metadata_"
# What a profile was measured on: a recorded stain, a stain predicted from a label-free image, or a generated nucleus.
ORIGINS = ("real", "predicted", "generated")
_NOTHING = ("", "NA", "NaN", "nan")
# What pandas calls a column without a name: R's and its own row names.
_NAMELESS = re.compile(r"|Unnamed: \d+")
# Where a row was measured, or its number: CellProfiler's columns, and what people call a place on a plate. As features
# they tell wells and batches apart. Location_MaxIntensity and Parent stay: published selections of features hold them.
_PLACES = re.compile(
    r"(?i:(plate|well|row|column|col|site|field|fov|batch|replicate|timepoint)([ _]?(id|name|number|index|nr))?|index)"
    r"|(Image|Object|Table)Number|(\w+_)?Number_Object_Number|(\w+_)?Location_Center_[XYZ]"
    r"|(\w+_)?AreaShape_(Center|BoundingBoxM(in|ax)imum)_[XYZ]|Image_Metadata_\w+"
)


class Profiles:
    """A table of profiles.

    Parameters
    ----------
    frame : DataFrame
        ``Metadata_*`` columns become text ("" for nothing), all others must be numeric and become float64 (NaN for
        nothing). Column order is kept, metadata first. Numbers of images and objects, positions, and columns called
        after a place on a plate (``ImageNumber``, ``Nuclei_Location_Center_X``, ``Plate``) become metadata.
    source : str
        What messages call it.

    Raises
    ------
    DataError
        No row, no feature, two columns of one name, a column without a name, or a feature column that is not numeric
        (named, with a value).

    Notes
    -----
    ``Metadata_Origin`` (one of `ORIGINS`) says what the features were measured on; a table without it counts as real.
    All metadata are text, in Parquet too: a truth value is "True" or "False", and `numbers` gives a column as numbers.
    ``set_aside`` names the columns that were read as metadata without being called so.
    """

    def __init__(self, frame: pd.DataFrame, *, source: str = "profiles") -> None:
        self.source = source
        self.set_aside = tuple(name for name in map(str, frame.columns) if _PLACES.fullmatch(name))
        self.frame: pd.DataFrame = _typed(frame, source)

    @staticmethod
    def refuse_others(**given: object) -> None:
        """Raise `DataError` for arguments of a function that are no profiles: a path, a DataFrame, an array."""
        for name, value in given.items():
            if not isinstance(value, Profiles):
                raise DataError(
                    f"{name} is a {type(value).__name__}, not Profiles. Read a file with "
                    "image2reg.tables.Profiles.read(path); of a DataFrame make Profiles(frame)."
                )

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Say how many rows, features and which metadata."""
        return (
            f"Profiles({len(self)} rows, {len(self.features)} features, {list(self.metadata.columns)}, "
            f"{self.source})"
        )

    @property
    def features(self) -> list[str]:
        """Names of the feature columns."""
        return [name for name in self.frame.columns if not name.startswith(METADATA)]

    @property
    def metadata(self) -> pd.DataFrame:
        """The ``Metadata_*`` columns, text."""
        return self.frame[[name for name in self.frame.columns if name.startswith(METADATA)]]

    @property
    def values(self) -> NDArray[np.float64]:
        """(rows, features) float64, a copy."""
        return self.frame[self.features].to_numpy(np.float64, copy=True)

    def column(self, name: str) -> NDArray[Any]:
        """Give one metadata column as an object array of str.

        Raises
        ------
        DataError
            No such column; those there are are named.
        """
        if name not in self.frame or not name.startswith(METADATA):
            there = list(self.metadata.columns)
            plain = name.lower().removeprefix(METADATA.lower())
            meant = [known for known in there if known.lower().removeprefix(METADATA.lower()) == plain]
            guess = f" (did you mean {meant[0]!r}?)" if meant else ""
            raise DataError(f"{self.source}: no metadata column {name!r}{guess}; there are {there}.")
        return self.frame[name].to_numpy(object)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Give one metadata column (a dose, a coordinate) as float64, NaN where empty.

        Raises
        ------
        DataError
            No such column, or a cell that is no number.
        """
        cells = self.column(name)
        try:
            return np.array([float(cell) if cell else np.nan for cell in cells])
        except ValueError as error:
            raise DataError(f"{self.source}: column {name!r} must hold numbers ({error}).") from error

    def replace(self, frame: pd.DataFrame) -> Profiles:
        """Return profiles of other rows or columns under the same name."""
        return Profiles(frame, source=self.source)

    def with_values(self, values: NDArray[np.floating], features: Sequence[str] | None = None) -> Profiles:
        """Keep the metadata, put (rows, len(features)) values in place of the features."""
        import pandas as pd

        made = pd.DataFrame(values, columns=list(features or self.features), index=self.frame.index)
        return self.replace(pd.concat([self.metadata, made], axis=1))

    def rows(self, chosen: NDArray[Any]) -> Profiles:
        """Keep rows by boolean mask or position; none left is a `DataError`."""
        frame = self.frame[chosen] if np.asarray(chosen).dtype == np.bool_ else self.frame.iloc[chosen]
        return self.replace(frame)

    @classmethod
    def read(cls, path: Path | str) -> Profiles:
        """Read ``.csv``, ``.csv.gz`` or ``.parquet``, as this package, CellProfiler or pycytominer write them.

        Raises
        ------
        DataError
            Missing, damaged, another format, or not a table of profiles (see the class).
        """
        path = Path(path)
        name = path.name.lower()
        if not path.is_file():
            raise DataError(
                f"{path}: {'is a folder, not a table' if path.is_dir() else 'no such file'}. Check the path."
            )
        if name.endswith(".parquet"):
            frame = _read_parquet(path)
        elif name.endswith((".csv", ".csv.gz")):
            frame = _read_csv(path)
        else:
            written = (
                " Of signatures make such a table first: image2reg.expression.read_signatures(path).profiles"
                ".write('signatures.parquet')."
            )
            raise DataError(
                f"{path}: profiles are read from .csv, .csv.gz or .parquet."
                + written * name.removesuffix(".gz").endswith((".gct", ".gctx"))
            )
        return cls(frame, source=str(path))

    def write(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write ``.csv`` (formula cells escaped) or ``.parquet``, atomically."""
        path = Path(path)
        refuse_format(path)
        if path.suffix.lower() == ".csv":
            write_csv(self.frame, path, overwrite=overwrite)
        else:
            with atomic_file(path, overwrite=overwrite) as partial:
                self.frame.to_parquet(partial, index=False)

    @staticmethod
    def concat(parts: Sequence[Profiles], *, common_features: bool = False) -> Profiles:
        """Put tables below each other.

        Parameters
        ----------
        parts : sequence of Profiles
        common_features : bool
            Keep the features that all have; otherwise differing features are refused.

        Raises
        ------
        DataError
            Features differ and `common_features` is False, or none is common.
        """
        import pandas as pd

        if not parts:
            raise DataError("no profiles to put together.")
        first = parts[0].features
        common = [name for name in first if all(name in part.frame for part in parts)]
        for part in parts:
            extra = sorted(set(part.features) ^ set(first))
            if extra and not common_features:
                raise DataError(
                    f"{part.source}: features differ from {parts[0].source}'s in {len(extra)} names, such as "
                    f"{extra[:3]} ({len(common)} are common). Ask for the common features, or measure both alike."
                )
        if not common:
            raise DataError(f"{[p.source for p in parts]}: no feature is common to all.")
        frames = [pd.concat([p.metadata, p.frame[common]], axis=1) for p in parts]
        whole = Profiles(pd.concat(frames, ignore_index=True), source=parts[0].source)
        whole.set_aside = tuple(dict.fromkeys(name for part in parts for name in part.set_aside))
        return whole


def refuse_format(path: Path) -> None:
    """Raise `DataError` where `Profiles.write` knows no such format; to be asked before the work that fills a table."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: profiles are written as .csv or .parquet.")


def _typed(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    import pandas as pd

    names = [METADATA * bool(_PLACES.fullmatch(name)) + name for name in map(str, frame.columns)]
    _refuse_doubled(names, source)
    nameless = [name for name in names if _NAMELESS.fullmatch(name)]
    if nameless:
        raise DataError(
            f"{source}: the columns {nameless[:5]} have no name: row numbers, or a separator too many, which would "
            "count as a feature. Remove them (pandas: index=False, R: row.names=FALSE), or name them."
        )
    metadata = [name for name in names if name.startswith(METADATA)]
    features = [name for name in names if not name.startswith(METADATA)]
    if not features or frame.empty:
        what = "no row" if frame.empty else f"no feature among the columns {names[:8]}"
        raise DataError(
            f"{source}: {what}. Profiles need Metadata_* columns (text) and at least one numeric feature column."
        )
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    text = {name: as_text(frame[name]) for name in metadata}
    numbers = frame[features]
    wrong = [name for name, kind in numbers.dtypes.items() if kind.kind not in "fiub"]
    if wrong:
        column = numbers[wrong[0]]
        example = next((v for v in column if not isinstance(v, (int, float))), column.iloc[0])
        raise DataError(
            f"{source}: {len(wrong)} columns are neither Metadata_* nor numeric, such as {wrong[0]!r} with "
            f"{example!r}. Rename them to Metadata_{wrong[0]} or remove them."
        )
    return pd.concat([pd.DataFrame(text, index=frame.index), numbers.astype(np.float64)], axis=1)


def _refuse_doubled(names: Sequence[str], source: str) -> None:
    doubled = sorted(name for name, n in Counter(names).items() if n > 1 and name)
    if doubled:
        raise DataError(
            f"{source}: columns {doubled[:5]} appear more than once. Rename or remove one of each."
        )


def as_text(column: pd.Series) -> NDArray[Any]:
    """Each distinct value once: "" for nothing, 3 for the 3.0 that a spreadsheet made of it, no blanks around.

    Nothing is the same in every format: ``NA`` in a Parquet column of text is as empty as in a CSV.
    """
    codes, values = column.factorize()
    cells = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v).strip() for v in values]
    return np.array([*("" if cell in _NOTHING else cell for cell in cells), ""], dtype=object)[codes]


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        header = pd.read_csv(
            path, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        ).iloc[0]
        refuse_separator(list(header), path)
        text = {name: str for name in header if name.startswith(METADATA)}
        # Parsed to the last bit, so that a table from CSV is the table from Parquet.
        frame = pd.read_csv(
            path, dtype=text, encoding="utf-8-sig", low_memory=False, na_values=[*_NOTHING, "inf", "-inf"],
            keep_default_na=False, float_precision="round_trip",
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({str(error).strip()}). Export it again.") from error
    refuse_shifted(frame, path, len(header))
    _refuse_doubled(list(header), str(path))  # pandas would call the second x.1 and count it twice
    for name in text:
        codes, values = frame[name].factorize()
        frame[name] = np.array([*(restore_cell(v) for v in values), ""], dtype=object)[codes]
    return frame.rename(columns={name: restore_cell(str(name)) for name in frame.columns})


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except Exception as error:  # the door: pyarrow raises a dozen kinds for damaged files
        raise DataError(f"{path}: cannot be read as Parquet ({type(error).__name__}: {error}).") from error
