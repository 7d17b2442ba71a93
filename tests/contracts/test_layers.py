"""The house keeps its shape: imports point one way, rooms form no circle, modules are short and well named"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from source_tree import PACKAGES, Import, circle, imports, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAY_IMPORT = {
    "image2reg": {"image2reg"},
    "virtualstain": {"virtualstain", "image2reg"},
    "morphgen": {"morphgen", "image2reg"},
}

# What people look at: commands, pages, windows. Nothing that computes may need one; they import each other.
# `staining_page`, `demo`, `runs`, `scored_runs`: what the command line of virtualstain shows, in modules of their own.
FACES = {"cli", "commands", "report", "napari", "web", "staining_page", "demo", "runs", "scored_runs"}

CATCH_ALL = {
    "base", "common", "core", "functions", "general", "generic", "helper", "helpers", "lib", "misc", "mixins", "other",
    "shared", "stuff", "support", "toolbox", "tools", "util", "utilities", "utils", "various",
}  # fmt: skip

HEAVY = {"torch", "monai", "diffusers", "matplotlib", "accelerate", "torchvision", "lpips"}
LIGHT_ROOMS = ("image2reg.images", "image2reg.tables", "image2reg.engine")

LINES, MEDIAN_LINES = 350, 180


def wrong_way(found: Iterable[Import]) -> list[str]:
    """Arrows against the direction of travel; a name used for types alone is an arrow too."""
    return [
        str(i)
        for i in found
        if (target := i.imported.partition(".")[0]) in PACKAGES
        and target not in MAY_IMPORT[i.importer.partition(".")[0]]
    ]


def import_circle(found: Iterable[Import]) -> list[str]:
    """Modules that cannot be imported in every order."""
    arrows = defaultdict(set)
    for i in found:
        if i.when == "import" and i.imported.partition(".")[0] in PACKAGES:
            arrows[i.importer].add(i.imported)
    return circle(arrows)


def room(module: str, rooms: set[str]) -> str:
    """A sub-package is a room, and so is each face; the modules beside them are their package's ground floor."""
    parts = module.split(".")
    if len(parts) > 1 and (parts[1] in FACES or ".".join(parts[:2]) in rooms):
        return ".".join(parts[:2])
    return parts[0]


def room_circle(found: Iterable[Import], modules: Iterable[str]) -> list[str]:
    """Rooms that need each other, imports inside functions counted."""
    rooms = {".".join(m.split(".")[:2]) for m in modules if m.count(".") > 1}
    arrows = defaultdict(set)
    for i in found:
        if i.when != "types" and i.imported.partition(".")[0] in PACKAGES:
            here, there = room(i.importer, rooms), room(i.imported, rooms)
            if here != there:
                arrows[here].add(there)
    return circle(arrows)


def faces_used(found: Iterable[Import]) -> list[str]:
    """Faces imported by what is no face."""
    return [
        str(i)
        for i in found
        if i.when != "types"
        and i.imported.partition(".")[0] in PACKAGES
        and FACES & set(i.imported.split(".")[1:2])
        and not FACES & set(i.importer.split(".")[1:2])
    ]


def badly_named(modules: Iterable[str]) -> list[str]:
    return [
        m
        for m in modules
        if set(m.split(".")) & CATCH_ALL or m.rpartition(".")[2].endswith(("_utils", "_helpers"))
    ]


def too_long(texts: Mapping[str, str]) -> list[str]:
    return [f"{name}: {n} lines" for name, text in texts.items() if (n := text.count("\n")) > LINES]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = sources()
    assert {"image2reg.errors", "virtualstain.cli", "morphgen"} <= set(found)  # the right folder is looked at
    return found


@pytest.fixture(scope="module")
def found(texts: dict[str, str]) -> list[Import]:
    return imports(texts)


def test_imports_point_one_way(found: list[Import]) -> None:
    assert wrong_way(found) == []


def test_no_module_is_part_of_an_import_circle(found: list[Import]) -> None:
    assert import_circle(found) == []


def test_no_room_needs_one_that_needs_it(found: list[Import], texts: dict[str, str]) -> None:
    assert room_circle(found, texts) == []


def test_faces_are_imported_by_nobody_else(found: list[Import]) -> None:
    assert faces_used(found) == []


def test_images_and_tables_do_without_networks_and_plots(found: list[Import]) -> None:
    assert [
        str(i) for i in found if i.importer.startswith(LIGHT_ROOMS) and i.imported.partition(".")[0] in HEAVY
    ] == []


def test_names_say_what_is_inside(texts: dict[str, str]) -> None:
    assert badly_named(texts) == []


def test_modules_are_short(texts: dict[str, str]) -> None:
    assert too_long(texts) == []
    assert statistics.median(text.count("\n") for text in texts.values()) <= MEDIAN_LINES


# The same looks, at houses that are wrong.


@pytest.mark.parametrize(
    "text",
    ["import virtualstain.model", "from virtualstain import model", "def f():\n    from morphgen import x",
     "import importlib\nimportlib.import_module('virtualstain.model')",
     "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import virtualstain"],
)  # fmt: skip
def test_an_arrow_the_wrong_way_is_seen(text: str) -> None:
    assert len(wrong_way(imports({"image2reg.genes.steiner": text}))) == 1
    assert len(wrong_way(imports({"morphgen.vae": "import virtualstain.model"}))) == 1
    assert wrong_way(imports({"virtualstain.model": "from image2reg.images import read"})) == []


def test_a_circle_is_seen() -> None:
    two = {"image2reg.a": "from image2reg.b import x", "image2reg.b": "import image2reg.c"}
    assert import_circle(imports({**two, "image2reg.c": "import image2reg.a"})) == [
        "image2reg.a",
        "image2reg.b",
        "image2reg.c",
        "image2reg.a",
    ]
    assert import_circle(imports({**two, "image2reg.c": "def f():\n    import image2reg.a"})) == []


def test_a_circle_of_rooms_is_seen_inside_functions_too() -> None:
    house = {
        "image2reg.images.image": "def f():\n    from image2reg.models.spec import Port",
        "image2reg.models.spec": "import image2reg.images.image",
        "image2reg.errors": "",
    }
    assert room_circle(imports(house), house) == ["image2reg.images", "image2reg.models", "image2reg.images"]
    ground = {
        "image2reg.errors": "import image2reg.images.image",
        "image2reg.images.image": "import image2reg.errors",
    }
    assert room_circle(imports(ground), ground) == ["image2reg", "image2reg.images", "image2reg"]


def test_a_face_behind_a_computation_is_seen() -> None:
    house = {
        "virtualstain.train": "def f():\n    from image2reg.report import page",
        "image2reg.report.page": "",
    }
    assert faces_used(imports(house)) == ["virtualstain.train:2 imports image2reg.report.page"]
    assert faces_used(imports({"virtualstain.cli": "import virtualstain.demo"})) == []


def test_long_and_vague_modules_are_seen() -> None:
    vague = ["image2reg.utils", "image2reg.image_utils", "image2reg.common.io"]
    assert badly_named([*vague, "image2reg.baseline"]) == vague
    assert too_long({"image2reg.x": "\n" * 351, "image2reg.y": "\n" * 350}) == ["image2reg.x: 351 lines"]
