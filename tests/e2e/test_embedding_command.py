"""`image2reg train encoder` and `image2reg embed`, as a user types them"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import drawn_crops, small_recipe
from typer.testing import CliRunner

from image2reg.cli import app
from image2reg.embedding.encoder import load_encoder
from image2reg.embedding.training import train_encoder
from image2reg.embedding.wells import cross_validate_wells
from image2reg.errors import ConfigurationError, DataError
from image2reg.interruption import Interrupted
from image2reg.tables import Profiles

if TYPE_CHECKING:
    from pathlib import Path

SMALL = [f"--set={s}" for s in ("nucleus_px=24", "context_px=24", "n_features=8", "training.batch_size=32",
                                "training.steps=21", "training.precision=fp32")]  # fmt: skip


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_crops_to_scores_bundle_and_profiles(tmp_path: Path) -> None:
    drawn_crops(48).write(tmp_path / "c.zarr")
    said = json.loads(
        run("train", "encoder", tmp_path / "c.zarr", "--out", tmp_path / "e", "--label", "Metadata_Treatment",
            "--folds", 2, *SMALL, "--json")
    )  # fmt: skip
    assert [row["group kept whole"] for row in said["levels"]] == ["nucleus", "field", "plate"]
    assert (tmp_path / "e" / "levels.csv").is_file()
    card = (tmp_path / "e" / "README.md").read_text()
    assert "balanced accuracy" in card
    out = tmp_path / "p.parquet"
    run("embed", tmp_path / "c.zarr", "--model", tmp_path / "e", "--out", out, "--origin", "generated")
    profiles = Profiles.read(out)
    assert len(profiles.features) == 8
    assert set(profiles.column("Metadata_Origin")) == {"generated"}


def test_nuclei_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    crops = drawn_crops(48)
    crops.metadata.loc[:5, "Metadata_Treatment"] = ""
    crops.write(tmp_path / "c.zarr")
    said = json.loads(
        run("train", "encoder", tmp_path / "c.zarr", "--out", tmp_path / "e", "--label", "Metadata_Treatment",
            "--folds", 2, "--no-levels", *SMALL, "--json")
    )  # fmt: skip
    assert said["n_unlabelled"] == 6
    assert said["levels"][0]["nuclei"] == 42
    assert load_encoder(tmp_path / "e").classes == ("a", "b")


def test_a_run_is_begun_again_with_overwrite_and_refused_without_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_crops(24).write(tmp_path / "c.zarr")
    words = ["train", "encoder", tmp_path / "c.zarr", "--out", tmp_path / "e", *SMALL]
    self_supervised = "--set=objective=self_supervised"
    run(*words, self_supervised)
    run(*words, self_supervised, "--set=training.seed=1", "--overwrite")
    shutil.rmtree(tmp_path / "e")
    monkeypatch.setattr("image2reg.nuclei.crops.Crops.read", None)
    with pytest.raises(
        ValueError, match=r"e-run: holds the training run of .*e\. Pass --resume to continue it"
    ):
        run(*words, self_supervised)


def test_a_label_in_disguise_never_trains(tmp_path: Path) -> None:
    crops = drawn_crops(24)
    crops.metadata["Metadata_Treatment"] = crops.metadata["Metadata_Plate"].map(
        {"p0": "a", "p1": "b", "p2": "b"}
    )
    crops.write(tmp_path / "c.zarr")
    with pytest.raises(ValueError, match="'a' occurs in one plate only"):
        run(
            "train",
            "encoder",
            tmp_path / "c.zarr",
            "--out",
            tmp_path / "e",
            "--label",
            "Metadata_Treatment",
            *SMALL,
        )
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("words", ["embed crops.zarr --model runs/encoder", "genes --network graph"])
def test_a_table_of_another_format_is_refused_before_any_work(tmp_path: Path, words: str) -> None:
    with pytest.raises(DataError, match=r"p\.npy: profiles are written as \.csv or \.parquet"):
        run(*words.split(), "--out", tmp_path / "p.npy")


@pytest.mark.parametrize(
    "words",
    [
        "train encoder {crops} --label Metadata_Treatment",
        "embed {crops} --model runs/encoder",
        "explain {crops} --label Metadata_Treatment --control DMSO",
        "link --source {table} --target genes.parquet",
        "retrieve {table} --label Metadata_Mechanism",
        "retrieve other.parquet --label Metadata_Mechanism --crops {crops}",
        "network --interactions {table} --targets genes.txt",
        "network --interactions i.tsv --targets genes.txt --expression {table}",
        "link --source p.parquet --target genes.parquet --candidates {table}",
        "genes --network {crops}",
    ],
)
def test_no_result_replaces_what_it_is_made_of(tmp_path: Path, words: str) -> None:
    crops, table = tmp_path / "crops.zarr", tmp_path / "profiles.parquet"
    crops.mkdir()
    table.write_bytes(b"numbers")
    typed = words.format(crops=crops, table=table).split()
    with pytest.raises(ConfigurationError, match=r"is the input .* or holds it, and would replace it"):
        run(*typed, "--out", tmp_path, "--overwrite")
    assert crops.is_dir()
    assert table.read_bytes() == b"numbers"


def stop_after(n: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ctrl-C while the level or input after the first `n` is being scored; gives what was scored."""
    from image2reg.embedding import ablation, crossvalidation, levels

    seen: list[str] = []

    def scored(*given: object, **named: object) -> object:
        if len(seen) == n:
            signal.raise_signal(signal.SIGINT)
        seen.append(f"{named.get('variant', '')} {named['group']}".strip())
        return crossvalidation.cross_validate(*given, **named)  # type: ignore[arg-type]

    for module in (levels, ablation):
        monkeypatch.setattr(module, "cross_validate", scored)
    return seen


