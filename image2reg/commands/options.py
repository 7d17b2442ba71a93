"""Options that several subcommands, of all three programs, share: worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", help="Where results go; refused when it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Tta = Annotated[bool, typer.Option("--tta", help="Average over eight turns and mirrorings (8 x the time).")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything drawn at random.")]
Resume = Annotated[bool, typer.Option("--resume", help="Do only what is missing.")]
Config = Annotated[str, typer.Option("--config", help="A YAML file, or the name of a shipped recipe.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="a.b=value; overrides the recipe.")]
Workers = Annotated[int, typer.Option("--workers", help="Worker processes.")]
NucleusChannel = Annotated[
    str | None,
    typer.Option(
        "--channel",
        help="Channel with the nuclei: its name or position in the images, or what stands in the names of files "
        "that hold one channel each.",
    ),
]
DiameterPx = Annotated[
    float | None, typer.Option("--diameter-px", help="Typical nucleus diameter; measured when not given.")
]
DiameterUm = Annotated[
    float | None,
    typer.Option("--diameter-um", help="The same in micrometres (14 where only the pixel size is known)."),
]
PixelUm = Annotated[
    float | None, typer.Option("--voxel-um", help="Pixel size in micrometres, for images that do not say.")
]
