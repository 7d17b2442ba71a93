"""The command lines and the Python on a Markdown page, and what in them the program does not have."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer
from source_tree import PACKAGES, ROOT, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHOUT_WEIGHTS = {"classical", "texture"}  # segmenters that need no training
WEIGHTS = [ROOT / package / "weights" for package in PACKAGES]

# Of one machine: a home, a drive, a mount. `/` alone is division, and a URL is not a path.
ABSOLUTE = re.compile(
    r"""(?:^|[\s"'=:(\[,])(~/|/(?:home|Users|root|mnt|media|data|tmp|work|opt|scratch)\b|[A-Za-z]:\\)"""
)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of the fenced code blocks of a Markdown page."""
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def commands(text: str) -> list[list[str]]:
    """Each command line in the code blocks, as words; ``$ ``, comments and what a program printed are left out."""
    found = []
    for line in (line for _, content in blocks(text) for line in content.replace("\\\n", " ").splitlines()):
        line = line.strip().removeprefix("$ ")  # noqa: PLW2901
        if line.split(" ")[0] not in {"pip", "python", *PACKAGES}:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return found


def shipped(name: str) -> Path | None:
    """Folder of a shipped model."""
    return next((root / name for root in WEIGHTS if (root / name).is_dir()), None)


def leaves(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command by its words, those of sub-groups too (``train segmenter``)."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= (
            leaves(command, f"{prefix}{name} ") if hasattr(command, "commands") else {prefix + name: command}
        )
    return found


def wrong_command(words: list[str], app: typer.Typer) -> list[str]:
    """What a command line says that the application does not know, and what it needs and is not given."""
    name, rest = (words[1] if len(words) > 1 else ""), words[2:]
    known = leaves(typer.main.get_command(app))
    if rest and f"{name} {rest[0]}" in known:
        name = f"{name} {rest.pop(0)}"
    if name in {"", "--help"}:
        return []
    if name not in known:
        return [f"no command {name!r}; there are {sorted(known)}"]
    parameters = known[name].params
    options = {opt: p for p in parameters for opt in (*p.opts, *p.secondary_opts) if opt.startswith("-")} | {
        "--help": None
    }
    given, positional, problems = set(), 0, []
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if not word.startswith("-"):
            positional += 1
        elif word not in options:
            problems.append(f"{name} has no option {word}; it has {sorted(options)}")
        elif (option := options[word]) is not None:
            given.add(option.name)
            if not option.is_flag and not value:
                problems += [] if rest else [f"{name} {word} is given no value"]
                del rest[:1]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    if positional < sum(p.required for p in arguments) and "--help" not in words:
        problems.append(f"{name} needs {[p.name for p in arguments if p.required]}, {positional} given")
    if positional > sum(p.nargs for p in arguments) and not any(p.nargs < 0 for p in arguments):
        problems.append(f"{name} takes {len(arguments)} arguments, {positional} given")
    needed = {p.name for p in options.values() if p is not None and p.required}
    return problems + (
        [f"{name} needs {sorted(needed - given)}"] if needed - given and "--help" not in words else []
    )


def application(package: str) -> typer.Typer | None:
    return importlib.import_module(f"{package}.cli").app if f"{package}.cli" in sources() else None


def wrong_commands(text: str) -> list[str]:
    """What would not run of a page's command lines: unknown command, option, model, recipe or script."""
    problems = []
    for words in commands(text):
        where = " ".join(words)
        if words[0] in PACKAGES:
            app = application(words[0])
            found = wrong_command(words, app) if app else [f"{words[0]} has no command line"]
            problems += [f"{where}: {problem}" for problem in found]
        elif (
            words[0] == "python"
            and len(words) > 1
            and words[1].endswith(".py")
            and not (ROOT / words[1]).is_file()
        ):
            problems.append(f"{where}: there is no {words[1]}")
        for option, word in pairwise(words):
            named = option == "--model" and re.fullmatch(r"[a-z0-9-]+", word)
            if named and word not in WITHOUT_WEIGHTS and not shipped(word):
                problems.append(f"{where}: no model {word} is shipped")
            if option == "--config" and not is_recipe(word):
                problems.append(f"{where}: no recipe {word} is shipped")
    return problems


def is_recipe(word: str) -> bool:
    """A shipped model's recipe by its name, a file of ours by its path, or a file of the reader's own."""
    if word.endswith(".yaml"):
        return not word.startswith("configs/") or (ROOT / word).is_file()
    folder = shipped(word)
    return folder is not None and (folder / "config.yaml").is_file()


def wrong_python(text: str) -> list[str]:
    """Names of our packages that the Python blocks of a page use and that are not public."""
    problems = []
    for language, content in blocks(text):
        if language not in {"python", "py"}:
            continue
        tree = ast.parse(content)
        aliases = {
            a.asname or a.name: a.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for a in node.names
            if a.name in PACKAGES
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in aliases
            ):
                package = aliases[node.value.id]
                if node.attr not in importlib.import_module(package).__all__:
                    problems.append(f"{package}.{node.attr} is not public")
    return problems
