"""Compiles the built-in catalogue: what engines' rules say of every model in every quantization, for plans by the hundred thousand.

    python truth/oracle/catalogue_facts.py          writes src/vram/catalog/facts.bin (three minutes of CPU)

The numbers are answers of the scalar rules (vram/planner/bulk/reduce.py asks them); tests/test_bulk_facts.py holds the file to them.
Run it after every change of a family, of a quantization, of the catalogue, or of how an engine holds weights.
"""

import multiprocessing
import os
from pathlib import Path

import msgspec

from vram import catalog
from vram.api import load_model
from vram.planner.bulk.reduce import Source, compiled

OUT = Path(__file__).parents[2] / "src" / "vram" / "catalog" / "facts.bin"


def sources():
    """The catalogue's models and what is told beside them."""
    for name in catalog.names():
        known = catalog.find(name)
        yield Source(id=name, model=load_model(name, offline=True), licence=known.licence, released=known.released, modality=known.modality)


TASKS = []


def task(number):
    work, argument = TASKS[number]
    return work(argument)


def in_processes(work, arguments):
    """`map` over forked processes, which have the models already."""
    TASKS[:] = [(work, argument) for argument in arguments]
    with multiprocessing.get_context("fork").Pool(max(4, os.cpu_count() or 1)) as pool:
        return pool.map(task, range(len(TASKS)), chunksize=1)


if __name__ == "__main__":
    made = compiled(list(sources()), in_processes)
    data = msgspec.msgpack.encode(made)
    OUT.write_bytes(data)
    print(f"{OUT}: {len(data):,} bytes, {len(made.models)} models, {len(made.bodies)} bodies")
