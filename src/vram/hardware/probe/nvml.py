"""NVML's answers as plain data. It knows the library's calls and how they fail, not what a fleet is.

Calls: https://docs.nvidia.com/deploy/nvml-api (nvmlDeviceGetMemoryInfo_v2 separates what the driver reserves from what programs use).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class NvmlMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory of a device or slice, in bytes; None: the driver would not say."""

    total: int | None = None
    used: int = 0
    reserved: int = 0


class NvmlSlice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One MIG slice."""

    name: str
    uuid: str
    memory: NvmlMemory = NvmlMemory()


class NvmlDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU, in the order of its PCI address, as NVML counts."""

    name: str
    uuid: str = ""
    compute_capability: str = ""
    memory: NvmlMemory = NvmlMemory()
    mig_enabled: bool = False
    slices: tuple[NvmlSlice, ...] = ()
    error: str = ""
    """Why nothing more is known of this device: it fell off the bus, or we may not ask."""


class NvmlReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that NVML told; `error` says why it told nothing."""

    driver_version: str = ""
    devices: tuple[NvmlDevice, ...] = ()
    error: str = ""


def _text(value: object) -> str:
    """Names are bytes in older bindings."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _or(call: Callable[[], T], default: T) -> T:
    """What `call` returns, or `default` when the driver has no answer: NVML raises for every unsupported question."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - a broken driver or an older binding raises what it likes
        return default


def _memory(library: Any, handle: Any) -> NvmlMemory:
    """Version 2 of the answer where driver and binding have it: version 1 counts the reserve as used."""
    info = _or(lambda: library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2), None)
    info = info if info is not None else _or(lambda: library.nvmlDeviceGetMemoryInfo(handle), None)
    if info is None or int(info.total) <= 0:
        return NvmlMemory()
    return NvmlMemory(total=int(info.total), used=int(info.used), reserved=int(getattr(info, "reserved", 0)))


def _slices(library: Any, handle: Any) -> tuple[bool, tuple[NvmlSlice, ...]]:
    """Whether MIG is on, and the slices that exist."""
    if _or(lambda: library.nvmlDeviceGetMigMode(handle)[0], 0) != 1:
        return False, ()
    found = []
    for position in range(_or(lambda: int(library.nvmlDeviceGetMaxMigDeviceCount(handle)), 0)):
        part = _or(lambda at=position: library.nvmlDeviceGetMigDeviceHandleByIndex(handle, at), None)  # type: ignore[misc]
        if part is not None:
            name, uuid = (_text(_or(lambda ask=ask, part=part: ask(part), "")) for ask in (library.nvmlDeviceGetName, library.nvmlDeviceGetUUID))  # type: ignore[misc]
            found.append(NvmlSlice(name=name, uuid=uuid, memory=_memory(library, part)))
    return True, tuple(found)


def _device(library: Any, index: int) -> NvmlDevice:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
    except Exception as error:  # noqa: BLE001 - GPU_IS_LOST, NO_PERMISSION and whatever a driver invents
        return NvmlDevice(name=f"GPU {index}", error=str(error))
    capability = _or(lambda: ".".join(str(n) for n in library.nvmlDeviceGetCudaComputeCapability(handle)), "")
    enabled, slices = _slices(library, handle)
    return NvmlDevice(
        name=_text(_or(lambda: library.nvmlDeviceGetName(handle), f"GPU {index}")),
        uuid=_text(_or(lambda: library.nvmlDeviceGetUUID(handle), "")),
        compute_capability=capability,
        memory=_memory(library, handle),
        mig_enabled=enabled,
        slices=slices,
    )


def held_by_process(library: Any = None) -> dict[str, dict[int, int]]:
    """Bytes of each GPU, by its UUID, that each process holds, as far as the driver tells; empty where it does not.

    Processes of another PID namespace carry numbers of theirs, or are not listed at all.
    """
    if library is None:
        try:
            import pynvml  # noqa: PLC0415 - a driver, only when asked
        except ImportError:
            return {}
        library = pynvml
    if _or(library.nvmlInit, "failed") == "failed":
        return {}
    found: dict[str, dict[int, int]] = {}
    try:
        for index in range(min(_or(lambda: int(library.nvmlDeviceGetCount()), 0), 256)):
            handle = _or(lambda index=index: library.nvmlDeviceGetHandleByIndex(index), None)  # type: ignore[misc]
            if handle is None:
                continue
            held: dict[int, int] = {}
            # A process that computes and draws stands in both lists with the same bytes.
            for ask in (library.nvmlDeviceGetComputeRunningProcesses, library.nvmlDeviceGetGraphicsRunningProcesses):
                listed: Any = _or(lambda ask=ask, handle=handle: ask(handle), ())  # type: ignore[misc]
                for one in listed:
                    held[one.pid] = max(held.get(one.pid, 0), one.usedGpuMemory or 0)
            found[_text(_or(lambda handle=handle: library.nvmlDeviceGetUUID(handle), ""))] = held  # type: ignore[misc]
    finally:
        _or(library.nvmlShutdown, None)
    return found


def read_nvml(library: Any) -> NvmlReport:
    """Everything that `library` (the module pynvml) tells; an error in the report instead of an exception."""
    try:
        library.nvmlInit()
    except Exception as error:  # noqa: BLE001 - no driver, driver/library mismatch, no permission
        return NvmlReport(error=str(error) or type(error).__name__)
    try:
        count = int(library.nvmlDeviceGetCount())
        devices = tuple(_device(library, index) for index in range(min(count, 256)))
        version = _text(_or(library.nvmlSystemGetDriverVersion, ""))
        return NvmlReport(driver_version=version, devices=devices)
    except Exception as error:  # noqa: BLE001 - the same
        return NvmlReport(error=str(error) or type(error).__name__)
    finally:
        _or(library.nvmlShutdown, None)
