"""`vram up pools.toml`: what is served, how and behind which names stands in the file; the command line says the rest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from vram.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vram.runtime.choosing import Finder
    from vram.runtime.filed import Filed
    from vram.runtime.lessons import Lessons
    from vram.runtime.placing import Report
    from vram.runtime.together import Household

FILE_SAYS: Final = {
    "engine": "engine",
    "context_tokens": "settings.context_tokens",
    "concurrency": "settings.max_num_seqs",
    "kv_dtype": "settings.kv_dtype",
    "quant": "settings.quant",
    "tp": "placement.tp",
    "parallel": "settings.max_num_seqs",
    "gpu_memory_utilization": "settings.gpu_memory_utilization",
    "max_num_seqs": "settings.max_num_seqs",
    "max_batched_tokens": "settings.max_batched_tokens",
    "block_size": "settings.block_size",
    "kv_pool_bytes": "capacity.kv_bytes",
    "dollars_per_hour": "dollars_per_hour",
    "queue_seconds": "limits.queue_seconds",
    "ubatch": "",
    "ctx_checkpoints": "",
    "gpu_layers": "",
    "tensor_split": "",
    "rpc": "pools.rpc",
    "enforce_eager": "",
    "more": "",
    "pinned": "",
    "idle_seconds": "",
    "budget_bytes": "",
}
"""Options that have no place beside a file, and the key of it that says the same; empty where none does."""


def is_pools_file(models: tuple[str, ...]) -> bool:
    """Whether a pools file is asked for.

    Raises:
        UsageError: one stands beside models, or beside another.
    """
    named = [m for m in models if m.lower().endswith(".toml")]
    if named and len(models) > 1:
        raise UsageError(f"{named[0]} stands beside other models", hint="a pools file says all that is served: vram up pools.toml")
    return bool(named)


def refuse_what_the_file_says(ctx: click.Context) -> None:
    """Options that would contradict the file are errors, not silently without effect.

    Raises:
        UsageError: one was given.
    """
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in FILE_SAYS and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            key = FILE_SAYS[name]
            hint = f"set {key} in the file" if key else "it is for models that are named on the command line: vram up MODEL…"
            raise UsageError(f"{parameter.opts[0]} has no effect on a pools file", hint=hint)


def household_of(
    path: str,
    given: dict[str, Any],
    finder: "Finder",
    *,
    models: "Callable[[str], str]",
    progress: "Report | None",
    lessons: "Lessons | None",
    say: "Callable[[str], None]",
) -> "tuple[Household, Filed]":
    """What a pools file starts on this machine, and the file for the gateway.

    Raises:
        UsageError: the file is wrong, or this machine lacks what it asks for.
    """
    from vram.gateway.planned import check_gpus
    from vram.runtime.filed import Filed, fleet_for, other_versions, place_pools, started_here
    from vram.sources.pools import read_pools

    file = read_pools(Path(path))
    check_gpus(file, path)
    pools, dry = started_here(file), bool(given["dry_run"])
    fleet = fleet_for(pools, given["gpu"], finder, dry=dry or bool(given["assume_gpu"]))
    household, of = place_pools(pools, fleet, finder, models=models, dry=dry, offline=given["offline"] or None, progress=progress, lessons=lessons)
    for line in other_versions(household, file, of):
        say(line)
    return household, Filed(file=file, pools=of)
