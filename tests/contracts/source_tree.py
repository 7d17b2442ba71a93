"""The project's sources as syntax trees, and who imports whom: what the contract tests look at."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("image2reg", "virtualstain", "morphgen")


def sources() -> dict[str, str]:
    """Text of every module of the packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return found


@dataclass(frozen=True)
class Import:
    """`importer` names `imported`, a module as far as it is known; `when`: "import", "call" or "types"."""

    importer: str
    imported: str
    when: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def imports(texts: Mapping[str, str]) -> list[Import]:
    """Every import statement and ``import_module("...")`` of the modules `texts` (dotted name to source)."""
    return [
        Import(name, target, when, line)
        for name, text in texts.items()
        for target, when, line in _targets(ast.parse(text), texts, "import")
    ]


def _targets(node: ast.AST, known: Mapping[str, str], when: str) -> Iterator[tuple[str, str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, when, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, f"line {child.lineno}: relative import; imports here are absolute"
            for alias in child.names:
                module = f"{child.module}.{alias.name}"
                yield (module if module in known else str(child.module)), when, child.lineno
        elif (
            isinstance(child, ast.Call)
            and _name(child.func).endswith("import_module")
            and isinstance(child.args[0], ast.Constant)
        ):
            yield str(child.args[0].value), "call", child.lineno
        if isinstance(child, ast.If) and _name(child.test).endswith("TYPE_CHECKING"):
            for inner in child.body:
                yield from _targets(ast.Module([inner], []), known, "types")
            for inner in child.orelse:
                yield from _targets(ast.Module([inner], []), known, when)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _targets(child, known, "call" if inside and when == "import" else when)


def _name(node: ast.AST) -> str:
    """``a.b.c`` of a name or an attribute, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """A way from a node back to itself, empty when there is none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for following in sorted(arrows.get(node, ())):
            if found := walk(following, [*way, node]):
                return found
        done.add(node)
        return []

    for node in sorted(arrows):
        if found := walk(node, []):
            return found
    return []
