"""Devices of a stated size for llama.cpp's RPC backend (truth/oracle/llama_cpp_rpc_device.cpp), for tests: each is a process that counts what it holds."""

import re
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path


class Device:
    """One device.

    Attributes:
        server: as `vram up --rpc` takes it.
        size: bytes that it says that it has.
    """

    def __init__(self, server: str, size: int, said: Path) -> None:
        self.server = server
        self.size = size
        self._said = said

    def holds(self) -> list[int]:
        """Bytes that it held, one after the other."""
        return [int(n) for n in re.findall(r"^holds (\d+)$", self._said.read_text(), re.MULTILINE)]

    @property
    def held(self) -> int:
        """Bytes that it holds now."""
        return (self.holds() or [0])[-1]

    @property
    def most(self) -> int:
        """Bytes that it held at most."""
        return max(self.holds(), default=0)

    def until_empty(self, seconds: float = 10.0) -> bool:
        """Whether all that it held is released in time: it notices that an engine ended when its connection closes."""
        ends = time.monotonic() + seconds
        while self.held and time.monotonic() < ends:
            time.sleep(0.02)
        return not self.held


@contextmanager
def device(program: Path, folder: Path, size: int, engines: int = 1):
    """A device of so many bytes that so many engines may share; ended with the context."""
    first = _free_ports(engines)
    addresses = [f"127.0.0.1:{first + i}" for i in range(engines)]
    said = folder / f"device-{first}.txt"
    with said.open("wb") as out:
        process = subprocess.Popen([program, str(size), *addresses], stdout=out, stderr=out)
    try:
        for address in addresses:
            _until_listening(address, process)
        yield Device(addresses[0] + (f"-{first + engines - 1}" if engines > 1 else ""), size, said)
    finally:
        process.kill()
        process.wait(10)


def _free_ports(number: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            first = int(one.getsockname()[1])
        sockets: list[socket.socket] = []
        try:
            for i in range(number):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", first + i))
        except (OSError, OverflowError):
            continue
        else:
            return first
        finally:
            for other in sockets:
                other.close()


def _until_listening(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Until it listens, as the kernel tells: a connection would keep it busy."""
    port = f":{int(address.rpartition(':')[2]):04X} "
    ends = time.monotonic() + 20
    while not any(port in line and line.split()[3] == "0A" for line in Path("/proc/net/tcp").read_text().splitlines()[1:]):
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.02)
