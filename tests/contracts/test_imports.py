"""Importing is cheap: in a fresh interpreter no heavy library is loaded. Modules are counted, not seconds."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_tree import PACKAGES, ROOT, imports, sources

NETWORKS_AND_PLOTS = {"torch", "monai", "diffusers", "accelerate", "torchvision", "matplotlib"}
HEAVY = NETWORKS_AND_PLOTS | {"zarr", "tifffile", "skimage", "sklearn", "scipy", "pandas"}


def modules_after(statement: str) -> set[str]:
    """Names in ``sys.modules`` after `statement`, beyond those of an interpreter that just started."""
    code = (
        f"import json, sys\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def top_names(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_but_itself(package: str) -> None:
    loaded = modules_after(f"import {package}; dir({package}); {package}.__version__")
    assert top_names(loaded) & HEAVY == set()
    # importlib.metadata brings the most (email, zipfile ...); one heavy library alone would bring hundreds.
    assert len(loaded) < 100
    assert {name for name in loaded if top_names({name}) & set(PACKAGES)} == {package}


@pytest.mark.parametrize("module", ["images", "tables", "models", "config", "errors", "atomic"])
def test_the_core_without_its_networks_loads_no_torch(module: str) -> None:
    assert top_names(modules_after(f"import image2reg.{module}")) & NETWORKS_AND_PLOTS == set()


def test_the_command_line_answers_help_without_heavy_libraries() -> None:
    loaded = modules_after("import typer, virtualstain.cli\ntyper.main.get_command(virtualstain.cli.app)")
    assert top_names(loaded) & HEAVY == set()


def test_reading_is_offered_without_torch() -> None:
    loaded = modules_after("import virtualstain as vs; vs.read, vs.write, vs.Image")
    assert top_names(loaded) & NETWORKS_AND_PLOTS == set()


def test_the_look_sees_a_heavy_library() -> None:
    assert top_names(modules_after("import pandas")) & HEAVY == {"pandas"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(dir(module)) == sorted(module.__all__)
    for name in module.__all__:
        thing = getattr(module, name)
        assert name == "__version__" or thing.__doc__, f"{package}.{name}"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize(
    "package", [name for name in sources() if (ROOT.joinpath(*name.split(".")) / "__init__.py").is_file()]
)
def test_no_public_name_of_a_package_is_also_a_module_of_it(package: str) -> None:
    """Importing the module would replace the function: what ``package.name`` is would depend on history."""
    public = set(getattr(importlib.import_module(package), "__all__", ()))
    modules = {name.rpartition(".")[2] for name in sources() if name.rpartition(".")[0] == package}
    assert public & modules == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_what_type_checkers_see_is_what_is_there(package: str) -> None:
    """The imports for types, the table of homes and ``__all__`` list the same names from the same modules."""
    text = (ROOT / package / "__init__.py").read_text("utf-8")
    typed = {
        alias.asname or alias.name: node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module not in {"__future__", "typing"}
        for alias in node.names
    }
    module = importlib.import_module(package)
    assert typed == getattr(module, "_HOME", {})
    assert {*typed, "__version__"} == set(module.__all__)


def test_every_library_that_is_imported_is_declared() -> None:
    project = pyproject()["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {canonicalize_name(Requirement(line).name) for lines in lists for line in lines}
    providers = packages_distributions()
    missing = {
        str(found)
        for found in imports(sources())
        if (top := found.imported.partition(".")[0]) not in {*PACKAGES, *sys.stdlib_module_names}
        and not declared & {canonicalize_name(name) for name in providers.get(top, [top])}
    }
    assert missing == set()


def test_each_command_has_its_function() -> None:
    for command, target in pyproject()["project"]["scripts"].items():
        module, _, function = target.partition(":")
        assert re.fullmatch(r"[a-z0-9]+\.cli", module), command
        assert module in sources(), (
            f"pyproject.toml: the command {command} is {target}, and there is no {module}"
        )
        assert callable(getattr(importlib.import_module(module), function))


def test_models_are_listed_without_torch_and_loaded_without_its_compiler() -> None:
    listed = modules_after("from virtualstain.catalogue import catalogue\nassert catalogue()")
    assert top_names(listed) & HEAVY == set()
    loaded = modules_after("from virtualstain.model import load\nload('brightfield-nuclei')")
    assert "torch" in loaded
    assert "torch._dynamo" not in loaded  # as long in coming as torch itself
