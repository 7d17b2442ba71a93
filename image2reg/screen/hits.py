"""Hits: perturbations whose replicate wells lie together, away from the controls, more than chance allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from image2reg.errors import ConfigurationError
from image2reg.randomness import generator
from image2reg.screen.permutations import by_code, control_p_values, plate_p_values
from image2reg.screen.plates import CONTROL, NEGATIVE, PLATE, WELL, distinct_names, parse_well
from image2reg.screen.quality import ssmd
from image2reg.screen.significance import benjamini_hochberg
from image2reg.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["NULLS", "call_hits", "called_wells", "controls_apart", "group_wells", "out_of_reach"]

NULLS = ("controls", "plates")
# From so many perturbations on it is odd that most do something; fewer may have been chosen because they do.
_LIBRARY = 20


def call_hits(
    wells: pd.DataFrame,
    scores: Sequence[str],
    group_by: Sequence[str],
    *,
    null: Literal["controls", "plates"] = "controls",
    fdr: float = 0.05,
    min_effect: float = 0.0,
    min_replicates: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Test every perturbation in every score.

    Parameters
    ----------
    wells : DataFrame, one row per well
        ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Control``, `group_by` and `scores`; NaN is a well left out.
    scores : sequence of str
        Columns normalised within plates (robust z or B-score): 0 is like the controls.
    group_by : sequence of str
        Wells equal in these columns are replicates of one perturbation. Positive controls are tested, too.
    null : str
        See `image2reg.screen.permutations`.
    fdr : float
        Level of the false discovery rate, over all perturbations and scores together.
    min_effect : float
        A hit's mean score is at least this far from 0: with many wells, or controls that all sit in one column, small
        differences are beyond chance, too.
    min_replicates : int
        With fewer wells a perturbation is ranked, never a hit.
    seed : int

    Returns
    -------
    DataFrame, one row per perturbation and score, best first
        `group_by` columns, ``name`` (their values), ``score``, ``n_replicates``, ``n_plates``, ``effect`` (mean score;
        for null ``controls``, beyond the controls' median of its plates),
        ``ssmd`` (small-sample estimator against the negative controls of its plates), ``agreement`` (share of wells on
        the side of the mean), ``p``, ``smallest_p`` (that `null` allows here),
        ``q``, ``hit``, ``note``; ``is_control`` marks groups made of negative control
        wells, each compared with the controls outside it: they must not be hits, and they count among the tests.

    Raises
    ------
    ConfigurationError
        An unknown null, or `fdr` outside 0 … 1.
    """
    import pandas as pd

    if null not in NULLS or not 0 < fdr < 1:
        raise ConfigurationError(
            f"hits: null {null!r} and fdr {fdr}; allowed are {list(NULLS)} and a level between 0 and 1."
        )
    wells = wells.reset_index(drop=True)
    kinds = wells[CONTROL].to_numpy(object)
    codes, keys = group_wells(wells, list(group_by))
    plates = pd.factorize(wells[PLATE])[0]
    tables = []
    for score in scores:
        values, rng = wells[score].to_numpy(np.float64), generator(seed, score)
        tested = _one_score(values, plates, codes, kinds, len(keys), null=null, rng=rng)
        tables.append(keys.assign(score=score, **tested))
    table = pd.concat(tables, ignore_index=True)
    few = (table["n_replicates"] < min_replicates).to_numpy()
    table["q"] = benjamini_hochberg(np.where(few, np.nan, table["p"]))
    table["size"] = table["effect"].abs()
    significant, large = (table["q"] <= fdr).to_numpy(), (table["size"] >= min_effect).to_numpy()
    table["hit"] = significant & large
    small = np.where(significant & ~large, f"beyond chance, effect below {min_effect:g}", "")
    alone = np.where(
        table["n_replicates"] > 0,
        f"fewer than {min_replicates} wells: ranked, not called",
        "no well has a score",
    )
    table["note"] = np.where(few, alone, small)
    return table.sort_values(["q", "p", "size"], ascending=[True, True, False], kind="stable").drop(
        columns="size"
    ).reset_index(drop=True)  # fmt: skip


