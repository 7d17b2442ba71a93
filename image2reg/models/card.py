"""The model card (``README.md`` of a bundle), rendered from its specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from image2reg.models.spec import BundleSpec, Metric, Port

__all__ = ["render_card"]


def _cell(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows), ""]


def _port(role: str, port: Port) -> tuple[object, ...]:
    size = ", ".join("-" if v is None else f"{v:g}" for v in port.voxel_um)
    planes = "any" if port.n_planes is None else port.n_planes
    names = port.channels
    shown = ", ".join(names) if len(names) <= 8 else f"{names[0]} … {names[-1]} ({len(names)})"
    return role, shown, port.axes, size, f"±{port.voxel_tolerance:.0%}", planes


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _metric(metric: Metric) -> tuple[object, ...]:
    interval = "-" if metric.ci95 is None else f"{metric.ci95[0]:.3g} to {metric.ci95[1]:.3g}"
    return (
        metric.name,
        metric.channel or "all",
        _number(metric.value),
        interval,
        f"{metric.n} ({metric.level})",
        _number(metric.floor),
        _number(metric.ceiling),
        metric.note,
    )


def render_card(spec: BundleSpec) -> str:
    """Markdown with intended use, limits, evaluation, data and licences, training.

    Parameters
    ----------
    spec : BundleSpec

    Returns
    -------
    str
        Depends on `spec` alone; ``|`` and ``<`` in its texts are escaped.
    """
    training = spec.training
    lines = [f"# {spec.name} {spec.version}", "", _cell(spec.summary), ""]
    lines += ["## Intended use", "", _cell(spec.intended_use or "Not stated."), ""]
    lines += ["## Limits", "", *(f"- {_cell(limit)}" for limit in spec.limits or ("None stated.",)), ""]
    lines += ["## Input and output", ""]
    ports = [_port("input", port) for port in spec.inputs] + [_port("output", port) for port in spec.outputs]
    lines += _table(("", "channels", "axes", "voxel z, y, x (µm)", "tolerance", "planes"), ports)
    lines += ["## Evaluation", ""]
    if spec.metrics:
        head = ("score", "channel", "value", "95 % interval", "n (unit)", "floor", "ceiling", "note")
        lines += _table(head, map(_metric, spec.metrics))
        lines += [
            "Floor: the score of doing nothing clever. Ceiling: what repeats of the measurement allow.",
            "",
        ]
    else:
        lines += ["No scores are recorded.", ""]
    lines += ["## Data and licences", "", f"Weights: {_cell(spec.licence)}", ""]
    if spec.data:
        lines += _table(("data set", "licence", "credit"), ((d.name, d.licence, d.credit) for d in spec.data))
    lines += ["## Training", "", "```", *training.command.replace("```", "").splitlines(), "```", ""]
    facts = [
        f"Seed {training.seed}, {training.steps} steps, {training.minutes:.0f} minutes.",
        f"Split: {_cell(training.split)}." if training.split else "",
        f"Source: {_cell(training.git)}." if training.git else "",
        ", ".join(f"{_cell(k)} {_cell(v)}" for k, v in training.versions.items()),
    ]
    return "\n".join([*lines, *(fact for fact in facts if fact), ""])
