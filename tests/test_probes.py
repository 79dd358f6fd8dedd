"""Probes on recorded answers: what a broken, shared, cut or hidden GPU looks like."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from vram.errors import ExitCode, HardwareNotFoundError
from vram.hardware import CapacitySource, Fleet, Origin
from vram.hardware.probe import LiveSystem, detect
from vram.hardware.probe.cpu import cpu_fleet, instruction_sets
from vram.hardware.probe.fake import RecordedSystem, Recording
from vram.hardware.probe.nvml import NvmlReport, read_nvml
from vram.hardware.probe.visible import visible

DATA = Path(__file__).parent / "data" / "probes"
MIB, GIB = 2**20, 2**30


def machine(name, **environ):
    return RecordedSystem.load((DATA / f"{name}.json").read_bytes(), **environ)


def found(name, **environ) -> Fleet:
    return detect(machine(name, **environ))


def test_every_recording_says_where_it_comes_from_and_is_answered():
    """Each recorded machine names its source and gives a fleet or an error with exit code 5, never a crash."""
    recordings = sorted(DATA.glob("*.json"))
    assert len(recordings) >= 14
    for path in recordings:
        system = RecordedSystem.load(path.read_bytes())
        assert len(system._recording.source) > 20
        try:
            fleet = detect(system)
        except HardwareNotFoundError as error:
            exit_code = error.exit_code
        else:
            exit_code = ExitCode.NO_HARDWARE
            assert fleet.origin is Origin.DETECTED
            assert all(0 <= g.used_bytes <= g.gpu.capacity_bytes for g in fleet.gpus)
            assert [g.index for g in fleet.gpus] == list(range(len(fleet)))
        assert exit_code is ExitCode.NO_HARDWARE


def test_nvidia_totals_are_the_driver_s_and_the_reserve_is_not_for_engines():
    """Capacity is NVML's total, what a CUDA process sees is less by the driver's reserve, others' use is counted."""
    first = found("nvidia_mixed").gpus[0]
    assert first.gpu.name == "RTX 4090 24GB"
    assert first.gpu.capacity_bytes == 24564 * MIB
    assert first.gpu.engine_total_bytes == 24210 * MIB  # as llama.cpp logs it on this card
    assert first.used_bytes == 1500 * MIB
    assert first.free_bytes == (24564 - 1500) * MIB
    assert first.gpu.capacity_source is CapacitySource.DETECTED
    assert first.gpu.bandwidth_bytes_per_second == pytest.approx(1.008e12, rel=0.01)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("0", ["RTX 4090 24GB"]),
        ("2,0", ["RTX 3090 24GB", "RTX 4090 24GB"]),
        ("GPU-1111", ["RTX 4090 24GB"]),
        ("GPU-223,GPU-111", ["RTX 3090 24GB", "RTX 4090 24GB"]),
        ("1,9,0", ["RTX 3090 24GB"]),
        ("1,1", ["RTX 3090 24GB"]),
    ],
)
def test_cuda_visible_devices_is_read_as_the_driver_reads_it(value, names):
    """Numbers and shortened UUIDs keep their order; the list ends at the first entry that names nothing or repeats."""
    assert [g.gpu.name for g in found("nvidia_mixed", CUDA_VISIBLE_DEVICES=value).gpus] == names


@pytest.mark.parametrize("value", ["", "-1", "GPU-2", "NoDevFiles", "7"])
def test_hidden_gpus_are_said_to_be_hidden(value):
    """A variable that leaves nothing (an ambiguous UUID too) is named in the error."""
    with pytest.raises(HardwareNotFoundError, match="CUDA_VISIBLE_DEVICES") as caught:
        found("nvidia_mixed", CUDA_VISIBLE_DEVICES=value)
    assert "--gpu" in caught.value.hint


