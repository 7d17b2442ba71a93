"""One self-contained HTML page: everything inline, everything escaped, light, printable.

Text becomes markup in one place only: `fill` escapes each value unless it is already `Html`.
"""

from __future__ import annotations

import base64
import html as html_escape
import string
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image2reg.atomic import atomic_file, refuse_existing
from image2reg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_PAGE_BYTES", "Html", "Page", "definition_list", "embedded_png", "fill", "join"]

MAX_PAGE_BYTES = 5_000_000

# Nothing may be fetched or run, whatever a file name or channel name says: the browser holds to it, too.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Html(str):
    """Markup that is already escaped; a notebook shows it as it is."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def _plain(value: Any) -> str:
    """Text without control characters and without marks that reverse the reading direction."""
    kept = []
    for character in str(value):
        category = unicodedata.category(character)
        bidirectional = character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        hidden = (category in {"Cc", "Cs"} and character not in "\n\t") or bidirectional
        kept.append("\N{REPLACEMENT CHARACTER}" if hidden else character)
    return "".join(kept)


def fill(template: str, **values: Any) -> Html:
    """Put values into a template's ``{names}``, escaped unless they are `Html`.

    >>> fill("<b>{name}</b>", name="<script>")
    '<b>&lt;script&gt;</b>'
    """
    safe = {k: v if isinstance(v, Html) else html_escape.escape(_plain(v)) for k, v in values.items()}
    return Html(string.Formatter().vformat(template, (), safe))


def join(parts: Iterable[Html]) -> Html:
    """Fragments one after the other."""
    return Html("".join(parts))


def embedded_png(png: bytes, alt: str, *, css: str = "") -> Html:
    """Inline picture with its alternative text."""
    data = Html(base64.b64encode(png).decode("ascii"))
    return fill(
        '<img src="data:image/png;base64,{data}" alt="{alt}" class="{css}">', data=data, alt=alt, css=css
    )


def definition_list(items: Mapping[str, Any]) -> Html:
    """Names and values in two columns; nested mappings become nested lists."""
    rows = [
        fill(
            "<dt>{name}</dt><dd>{value}</dd>",
            name=name,
            value=definition_list(value) if isinstance(value, Mapping) else value,
        )
        for name, value in items.items()
    ]
    return fill("<dl>{rows}</dl>", rows=join(rows))


class Page:
    """A page that grows section by section.

    >>> page = Page("Staining of plate 7")
    >>> page.section("Scores", fill("<p>{text}</p>", text="r < 1"))
    >>> "r &lt; 1" in page.render()
    True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._sections: list[Html] = []

    def section(self, heading: str, *parts: Html) -> None:
        """Add a section under a heading."""
        self._sections.append(
            fill("<section><h2>{heading}</h2>{body}</section>", heading=heading, body=join(parts))
        )

    def render(self) -> str:
        """Whole document."""
        return fill(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<title>{title}</title><style>{style}</style></head><body><header><h1>{title}</h1>{subtitle}</header>"
            "<main>{sections}</main></body></html>\n",
            policy=_POLICY,
            title=self.title,
            subtitle=fill('<p class="subtitle">{text}</p>', text=self.subtitle)
            if self.subtitle
            else Html(""),
            style=Html(_STYLE),
            sections=join(self._sections),
        )

    def write(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the page under its final name in one step.

        Raises
        ------
        DataError
            The file exists and `overwrite` is False, or the page is larger than `MAX_PAGE_BYTES`.
        ResourceError
            The disk refused.
        """
        path = Path(path)
        refuse_existing(path, overwrite=overwrite)
        content = self.render().encode("utf-8")
        if len(content) > MAX_PAGE_BYTES:
            raise DataError(
                f"{path}: the page would be {len(content):,} bytes; allowed are {MAX_PAGE_BYTES:,}. "
                "Show fewer fields or channels, or smaller pictures."
            )
        with atomic_file(path, overwrite=overwrite) as partial:
            partial.write_bytes(content)
        return path


_STYLE = """
:root{--ink:#1d2429;--soft:#5c676f;--rule:#d9dfe3;--wash:#f5f7f8;--accent:#0b6e8a;--warn:#9a5b00;
--bad:#a3161f}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1180px;padding:28px 32px 56px;color:var(--ink);background:#fff;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
header{border-bottom:1px solid var(--rule);padding-bottom:14px}
h1{font-size:26px;line-height:1.25;font-weight:600;margin:0;overflow-wrap:anywhere}
h2{font-size:18px;font-weight:600;margin:34px 0 12px}
h3{font-size:15px;font-weight:600;margin:22px 0 8px;overflow-wrap:anywhere}
h3 small{font-weight:400;color:var(--soft);font-size:14px;margin-left:6px}
p{margin:6px 0;max-width:86ch}
.subtitle,.note{color:var(--soft)}
.note{font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px}
.card{border:1px solid var(--rule);border-radius:6px;padding:12px 16px 10px;break-inside:avoid}
.card h3{margin:0;overflow-wrap:anywhere}
.card .what{color:var(--soft);font-size:13px}
.card .value{font-size:30px;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.card .interval{font-size:14px;font-weight:400;color:var(--soft);margin-left:8px}
.card p{font-size:13px;color:var(--soft);margin:2px 0;overflow-wrap:anywhere}
.flags{list-style:none;margin:16px 0 0;padding:0}
.flags li{border-left:4px solid var(--soft);background:var(--wash);padding:7px 12px;margin:6px 0;
overflow-wrap:anywhere;break-inside:avoid}
.flags .warning{border-color:#e0a030}.flags .error{border-color:var(--bad)}
.flags b{margin-right:6px}.flags .warning b{color:var(--warn)}.flags .error b{color:var(--bad)}
.strip{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:6px 10px;margin:0 0 18px;
break-inside:avoid}
.strip .what{grid-column:1/-1;margin:4px 0 0;font-size:13px;color:var(--soft);max-width:none;
overflow-wrap:anywhere}
.strip .what b{color:var(--ink);font-size:14px;margin-right:6px}
.strip figure{margin:0;min-width:0}
.strip figcaption{font-size:13px;line-height:1.4;margin-bottom:3px;white-space:nowrap;overflow:hidden;
text-overflow:ellipsis}
.view{position:relative;display:block}
img{max-width:100%;height:auto}
.view img{display:block;width:100%;height:auto;background:#e9edef}
.view+img.side{display:block;width:100%;height:auto;margin-top:3px;background:#e9edef}
.row{position:absolute;left:0;right:0;border-top:1px dashed rgba(255,255,255,.75)}
.frame{position:absolute;border:1px solid #ffd24d}
.bar{position:absolute;left:8px;bottom:8px;border-top:3px solid #fff;color:#fff;font-size:12px;
line-height:1.2;
padding-top:2px;text-align:center;text-shadow:0 0 3px #000,0 0 3px #000;min-width:0;white-space:nowrap;
filter:drop-shadow(0 0 1px #000)}
.none{display:flex;align-items:center;justify-content:center;aspect-ratio:1;background:var(--wash);
color:var(--soft);font-size:13px;border:1px dashed var(--rule)}
.key{display:grid;grid-template-columns:auto 1fr auto;gap:6px;align-items:center;font-size:12px;
color:var(--soft);
font-variant-numeric:tabular-nums;margin-top:5px}
.key i{display:block;height:8px;border:1px solid var(--rule);-webkit-print-color-adjust:exact;
print-color-adjust:exact}
.tablebox{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
caption{text-align:left;color:var(--soft);font-size:13px;padding-bottom:6px}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:middle}
th{font-weight:600}thead th{border-bottom:1.5px solid #9aa6ad;font-size:13px}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr{break-inside:avoid}
.plots{display:flex;flex-wrap:wrap;gap:14px 28px;align-items:flex-start}
.plots figure{margin:0;flex:0 1 auto;min-width:0;break-inside:avoid}
.plot svg{display:block;width:100%;min-width:260px;height:auto}
.plots figcaption{font-size:13px;color:var(--soft);margin-bottom:3px;overflow-wrap:anywhere}
.plots figure.crops{flex:1 1 44%}
.crops img{display:block;width:100%;height:auto;background:#000}
td svg,.note svg{display:block;width:190px;height:18px}
.note svg{display:inline-block;width:96px;vertical-align:middle}
pre{background:var(--wash);border:1px solid var(--rule);border-radius:6px;padding:11px 14px;font-size:13px;
line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere;
font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
dl{display:grid;grid-template-columns:minmax(130px,max-content) 1fr;gap:3px 20px;margin:8px 0;
font-size:14px}
dt{color:var(--soft);overflow-wrap:anywhere}dd{margin:0;overflow-wrap:anywhere;min-width:0}
dd dl{margin:0;font-size:13px}
.columns{display:grid;grid-template-columns:1fr 1fr;gap:0 40px}
.columns h3{margin-top:6px}
@media screen and (max-width:760px){body{padding:18px 14px}.strip{grid-template-columns:1fr 1fr}
.columns{grid-template-columns:1fr}}
@media print{@page{size:A4;margin:14mm}body{max-width:none;padding:0;font-size:10.5pt}
.cards{grid-template-columns:repeat(3,1fr)}.strip figcaption{white-space:normal}pre{break-inside:avoid}
h2,h3{break-after:avoid}.card .value{font-size:20pt}.tablebox{overflow:visible}td svg{width:120px}
table{font-size:9.5pt}
.columns{grid-template-columns:1fr}}
"""
