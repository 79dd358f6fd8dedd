"""A worker's number from its start to its burial: who has it, and how all that a dead one left in the block is struck out."""

from vram.gateway.block import (
    BEGAN,
    EMPTY,
    GENERATION,
    HOLDER,
    KEPT,
    LEASES,
    LEAST,
    LOOKED_AT,
    MODEL_ROW,
    PID,
    RESTARTS,
    ROW,
    SLOT,
    USED_SLOTS,
    USERS,
    VISITS,
    Block,
)
from vram.gateway.shared_meter import bring_to


def settle_in(block: Block, number: int, pid: int, generation: int, began: float) -> None:
    """A worker has this number from now on."""
    block.lock()
    try:
        block.words[HOLDER] = 0
        block.words[VISITS] += 1
        at = block.worker(number)
        block.words[at + PID], block.words[at + GENERATION], block.words[at + BEGAN] = pid, generation, int(began)
    finally:
        block.unlock()


def bury(block: Block, number: int, pid: int, generation: int, now_ns: int) -> int:
    """A worker is dead: what it held is free, what its requests used so far is idle money. Returns how many leases it left behind.

    To be called before another gets its number; of one that is buried already nothing is left to do.
    """
    block.lock()
    try:
        words, at = block.words, block.worker(number)
        words[HOLDER] = 0
        words[VISITS] += 1
        if words[at + PID] != pid or words[at + GENERATION] != generation:
            return 0
        leases = 0
        for place in block.places():
            row = block.row(place, number)
            leases += words[row + LEASES]
            bring_to(block, place, now_ns)
            slots = block.slots_of(place, number)
            for i in range(words[row + USED_SLOTS]):
                words[slots + i * SLOT] = EMPTY
            for i in range(ROW):
                words[row + i] = 0
            words[place + USERS] &= ~(1 << number)
            if words[place + KEPT] == number + 1:
                words[place + KEPT] = 0
            block.changed(place, freed=True)
        for model in block.models():
            row = block.model_row(model, number)
            for i in range(MODEL_ROW):
                words[row + i] = 0
        for word in (PID, LOOKED_AT, LEAST):
            words[at + word] = 0
        words[RESTARTS] += 1
        return leases
    finally:
        block.unlock()
