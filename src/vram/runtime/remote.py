"""RPC servers of llama.cpp as GPUs to plan on: llama-server itself is asked which devices they show, and how much of them is free."""

import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from vram.errors import HardwareNotFoundError, UsageError
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.gpu import CapacitySource, Gpu
from vram.hardware.probe.memory import host_memory
from vram.hardware.probe.system import LiveSystem
from vram.hardware.remote import REMOTE_VENDOR, Remote, Server
from vram.runtime.engines.base import answer_of
from vram.units import MIB

ASK_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 3.0
# common_print_available_devices of llama.cpp: sizes are cut to whole MiB.
_LOCAL: Final = re.compile(r"^\s+([A-Za-z]+)\d+: .+ \(\d+ MiB, \d+ MiB free\)", re.MULTILINE)
# Names that ggml's backends give their devices (ggml-cuda.cu, ggml-metal.cpp, ggml-sycl.cpp).
_BACKENDS: Final = {"nvidia": "CUDA", "amd": "ROCm", "apple": "MTL", "intel": "SYCL"}
_DEVICE: Final = re.compile(r"^\s*RPC\d+: (\S+) \((\d+) MiB, (\d+) MiB free\)", re.MULTILINE)


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
            why, hint = _trouble(server.host, server.first)
            raise HardwareNotFoundError(f"the RPC server {address} shows no device: {why}", hint=hint)
        for place, (total, free) in enumerate(mine):
            remote = Remote(server=server, place=place, of=len(mine))
            gpus.append(FleetGpu(gpu=_device(total), index=len(gpus), used_bytes=max(total - free, 0), identifier=remote.identifier))
    return Fleet(gpus=tuple(gpus), hosts=(host_memory(LiveSystem()),), origin=Origin.DETECTED)


def local_devices(program: str, vendor: str, number: int) -> tuple[str, ...]:
    """What llama-server calls the first GPUs of this machine that it is shown: by its backend, as it lists them itself, else as it is built for the vendor."""
    listed = _LOCAL.findall(_listed(program)) if program else []
    name = next((word for word in listed if word != "RPC"), _BACKENDS.get(vendor.lower(), "CUDA"))
    return tuple(f"{name}{i}" for i in range(number))


@lru_cache(maxsize=8)
def _listed(program: str) -> str:
    return answer_of((program, "--list-devices"), seconds=ASK_SECONDS)


def _trouble(host: str, port: int) -> tuple[str, str]:
    """Why a server shows no device, in our words, and what helps: llama.cpp's own lines are for those who write it."""
    start = f"on that machine: ggml-rpc-server -H {host} -p {port}, of the same build as llama-server"
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            pass
    except socket.gaierror:
        return f"no machine is known as {host}", "write its name or address as this machine reaches it: --rpc 192.168.1.5:50052"
    except ConnectionRefusedError:
        return "nobody listens there", f"start it {start}"
    except (OSError, UnicodeError) as e:
        why = "it does not answer" if isinstance(e, TimeoutError) else (getattr(e, "strerror", None) or str(e)).lower()
        return why, f"is that its address, and does no firewall stand between? Start it {start}"
    return (
        "somebody listens there, but answers llama-server nothing",
        "is it an RPC server, of the same build as llama-server, and free? It answers one engine at a time; another engine on it has to end first",
    )


def _device(capacity_bytes: int) -> Gpu:
    return Gpu(
        name="RPC device",
        vendor=REMOTE_VENDOR,
        architecture="unknown",
        capacity_bytes=capacity_bytes,
        capacity_source=CapacitySource.DETECTED,
        marketing_bytes=capacity_bytes,
    )
