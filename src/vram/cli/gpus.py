"""`vram gpus`: the GPUs of this machine, and those that can be named."""

from typing import TYPE_CHECKING, Any

import click

from vram.errors import HardwareNotFoundError

if TYPE_CHECKING:
    from vram.hardware.gpu import Gpu


def gpu_document(gpu: "Gpu") -> dict[str, Any]:
    """A kind of GPU as JSON."""
    return {
        "name": gpu.name,
        "vendor": gpu.vendor,
        "architecture": gpu.architecture,
        "capacity_bytes": gpu.capacity_bytes,
        "capacity_source": gpu.capacity_source.value,
        "bandwidth_bytes_per_second": gpu.bandwidth_bytes_per_second,
        "bf16_dense_tflops": gpu.tflops.bf16,
        "fp8_dense_tflops": gpu.tflops.fp8,
        "unified_memory": gpu.unified_memory,
        "sources": list(gpu.sources),
    }


@click.command(name="gpus", short_help="The GPUs of this machine, and those that can be named.")
@click.argument("search", required=False)
@click.option("--all", "-a", "show_all", is_flag=True, help="Every GPU that can be named with --gpu.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.gpus/1.")
def command(search: str | None, *, show_all: bool, as_json: bool) -> None:
    """The GPUs of this machine; with SEARCH or --all, those of the catalogue that can be named with --gpu."""
    if search or show_all:
        from vram.hardware.catalogue import catalogue

        words = (search or "").lower().split()
        found = [g for g in catalogue().all_gpus() if all(w in f"{g.name} {g.vendor} {g.architecture}".lower() for w in words)]
        if search and not found:
            # As --gpu would take it, or its error with the names that are near.
            from vram.api import parse_gpus

            found = list(dict.fromkeys(m.gpu for m in parse_gpus(search).gpus))
        _print(found, as_json=as_json)
        return
    from vram.api import detect

    try:
        fleet = detect()
    except HardwareNotFoundError as e:
        e.hint = f"{e.hint}; vram gpus --all lists all that can be named"
        raise
    if as_json:
        from vram.cli.output import print_json

        members = [{"index": m.index, "used_bytes": m.used_bytes, **gpu_document(m.gpu)} for m in fleet.gpus]
        print_json({"schema": "vram.gpus/1", "gpus": members, "notes": list(fleet.notes)})
        return
    from vram.cli.output import print_styled
    from vram.errors import printable
    from vram.units import gib

    for m in fleet.gpus:
        print_styled(f"GPU {m.index}  {printable(m.gpu.name)}  {gib(m.gpu.capacity_bytes)}, {gib(m.used_bytes)} in use")
    for note in fleet.notes:
        print_styled(f"note: {printable(note, 400)}")


def _print(found: "list[Gpu]", *, as_json: bool) -> None:
    if as_json:
        from vram.cli.output import print_json

        print_json({"schema": "vram.gpus/1", "gpus": [{"index": None, "used_bytes": 0, **gpu_document(g)} for g in found], "notes": []})
        return
    from vram.cli.output import print_styled
    from vram.cli.render.table import table
    from vram.units import gib

    rows = [
        (
            g.name,
            gib(g.capacity_bytes),
            f"{g.bandwidth_bytes_per_second / 1e9:,.0f} GB/s" if g.bandwidth_bytes_per_second else "?",
            f"{g.tflops.bf16:,.0f} TFLOPS" if g.tflops.bf16 else "?",
            g.capacity_source.value,
        )
        for g in found
    ]
    titles = ("GPU", "memory by driver", "bandwidth", "BF16 dense", "memory from")
    if rows:
        print_styled(table(titles, rows, right=titles[1:4]))
    print_styled(f"{len(rows)} GPUs{'' if rows else ': vram gpus --all lists what can be named'}")
