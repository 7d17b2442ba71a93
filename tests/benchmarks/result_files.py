"""What every benchmark does with its result: one JSON object or a table on stdout, and a file for the README."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def asked_for_json(about: str) -> bool:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return bool(parser.parse_args().json)


def publish(name: str, result: dict[str, Any], *, as_json: bool) -> None:
    result = _plain({**result, "command": f"python tests/benchmarks/{name}.py"})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
        return
    for table in result["tables"]:
        rows = [
            [f"{v:.3f}" if isinstance(v, float) else "–" if v is None else str(v) for v in row]
            for row in table["rows"]
        ]
        widths = [max(len(row[i]) for row in [table["head"], *rows]) for i in range(len(table["head"]))]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in [table["head"], *rows]
        ]
        sys.stdout.write(
            "\n".join([table["title"], *lines, *(f"- {n}" for n in table.get("notes", []))]) + "\n\n"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def interval(found: Any, digits: int = 3) -> str:
    """Value and ends of an Interval or its dictionary."""
    d = found if isinstance(found, dict) else found.as_dict()
    ends = f"[{d['low']:.{digits}f}, {d['high']:.{digits}f}]" if not d["reason"] else f"({d['reason']})"
    return f"{d['value']:.{digits}f} {ends}"
