"""A screen segments in eight poses when told to, and refuses where there is nothing to average."""

from __future__ import annotations

import numpy as np
import pytest
from small_plate import write_plate

from image2reg.errors import ConfigurationError
from image2reg.screen import ScreenSettings, run_screen
from image2reg.screen.fields import measure_field
from image2reg.screen.planned_fields import planned_fields
from image2reg.screen.settings import MeasureSettings
from image2reg.screen.sources import open_screen


def test_a_screen_segments_in_eight_poses_when_told_to(tmp_path) -> None:
    write_plate(tmp_path, doses=(1,))
    unit = planned_fields(open_screen(tmp_path / "manifest.csv"), "DNA").unit(0)
    plain, posed = (
        measure_field(
            unit,
            root=tmp_path,
            settings={**MeasureSettings(tta=tta).model_dump(mode="json"), "nuclei": "DNA"},
            device="cpu",
        )["nuclei"]["Nuclei_AreaShape_Area"].to_numpy()
        for tta in (False, True)
    )
    assert len(plain) == len(posed) > 0
    assert not np.array_equal(plain, posed)
    np.testing.assert_allclose(np.sort(plain), np.sort(posed), rtol=0.2)


@pytest.mark.parametrize("model", ["classical", "texture"])
def test_a_screen_without_a_network_is_refused_before_anything_is_measured(tmp_path, model) -> None:
    write_plate(tmp_path / "plate", doses=(1,))
    settings = ScreenSettings.model_validate({"measure": {"model": model, "tta": True}})
    with pytest.raises(ConfigurationError, match=rf"'{model}' has no network.*--tta"):
        run_screen(
            tmp_path / "plate" / "manifest.csv", tmp_path / "out", control='Metadata_Control == "negative"',
            settings=settings,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
