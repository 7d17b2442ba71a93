"""Draw README's figure from the shipped sample and the shipped model: phase, predicted, real.

python tests/benchmarks/write_figure.py
"""

from __future__ import annotations

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from image2reg.images import read
from virtualstain.demo import MODEL, SAMPLE
from virtualstain.model import load

GAP, LABEL = 6, 18


def grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def main() -> None:
    model, phase = load(MODEL), read(SAMPLE / "phase.ome.tif")
    stains = read(SAMPLE / "stains.ome.tif").to_axes("CZYX").load()
    predicted = model.predict(phase).image.data[:, 0]
    middle = phase.to_axes("CZYX").load().data[0, 6].astype(float)
    height, width = middle.shape
    sheet = Picture.new("L", (3 * width + 2 * GAP, 3 * (height + LABEL)), 255)
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(model.outputs):
        real = stains.data[stains.channel_index(name), 0].astype(float)
        limits = np.percentile(
            real, (0.5, 99.8)
        )  # one contrast for predicted and real, set by the real stain
        images = (
            grey(middle, *np.percentile(middle, (0.5, 99.5))),
            grey(predicted[row], *limits),
            grey(real, *limits),
        )
        words = ("phase, plane 7 of 13", f"{name}, predicted", f"{name}, real")
        for column, (image, text) in enumerate(zip(images, words, strict=True)):
            x, y = column * (width + GAP), row * (height + LABEL)
            draw.text((x + 2, y + 3), text, fill=0)
            sheet.paste(Picture.fromarray(image), (x, y + LABEL))
    sheet.save(SAMPLE / "figure.png", optimize=True)


if __name__ == "__main__":
    main()
