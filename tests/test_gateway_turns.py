"""Whose turn it is where several workers have lines: two ledgers and desks in one process, each look done by hand."""

import sys
import time

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
if sys.platform == "win32":
    pytest.skip("workers need POSIX", allow_module_level=True)

from vram.admission.decide import Pool, Route
from vram.admission.need import Need
from vram.gateway import shared_desk
from vram.gateway.block import Block
from vram.gateway.shared import SharedLedger
from vram.gateway.shared_desk import SharedDesk
from vram.memory.curve import KvRoom, blocks

if not shared_desk.__file__.endswith(".py"):
    pytest.skip("a compiled desk has no other in its place", allow_module_level=True)

ROOM = KvRoom(curve=blocks(1, 1), capacity_bytes=100, context_tokens=100, max_sequences=50)


class Came:
    """A request, as far as a desk in front of no engine needs one."""

    def __init__(self, need, counter):
        self.ticket = self
        self.need, self.counter, self.lease = need, counter, None


class Loop:
    """No look comes by itself."""

    time = staticmethod(time.monotonic)

    def call_later(self, *_):
        """It does not come."""


class Desk(SharedDesk):
    """Remembers who went, in order."""

    def _admit(self, need, answer):
        self.went.append((self.ledger.number, need.key, answer.books.name))
        answer.books.reserve(need, answer.expected, answer.most, 0.0)


class Workers:
    """Two workers, with lines for models `x` and `y`, on replicas of their own or on one."""

    def __init__(self, replicas):
        self.block = Block.make(workers=2, places=4, slots=8, keys=8)
        self.went, self.desks, self.books = [], [], []
        for number in range(2):
            ledger = SharedLedger(self.block, number)
            books = {url: ledger.books(url, url, ROOM) for url in sorted(set(replicas.values()))}
            routes = {m: Route(model=m, pools=(Pool(m, m, [books[url]]),)) for m, url in replicas.items()}
            desk = Desk(ledger, {m: ledger.counter(route, ledger.shares()) for m, route in routes.items()}, ledger.shares())
            desk.went = self.went
            self.desks.append(desk)
            self.books.append(books)
        self.desks[0].ledger.shares().charge("less", 1.0)
        self.desks[0].ledger.shares().charge("more", 100.0)

    def comes(self, number, model, key, prompt):
        """One more waits."""
        desk = self.desks[number]
        counter = desk.counters[model]
        need = Need(prompt, 10, 10, key=key, arrived=time.monotonic())
        need.owner = Came(need, counter)
        counter.line.join(need)
        desk.ledger.enter()
        desk._tell()
        desk._offer(need.owner)
        desk.ledger.leave()
        desk._here()

    def free(self):
        """A little room becomes free at each replica; each worker looks, a few times."""
        for books in self.books[0].values():
            books.release(books.reserve(Need(1, 1, 1), 1, 1, 0.0), 0.0)
        for _ in range(3):
            for desk in self.desks:
                desk._look(Loop())


@pytest.mark.parametrize("replicas", [{"x": "http://a", "y": "http://b"}, {"x": "http://a", "y": "http://a"}])
def test_two_workers_do_not_give_way_to_each_other_for_ever(replicas):
    """What comes first in each one's line of one model does not fit; behind the other's, of the other model, waits what does: it goes in a few looks."""
    workers = Workers(replicas)
    for books in workers.books[0].values():
        books.reserve(Need(40, 10, 10), 10, 10, 0.0)
    workers.comes(1, "x", "less", 80)
    workers.comes(0, "y", "less", 80)
    workers.comes(0, "x", "more", 5)
    workers.comes(1, "y", "more", 5)
    workers.free()
    workers.free()
    assert sorted(workers.went) == [(0, "more", replicas["x"]), (1, "more", replicas["y"])]
    workers.block.close()


def test_who_used_less_is_asked_first_wherever_it_waits():
    """Room for one of them: who used less gets it, at a worker that looks second, too."""
    workers = Workers({"x": "http://a", "y": "http://b"})
    full = workers.books[0]["http://a"].reserve(Need(90, 10, 10), 10, 10, 0.0)
    workers.comes(0, "x", "more", 60)
    workers.comes(1, "x", "less", 60)
    workers.free()
    assert not workers.went
    workers.books[0]["http://a"].release(full, 0.0)
    workers.free()
    assert workers.went == [(1, "less", "http://a")]
    workers.block.close()
