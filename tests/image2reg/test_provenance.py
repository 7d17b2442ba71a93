"""run.json: complete, JSON, and equal for equal content."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest
from pydantic import BaseModel

from image2reg.errors import DataError
from image2reg.provenance import (
    file_sha256,
    git_commit,
    installed_versions,
    json_sha256,
    run_record,
    write_run,
)


class Options(BaseModel):
    steps: int = 3
    names: tuple[str, ...] = ("a",)


def test_a_record_is_written_and_replaced(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(b"path\n")
    record = run_record(
        seed=4, configuration=Options(), inputs={"manifest": manifest}, command=["virtualstain", "train"]
    )
    path = write_run(tmp_path / "out", record)
    write_run(tmp_path / "out", record)
    read = json.loads(path.read_text())
    assert read["seed"] == 4
    assert read["command"] == ["virtualstain", "train"]
    assert read["configuration"] == {"steps": 3, "names": ["a"]}
    assert read["inputs"]["manifest"]["sha256"] == hashlib.sha256(b"path\n").hexdigest()
    assert read["versions"].keys() >= {"python", "torch", "numpy", "virtualstain"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run.json"]


def test_equal_content_has_an_equal_hash():
    assert json_sha256({"a": 1, "b": [2]}) == json_sha256({"b": [2], "a": 1})
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})
    assert run_record(configuration=Options())["configuration_sha256"] == json_sha256(
        {"names": ["a"], "steps": 3}
    )


def test_versions_are_read_without_imports():
    assert installed_versions()["torch"].startswith("2.")


def test_the_commit_is_named_only_in_a_checkout(tmp_path, monkeypatch):
    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "x").write_text("1")
    subprocess.run([*git, "add", "x"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "x").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as git sets it for the hooks of another repository
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_a_missing_input_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        file_sha256(tmp_path / "none.csv")
