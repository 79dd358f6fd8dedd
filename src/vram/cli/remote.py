"""`vram up --rpc`: the devices of llama.cpp's RPC servers in place of this machine's GPUs, or beside those that --gpu names."""

from typing import TYPE_CHECKING, Any

from vram.errors import UsageError

if TYPE_CHECKING:
    from vram.hardware.fleet import Fleet
    from vram.runtime.choosing import Finder


def devices_of(given: dict[str, Any], finder: "Finder", models: int) -> "Fleet":
    """The devices of the RPC servers that are named, for so many models; before them the GPUs of this machine that --gpu names.

    Raises:
        UsageError: what is asked for beside them contradicts it, llama-server or such a GPU is not here, a server has fewer ports than there are models.
        HardwareNotFoundError: a server does not answer.
    """
    from vram.engines.llama_cpp_host import HOST_VENDOR
    from vram.hardware.remote import parse_servers
    from vram.runtime.choosing import fleet_of
    from vram.runtime.elsewhere import together
    from vram.runtime.engines.registry import program
    from vram.runtime.remote import remote_fleet

    servers, engine = parse_servers(given["rpc"]), program("llama-server")
    if given["engine"] and program(given["engine"]).name != engine.name:
        raise UsageError(f"{given['engine']} knows no RPC servers", hint="they are llama.cpp's: leave --engine out, or give llama-server")
    here = finder.find(engine)
    if here is None:
        raise UsageError(f"{engine.name} is not installed here", hint=engine.install)
    local = None if given["gpu"] is None else fleet_of(given["gpu"], dry=bool(given["dry_run"]) or bool(given["assume_gpu"]))
    if local is not None and local.gpus[0].gpu.vendor == HOST_VENDOR:
        raise UsageError("--gpu cpu stands beside --rpc", hint="leave it out, or name GPUs of this machine; --gpu-layers leaves layers in main memory")
    remote = remote_fleet(servers, here.program[0], models=models)
    return remote if local is None else together(local, remote)
