"""No file can run code: no source unpickles, evaluates text, unpacks an archive or opens a connection."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
from source_tree import ROOT, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "tarfile", "zipfile",
    "requests", "httpx", "aiohttp", "urllib.request", "http.client", "ftplib", "telnetlib",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "os.system", "os.popen",
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all",
    "shutil.unpack_archive", "pandas.read_pickle", "pandas.eval",
}  # fmt: skip
# `network.eval()` is torch's evaluation mode and stays; these mean the same on whatever object they are called.
METHODS = {"extractall", "read_pickle", "to_pickle", "load_state", "save_state"}
OPTIONS = {"allow_pickle", "shell", "trust_remote_code"}


def unsafe(text: str) -> Iterator[str]:
    """Each place of `text` that could run what a file says, under whatever name it was imported."""
    tree, names = ast.parse(text), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
            imported = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            imported = [str(node.module), *(f"{node.module}.{a.name}" for a in node.names)]
        else:
            continue
        yield from (
            f"line {node.lineno}: imports {name}"
            for name in imported
            if {name, name.partition(".")[0]} & MODULES
        )
    for node in ast.walk(tree):
        full = qualified(node, names)
        if full in CALLS and isinstance(getattr(node, "ctx", None), ast.Load):
            yield f"line {node.lineno}: {full}"
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield f"line {node.lineno}: .{node.attr}"
        if isinstance(node, ast.Call):
            for word in node.keywords:
                refused = isinstance(word.value, ast.Constant) and word.value.value is False
                if word.arg in OPTIONS and not refused:
                    yield f"line {node.lineno}: {word.arg} is not False"


def qualified(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{inner}.{node.attr}" if (inner := qualified(node.value, names)) else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def test_no_source_can_run_what_a_file_says() -> None:
    looked_at = sources()
    looked_at |= {p.name: p.read_text("utf-8") for p in (ROOT / "tests" / "benchmarks").rglob("*.py")}
    assert {name: found for name, text in looked_at.items() if (found := list(unsafe(text)))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "import joblib",
        "import torch\ntorch.load('x', weights_only=True)",
        "import torch as t\nt.load('x')",
        "from torch import load as read\nread('x')",
        "import torch\ntorch.save({}, 'x')",
        "accelerator.save_state(folder)",
        "reader = eval",
        "exec('x')",
        "archive.extractall('x')",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import full_load as y\ny(t)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import pandas as pd\npd.read_pickle('x')",
        "import urllib.request",
        "from urllib import request",
        "subprocess.run(command, shell=True)",
        "from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_each_way_to_run_a_file_is_seen(text: str) -> None:
    assert list(unsafe(text))


@pytest.mark.parametrize(
    "text",
    [
        "network.eval()",
        "from safetensors.torch import load\nload(b'')",
        "import yaml\nyaml.safe_load('a')",
        "compiled = 1",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import re\nre.compile('x')",
        "import torch\ntorch.compile(net)",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert list(unsafe(text)) == []
