"""From the shipped sample to ranked genes and a page, through the command line; and what is refused on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import image2reg
from morphgen import planted

SAMPLE = Path(image2reg.__file__).parent / "samples" / "gene-linking"


def image2reg_command(*words: object) -> subprocess.CompletedProcess[str]:
    code = "from image2reg.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("linked")
    steps = [
        ("network", "--interactions", SAMPLE / "interactions.tsv.gz", "--targets", SAMPLE / "profiles.csv.gz",
         "--out", folder / "graph", "--json"),
        ("genes", "--network", folder / "graph", "--out", folder / "genes.parquet", "--json"),
        ("link", "--source", SAMPLE / "profiles.csv.gz", "--target", folder / "genes.parquet", "--permutations", 20,
         "--out", folder / "linked", "--json"),
    ]  # fmt: skip
    said = {}
    for step in steps:
        done = image2reg_command(*step)
        assert done.returncode == 0, done.stderr
        said[step[0]] = json.loads(done.stdout)
    return folder, said


def test_the_sample_links_above_chance(linked: tuple[Path, dict]) -> None:
    folder, said = linked
    assert said["network"]["genes"] == said["genes"]["genes"] == 238
    assert said["network"]["lost"] == ["MAP3K9"]
    main = said["link"]["table"][0]
    assert main["auc"] == pytest.approx(0.622, abs=0.01)
    assert main["p"] == pytest.approx(1 / 21)
    assert said["link"]["absent"] == ["MAP3K9"]
    assert said["link"]["n_queries"] == 1
    assert len(pd.read_parquet(folder / "linked" / "rankings.parquet")) == 183
    assert json.loads((folder / "linked" / "run.json").read_text())["inputs"]["source"]["sha256"]


def test_the_page_holds_scores_and_genes_and_loads_nothing(linked: tuple[Path, dict]) -> None:
    page = (linked[0] / "linked" / "report.html").read_text("utf-8")
    for text in (
        "Beside every baseline",
        "published recipe",
        "train mean, euclidean",
        "MAP3K9",
        "TGFBR1",
        "image2reg",
        'text-anchor="end">238<',  # the last number of the axis lies inside the drawing
        "train mean falls below 0.5",
    ):
        assert text in page
    assert pd.read_parquet(linked[0] / "linked" / "queries.parquet")["rank"].min() == 1
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def plate_of_genes(folder: Path) -> Path:
    """Fields of planted nuclei, one a perturbed gene, and the manifest that names the gene (planted, not biology)."""
    wanted = {"JUN", "NFKBIA", "NFKBIB", "DVL2", "BMPR1B"}
    table = planted.signature_table("train")
    names = dict(zip(table.column("Metadata_Gene"), table.column("Metadata_Perturbation"), strict=True))
    chosen = [names[gene] for gene in sorted(wanted & set(names))]
    data = planted.dataset("train", n_per_signature=9, signatures=chosen)
    (folder / "images").mkdir()
    rows = []
    for k, gene in enumerate(data.signatures.column("Metadata_Gene")):
        nuclei = data.images[data.signature_index == k, 0].reshape(3, 3, 64, 64)
        field = nuclei.swapaxes(1, 2).reshape(192, 192)
        tifffile.imwrite(folder / "images" / f"{gene}.tif", (100 + 4000 * field).astype(np.uint16))
        rows.append({"path": f"images/{gene}.tif", "role": "input", "channel": "DNA", "Metadata_Plate": "1",
                     "Metadata_Well": gene, "Metadata_Perturbation": gene})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "plate.csv", index=False)
    return folder / "plate.csv"


def test_a_folder_of_images_becomes_ranked_genes(linked: tuple[Path, dict], tmp_path: Path) -> None:
    manifest = plate_of_genes(tmp_path)
    features = tmp_path / "features.parquet"
    steps = [
        ("segment", tmp_path / "images", "--model", "classical", "--diameter-px", 30, "--out", tmp_path / "labels"),
        ("features", manifest, tmp_path / "labels", "--voxel-um", 0.656, "--out", features),
        ("link", "--source", features, "--gene", "Metadata_Perturbation", "--select", "--permutations", 5,
         "--target", linked[0] / "genes.parquet", "--out", tmp_path / "linked", "--json"),
    ]  # fmt: skip
    for step in steps:
        done = image2reg_command(*step)
        assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "features left out" in said["notes"][0]
    ranked = pd.read_parquet(tmp_path / "linked" / "rankings.parquet")
    assert len(ranked) == len(pd.read_csv(manifest))
    assert (tmp_path / "linked" / "report.html").stat().st_size > 1000


def test_without_shuffles_there_is_no_p_and_the_command_on_the_page_can_be_pasted(
    linked: tuple[Path, dict], tmp_path: Path
) -> None:
    out = tmp_path / "my genes"
    words = ("link", "--source", SAMPLE / "profiles.csv.gz", "--target", linked[0] / "genes.parquet")
    done = image2reg_command(*words, "--permutations", 0, "--out", out)
    assert done.returncode == 0, done.stderr
    assert ", p " not in done.stdout
    assert pd.read_parquet(out / "table.parquet")["p"].isna().all()
    assert f"--out &#x27;{out}&#x27;" in (out / "report.html").read_text("utf-8")
    refused = image2reg_command(*words, "--batch", "Metadata_Plate", "--out", tmp_path / "x")
    assert "name with --replicate what replicates share" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [("--dimensions 5000", "238 genes, 238 dimensions of the 5000 asked for: no more than genes (diffusion)"),
     ("--dimensions 300 --method autoencoder", "238 genes, 300 dimensions: more than genes; --dimensions takes fewer"),
     ("--dimensions 9", "238 genes, 9 dimensions (diffusion)")],
)  # fmt: skip
def test_dimensions_other_than_expected_are_said(
    linked: tuple[Path, dict], tmp_path: Path, words: str, said: str
) -> None:
    done = image2reg_command(
        "genes", "--network", linked[0] / "graph", "--out", tmp_path / "g.parquet", *words.split()
    )
    assert done.stdout.startswith(said)


def test_existing_results_are_kept(linked: tuple[Path, dict]) -> None:
    folder, _ = linked
    again = image2reg_command("genes", "--network", folder / "graph", "--out", folder / "genes.parquet")
    assert again.returncode == 3
    assert "already exists" in again.stderr


def test_wrong_columns_end_with_three_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "t.txt").write_text("AKT1\nTP53\n")
    done = image2reg_command(
        "network",
        "--interactions",
        tmp_path / "bad.csv",
        "--targets",
        tmp_path / "t.txt",
        "--out",
        tmp_path / "graph",
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "columns ['a', 'b', 'c'] are not those of an interaction table" in done.stderr
    assert not (tmp_path / "graph").exists()


def test_a_hostile_gene_name_is_escaped_in_the_page(tmp_path: Path) -> None:
    from image2reg.linking.ranking import link
    from image2reg.report.linking import linking_report
    from image2reg.tables import Profiles

    names = [f"G{i}" for i in range(9)] + ["<script>alert(1)</script>"]
    frame = pd.DataFrame(
        {"Metadata_Gene": names, **{f"f{j}": [(i * (j + 3)) % 7 for i in range(10)] for j in range(4)}}
    )
    result = link(Profiles(frame), Profiles(frame), n_permutations=2)
    page = linking_report(tmp_path / "r.html", result, title="t", command="c").read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
