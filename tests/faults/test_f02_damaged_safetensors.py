"""F02: damaged safetensors files give a `BundleError` and nothing else, by their hash or by the format."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
from small_models import NETWORKS, rewrite_spec, small_bundle

from image2reg.errors import BundleError
from image2reg.models.bundle import load_bundle


def file_of(header: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# The header cases of the attacks list of the safetensors project, and what surrounds them.
HEADERS = {
    "shorter than the length prefix": b"\x08\x00",
    "a length beyond the file": file_of({}, length=1 << 40),
    "a header of 4 GB": struct.pack("<Q", (1 << 32) - 1) + b"{" * 64,
    "no JSON": file_of(b"{not json"),
    "not UTF-8": file_of(b"\xff\xfe\xfd"),
    "no object": file_of([1, 2]),
    "two tensors on the same bytes": file_of({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, b"\0" * 12),
    "offsets beyond the body": file_of({"a": tensor(0, 4000, [1000])}, b"\0" * 8),
    "offsets backwards": file_of({"a": tensor(8, 0, [2])}, b"\0" * 8),
    "a hole between tensors": file_of({"a": tensor(0, 4, [1]), "b": tensor(8, 12, [1])}, b"\0" * 12),
    "shape and bytes disagree": file_of({"a": tensor(0, 8, [3])}, b"\0" * 8),
    "a shape that overflows": file_of({"a": tensor(0, 8, [2**63, 2**63, 4])}, b"\0" * 8),
    "an unknown type": file_of({"a": tensor(0, 8, [1], "OBJECT")}, b"\0" * 8),
    "bytes after the last tensor": file_of({"a": tensor(0, 4, [1])}, b"\0" * 40),
    "deep nesting": file_of(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "empty": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_broken_headers_are_refused_even_with_a_fitting_hash(tmp_path, name):
    small_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(BundleError, match=r"model\.safetensors: damaged or changed"):
        load_bundle(tmp_path / "b")
    rewrite_spec(tmp_path / "b", lambda content: None)
    with pytest.raises(BundleError, match=r"model\.safetensors: is no safetensors file"):
        load_bundle(tmp_path / "b").build(NETWORKS)


@pytest.mark.parametrize("n_flips", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_noticed(tmp_path, n_flips):
    small_bundle(tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for position, mask in zip(
        rng.integers(len(whole), size=n_flips), rng.integers(1, 256, n_flips), strict=True
    ):
        content = bytearray(whole)
        content[position] ^= mask
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"model\.safetensors: damaged or changed"):
            load_bundle(tmp_path / "b")


@pytest.mark.parametrize("n_flips", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_flip_with_a_fitting_hash_raises_nothing_but_bundle_errors(tmp_path, n_flips):
    small_bundle(tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(3)
    for _ in range(n_flips):
        content = bytearray(whole)
        for position in rng.integers(header, size=rng.integers(1, 4)):
            content[position] ^= rng.integers(1, 256)
        path.write_bytes(content)
        rewrite_spec(tmp_path / "b", lambda content: None)
        with contextlib.suppress(BundleError):
            load_bundle(tmp_path / "b").build(NETWORKS)
