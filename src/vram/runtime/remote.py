"""RPC servers of llama.cpp as GPUs to plan on: llama-server itself is asked which devices they show, and how much of them is free."""

import re
from collections.abc import Sequence
from typing import Final

from vram.errors import HardwareNotFoundError, UsageError, printable
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.gpu import CapacitySource, Gpu
from vram.hardware.probe.memory import host_memory
from vram.hardware.probe.system import LiveSystem
from vram.hardware.remote import REMOTE_VENDOR, Remote, Server
from vram.runtime.engines.base import answer_of
from vram.units import MIB

ASK_SECONDS: Final = 10.0
# common_print_available_devices of llama.cpp: sizes are cut to whole MiB.
_DEVICE: Final = re.compile(r"^\s*RPC\d+: (\S+) \((\d+) MiB, (\d+) MiB free\)", re.MULTILINE)

_FAILED: Final = re.compile(r"failed|error|invalid", re.IGNORECASE)


def remote_fleet(servers: Sequence[Server], program: str, *, models: int = 1) -> Fleet:
    """The devices of these servers, each as large and as free as it says.

    Args:
        servers: in the order in which llama.cpp is to number their devices.
        program: llama-server.
        models: how many are to be served: each needs a port of its own.

    Raises:
        UsageError: a server has fewer ports than there are models.
        HardwareNotFoundError: a server does not answer.
    """
    for server in servers:
        if server.doors < models:
            raise UsageError(
                f"{server} answers {server.doors} engine{'s' if server.doors > 1 else ''} at a time, and {models} models are asked for",
                hint=f"start as many RPC servers on that device, one port beside the other, and name them all: --rpc {server.host}:{server.first}-"
                f"{server.first + models - 1}",
            )
    addresses = [server.address(0) for server in servers]
    said = answer_of((program, "--rpc", ",".join(addresses), "--list-devices"), seconds=ASK_SECONDS)
    found = [(address, int(total) * MIB, int(free) * MIB) for address, total, free in _DEVICE.findall(said)]
    gpus: list[FleetGpu] = []
    for server, address in zip(servers, addresses, strict=True):
        mine = [(total, free) for where, total, free in found if where == address]
        if not mine:
            why = next((line for line in said.splitlines() if _FAILED.search(line)), "it does not answer")
            raise HardwareNotFoundError(
                f"the RPC server {address} shows no device: {printable(why.strip(), 160)}",
                hint="is it running, of the same build as llama-server, and free? It answers one engine at a time",
            )
        for place, (total, free) in enumerate(mine):
            remote = Remote(server=server, place=place, of=len(mine))
            gpus.append(FleetGpu(gpu=_device(total), index=len(gpus), used_bytes=max(total - free, 0), identifier=remote.identifier))
    return Fleet(gpus=tuple(gpus), hosts=(host_memory(LiveSystem()),), origin=Origin.DETECTED)


def _device(capacity_bytes: int) -> Gpu:
    return Gpu(
        name="RPC device",
        vendor=REMOTE_VENDOR,
        architecture="unknown",
        capacity_bytes=capacity_bytes,
        capacity_source=CapacitySource.DETECTED,
        marketing_bytes=capacity_bytes,
    )