def group_wells(wells: pd.DataFrame, group_by: list[str]) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Say which wells are replicates of each other.

    Control wells form groups as large as a perturbation's on each plate, column by column.

    Returns
    -------
    (wells,) int
        Group of each well.
    DataFrame, one row per group
        `group_by` columns, ``name`` (their values; no two are the same), ``is_control``.
    """
    import pandas as pd

    negative = wells[CONTROL].to_numpy(object) == NEGATIVE
    codes = np.full(len(wells), -1, np.intp)
    samples = wells.loc[~negative, group_by]
    codes[~negative] = samples.groupby(group_by, sort=False, dropna=False).ngroup().to_numpy()
    keys = samples[~samples.duplicated()].assign(is_control=False)
    per_plate = pd.Series(codes[~negative]).groupby(wells.loc[~negative, PLATE].to_numpy(object))
    size = {plate: max(1, int(own.value_counts().median())) for plate, own in per_plate}
    places = np.array([parse_well(well) for well in wells[WELL]])
    block = np.zeros(0, np.intp)
    if negative.any():
        order = np.lexsort((places[:, 0], places[:, 1]))
        order = order[negative[order]]
        plates = wells[PLATE].to_numpy(object)[order]
        number = pd.Series(plates).groupby(plates).cumcount().to_numpy()
        block = number // np.array([size.get(plate, 1) for plate in plates])
        codes[order] = len(keys) + block
    n_blocks = int(block.max(initial=-1)) + 1
    named = {name: [f"control wells, group {i + 1}" for i in range(n_blocks)] for name in group_by}
    controls = pd.DataFrame({**named, "is_control": np.ones(n_blocks, bool)})
    keys = pd.concat([keys, controls], ignore_index=True) if n_blocks else keys.reset_index(drop=True)
    names = (
        keys[group_by]
        .astype(str)
        .agg(lambda row: " ".join(dict.fromkeys(filter(None, row))) or "no name", axis=1)
    )
    return codes, keys.assign(name=distinct_names(names.tolist(), keys[group_by]))


def called_wells(
    wells: pd.DataFrame,
    hits: pd.DataFrame,
    group_by: Sequence[str],
    readouts: dict[str, str],
    *,
    min_score: float,
    null: str = "controls",
) -> pd.DataFrame:
    """Carry calls back to wells: a replicate of a hit that itself lies beyond the controls, on the hit's side.

    Parameters
    ----------
    wells : DataFrame
        With the scores; for robust z also ``OwnZ_<readout>`` (`image2reg.screen.wells.score_wells`), in which a control
        well does not vouch for itself.
    hits : DataFrame
        Of `call_hits` on these wells and `group_by`.
    readouts : dict of score to readout
    min_score : float
        In the score that was tested, measured from where a hit's effect is.
    null : str
        As for `call_hits`.

    Returns
    -------
    DataFrame
        `wells` with ``Metadata_Group`` (name of the group), ``Hit_<readout>`` (0 or 1) and ``Hit`` (in any).
    """
    import pandas as pd

    codes, keys = group_wells(wells, list(group_by))
    names = keys["name"].to_numpy(object)[codes]
    plates, negative = pd.factorize(wells[PLATE])[0], wells[CONTROL].to_numpy(object) == NEGATIVE
    added = {}
    for score, readout in readouts.items():
        own = hits[(hits["score"] == score) & hits["hit"]].set_index("name")["effect"]
        side = np.sign(own.reindex(names).fillna(0).to_numpy(np.float64))
        if score == f"RobustZ_{readout}":
            beyond = wells[f"OwnZ_{readout}"].to_numpy(np.float64)
        else:
            beyond = wells[score].to_numpy(np.float64)
            if null == "controls":
                beyond = beyond - _middles(beyond, plates, negative)[plates]
        added[f"Hit_{readout}"] = ((side != 0) & (side * beyond >= min_score)).astype(int)
    return wells.assign(Metadata_Group=names, **added, Hit=np.max(list(added.values()), axis=0))


def _one_score(
    values: NDArray[np.float64],
    plates: NDArray[np.intp],
    codes: NDArray[np.intp],
    kinds: NDArray[np.object_],
    n_groups: int,
    *,
    null: str,
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    groups = np.where(np.isfinite(values), codes, -1)
    kept = groups >= 0
    values, plates, groups, kinds = values[kept], plates[kept], groups[kept], kinds[kept]
    negative = kinds == NEGATIVE
    n_plates = int(plates.max(initial=-1)) + 1
    count = np.bincount(groups, minlength=n_groups)
    controls = [values[own[negative[own]]] for own in by_code(plates, n_plates)]
    distance, smallest = values, np.full(n_groups, np.nan)
    if null == "controls":
        p_values, smallest = control_p_values(values, plates, groups, n_groups, negative, rng)
        distance = values - _middles(values, plates, negative)[plates]
    else:
        p_values = plate_p_values(values, plates, groups, n_groups, kinds == "", rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(groups, distance, n_groups) / count
        same_side = np.sign(distance) == np.sign(mean[groups])
        agreement = np.bincount(groups, same_side, n_groups) / count
    pairs = np.unique(np.stack([groups, plates]), axis=1)
    members = by_code(groups, n_groups)
    reference = by_code(pairs[0], n_groups)
    strict = [
        ssmd(
            values[own],
            values[np.isin(plates, pairs[1][of]) & negative & (groups != group)]
            if own.size and negative[own[0]]
            else np.concatenate([controls[p] for p in pairs[1][of]] or [np.zeros(0)]),
        )
        for group, (own, of) in enumerate(zip(members, reference, strict=True))
    ]
    return {
        "n_replicates": count,
        "n_plates": np.bincount(pairs[0], minlength=n_groups),
        "effect": mean,
        "ssmd": np.array(strict),
        "agreement": agreement,
        "p": p_values,
        "smallest_p": smallest,
    }


def _middles(
    values: NDArray[np.float64], plates: NDArray[np.intp], negative: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Median of each plate's control wells: B-scores of controls need not lie about 0, and effects count from them."""
    known = np.flatnonzero(negative & np.isfinite(values))
    of_plates = by_code(plates[known], int(plates.max(initial=-1)) + 1)
    return np.array([np.median(values[known[own]]) if own.size else 0.0 for own in of_plates])


