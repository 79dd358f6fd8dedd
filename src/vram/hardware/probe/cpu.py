"""The processor as a place for a model: main memory, and nothing known of its speed."""

from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.gpu import CapacitySource, Gpu
from vram.hardware.probe.memory import host_memory
from vram.hardware.probe.system import LiveSystem, System


def instruction_sets(system: System | None = None) -> frozenset[str] | None:
    """What the processor can, as Linux writes it in /proc/cpuinfo (`avx512_bf16`); empty where it names nothing so, None where it can't be asked."""
    here = system if system is not None else LiveSystem()
    if not here.platform.startswith("linux"):
        return frozenset() if here.platform == "darwin" else None
    text = here.read("/proc/cpuinfo")
    if text is None:
        return None
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def cpu_fleet(system: System | None = None) -> Fleet | None:
    """The machine's main memory as a fleet of one "CPU", for engines that run without a GPU; None when its size is unknown.

    `detect` never falls back to it: a plan for a processor is made only when asked for.
    """
    host = host_memory(system if system is not None else LiveSystem())
    if host.ram_bytes is None:
        return None
    gpu = Gpu(
        name="CPU",
        vendor="host",
        architecture="host",
        capacity_bytes=host.ram_bytes,
        capacity_source=CapacitySource.DETECTED,
        marketing_bytes=host.ram_bytes,
        unified_memory=True,
        sources=("capacity: main memory",),
    )
    used = 0 if host.ram_available_bytes is None else host.ram_bytes - host.ram_available_bytes
    return Fleet(gpus=(FleetGpu(gpu=gpu, index=0, used_bytes=used),), hosts=(host,), origin=Origin.DETECTED)
