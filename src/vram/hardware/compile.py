"""Turns `catalog/gpus.toml`, which people edit, into `catalog/gpus.json`, which the program reads fifty times as fast.

Run `python -m vram.hardware.compile` after each edit; a test fails when the two differ.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from vram.hardware.catalogue import Catalogue, Entry
from vram.hardware.gpu import CapacitySource
from vram.hardware.metal import metal_share, metal_share_26
from vram.hardware.names import keys

_FOLDER = Path(__file__).parent.parent / "catalog"


class _Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One `[[gpu]]` of the TOML; what each field means stands at the head of that file."""

    name: str
    memory_gb: int | list[int]
    vendor: str
    architecture: str
    sources: list[str]
    aliases: list[str] = []
    compute_capability: str = ""
    driver_mib: float | None = None
    driver_log: str = ""
    recheck_mib: float | None = None
    capacity: str = ""
    cuda_gib: float | None = None
    cuda_log: str = ""
    bandwidth_gb_s: float | None = None
    bf16_tflops: float | None = None
    fp16_tflops: float | None = None
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None
    int8_tflops: float | None = None
    vector_tflops: float | None = None
    link: str = ""
    link_gb_s: float | None = None
    tdp_watts: float | None = None
    unified_memory: bool = False
    rare: bool = False
    note: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    gpu: list[_Row]
    sources: dict[str, str]


def _entry(row: _Row, memory_gb: int) -> Entry:
    if row.capacity == "metal-share":
        mib, origin, log = metal_share(memory_gb), CapacitySource.DRIVER, "metal-share"
    elif row.capacity == "metal-share-26":
        mib, origin, log = metal_share_26(memory_gb), CapacitySource.DRIVER, "metal-share-26"
    elif row.capacity == "firmware-share":
        mib, origin, log = memory_gb * 768.0, CapacitySource.DATASHEET, "firmware-share"
    elif row.driver_mib is not None:
        mib, origin, log = row.driver_mib, CapacitySource.DRIVER, row.driver_log
    else:
        mib, origin, log = row.recheck_mib or memory_gb * 1024.0, CapacitySource.DATASHEET, ""
    sources = [*row.sources, *(text for text in (log, row.cuda_log, row.note) if text)]
    return Entry(
        base=row.name,
        memory_gb=memory_gb,
        vendor=row.vendor,
        architecture=row.architecture,
        compute_capability=row.compute_capability,
        capacity_mib=mib,
        capacity_source=origin.value,
        bandwidth_gb_s=row.bandwidth_gb_s,
        bf16=row.bf16_tflops,
        fp16=row.fp16_tflops,
        fp8=row.fp8_tflops,
        fp4=row.fp4_tflops,
        int8=row.int8_tflops,
        vector=row.vector_tflops,
        link=row.link,
        link_gb_s=row.link_gb_s,
        tdp_watts=row.tdp_watts,
        cuda_gib=row.cuda_gib,
        unified_memory=row.unified_memory,
        rare=row.rare,
        sources=tuple(sources),
    )


def compiled(toml: str) -> Catalogue:
    """The catalogue that `toml` states.

    Raises:
        msgspec.ValidationError: a field that is unknown, missing or of the wrong type.
        tomllib.TOMLDecodeError: no TOML.
    """
    table: dict[str, Any] = tomllib.loads(toml)
    stated = msgspec.convert(table, _File)
    entries: list[Entry] = []
    meant: dict[str, list[int]] = {}
    for row in stated.gpu:
        for memory_gb in [row.memory_gb] if isinstance(row.memory_gb, int) else row.memory_gb:
            for spelling in dict.fromkeys(key for name in (row.name, *row.aliases) for key in keys(name)):
                meant.setdefault(spelling, []).append(len(entries))
            entries.append(_entry(row, memory_gb))
    return Catalogue(entries=tuple(entries), keys={k: tuple(v) for k, v in meant.items()}, sources=stated.sources)


def encoded(made: Catalogue) -> bytes:
    """gpus.json: one entry a line, so that a difference can be read."""
    lines = b",\n".join(msgspec.json.encode(e) for e in made.entries)
    tables = b',\n"sources":'.join(msgspec.json.encode(t, order="sorted") for t in (made.keys, made.sources))
    return b'{"entries":[\n' + lines + b'\n],\n"keys":' + tables + b"}\n"


def main() -> None:
    """Write gpus.json beside gpus.toml."""
    made = compiled((_FOLDER / "gpus.toml").read_text(encoding="utf-8"))
    (_FOLDER / "gpus.json").write_bytes(encoded(made))
    sys.stdout.write(f"{len(made.entries)} entries, {len(made.keys)} spellings\n")


if __name__ == "__main__":
    main()
