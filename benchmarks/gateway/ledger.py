"""What a ledger that workers share costs a request: deciding, reserving, growing once and releasing, in one process and as one of four workers.

python benchmarks/gateway/ledger.py, or with PYTHONPATH=build/compiled/site on the compiled hot path (make test-compiled builds it).
Nobody else is in the ledger: what waiting for others costs depends on how many requests they have.
"""

import time

from vram.admission.decide import Admit, Pool, Route, decide
from vram.admission.need import Need
from vram.gateway import shared
from vram.gateway.block import Block
from vram.gateway.ledger import Ledger
from vram.gateway.shared import SharedLedger
from vram.memory.curve import KvRoom, blocks

ROOM = KvRoom(curve=blocks(196_608, 16), capacity_bytes=196_608 * 2000, context_tokens=32_768, max_sequences=256)
RUNNING = 20
"""Leases that each replica has, at this worker and at another one."""
TURNS = 4000


def nothing():
    pass


def filled(ledger, replicas):
    found = [ledger.books(f"http://{i}", f"p/{i}", ROOM) for i in range(replicas)]
    for books in found:
        for _ in range(RUNNING):
            books.reserve(Need(100, 100, 200), 100, 200, 0.0)
    return found


def microseconds(ledger, replicas, enter, leave):
    route = Route(model="m", pools=(Pool("p", "m", filled(ledger, replicas)),))
    need, best = Need(100, 100, 200), float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(TURNS):
            enter()
            answer = decide(need, route, 0.0)
            assert isinstance(answer, Admit)
            lease = answer.books.reserve(need, answer.expected, answer.most, 0.0)
            leave()
            lease.books.grow(lease, 50, 1.0)
            lease.books.release(lease, 1.0)
        best = min(best, (time.perf_counter() - begin) / TURNS)
    return best * 1e6


def main():
    print(f"compiled: {shared.__file__.endswith('.so')}")
    for replicas in (1, 8, 64):
        alone = microseconds(Ledger(), replicas, nothing, nothing)
        block = Block.make(workers=4, places=128, slots=256, keys=1)
        mine, other = SharedLedger(block, 0), SharedLedger(block, 1)
        filled(other, replicas)
        together = microseconds(mine, replicas, mine.enter, mine.leave)
        print(f"{replicas:3} replicas: {alone:6.1f} us a request in one process, {together:6.1f} us as one of several workers")


if __name__ == "__main__":
    main()
