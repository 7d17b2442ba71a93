"""Cut the sample that `morphgen.planted` ships out of the two public sets it comes from.

    python tests/benchmarks/write_planted_sample.py [--out FOLDER]

Nuclei: BBBC039 (CC0 1.0), nuclei that lie whole in their field and have an ordinary size and shape, each on its own:
everything beyond three pixels of its outline is background. Signatures: TA-ORF, U2OS over-expression (Rohban et al.
2017, BSD-3-Clause), every replicate well, z-scores clipped to +-10 and rounded to 1/16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.measure import label, regionprops
from staining_data import DATA, ROOT

SIZE, PER_FIELD, MARGIN_PX, COLUMNS = 64, 48, 3, 48
AREA_PX, LONGEST_PX, SOLIDITY = (250, 1000), 42, 0.93
# Counts per grey level kept: a tenth of the camera's noise in the background.
STEP = 2
Z_CLIP, Z_STEPS = 10.0, 16


def nuclei(folder: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """(n, 64, 64) uint16 background-subtracted, (n, 64, 64) bool outlines, and field and centre of each."""
    crops, masks, rows = [], [], []
    half = SIZE // 2
    for path in sorted((folder / "images").glob("*.tif")):
        image = tifffile.imread(path).astype(np.float64)
        instances = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))[..., 0]
        labels = label(instances, connectivity=1, background=0)
        image -= np.median(image[labels == 0])
        image, padded = np.pad(image, half), np.pad(labels, half)
        found = []
        for region in regionprops(labels):
            y0, x0, y1, x1 = region.bbox
            inside = min(y0, x0) > 1 and y1 < labels.shape[0] - 1 and x1 < labels.shape[1] - 1
            ordinary = region.solidity >= SOLIDITY and region.axis_major_length <= LONGEST_PX
            if inside and ordinary and AREA_PX[0] <= region.area <= AREA_PX[1]:
                found.append(region)
        keep = np.random.default_rng([39, len(rows)]).permutation(len(found))[:PER_FIELD]
        for region in (found[i] for i in sorted(keep)):
            y, x = (round(c) for c in region.centroid)
            window = np.s_[y : y + SIZE, x : x + SIZE]
            own = padded[window] == region.label
            reach = ndimage.distance_transform_edt(~own) <= MARGIN_PX
            others = ndimage.binary_dilation((padded[window] > 0) & ~own)
            crop = np.where(reach & ~(others & ~own), image[window], 0)
            crops.append(np.clip(np.round(crop / STEP) * STEP, 0, 65535).astype(np.uint16))
            masks.append(own)
            rows.append({"Metadata_Field": path.stem.split("_w1")[0].removeprefix("IXMtest_"),
                         "Metadata_CenterY_px": y, "Metadata_CenterX_px": x})  # fmt: skip
    return np.stack(crops), np.stack(masks), pd.DataFrame(rows)


def signatures(folder: Path) -> pd.DataFrame:
    """One row per over-expression well: gene, allele, ORF, plate, then 978 landmark z-scores by symbol."""
    z = pd.read_csv(folder / "l1000_z_978genes_x_1092wells.csv.gz", index_col=0)
    wells = pd.read_csv(folder / "well_metadata.csv.gz").set_index("id").loc[z.columns]
    wells = wells[wells.pert_type == "trt_oe"]
    metadata = pd.DataFrame(
        {
            "Metadata_Perturbation": wells.pert_id,
            "Metadata_Gene": wells.x_genesymbol_mutation.str.split("_").str[0],
            "Metadata_Allele": wells.x_genesymbol_mutation,
            "Metadata_Plate": wells.det_plate,
            "Metadata_Well": wells.det_well,
        }
    ).astype(str)
    values = np.round(z[wells.index].T.clip(-Z_CLIP, Z_CLIP) * Z_STEPS) / Z_STEPS
    return pd.concat([metadata, values.astype(np.float16)], axis=1).sort_values(
        ["Metadata_Gene", "Metadata_Perturbation", "Metadata_Plate"]
    ).reset_index(drop=True)  # fmt: skip


def mosaic(crops: np.ndarray) -> np.ndarray:
    """Crops as tiles of one sheet, row by row, padded with empty tiles."""
    rows = -(-len(crops) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, SIZE, SIZE), crops.dtype)
    sheet[: len(crops)] = crops
    return sheet.reshape(rows, COLUMNS, SIZE, SIZE).swapaxes(1, 2).reshape(rows * SIZE, COLUMNS * SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "morphgen" / "samples" / "planted")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    crops, masks, index = nuclei(options.data / "bbbc039_u2os_hoechst")
    Image.fromarray(mosaic(crops)).save(options.out / "nuclei.png", optimize=True)
    Image.fromarray(mosaic(masks.astype(np.uint8) * 255) > 0).save(
        options.out / "outlines.png", optimize=True
    )
    index.to_csv(options.out / "nuclei.csv", index=False)
    wells = signatures(options.data / "rohban_ta_orf_l1000_u2os")
    wells.to_parquet(
        options.out / "signatures.parquet", compression="zstd", compression_level=19, index=False
    )
    print(len(crops), index.Metadata_Field.nunique(), wells.shape, wells.Metadata_Perturbation.nunique())


if __name__ == "__main__":
    main()
