"""`vram accuracy ROWS.jsonl`: plans held against measured rows."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vram.accuracy.check import Checked, Loader
    from vram.accuracy.row import Unread
    from vram.accuracy.summary import Line

MAX_BYTES = 2**30


@click.command(name="accuracy", short_help="Plans held against measured rows.")
@click.argument("rows", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--engine", metavar="NAME", help="Hold every row against these rules. Default: those of the row's own engine.")
@click.option("--online", is_flag=True, help="Ask the hub for models that have no config beside the rows. Default: touch no network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.accuracy/1.")
def command(rows: str, engine: str | None, *, online: bool, as_json: bool) -> None:
    """How far plans are from measured starts and speeds of engines: ROWS holds one JSON object a line (truth/README.md says which fields).

    A row's model is its `config` (a path, absolute or relative to ROWS or to the working directory), else its `model_id`. Every row
    and figure that could not be read is listed with its reason.
    """
    checked = check_file(rows, engine=engine, online=online)
    if not checked.rows:
        click.echo(f"note: {rows} has no rows; truth/README.md says what one holds", err=True)
    if as_json:
        from vram.accuracy.document import accuracy_document
        from vram.cli.output import print_json

        print_json(accuracy_document(checked, rows))
        return
    from vram.cli.output import print_styled

    print_styled("\n".join(_words(checked)))


def check_file(rows: str, *, engine: str | None = None, online: bool = False) -> "Checked":
    """Hold the rows of a file against plans.

    Raises:
        UsageError: no engine of that name.
        OSError: the file can't be read.
    """
    from vram.accuracy.check import check
    from vram.accuracy.row import parse_rows

    if engine is not None:
        from vram.engines.registry import engine as named

        named(engine)
    with click.open_file(rows, "rb") as stream:
        folder = Path(rows).parent if rows != "-" else Path()
        return check(parse_rows(_bounded(stream)), loader(folder, online=online), engine=engine)


def _bounded(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a file; a line without end is handed on cut, so that the reader refuses it."""
    from vram.accuracy.row import MAX_LINE

    readline = stream.readline  # type: ignore[attr-defined]
    read = 0
    while read < MAX_BYTES and (line := readline(MAX_LINE + 1)):
        read += len(line)
        yield line
        while not line.endswith(b"\n") and (line := readline(MAX_LINE + 1)):
            read += len(line)


def loader(folder: Path, *, online: bool) -> "Loader":
    """Finds the model of a row, each once."""
    from vram.accuracy.speed_check import Named
    from vram.api import load_model
    from vram.catalog import find
    from vram.errors import ModelNotFoundError, VramError
    from vram.model.model import Model

    known: dict[str, Model | VramError] = {}

    def load(row: Named) -> Model:
        reference = ""
        if row.config:
            places = [p for p in (folder / row.config, Path(row.config)) if p.is_file()]
            if not places:
                raise ModelNotFoundError(f"its config {row.config} is not there")
            reference = str(places[0])
        elif row.model_id:
            reference = row.model_id
        else:
            raise ModelNotFoundError("it names neither a config nor a model")
        if reference not in known and not row.config and "/" not in reference and not Path(reference).exists() and find(reference) is None:
            # No hub has names without an owner, and looking for near ones takes long.
            known[reference] = ModelNotFoundError(f"it has no config, and no model is known by {reference!r}")
        if reference not in known:
            try:
                known[reference] = load_model(reference, offline=not online)
            except VramError as e:
                known[reference] = e if row.config else ModelNotFoundError(f"it has no config, and no model is known by {reference!r}")
        found = known[reference]
        if isinstance(found, VramError):
            raise found
        return found

    return load


