"""What is written beside the code agrees with it: README and other pages, recipes, the top of the repository."""

from __future__ import annotations

import importlib
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import pytest
import typer
from source_tree import PACKAGES, ROOT, sources
from written_commands import (
    ABSOLUTE,
    application,
    blocks,
    commands,
    leaves,
    wrong_command,
    wrong_commands,
    wrong_python,
)

from image2reg.config import load_config, parse_yaml

# Recipe class by the ``kind:`` that a recipe file names; staining recipes name none.
RECIPES = {
    "stain": "virtualstain.recipe.Recipe",
    "segmenter": "image2reg.nuclei.segmenters.recipe.SegmenterRecipe",
    "morphgen-vae": "morphgen.recipe.VaeRecipe",
    "morphgen-diffusion": "morphgen.recipe.DiffusionRecipe",
}
CONFIGS = sorted((ROOT / "configs").glob("*"))

SETUP = ["pip install -e . && virtualstain demo", 'pip install -e ".[test]" && pytest']

DOCUMENTS = {
    "README.md",
    "LICENSE",
    "NOTICE",
    "CITATION.cff",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
}
SETTINGS = {"pyproject.toml", ".ci", ".gitignore", ".pre-commit-config.yaml"}
FOLDERS = {"virtualstain", "morphgen", "image2reg", "configs", "notebooks", "tests"}


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_readme_sets_up_with_two_lines(readme: str) -> None:
    lines = [line for _, content in blocks(readme) for line in content.splitlines()]
    assert [line for line in lines if line.startswith("pip install -e")] == SETUP


def test_readme_commands_are_those_of_the_program(readme: str) -> None:
    ours = [words for words in commands(readme) if words[0] in PACKAGES]
    assert {words[1] for words in ours if len(words) > 1} >= {"demo", "predict", "train"}
    assert wrong_commands(readme) == []


def test_readme_python_uses_public_names(readme: str) -> None:
    assert wrong_python(readme) == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_pages_link_to_files_that_are_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = [
        target
        for target in re.findall(r"\]\(([^)#\s]+)", text)
        if "://" not in target and not target.startswith("mailto:")
    ]
    named = re.findall(r"`((?:tests|configs|virtualstain|image2reg|morphgen)/[\w./-]*\w)`", text)
    placeholders = {target for target in named if target.rpartition("/")[2].isupper()}  # `weights/NAME`
    assert [t for t in [*links, *named] if t not in placeholders and not (ROOT / t).exists()] == []


@pytest.mark.parametrize("package", [p for p in PACKAGES if f"{p}.cli" in sources()])
def test_every_command_and_option_is_explained(package: str) -> None:
    app = application(package)
    assert app is not None
    for name, command in leaves(typer.main.get_command(app)).items():
        assert command.help, f"{package} {name}"
        assert [p.name for p in command.params if not getattr(p, "help", None)] == [], f"{package} {name}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_recipes_load_and_are_named_after_their_file(path: Path) -> None:
    assert path.suffix == ".yaml"
    text = path.read_text("utf-8")
    said = parse_yaml(text, where=path.name)
    module, _, name = RECIPES[said.get("kind", "stain")].rpartition(".")
    assert load_config(getattr(importlib.import_module(module), name), path).name == path.stem
    assert said["name"] == path.stem
    assert ABSOLUTE.search(text) is None


def test_recipes_are_there() -> None:
    assert {"brightfield-nuclei.yaml", "phase-neuron.yaml"} <= {path.name for path in CONFIGS}


def test_the_top_of_the_repository_holds_what_was_designed() -> None:
    assert top_of_repository() - (DOCUMENTS | SETTINGS | FOLDERS) == set()
    assert top_of_repository() >= DOCUMENTS | SETTINGS


def top_of_repository() -> set[str]:
    """First parts of all tracked paths; without git, what is there and not ignored."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        return {line.partition("/")[0] for line in listed.splitlines()}
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()]
    return {
        path.name for path in ROOT.iterdir() if not any(fnmatch(path.name, pattern) for pattern in ignored)
    }


# The same looks, at pages that are wrong.


def small_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def predict(
        inputs: list[Path], out: Annotated[Path, typer.Option()], tta: bool = False, tile: str = ""
    ) -> None:
        """Predict."""

    @app.command()
    def demo() -> None:
        """Show."""

    return app


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vs predict a.tif b.tif --out x --tta", None),
        ("vs predict a.tif --out=x --tile 1,2,3", None),
        ("vs demo", None),
        ("vs predict --help", None),
        ("vs forecast a.tif", "no command 'forecast'"),
        ("vs predict a.tif --out x --tiles 1,2", "no option --tiles"),
        ("vs predict --out x", "needs ['inputs']"),
        ("vs predict a.tif", "needs ['out']"),
        ("vs predict a.tif --out", "is given no value"),
        ("vs demo a.tif", "takes 0 arguments"),
    ],
)
def test_a_command_the_program_does_not_have_is_seen(line: str, problem: str | None) -> None:
    found = wrong_command(line.split(), small_app())
    assert (problem is None and found == []) or (problem is not None and problem in "".join(found))


def test_commands_are_found_in_pages() -> None:
    page = (
        "text\n```\n$ pip install -e . && virtualstain demo  # one\nvirtualstain predict a \\\n  --out 'b c'\n```\n"
        "```\nthe model's score 0.7\n```\n"
    )
    assert commands(page) == [
        ["pip", "install", "-e", "."],
        ["virtualstain", "demo"],
        ["virtualstain", "predict", "a", "--out", "b c"],
    ]


def test_a_page_that_promises_too_much_is_seen() -> None:
    line = "virtualstain predict a.tif --model no-such-model --out b"
    assert any(
        "no model no-such-model is shipped" in problem for problem in wrong_commands(f"```\n{line}\n```\n")
    )
    assert wrong_commands("```\npython tests/benchmarks/none.py --json\n```\n") == [
        "python tests/benchmarks/none.py --json: there is no tests/benchmarks/none.py"
    ]
    assert wrong_python("```python\nimport virtualstain as vs\nvs.dream()\nvs.read('x')\n```\n") == [
        "virtualstain.dream is not public"
    ]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a: /home/me/x", True),
        ("path: '/data/x'", True),
        ("x=/tmp/y", True),
        (r"C:\data", True),
        ("~/x", True),
        ("runs/x", False),
        ("a/b", False),
        ("github.com/google/data", False),
        ("1/2", False),
        ("https://zenodo.org/data", False),
    ],
)
def test_a_path_of_one_machine_is_seen(text: str, seen: bool) -> None:
    assert bool(ABSOLUTE.search(text)) is seen
