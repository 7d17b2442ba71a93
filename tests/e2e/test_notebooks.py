"""Every notebook runs from top to bottom in an empty folder, shows something in each last line, and is stored clean."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SHOW = "_shown_by_the_notebook"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What a reader must find among the shown results: notebooks are documentation, and wrong numbers in it are faults.
SHOWN = {
    "01_phase_to_stain": ["data:image/png", "ceiling", "5 planes in Z, but model 'phase-neuron'"],
    "02_nuclei_to_hits": ["data:image/png", "<td>True</td>", "<td>False</td>"],
    "03_signature_to_nuclei": ["data:image/png", "ceiling: second planted sample"],
    "04_profiles_to_genes_and_mechanisms": ["published recipe", "accuracy"],
}


def cells(path: Path, kind: str) -> list[str]:
    book = json.loads(path.read_text("utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def as_module(code: list[str]) -> str:
    """One script; the value of each cell's last line, which a notebook would show, goes to `SHOW`."""
    parts = [f"{SHOW} = []"]
    for text in code:
        tree = ast.parse(text)
        if isinstance(last := tree.body[-1], ast.Expr):
            call = ast.parse(f"{SHOW}.append(_)").body[0]
            call.value.args = [last.value]
            tree.body[-1] = ast.fix_missing_locations(ast.copy_location(call, last))
        parts.append(ast.unparse(tree))
    return "\n\n".join(parts)


def test_there_is_one_per_step() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs_and_stays_short(path: Path) -> None:
    book = json.loads(path.read_text("utf-8"))
    assert (book["nbformat"], book["metadata"]["language_info"]) == (4, {"name": "python"})
    assert len(book["cells"]) <= 12
    for cell in book["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert len(cells(path, "markdown")) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_in_an_empty_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(as_module(cells(path, "code")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shown = runpy.run_path(str(script))[SHOW]
    page = (
        "\n".join(getattr(value, "_repr_html_", value.__repr__)() for value in shown)
        + capsys.readouterr().out
    )
    for text in SHOWN[path.stem]:
        assert text in page
