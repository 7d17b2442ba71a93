"""Command line of image2reg: one line per subcommand; what they do is in `image2reg.commands`."""

from __future__ import annotations

import typer

from image2reg.commands import (
    embedding,
    explaining,
    genes,
    growth,
    linking,
    nuclei,
    retrieval,
    screening,
    segmentation,
)
from image2reg.console import application, run

app = application("image2reg", "Nuclei to features, genes, mechanisms and hits.")
train = typer.Typer(name="train", help="Train a model on your own images.", no_args_is_help=True)


app.add_typer(train)
app.command("segment")(segmentation.segment)
app.command("match")(segmentation.match)
app.command("models")(segmentation.models)
train.command("segmenter")(segmentation.train_segmenter)
app.command("features")(nuclei.features)
app.command("crops")(nuclei.crops)
train.command("encoder")(embedding.train_encoder)
app.command("embed")(embedding.embed)
app.command("explain")(explaining.explain)
app.command("growth")(growth.growth)
app.command("screen")(screening.screen)
app.command("retrieve")(retrieval.retrieve)
app.command("network")(genes.network)
app.command("genes")(genes.genes)
app.command("link")(linking.link)


def main() -> None:
    """Entry point of the command ``image2reg``."""
    run(app)
