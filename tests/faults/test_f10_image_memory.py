"""F10: streaming from OME-Zarr to OME-Zarr takes memory that does not grow with the stack."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
import tifffile

from image2reg.images import Image, OmeZarrWriter, blend_tiles, channel_statistics, ome_zarr, read, read_box

pytest.importorskip("zarr", minversion="3", reason="OME-Zarr 0.5 is written with zarr 3")

TILE, STRIDE, BLOCK = (16, 96, 96), (12, 72, 72), (16, 144, 72)


def stack(folder, side, n_planes=16):
    """A stack written piece by piece."""
    path = folder / f"stack_{n_planes}_{side}.zarr"
    options = {"voxel_um": (0.5, 0.1, 0.1), "channels": ["BF"], "chunks": (16, 48, 48)}
    with OmeZarrWriter(path, shape=(n_planes, side, side), axes="ZYX", dtype="uint16", **options) as out:
        for y in range(0, side, 96):
            out[:, y : y + 96] = np.random.default_rng(y).integers(
                0, 999, (n_planes, 96, side), dtype=np.uint16
            )
    return path


def stream(source, target):
    image = read(source)

    def predict(boxes):
        # zarr's tasks leave cycles behind; without this the peak depends on when the collector runs.
        gc.collect()
        return np.stack([read_box(image.data, box)[None] for box in boxes]).astype(np.float32)

    options = {"voxel_um": image.voxel_um, "channels": ["same"], "chunks": (16, 72, 72)}
    with OmeZarrWriter(target, shape=image.shape, axes="ZYX", dtype="float32", **options) as out:
        blend_tiles(
            predict,
            shape=image.shape,
            tile=TILE,
            stride=STRIDE,
            n_channels=1,
            sink=lambda box, values: out.__setitem__(box, values[0]),
            block=BLOCK,
            batch_size=2,
        )


def peak_of(work, *arguments):
    gc.collect()
    gc.freeze()
    tracemalloc.start()
    try:
        work(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def test_four_times_the_stack_takes_the_same_memory(tmp_path):
    small, large = stack(tmp_path, 192), stack(tmp_path, 384)
    stream(small, tmp_path / "warm.zarr")
    peaks = [peak_of(stream, path, tmp_path / f"out_{path.stem}.zarr") for path in (small, large)]
    assert peaks[1] <= 1.15 * peaks[0], f"{peaks[0]} bytes for a stack, {peaks[1]} for four times the stack"
    found = read(tmp_path / "out_stack_16_384.zarr").load().data
    np.testing.assert_allclose(found, read(large).load().data, rtol=1e-6)


@pytest.mark.parametrize("work", ["statistics", "copy.zarr", "copy.ome.tif"])
def test_statistics_and_copies_take_the_memory_of_a_piece(work, tmp_path, monkeypatch):
    monkeypatch.setattr("image2reg.images.streaming._PIECE_BYTES", 2**18)
    monkeypatch.setitem(ome_zarr._VOLUME_CHUNK, "X", 96)

    def run(path):
        image = read(path)
        if work == "statistics":
            channel_statistics(image)
        else:
            image.write(tmp_path / f"{path.stem}_{work}", overwrite=True)

    # The smaller is nine pieces already: with fewer than can be under way at once it would not show their memory.
    small, large = stack(tmp_path, 96, n_planes=128), stack(tmp_path, 96, n_planes=512)
    run(stack(tmp_path, 96, n_planes=16))
    # zarr reads in threads: now and then a buffer is let go later. What grows with the stack is in each run.
    peaks = [min(peak_of(run, path) for _ in range(3)) for path in (small, large)]
    assert peaks[1] <= 1.3 * peaks[0]
    if work != "statistics":
        np.testing.assert_array_equal(
            read(tmp_path / f"{large.stem}_{work}").load().data, read(large).load().data
        )


def test_images_that_stay_on_disk_share_the_room_for_decoded_planes(tmp_path, monkeypatch):
    """A data set for which the memory is too small has thousands of images open."""
    values = np.random.default_rng(0).integers(0, 999, (4, 128, 128), dtype=np.uint16)
    for index in range(12):
        tifffile.imwrite(tmp_path / f"{index}.ome.tif", values, compression="zlib", photometric="minisblack")
    monkeypatch.setattr("image2reg.images.tiff_planes._CACHE_BYTES", 2 * values.nbytes)

    def visit():
        images = [read(tmp_path / f"{index}.ome.tif") for index in range(12)]
        for image in images:
            for plane in range(4):
                np.testing.assert_array_equal(image.data[plane, :9], values[plane, :9])

    assert peak_of(visit) < 6 * values.nbytes


def test_loading_takes_the_image_and_little_more(tmp_path):
    values = np.random.default_rng(0).integers(0, 999, (16, 256, 256), dtype=np.uint16)
    Image(values, "ZYX").write(tmp_path / "a.ome.tif")
    image = read(tmp_path / "a.ome.tif")
    assert peak_of(lambda: image.data[3:5, :10]) < values.nbytes // 10
    assert peak_of(image.load) < 2.2 * values.nbytes