def out_of_reach(hits: pd.DataFrame, fdr: float) -> str:
    """Say it when nothing is a hit and the control wells are too few for a single test to become one; else "".

    Parameters
    ----------
    hits : DataFrame
        Of `call_hits`.
    fdr : float
    """
    tested = hits[hits["q"].notna()]
    smallest = tested["smallest_p"].min()
    needed = math.ceil(smallest * len(tested) / fdr) if np.isfinite(smallest) else 0
    if needed < 2 or hits["hit"].any():
        return ""
    reach = (
        f"{needed} of {len(tested)} tests would have to reach it before one is called"
        if needed <= len(tested)
        else f"none is called even if all {len(tested)} tests reach it"
    )
    return (
        f"the smallest p that these control wells and replicates allow is {smallest:.2g}: at {100 * fdr:g}% FDR, "
        f"{reach}. Add control wells or replicates, test fewer readouts (--readout), or, if most wells do nothing, "
        "compare with whole plates (--set call.null=plates)."
    )


def controls_apart(wells: pd.DataFrame, hits: pd.DataFrame) -> str:
    """Say it when most of many perturbations are hits and control wells share no column, or no row, with samples.

    What the place of such controls does to them cannot be told from what all samples do.

    Parameters
    ----------
    wells : DataFrame
        ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Control``.
    hits : DataFrame
        Of `call_hits`.
    """
    tested = hits[~hits["is_control"]]
    n_hits, n_tested = tested.loc[tested["hit"], "name"].nunique(), tested["name"].nunique()
    if n_tested < _LIBRARY or 2 * n_hits <= n_tested:
        return ""
    apart = []
    for plate, own in wells.groupby(PLATE, sort=False):
        places = np.array([parse_well(well) for well in own[WELL]])
        kinds = own[CONTROL].to_numpy(object)
        shared = [set(line[kinds == NEGATIVE]) & set(line[kinds == ""]) for line in places.T]
        if (kinds == "").any() and not all(shared):
            apart.append(str(plate))
    if not apart:
        return ""
    return (
        f"{n_hits} of {counted(n_tested, 'perturbation')} are hits, and the negative controls of "
        f"{counted(len(apart), 'plate')} ({', '.join(apart[:5])}) lie in columns or rows without samples: what that "
        "place does to them counts as an effect of every sample. Look at the heat maps; where most wells should do "
        "nothing, compare with whole plates (--set call.null=plates)"
    )
