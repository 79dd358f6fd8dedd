"""What `vram up` shows: the GPUs with every model on them, each model's figures, and the commands."""

import json
import shlex
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from click import style

from vram.cli.render.bar import MARKS, Segment, cells
from vram.cli.render.plan import TITLES, VERDICTS
from vram.cli.render.table import filled, table
from vram.cli.top import watching
from vram.errors import printable
from vram.hardware.remote import called
from vram.planner.document import plan_document
from vram.planner.plan import Verdict
from vram.planner.reserve import beyond_plan, planned_bytes
from vram.runtime.engines.base import Address
from vram.runtime.mending import all_at_once, mends_of
from vram.runtime.placing import line_of
from vram.runtime.together import reserved_of
from vram.units import gib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vram.runtime.measured import Beside
    from vram.runtime.placing import Placed
    from vram.runtime.together import Household
    from vram.runtime.unit import Unit

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BAR_WIDTH = 60
MEASURED = "✔ fits as measured"
"""Of a plan whose parts may take more than there is, where the model was seen to take less."""
TIGHT = f"{VERDICTS[Verdict.TIGHT][0]}: it fits as planned, not with every part at its most or a fifth of the weights to spare"


def board(household: "Household", width: int) -> str:
    """Every GPU as a bar of what is reserved for the models that are loaded first (by letter, the plan of each in capitals), then a row a model.

    A row's parts add up to what is planned; what is reserved is that and what its parts may take at most, until it is measured.
    """
    fleet, placed = household.fleet, household.placed
    lines = []
    shown: set[str] = set()
    for i, member in enumerate(fleet.gpus):
        # A budget is the bar itself: what others hold of the GPU is outside of it.
        budget = household.budget_bytes
        whole, total = (member.gpu.capacity_bytes, member.used_bytes) if budget is None else (min(budget, member.free_bytes), 0)
        segments = [Segment(total, *MARKS["used"])]
        for k, one in enumerate(placed):
            if i in one.on and one.wanted.name in household.first and (len(placed) == 1 or one.loadable):
                place = one.on.index(i)
                kept = reserved_of(one)[place]
                planned = min(one.plan.gpus[place].total_bytes, kept)
                segments += [Segment(planned, LETTERS[k % 26], "blue"), Segment(kept - planned, LETTERS[k % 26].lower(), "cyan")]
                total += kept
        sizes = f"{gib(total)} of {gib(whole)}{'' if budget is None else ', the budget'}"
        room = min(max(BAR_WIDTH, width // 2), max(width - len(sizes) - 5, 20))
        drawn = cells(segments, max(whole, total), room)
        shown |= {s.mark for s in drawn}
        bar = "".join(style(mark * n, fg=color) for n, mark, color in drawn)
        bar += style(MARKS["free"][0] * max(room - sum(s.bytes for s in drawn), 0), fg=MARKS["free"][1])
        name = called(member)
        lines += [style(f"{name}{f' {i}' if len(fleet.gpus) > 1 and name == member.gpu.name else ''}", bold=True), f"  ▕{bar}▏ {sizes}"]
    lines += _legend(shown, width, measured=any(one.reserved for one in household.first.values()))
    lines += ["", _models(placed, width)]
    if any(one.plan.verdict is Verdict.TIGHT and not one.reserved for one in placed):
        lines += _filled(TIGHT, width)
    for told in _told(household):
        lines += _filled(told, width)
    return "\n".join(lines)


def _filled(text: str, width: int) -> list[str]:
    return wrap(text, max(width, 40), subsequent_indent="  ", break_on_hyphens=False)


def _legend(shown: set[str], width: int, *, measured: bool) -> list[str]:
    """What the bars' marks mean, those that are drawn; `measured`: of some less is reserved than is planned."""
    words = [f"A planned{', or what it was seen to hold where that is less' if measured else ''}"] if shown & set(LETTERS) else []
    words += ["a reserved beyond it, for the most its parts may take"] if shown & set(LETTERS.lower()) else []
    words += [f"{MARKS['used'][0]} other programs"] if MARKS["used"][0] in shown else []
    return ["  " + row for row in filled([*words, f"{MARKS['free'][0]} free"], max(width - 2, 38), ", ")]


def _models(placed: "Sequence[Placed]", width: int) -> str:
    """A row a model: what is planned, what is reserved, and the parts that add up to the plan."""
    titles = ("", "model", "engine", "context", "at once", "planned", "reserved", "verdict", "planned parts")
    rows = []
    for k, one in enumerate(placed):
        plan = one.plan
        version = f" {plan.settings.version}" if plan.settings.version else ""
        rows.append(
            (
                LETTERS[k % 26],
                one.wanted.name,
                f"{one.engine.name}{version}{'' if one.here is not None else ' (not here)'}",
                f"{plan.workload.context_tokens:,}",
                f"{plan.workload.concurrency}",
                gib(plan.total_bytes),
                gib(sum(reserved_of(one))),
                VERDICTS[plan.verdict][0] if plan.verdict is Verdict.FITS or not (one.reserved and one.loadable) else MEASURED,
                _parts(one),
            )
        )
    below = {"planned parts": "planned: {}", "engine": "{}", "at once": "{} at once", "context": "context {}"}
    return table(titles, rows, right=("context", "at once", "planned", "reserved"), width=width, cut=("model",), below=below)


def _parts(one: "Placed") -> str:
    """The parts of a plan, of all its GPUs together, as a sum."""
    sizes: dict[str, int] = {}
    for gpu in one.plan.gpus:
        for name, part in gpu.parts.items():
            sizes[name] = sizes.get(name, 0) + part.bytes
    return " + ".join(f"{TITLES[name]} {gib(size)}" for name, size in sizes.items() if size)


def _told(household: "Household") -> "Iterator[str]":
    """What no table holds: when others are loaded, what was learned, what would mend it."""
    from vram.runtime.together import gpu_bytes

    whole = gib(max(household.capacity))
    for name, evicted in household.later().items():
        reach, shown = gib(max(gpu_bytes(household.ways[name][0], len(household.fleet)))), printable(name)
        if evicted is None:
            other = "what else is pinned" if name in household.pinned else "what is pinned"
            pin = f"--pin {shown}" if name in household.pinned else shown
            yield f"warning: {pin}: never loaded, its requests are refused: it takes up to {reach}, and {other} leaves less of {whole}"
            continue
        instead = f", in place of {', '.join(map(printable, evicted))}" if evicted else ""
        yield f"{shown}: loaded when it is asked for{instead}; it takes up to {reach}, of {whole} for all"
    for one in household.placed:
        shown = printable(one.wanted.name)
        if one.reserved:
            most = sum(map(planned_bytes, one.plan.gpus))
            beyond = f": outside its plan's band, more than the {gib(most)} that its plan says at most" if beyond_plan(one.plan, one.reserved) else ""
            yield f"{shown}: {gib(sum(one.reserved))} are reserved for it, by what was measured here{beyond}"
        if one.note:
            yield f"{shown}: as it worked here before; {printable(one.note, 400)}"
    mended: dict[str, list[str]] = {}
    for one in household.placed:
        if one.plan.verdict is not Verdict.FITS:
            mends = mends_of(household, one)
            if mends:
                mended.setdefault(", or ".join(mends), []).append(printable(one.wanted.name))
            elif not one.loadable:
                yield f"{printable(one.wanted.name)}: nothing that this machine has makes it fit; vram plan --gpu says what would"
    if whole_budget := all_at_once(household):
        yield f"all of them at once: {whole_budget}"
    each = ", each by itself" if len(household.ways) > 1 else ""
    for flags, names in mended.items():
        yield f"{', '.join(names)}: what would mend it{each}: {flags}"


def commands(placed: "Sequence[Placed]") -> str:
    """What would be typed to start each engine."""
    return "\n\n".join(f"# {printable(one.wanted.name)}\n{command_text(one)}" for one in placed)


def command_text(one: "Placed") -> str:
    """The command of one engine, a flag a line."""
    at = Address(port=0, name=one.alias)
    made, nowhere = line_of(one, at), f"{at.host}:0"
    variables = [f"{name}={shlex.quote(value) if value != nowhere else f'{at.host}:PORT'}" for name, value in made.variables.items()]
    rows: list[list[str]] = [[*variables]]
    for word in made.words:
        if word.startswith("--") or (word.startswith("-") and len(word) > 1 and not word[1].isdigit()):
            rows.append([])
        rows[-1].append(shlex.quote(word) if word != "0" or rows[-1][-1:] != ["--port"] else "PORT")
    notes = "".join(f"# note: {n}\n" for n in made.notes)
    return notes + " \\\n  ".join(" ".join(row) for row in rows if row)


def ready_text(unit: "Unit", width: int) -> str:
    """A unit that is ready, in lines of at most about `width` columns: its start, its proof, and its memory as planned and as printed."""
    placed, name = unit.placed, printable(unit.name)
    lines = [style(f"{name} is ready", bold=True) + f": {placed.engine.name} answered {unit.ready_after_seconds or 0:.1f} s after its start"]
    if (proof := unit.proof) is not None:
        what = f"{proof.sequences} x {proof.tokens:,} tokens at once"
        lines.append(f"  not proved: {proof.cut}" if proof.cut else f"  proved: {what}, the most that its plan admits, in {proof.seconds:.1f} s")
    if placed.reserved:
        beyond = ": outside its plan's band" if beyond_plan(placed.plan, placed.reserved) else ""
        lines.append(f"  reserved: {gib(sum(placed.reserved))} by what it was seen to hold{beyond}")
    if unit.measured:
        rows = []
        for one in unit.measured:
            part = one.planned
            size = gib if one.unit == "bytes" else "{:,} tokens".format
            band = "exact" if part.low == part.high else f"{size(part.low)} – {size(part.high)}"
            mark = {True: "✔ in the band", False: "✘ outside", None: "not printed"}[one.inside]
            if one.inside and one.measured is not None and not part.low <= one.measured <= part.high:
                mark = "✔ as far as it prints"
            rows.append((one.name.replace("_", " "), one.place, size(part.bytes), band, size(one.measured) if one.measured is not None else "–", mark))
        titles = ("part", "on", "planned", "band", "measured", "verdict")
        below = {"band": "band {}", "on": "on {}"}
        found = table(titles, rows, right=("planned", "measured"), width=max(width - 2, 0), below=below)
        lines += [f"  {line}" for line in found.splitlines()]
    return "\n".join(lines)


def live_text(admin_port: int) -> str:
    """How a run is watched, in front of how it is ended; nothing where it has no administrators' port."""
    if not admin_port:
        return ""
    return f"live: {watching(admin_port)}   "


def try_text(address: str, model: str) -> str:
    """A first request, to be pasted: a line for each of its parts, so that none is wrapped by a terminal; short, as some models never stop by themselves."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}, separators=(",", ":"))
    return f"try it:\n  curl {address}/chat/completions \\\n    -H 'Content-Type: application/json' \\\n    -d {shlex.quote(body)}"


def _beside(one: "Beside") -> dict[str, Any]:
    part = one.planned
    return {
        "name": one.name,
        "place": one.place,
        "unit": one.unit,
        "planned": part.bytes,
        "low": part.low,
        "high": part.high,
        "measured": one.measured,
        "inside": one.inside,
    }


def up_document(household: "Household", *, url: str = "", units: "Mapping[str, Unit] | None" = None) -> dict[str, Any]:
    """Plans and commands as JSON, with the addresses once engines run."""
    models = []
    later = household.later()
    for planned in household.placed:
        unit = units.get(planned.wanted.name) if units else None
        # As it was really started: gentler settings, other GPUs.
        one = unit.placed if unit is not None else planned
        made = unit.line() if unit is not None else line_of(one, Address(port=0, name=one.alias))
        models.append(
            {
                "name": one.wanted.name,
                "engine": one.engine.name,
                "version": one.here.version or None if one.here is not None else None,
                "program": str(Path(one.here.program[0])) if one.here is not None else None,
                "words": list(made.words),
                "variables": dict(made.variables),
                "notes": list(made.notes),
                "url": unit.url if unit is not None else None,
                "loaded_first": one.wanted.name in household.first,
                "evicts": list(later.get(one.wanted.name) or ()),
                "ready_after_seconds": unit.ready_after_seconds if unit is not None else None,
                "measured": [_beside(b) for b in unit.measured] if unit is not None and unit.measured else None,
                "reserved_bytes": list(reserved_of(one)),
                "reserved_by": "measured" if one.reserved else "plan",
                "plan": plan_document(one.plan),
            }
        )
    return {"schema": "vram.up/1", "url": url or None, "models": models}
