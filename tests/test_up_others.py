"""Other programs' memory: what is left for our models."""

from dataclasses import replace

from vram.api import parse_gpus
from vram.hardware.fleet import Fleet, FleetGpu, Origin
from vram.hardware.remote import REMOTE_VENDOR
from vram.runtime.elsewhere import together
from vram.runtime.others import ours, watchable
from vram.runtime.together import within

GB = 1 << 30


def detected(*used):
    fleet = parse_gpus(f"{len(used)}x RTX 4090")
    gpus = tuple(replace(g, used_bytes=u, identifier=f"GPU-{i}") for i, (g, u) in enumerate(zip(fleet.gpus, used, strict=True)))
    return replace(fleet, gpus=gpus, origin=Origin.DETECTED)


def test_what_our_models_hold_is_nobody_elses():
    fleet = detected(GB)
    free = fleet.gpus[0].free_bytes
    assert ours(fleet, {"GPU-0": 21 * GB}, (20 * GB,)) == (free,)
    # A plan that is a little off is no other program.
    assert ours(fleet, {"GPU-0": 21 * GB + GB // 4}, (20 * GB,)) == (free,)


def test_a_card_that_loses_memory_has_less_and_gets_it_back():
    fleet = detected(0, 0)
    whole = (fleet.gpus[0].free_bytes, fleet.gpus[1].free_bytes)
    less = ours(fleet, {"GPU-0": 18 * GB, "GPU-1": 0}, (10 * GB, 0))
    assert 15 * GB < less[0] < 18 * GB
    assert less[1] == whole[1]
    assert ours(fleet, {"GPU-0": 10 * GB, "GPU-1": 0}, (10 * GB, 0)) == whole
    assert ours(fleet, {"GPU-0": 99 * GB}, (0, 0))[0] == 0


def test_a_budget_stays_a_budget():
    fleet = within(detected(0), 8 * GB)
    assert ours(fleet, {"GPU-0": 4 * GB}, (4 * GB,)) == (8 * GB,)


def test_named_cards_and_main_memory_are_not_asked_about():
    assert watchable(detected(0))
    assert not watchable(parse_gpus("RTX 4090"))


def test_beside_devices_of_rpc_servers_this_machines_cards_are_asked_about():
    """A file with pools on both: what others take of the card is theirs, what the device had free stays as it was told; devices alone are not asked about."""
    kind = replace(parse_gpus("RTX 4090").gpus[0].gpu, name="RPC device", vendor=REMOTE_VENDOR)
    device = Fleet(gpus=(FleetGpu(gpu=kind, index=0, used_bytes=3 * GB, identifier="a:1 device 0 of 1"),), origin=Origin.DETECTED)
    both = together(detected(0), device)
    assert [watchable(f) for f in (both, device)] == [True, False]
    assert [(g.index, g.gpu.name) for g in both.gpus] == [(0, "RTX 4090 24GB"), (1, "RPC device")]
    assert ours(both, {"GPU-0": 20 * GB}, (0, 9 * GB))[1] == device.gpus[0].free_bytes
    assert ours(both, {"GPU-0": 20 * GB}, (0, 9 * GB))[0] < 8 * GB
