"""What every command line of the project shares: one door for errors, results on stdout, progress on stderr."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import typer

from image2reg.errors import ProjectError
from image2reg.interruption import Interrupted

__all__ = ["application", "command_line", "emit", "plain", "progress_bar", "run"]


LINE_SECONDS = 30.0


def application(name: str, summary: str) -> typer.Typer:
    """Make the command line `name`: help without a subcommand, ``--version``, our own handling of errors."""
    app = typer.Typer(
        name=name, help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )

    def show_version(asked: bool) -> None:
        if asked:
            sys.stdout.write(f"{name} {metadata.version('virtualstain')}\n")
            raise typer.Exit

    @app.callback(help=summary)
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        del version  # shown by its callback

    return app


def run(app: Callable[..., Any]) -> None:
    """Run a typer application; turn the project's errors into one line on stderr and their exit code.

    An error nobody foresaw keeps its traceback: hiding it would hide a defect of ours.
    """
    # Locked-down or air-gapped machines: no library may look for weights or send telemetry.
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    try:
        app()
    except ProjectError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except Interrupted as stop:
        sys.stderr.write(f"{stop}\n")
        sys.exit(stop.code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing half-written was kept\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def command_line(program: str) -> str:
    """Give the running command as it can be typed again: quoted, and from its beginning (without ``--resume``)."""
    return shlex.join([program, *(word for word in sys.argv[1:] if word != "--resume")])


def plain(value: Any) -> Any:
    """Give numbers, text, lists and dicts as JSON has them; it has no NaN, which becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def emit(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result on stdout: `text` for people, or `result` as the only JSON object."""
    sys.stdout.write(
        json.dumps(plain(result), ensure_ascii=False) + "\n" if as_json else text.rstrip() + "\n"
    )


@contextmanager
def progress_bar(label: str, *, silent: bool, unit: str = "tile") -> Iterator[Callable[..., None]]:
    """Give a callback ``(finished, total)`` that moves a bar on stderr.

    A third argument says where the job is; it stands beside the bar. Where stderr is no terminal there is no bar, but a
    line for each such word, and one from time to time once the work has taken half a minute.
    """
    from tqdm import tqdm

    said = time.monotonic()

    with tqdm(desc=label, unit=unit, file=sys.stderr, disable=True if silent else None, leave=False) as bar:

        def report(finished: int, total: int, what: str = "") -> None:
            nonlocal said
            bar.total = total
            bar.update(finished - bar.n)
            bar.set_postfix_str(what, refresh=bool(what))
            if bar.disable and not silent and (what or time.monotonic() - said >= LINE_SECONDS):
                said = time.monotonic()
                sys.stderr.write(
                    f"{label}: {what} ({finished} of {total})\n"
                    if what
                    else f"{label}: {finished} of {total}\n"
                )

        yield report
