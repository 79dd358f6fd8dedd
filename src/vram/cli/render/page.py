"""A report as one HTML file: text, tables, pictures. It needs nothing from outside and runs no script; light or dark as the reader's system is."""

from collections.abc import Sequence

from vram.cli.render.svg import words
from vram.version import __version__

CSS = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1c1c1c;--dim:#555;--line:#ddd;--soft:#f5f6f7;--link:#0067a3;--bad:#b00020}
@media (prefers-color-scheme:dark){:root{--bg:#16181b;--ink:#eee;--dim:#aaa;--line:#33363a;--soft:#1f2226;--link:#5db7f0;--bad:#ff7b86}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:60rem;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.2rem;margin:2.25rem 0 .5rem}
p{margin:.5rem 0;max-width:46rem}.lead,.dim,footer,figcaption,caption{color:var(--dim)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}
dl div{background:var(--soft);border-radius:.5rem;padding:.6rem .8rem}dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.15rem;font-weight:600;overflow-wrap:anywhere}
figure{margin:1rem 0}figure svg{display:block;width:100%;height:auto;border-radius:.25rem}figcaption{font-size:.9rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem;min-width:50%}caption{text-align:left;padding:.25rem 0;font-size:.9rem}
th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.r{white-space:nowrap}th.r,td.r{text-align:right;font-variant-numeric:tabular-nums}tr.chosen td{font-weight:600}
pre{background:var(--soft);padding:.75rem 1rem;border-radius:.5rem;overflow-x:auto;font-size:.88rem}code{font-family:ui-monospace,'DejaVu Sans Mono',monospace}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--link)}footer{margin-top:3rem;font-size:.85rem;border-top:1px solid var(--line);padding-top:.75rem}
@media print{body{max-width:none}details>*{display:block}}
""".strip().replace("\n", "")


def page(title: str, blocks: Sequence[str], *, lead: str = "") -> str:
    """The whole file: `title`, one line about it, and blocks as the functions below make them."""
    told = f'<p class="lead">{words(lead, 1000)}</p>' if lead else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        # Whatever a name smuggled in, the page may load and run nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{words(title)}</title><style>{CSS}</style></head>\n<body><main>\n<h1>{words(title)}</h1>{told}\n"
        + "\n".join(blocks)
        + f"\n</main><footer>vram {words(__version__)}</footer></body></html>\n"
    )


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{words(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{words(text, 4000)}</p>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A handful of figures with their names, large."""
    return "<dl>" + "".join(f"<div><dt>{words(name)}</dt><dd>{words(value)}</dd></div>" for name, value in rows) + "</dl>"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), caption: str = "", chosen: int | None = None) -> str:
    """A table; the columns named in `right` are aligned there, row number `chosen` stands out."""
    sides = [' class="r"' if t in right else "" for t in titles]
    head = "".join(f'<th scope="col"{side}>{words(t)}</th>' for t, side in zip(titles, sides, strict=True))
    body = "".join(
        ('<tr class="chosen">' if i == chosen else "<tr>") + "".join(f"<td{side}>{words(c, 400)}</td>" for c, side in zip(row, sides, strict=True)) + "</tr>"
        for i, row in enumerate(rows)
    )
    named = f"<caption>{words(caption, 400)}</caption>" if caption else ""
    return f'<div class="wide"><table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(svg: str, caption: str = "", *, figures: str = "") -> str:
    """A picture (made by vram.cli.render.svg) with its caption and, folded away, its figures as a table."""
    folded = f"<details><summary>the figures</summary>{figures}</details>" if figures else ""
    told = f"<figcaption>{words(caption, 1000)}</figcaption>" if caption else ""
    return f"<figure>{svg}{told}</figure>{folded}"


def code(text: str) -> str:
    """Lines to read or to paste: a command, a file. Line ends stay."""
    return "<pre><code>" + "\n".join(words(line, 2000) for line in text.splitlines()) + "</code></pre>"


def notes(items: Sequence[str]) -> str:
    """A list of remarks; nothing when there are none."""
    return "<ul>" + "".join(f"<li>{words(item, 1000)}</li>" for item in items) + "</ul>" if items else ""