def test_a_cross_validation_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_crops(48).write(tmp_path / "c.zarr")
    words = [
        "train",
        "encoder",
        tmp_path / "c.zarr",
        "--label",
        "Metadata_Treatment",
        "--folds",
        2,
        *SMALL,
        "--json",
    ]
    whole = json.loads(run(*words, "--ablation", "--out", tmp_path / "whole"))
    stop_after(4, monkeypatch)
    stopped = CliRunner().invoke(app, list(map(str, [*words, "--ablation", "--out", tmp_path / "e"])))
    assert stopped.exit_code == 130
    assert "3 of the levels, 1 of the ablation, kept in" in str(stopped.exception)
    assert not (tmp_path / "e").exists()
    seen = stop_after(-1, monkeypatch)
    resumed = json.loads(run(*words, "--ablation", "--out", tmp_path / "e", "--resume"))
    assert len(seen) == 7  # of 3 levels and 8 inputs
    assert resumed["levels"] == whole["levels"]
    assert resumed["ablation"] == whole["ablation"]
    assert len(pd.read_csv(tmp_path / "e" / "ablation.csv")) == 8
    # other settings: refused before any work, and nothing is taken over by a run that begins anew
    other = [*words, "--out", tmp_path / "e", "--overwrite", "--set=training.steps=22"]
    with pytest.raises(ConfigurationError, match="steps: 21 -> 22"):
        run(*other, "--resume")
    assert len(seen) == 7
    again = json.loads(run(*other))
    assert len(seen) == 7 + 3
    assert not list((tmp_path / "e-run").rglob("fold-*"))
    assert again["levels"] != whole["levels"]
    last = [*words[:-1], "--no-levels", "--set=n_features=12", "--out", tmp_path / "e", "--overwrite"]
    monkeypatch.setattr("sys.argv", ["/bin/image2reg", *map(str, last)])
    told = CliRunner().invoke(app, list(map(str, last)), catch_exceptions=False).stderr
    assert told.startswith("levels: plate (0 of 2)\nlevels: plate, fold 1 of 2 done (1 of 2)\n")
    card = (tmp_path / "e" / "README.md").read_text()
    assert f"image2reg {shlex.join(map(str, last))}\n" in card
    assert "| Nuclei_Embedding_000 … Nuclei_Embedding_011 (12) |" in card
    assert len(pd.read_csv(tmp_path / "e" / "levels.csv")) == 1
    assert not (tmp_path / "e" / "ablation.csv").exists()


def test_a_network_without_a_folder_does_not_promise_to_be_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted(2, "Interrupted at step 3; stored as /tmp/x. Continue with --resume.")

    monkeypatch.setattr("image2reg.models.train.fit", interrupted)
    crops = drawn_crops(24)
    with pytest.raises(Interrupted, match=r"^Interrupted; the network that was being trained is not kept\.$"):
        train_encoder(crops, crops.column("Metadata_Treatment"), small_recipe(2))
    nuclei = crops.metadata.assign(Nuclei_AreaShape_Area=np.arange(24.0))
    with pytest.raises(Interrupted, match=r"^Interrupted; the network that was being trained is not kept\.$"):
        cross_validate_wells(Profiles(nuclei, source="drawn"), crops.column("Metadata_Treatment"), n_folds=2)
