"""Command line of morphgen: thin over the Python functions of the same names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from image2reg.commands.options import AsJson, Device, Out, Overwrite, Settings
from image2reg.console import application, command_line, emit, progress_bar, run
from image2reg.errors import ConfigurationError

app = application(
    "morphgen", "Expression signatures to nucleus images, with proof that the images follow the signatures."
)
train = typer.Typer(name="train", help="Train an autoencoder, then a generator.", no_args_is_help=True)
app.add_typer(train)

Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")]
Data = Annotated[
    Path, typer.Option("--data", help="Crops (.zarr), or a manifest with images and label masks.")
]
Config = Annotated[
    str, typer.Option("--config", help="small, gpu, morphdiff, a YAML file or a shipped model's name.")
]
Match = Annotated[
    str, typer.Option("--match", help="Metadata column that crops and signatures have in common.")
]
HoldOut = Annotated[
    str,
    typer.Option(
        "--hold-out", help="Metadata column a tenth of whose values validates, never splitting one."
    ),
]
Fill = Annotated[
    bool, typer.Option("--fill-missing", help="Fill missing genes with 0 (unchanged) instead of refusing.")
]
Model = Annotated[str, typer.Option("--model", help="Name of a model (`morphgen models`) or its directory.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for images, tables and the report.")] = Path(
        "morphgen-demo"
    ),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Three held-out genes to images, beside controls and real (planted) nuclei, scored in a report."""
    from morphgen.demo import run_demo

    done = run_demo(out, overwrite=overwrite)
    emit({**done, "report": str(done["report"])}, done["text"], as_json=as_json)


@app.command()
def models(
    verify: Annotated[bool, typer.Option("--verify", help="Rerun each model's golden sample.")] = False,
    as_json: AsJson = False,
) -> None:
    """List shipped and local models with what they take, draw and score."""
    from morphgen.catalogue import catalogue, catalogue_lines

    rows = catalogue(verify=verify)
    emit({"models": rows}, catalogue_lines(rows), as_json=as_json)
    if any(row["problem"] for row in rows):
        sys.exit(4)


