"""`vram up --rpc`: the devices of llama.cpp's RPC servers in place of this machine's GPUs."""

from typing import TYPE_CHECKING, Any

from vram.errors import UsageError

if TYPE_CHECKING:
    from vram.hardware.fleet import Fleet
    from vram.runtime.choosing import Finder


def devices_of(given: dict[str, Any], finder: "Finder", models: int) -> "Fleet":
    """The devices of the RPC servers that are named, for so many models.

    Raises:
        UsageError: what is asked for beside them contradicts it, llama-server is not here, a server has fewer ports than there are models.
        HardwareNotFoundError: a server does not answer.
    """
    from vram.hardware.remote import parse_servers
    from vram.runtime.engines.registry import program
    from vram.runtime.remote import remote_fleet

    servers, engine = parse_servers(given["rpc"]), program("llama-server")
    if given["gpu"] is not None:
        raise UsageError("--gpu stands beside --rpc", hint="--gpu names GPUs of this machine; ggml-rpc-server shows them as devices, too")
    if given["engine"] and program(given["engine"]).name != engine.name:
        raise UsageError(f"{given['engine']} knows no RPC servers", hint="they are llama.cpp's: leave --engine out, or give llama-server")
    here = finder.find(engine)
    if here is None:
        raise UsageError(f"{engine.name} is not installed here", hint=engine.install)
    return remote_fleet(servers, here.program[0], models=models)