_NAMES = {
    "weights": "weights",
    "kv_given_pool": "KV tokens or concurrency, pool given",
    "kv_pool": "KV pool",
    "kv_tokens": "KV tokens",
    "concurrency": "concurrency",
    "other": "activations + non-torch + graphs",
    "total": "total",
}
_SPEEDS = {
    "decode_dense_alone": "decode, one sequence, dense",
    "decode_moe_alone": "decode, one sequence, experts",
    "decode_dense_served": "decode, several sequences, dense",
    "decode_moe_served": "decode, several sequences, experts",
    "tpot_dense_served": "time per output token, served, dense",
    "tpot_moe_served": "time per output token, served, experts",
    "prefill_dense": "prefill, dense",
    "prefill_moe": "prefill, experts",
    "ttft_dense_alone": "time to first token, unloaded, dense",
    "ttft_moe_alone": "time to first token, unloaded, experts",
    "ttft_dense_served": "time to first token, served, dense",
    "ttft_moe_served": "time to first token, served, experts",
}


def _words(checked: "Checked") -> Iterator[str]:
    from vram.accuracy.summary import speed_table, table

    read = {c.id for c in checked.comparisons} | {c.id for c in checked.flagged_comparisons} | {f.id for f in checked.failures if f.verdict}
    read |= {c.id for c in checked.speeds} | {c.id for c in checked.flagged_speeds}
    yield f"{checked.rows:,} rows, {len(read):,} of them with a figure beside its plan"
    yield ""
    if checked.comparisons or not checked.speeds:
        yield from _table(table(checked.comparisons))
    if checked.speeds:
        yield from _table(speed_table(checked.speeds), "speed")
    if checked.failures:
        wrong = [f for f in checked.failures if f.verdict == "fits"]
        judged = [f for f in checked.failures if f.verdict]
        yield ""
        yield f"{len(checked.failures)} starts ran out of memory; {len(judged)} could be judged, {len(wrong)} of them wrongly as fits"
        yield from (f"  {_id(f.id)}  {f.how}: {f.verdict.replace('_', ' ') or f'not judged: {f.reason}'}" for f in checked.failures)
    yield from _listed("starts that failed for another reason than memory", checked.failed_otherwise)
    yield from _listed("no evidence, counted apart", checked.flagged)
    if checked.flagged_comparisons:
        yield ""
        yield from _table(table(checked.flagged_comparisons))
    if checked.flagged_speeds:
        yield ""
        yield from _table(speed_table(checked.flagged_speeds), "speed")
    yield from _listed("rows that could not be read", [u for u in checked.unread if not u.quantity])
    yield from _listed("figures that could not be compared", [u for u in checked.unread if u.quantity])


def _table(lines: "Iterable[Line]", title: str = "per GPU") -> Iterator[str]:
    yield click.style(f"{'engine':<13}{title:<46}{'n':>5}{'median':>11}{'p90':>11}{'p95':>11}{'max':>11}{'in band':>9}{'width':>8}", bold=True)
    for line in lines:
        name = {**_NAMES, **_SPEEDS}[line.quantity.value] + (f" (settings {line.settings})" if line.settings else "")
        errors = "".join(f"{_error(e, line.unit):>11}" for e in (line.median, line.p90, line.p95, line.worst))
        yield f"{_id(line.engine):<13}{name:<46}{line.n:>5}{errors}{line.inside:>9.0%}{line.width:>8.1%}"


def _error(value: float, unit: str) -> str:
    return f"{value:.3f} GiB" if unit == "GiB" else f"{value:.3%}"


def _listed(title: str, found: "Iterable[Unread]") -> Iterator[str]:
    """By reason: the same one is told once, with the rows that it is true of."""
    reasons: dict[str, list[str]] = {}
    count = 0
    for u in found:
        count += 1
        what = f"{_NAMES.get(u.quantity, u.quantity)}: {u.reason}" if u.quantity else u.reason
        reasons.setdefault(what, []).append(u.id)
    if not count:
        return
    yield ""
    yield click.style(f"{title}: {count}", bold=True)
    for reason, ids in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"  {len(ids):>4}  {_id(reason, 400)}"
        yield f"        {', '.join(_id(i) for i in ids)}"


def _id(text: str, limit: int = 120) -> str:
    from vram.errors import printable

    return printable(text, limit)