def test_mig_slices_stand_for_the_gpu_that_is_cut():
    """A cut GPU is its slices, each with its own memory and its share of bandwidth; the whole one beside it stays whole."""
    fleet = found("nvidia_mig")
    assert [(g.mig, g.gpu.capacity_bytes // MIB) for g in fleet.gpus] == [(True, 40192), (True, 9728), (False, 81920)]
    whole = fleet.gpus[2].gpu.bandwidth_bytes_per_second
    assert whole is not None
    assert fleet.gpus[1].gpu.bandwidth_bytes_per_second == pytest.approx(whole / 8, rel=0.06)
    assert any("one slice" in note for note in fleet.notes)


@pytest.mark.parametrize(("value", "totals"), [("MIG-0202", [9728]), ("1", [81920]), ("0", [40192]), ("GPU-bbbb", [81920])])
def test_mig_slices_are_chosen_by_uuid_and_a_number_takes_the_first(value, totals):
    """CUDA_VISIBLE_DEVICES picks a slice by its UUID; by number a cut GPU gives its first slice."""
    assert [g.gpu.capacity_bytes // MIB for g in found("nvidia_mig", CUDA_VISIBLE_DEVICES=value).gpus] == totals


@pytest.mark.parametrize(("name", "gib"), [("nvidia_gb10", 121.7), ("nvidia_orin", 61.37)])
def test_unified_memory_is_the_host_s(name, gib):
    """Where NVML knows no memory the capacity is MemTotal, and what the host uses counts as used."""
    only = found(name).gpus[0]
    assert only.gpu.unified_memory
    assert only.gpu.capacity_bytes / GIB == pytest.approx(gib, abs=0.05)
    assert only.used_bytes > 0


def test_jetson_is_told_by_its_memory():
    """One driver name covers all Orins: the size of the memory says which."""
    assert found("nvidia_orin").gpus[0].gpu.name == "Jetson AGX Orin 64GB"


def test_a_lost_gpu_is_named_and_the_rest_still_found():
    """One broken GPU does not hide the one that works."""
    fleet = found("nvidia_lost")
    assert [g.gpu.name for g in fleet.gpus] == ["T4 16GB"]
    assert any("GPU is lost" in note for note in fleet.notes)


def test_an_unknown_card_keeps_what_its_driver_says():
    """A card newer than the catalogue is planned with the driver's name and memory, and no invented speed."""
    only = found("nvidia_unknown").gpus[0].gpu
    assert (only.name, only.capacity_bytes, only.bandwidth_bytes_per_second) == ("NVIDIA Quux 9000", 512 * GIB, None)


@pytest.mark.parametrize(("name", "words"), [("nvidia_mismatch", "version mismatch"), ("nothing", "Shared Library Not Found"), ("apple_intel", "i9-9880H")])
def test_no_gpu_says_why(name, words):
    """Without a GPU the error says what each probe met and what to type."""
    with pytest.raises(HardwareNotFoundError, match=words) as caught:
        found(name)
    assert '--gpu "RTX 4090"' in caught.value.hint


def test_amd_gpus_come_in_pci_order_with_others_use():
    """Sysfs cards are sorted by PCI address, as HIP counts them, whatever their card numbers."""
    fleet = found("amd_mi300x")
    assert [g.identifier for g in fleet.gpus] == [f"GPU-c0ffee000000000{n}" for n in (1, 2, 3)]
    assert {g.gpu.name for g in fleet.gpus} == {"MI300X 192GB"}
    assert fleet.gpus[0].gpu.capacity_bytes == 206141652992
    assert fleet.gpus[2].used_bytes == 100000000000


@pytest.mark.parametrize(
    ("environ", "last_digits"),
    [
        ({"HIP_VISIBLE_DEVICES": "2"}, "3"),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, "3"),
        ({"ROCR_VISIBLE_DEVICES": "GPU-c0ffee0000000002"}, "2"),
    ],
)
def test_rocm_variables_apply_one_after_the_other(environ, last_digits):
    """ROCR_VISIBLE_DEVICES chooses first, HIP_VISIBLE_DEVICES counts within what is left."""
    assert "".join(g.identifier[-1] for g in found("amd_mi300x", **environ).gpus) == last_digits


def test_a_processor_s_own_graphics_is_no_gpu():
    """An adapter with half a GiB is passed over for the card beside it, which is told from its siblings by its memory."""
    assert [g.gpu.name for g in found("amd_desktop").gpus] == ["RX 7900 XTX 24GB"]


def test_strix_halo_counts_the_memory_that_hip_gets():
    """An APU's capacity is its GTT where that is larger than its VRAM."""
    only = found("amd_strix_halo").gpus[0].gpu
    assert only.unified_memory
    assert only.capacity_bytes == 63967 * MIB


@pytest.mark.parametrize(("name", "megabytes"), [("apple_m4_max", 103079.22), ("apple_m5_max", 115448.73), ("apple_wired", 491520 * MIB / 1e6)])
def test_apple_capacity_is_what_metal_says(name, megabytes):
    """Capacity equals recommendedMaxWorkingSetSize of public logs for the same machine, or the limit that its owner set."""
    only = found(name).gpus[0].gpu
    assert only.capacity_bytes / 1e6 == pytest.approx(megabytes, abs=0.01)
    assert only.unified_memory


def test_a_hanging_driver_costs_its_time_limit_and_no_more():
    """A probe that never answers is left behind, and the error says so."""

    class Hanging(RecordedSystem):
        def nvml(self):
            time.sleep(3)
            return NvmlReport()

    start = time.monotonic()
    with pytest.raises(HardwareNotFoundError, match=r"no answer within 0\.1 s"):
        detect(Hanging(Recording(source="a driver that hangs")), time_limit_seconds=0.1)
    assert time.monotonic() - start < 2


def test_a_crashing_probe_is_a_reason_not_a_crash():
    """An exception out of a driver becomes words in the error."""

    class Crashing(RecordedSystem):
        def nvml(self):
            raise OSError("symbol lookup error")

    with pytest.raises(HardwareNotFoundError, match="symbol lookup error"):
        detect(Crashing(Recording(source="a driver that crashes")))


class StubNvml:
    """pynvml as it behaves on a healthy driver; attributes can be taken away or made to raise."""

    nvmlMemory_v2 = 2  # noqa: N815

    def __init__(self, *, second_version=True, name=b"Tesla V100-SXM2-16GB"):
        self.second_version, self.name = second_version, name

    def nvmlInit(self): ...  # noqa: N802
    def nvmlShutdown(self): ...  # noqa: N802
    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return b"470.57"

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        if index == 1:
            raise RuntimeError("GPU is lost")
        return index

    def nvmlDeviceGetName(self, handle):  # noqa: N802, ARG002
        return self.name

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802, ARG002
        return "GPU-1"

    def nvmlDeviceGetCudaComputeCapability(self, handle):  # noqa: N802, ARG002
        return (7, 0)

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):  # noqa: N802, ARG002
        if version is not None and not self.second_version:
            raise TypeError("unexpected keyword argument 'version'")
        return SimpleNamespace(total=100, used=10, reserved=5) if version else SimpleNamespace(total=100, used=15)

    def nvmlDeviceGetMigMode(self, handle):  # noqa: N802, ARG002
        raise RuntimeError("Not Supported")


@pytest.mark.parametrize(("second_version", "used", "reserved"), [(True, 10, 5), (False, 15, 0)])
def test_nvml_is_read_whatever_its_age(second_version, used, reserved):
    """Old bindings give bytes and one kind of memory answer; a lost GPU and an unsupported question leave the rest standing."""
    report = read_nvml(StubNvml(second_version=second_version))
    assert report.driver_version == "470.57"
    assert (report.devices[0].name, report.devices[0].memory.used, report.devices[0].memory.reserved) == ("Tesla V100-SXM2-16GB", used, reserved)
    assert report.devices[1].error == "GPU is lost"


def test_a_driver_that_does_not_start_is_a_report():
    """A failing nvmlInit gives its words, not an exception."""

    class Broken(StubNvml):
        def nvmlInit(self):  # noqa: N802
            raise RuntimeError("Driver Not Loaded")

    assert read_nvml(Broken()).error == "Driver Not Loaded"


def test_visible_never_raises():
    """Any text in the variable gives a list of distinct positions that exist."""
    for value in ("0,0", "999999999999999999999", "GPU-", ",", "0,,1", "\x00", "٣", "0x1", "-1,0", " 1 , 0 "):
        taken = visible(value, [["GPU-a"], ["GPU-b"]], "X").positions
        assert len(set(taken)) == len(taken)
        assert all(0 <= i < 2 for i in taken)


def test_a_processor_says_what_it_can():
    """The flags of /proc/cpuinfo; none on one that has no such line, unknown where there is no such file."""
    one = RecordedSystem(
        Recording(source="two cores", files={"/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_tile\n\nprocessor\t: 1\nflags\t\t: fpu\n"})
    )
    assert instruction_sets(one) == {"fpu", "avx512_bf16", "amx_tile"}
    assert instruction_sets(RecordedSystem(Recording(source="Arm", files={"/proc/cpuinfo": "Features\t: fp asimd\n"}))) == frozenset()
    assert instruction_sets(machine("nothing")) is None


def test_main_memory_is_a_fleet_only_when_asked():
    """cpu_fleet gives main memory within the container's limit; detect never falls back to it."""
    fleet = cpu_fleet(machine("nothing"))
    assert fleet is not None
    assert fleet.gpus[0].gpu.capacity_bytes == 16384000 * 1024
    bounded = cpu_fleet(
        RecordedSystem(Recording(source="a container", files={"/proc/meminfo": "MemTotal: 16384000 kB\n", "/sys/fs/cgroup/memory.max": "4294967296\n"}))
    )
    assert bounded is not None
    assert bounded.gpus[0].gpu.capacity_bytes == 4 * GIB


def test_this_machine_answers_or_says_why():
    """On whatever runs this test, detect ends in time with a fleet or a HardwareNotFoundError."""
    start = time.monotonic()
    try:
        assert len(detect(LiveSystem())) > 0
    except HardwareNotFoundError as error:
        said = error.message
    else:
        said = "NVIDIA or another GPU"
    assert "NVIDIA" in said
    assert time.monotonic() - start < 20


def test_importing_hardware_loads_no_driver_library():
    """`import vram.hardware` leaves pynvml and the probes alone: start-up time is a feature."""
    code = "import sys, vram.hardware; print([m for m in ('pynvml', 'vram.hardware.probe', 'tomllib', 'subprocess', 'difflib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