@train.command("vae")
def train_vae(
    data: Data,
    out: Out,
    config: Config = "",
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of weights and batches.")] = None,
    hold_out: HoldOut = "",
    resume: Resume = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train the morphology autoencoder: crops to latents and back."""
    from morphgen.runs import train_vae_from

    bundle = train_vae_from(
        data, out, config=config, overrides=_overrides(settings, seed), hold_out=hold_out, resume=resume,
        device=device, command=command_line("morphgen"),
    )  # fmt: skip
    _trained(bundle, as_json=as_json)


@train.command("diffusion")
def train_diffusion(
    data: Data,
    signatures: Annotated[Path, typer.Option("--signatures", help="GCT, GCTX, CSV or Parquet of z-scores.")],
    vae: Annotated[str, typer.Option("--vae", help="Autoencoder: a bundle of `morphgen train vae`.")],
    out: Out,
    config: Config = "",
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of weights, batches and noise.")] = None,
    match: Match = "Metadata_Perturbation",
    fill_missing: Fill = False,
    hold_out: HoldOut = "",
    resume: Resume = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train the generator: latents under signatures."""
    from morphgen.runs import train_diffusion_from

    bundle = train_diffusion_from(
        data, signatures, vae, out, config=config, overrides=_overrides(settings, seed), match=match,
        fill=fill_missing, hold_out=hold_out, resume=resume, device=device,
        command=command_line("morphgen"),
    )  # fmt: skip
    _trained(bundle, as_json=as_json)


def _overrides(settings: list[str] | None, seed: int | None) -> list[str]:
    return [*(settings or []), *([f"training.seed={seed}"] if seed is not None else [])]


def _trained(bundle: Any, *, as_json: bool) -> None:
    facts = {
        "bundle": str(bundle.directory),
        "steps": bundle.spec.training.steps,
        "minutes": bundle.spec.training.minutes,
        "notes": list(bundle.spec.limits),
    }
    text = f"model  {bundle.directory}  ({facts['steps']} steps, {facts['minutes']} minutes)"
    emit(facts, "\n".join([text, *(f"note: {note}" for note in facts["notes"])]), as_json=as_json)


@app.command()
def generate(
    model: Model,
    signatures: Annotated[Path, typer.Option("--signatures", help="GCT, GCTX, CSV or Parquet of z-scores.")],
    out: Out,
    n: Annotated[int, typer.Option("--n", help="Images per signature, exactly.")] = 32,
    control: Annotated[
        Path | None, typer.Option("--control", help="Control nuclei (.zarr) to begin at instead of noise.")
    ] = None,
    route: Annotated[
        str, typer.Option("--route", help="From controls: sdedit, inversion or flow.")
    ] = "sdedit",
    strength: Annotated[
        float | None, typer.Option("--strength", help="Noise of sdedit, 0 to 1; 0 returns the control.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps; default: the model's own.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", help="multistep, heun or euler (flow), ddim or dpm (diffusion)."),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="1: plain; above: further away from unconditional.")
    ] = None,
    corrections: Annotated[
        int | None,
        typer.Option("--corrections", help="Gradients that pull a nucleus to its told morphology; 0: none."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, signatures and metadata: same images.")] = 0,
    batch: Annotated[int, typer.Option("--batch", help="Images at once; changes time and memory only.")] = 32,
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: this part of the signatures only.")
    ] = None,
    fill_missing: Fill = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse signatures unlike those of training.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw nuclei under signatures: crops and a table of measured features."""
    from image2reg.atomic import refuse_existing, refuse_inputs
    from image2reg.engine import Shard
    from morphgen.crop_loading import open_crops
    from morphgen.generate import generate_to, shard_name
    from morphgen.runs import open_signatures
    from morphgen.sample import load

    if route not in {"sdedit", "inversion", "flow"}:
        raise ConfigurationError(f"--route {route}: choose sdedit, inversion or flow.")
    refuse_inputs([out], [signatures, *([control] if control else [])])
    part = Shard.parse(shard) if shard else Shard()
    refuse_existing(out / shard_name(part), overwrite=overwrite)
    generator = load(model, device=device)
    found = open_signatures(signatures, genes=list(generator.genes), fill=fill_missing)
    chosen = {
        "steps": steps, "sampler": sampler, "guidance": guidance, "strength": strength, "route": route,
        "corrections": corrections,
    }  # fmt: skip
    with progress_bar("images", silent=as_json) as progress:
        done = generate_to(
            out, generator, found.profiles, n=n, control=open_crops(control) if control else None, shard=part,
            strict=strict, overwrite=overwrite, progress=progress, seed=seed, batch=batch, **chosen,
        )  # fmt: skip
    notes = [*found.notes, *done["notes"]]
    lines = [f"warning: {text}" for text in done["warnings"]] + [f"note: {note}" for note in notes]
    lines += [f"{done['n_images']} images of {done['n_signatures']} signatures", f"crops     {done['crops']}"]
    lines += [f"profiles  {done['profiles']}"]
    emit(
        {**done, "crops": str(done["crops"]), "profiles": str(done["profiles"]), "notes": notes},
        "\n".join(lines),
        as_json=as_json,
    )


@app.command()
def evaluate(
    real: Annotated[Path, typer.Option("--real", help="Real crops (.zarr) of the same perturbations.")],
    generated: Annotated[Path, typer.Option("--generated", help="Generated crops (.zarr).")],
    signatures: Annotated[
        Path | None, typer.Option("--signatures", help="Their signatures, for the follow test.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option("--training", help="Crops trained on: floors and memorisation.")
    ] = None,
    match: Match = "Metadata_Perturbation",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for scores.csv and report.html.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score generated against real nuclei, beside floors and a ceiling, and test whether they follow the signatures."""
    from morphgen.runs import evaluate_files

    done = evaluate_files(
        real, generated, signatures=signatures, training=training, match=match, out=out, overwrite=overwrite
    )
    emit({"scores": done["scores"], "notes": done["notes"]}, done["text"], as_json=as_json)


def main() -> None:
    """Entry point of the command ``morphgen``."""
    run(app)
