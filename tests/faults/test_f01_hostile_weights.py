"""F01: weights that run code when unpickled are refused, and nothing runs.

The payloads are written out by hand, opcode by opcode: pickle is imported nowhere, not even here.
"""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from small_models import NETWORKS, rewrite_spec, small_bundle

from image2reg.errors import BundleError
from image2reg.models.bundle import load_bundle


def pickled_command(sentinel) -> bytes:
    """What ``os.system("touch ...")`` looks like as a protocol-0 pickle."""
    return f"cposix\nsystem\n(S'touch {sentinel}'\ntR.".encode()


def torch_zip(sentinel) -> bytes:
    """The layout ``torch.save`` writes since 1.6, with the command as its ``data.pkl``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled_command(sentinel))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def torch_legacy(sentinel) -> bytes:
    """The layout before 1.6: magic number, protocol, system information, then the pickle."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    return magic + b"\x80\x02M\xe9\x03." + pickled_command(sentinel)


def header_with_pickle(sentinel) -> bytes:
    """A safetensors length prefix in front of a pickle."""
    content = pickled_command(sentinel)
    return struct.pack("<Q", len(content)) + content


@pytest.mark.parametrize("payload", [pickled_command, torch_zip, torch_legacy, header_with_pickle])
def test_renamed_payloads_are_refused_and_do_not_run(tmp_path, payload):
    sentinel = tmp_path / "ran"
    small_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(payload(sentinel))
    with pytest.raises(BundleError, match=r"model\.safetensors: damaged or changed"):
        load_bundle(tmp_path / "b")
    rewrite_spec(tmp_path / "b", lambda content: None)  # the sender computed the hash too
    bundle = load_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"model\.safetensors: is no safetensors file") as caught:
        bundle.build(NETWORKS)
    assert caught.value.exit_code == 4
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "name", ["model.pt", "pytorch_model.bin", "last.ckpt", "model.pkl", "weights.npy", "run.py"]
)
def test_files_of_other_kinds_are_refused_by_name(tmp_path, name):
    sentinel = tmp_path / "ran"
    small_bundle(tmp_path / "b")
    (tmp_path / "b" / name).write_bytes(torch_zip(sentinel))
    with pytest.raises(BundleError, match=rf"{name}: not listed in files"):
        load_bundle(tmp_path / "b")
    rewrite_spec(tmp_path / "b", lambda content: content["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="is of a kind that is not accepted; accepted are"):
        load_bundle(tmp_path / "b")
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["bundle.zip", "bundle.tar.gz"])
def test_an_archive_is_no_bundle(tmp_path, name):
    (tmp_path / name).write_bytes(torch_zip(tmp_path / "ran"))
    with pytest.raises(
        BundleError, match=r"A bundle is a directory with bundle\.json; archives are not read"
    ):
        load_bundle(tmp_path / name)
