"""Fields of a screen kept as columns are the fields of the manifest, whatever order, stains and names its rows have."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from image2reg.screen.planned_fields import planned_fields
from image2reg.screen.plates import parse_well
from image2reg.tables import Manifest

FIELDS = st.tuples(
    st.sampled_from(["P2", "P1", ""]), st.sampled_from(["A02", "b1", "B10", "AA3"]), st.sampled_from(["10", "2", "1"])
)  # fmt: skip
STAINS = st.sets(st.sampled_from(["GFP", "DNA", "Actin"]), min_size=1)


@st.composite
def manifests(draw, folder="screen"):
    fields = draw(st.dictionaries(FIELDS, STAINS, min_size=1, max_size=8))
    rows = [
        {
            "path": f"{plate}_{well}_{site}_{stain}.tif", "role": "input", "channel": stain, "Metadata_Plate": plate,
            "Metadata_Well": well, "Metadata_Site": site, "Metadata_Perturbation": draw(st.sampled_from(["x", ""])),
            "voxel_x_um": draw(st.sampled_from([np.nan, 0.5])),
            "source_channel": draw(st.sampled_from(["", "0/3", "2"])),
        }
        for (plate, well, site), stains in fields.items()
        for stain in stains
    ]  # fmt: skip
    return Manifest(pd.DataFrame(draw(st.permutations(rows))), folder)


@given(manifests())
@settings(max_examples=60, deadline=None)
def test_columns_hold_the_fields_of_the_manifest_in_the_order_of_plates_wells_and_sites(manifest):
    planned = planned_fields(manifest, "DNA")
    units = list(planned.units())
    assert [planned.unit(i) for i in range(len(planned))] == units
    assert json.loads(json.dumps(units)) == units
    said = dict(zip(planned.names, planned.metadata.to_dict("records"), strict=True))
    told = pd.DataFrame(planned.said.to_pylist(), columns=planned.metadata.columns).fillna("")
    pd.testing.assert_frame_equal(told, planned.metadata, check_dtype=False)
    plates = [plate or "screen" for plate in dict.fromkeys(manifest.frame["Metadata_Plate"])]

    def key(unit):
        return (
            plates.index(said[unit["name"]]["Metadata_Plate"]),
            parse_well(said[unit["name"]]["Metadata_Well"]),
            unit["name"],
        )

    assert units == sorted(units, key=key)
    assert len(units) == manifest.n_fields
    by_path = {image["path"]: (unit, channel) for unit in units for channel, image in unit["images"].items()}
    assert len(by_path) == len(manifest)
    for field in manifest.fields():
        for channel, source in field.inputs.items():
            unit, found = by_path[source.path.name]
            image = unit["images"][found]
            assert found == channel
            assert set(unit["images"]) == set(field.inputs)
            assert (image["channel"], image["pages"]) == (source.source_channel, source.n_channels)
            assert tuple(image["voxel_um"]) == source.voxel_um
            assert (
                said[unit["name"]].get("Metadata_Perturbation", "") == field.metadata["Metadata_Perturbation"]
            )
    for unit in units:
        plate = said[unit["name"]]["Metadata_Plate"]
        others = [u for u in units if said[u["name"]]["Metadata_Plate"] == plate]
        expected = {"DNA"}.union(*(u["images"] for u in others)) - set(unit["images"])
        if any("DNA" in u["images"] for u in units):
            assert set(unit.get("lacking", ())) == expected
