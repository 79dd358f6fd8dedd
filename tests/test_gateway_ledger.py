"""The ledger that workers share: it decides as one process with the same leases would, never gives the same room twice, and loses nothing when a worker dies."""

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
if sys.platform == "win32":
    pytest.skip("workers need POSIX", allow_module_level=True)

from vram.admission.books import Books
from vram.admission.decide import Admit, Pool, Route, decide
from vram.admission.line import Shares
from vram.admission.need import Need
from vram.costs.vram_time import Meter
from vram.gateway.bench import Bench
from vram.gateway.block import FIRST_KEY, HOLDER, LEAST, Block
from vram.gateway.health import Cause, State
from vram.gateway.house import House
from vram.gateway.keys import Key, KeyRing, KeyTerms
from vram.gateway.lock import _record
from vram.gateway.outcomes import Sums
from vram.gateway.replica import Replica
from vram.gateway.seats import Counter, Seat
from vram.gateway.shared import SharedLedger
from vram.gateway.shared_desk import SharedDesk
from vram.gateway.shared_health import add_outcomes, tell_outcomes
from vram.gateway.tenure import bury, settle_in
from vram.memory.curve import KvRoom, blocks

BLOCK_BYTES = 7
CAPACITY = 60 * BLOCK_BYTES
CURVE = blocks(BLOCK_BYTES, 4)
ROOM = KvRoom(curve=CURVE, capacity_bytes=CAPACITY, context_tokens=400, max_sequences=14)
WORKERS = 3
SECOND = 10**9
RENT = {"nanodollars_per_hour": 3_600_000_000_007, "usable_bytes": 2 * CAPACITY + 3, "shared_bytes": CAPACITY}


class Shared(RuleBasedStateMachine):
    """Three workers on one block, beside one process that has all of their leases, and one meter that has all of their requests."""

    @initialize(slots=st.sampled_from([3, 16]))
    def begin(self, slots):
        self.block = Block.make(workers=WORKERS, places=4, slots=slots, keys=4)
        self.exact = slots == 16
        self.now = 1_000.0
        self.alone = Books("one", CURVE, CAPACITY, context_tokens=400, max_sequences=14)
        self.meter = Meter(**RENT, began_ns=int(self.now * SECOND))
        self.generation = [0] * WORKERS
        self.leases = [[] for _ in range(WORKERS)]
        self.workers = [None] * WORKERS
        self.dead_nanodollars = self.told_rent = self.told_idle = self.paid = 0
        for number in range(WORKERS):
            self._arrive(number)

    def _arrive(self, number):
        self.generation[number] += 1
        settle_in(self.block, number, 100 + number, self.generation[number], self.now)
        ledger = SharedLedger(self.block, number)
        books = ledger.books("http://a", "p/0", ROOM)
        meter = ledger.meter(books, **RENT, began_ns=int(self.now * SECOND))
        self.workers[number] = ledger, books, meter

    @rule(
        number=st.integers(0, WORKERS - 1),
        prompt=st.integers(1, 12),
        expected=st.integers(4, 60),
        sequences=st.sampled_from([1, 1, 1, 2]),
        streams=st.booleans(),
    )
    def come(self, number, prompt, expected, sequences, streams):
        ledger, books, meter = self.workers[number]
        need = Need(prompt, expected, 100, sequences=sequences, streams=streams)
        ledger.enter()
        answer = decide(need, Route(model="m", pools=(Pool("p", "m", [books]),)), self.now)
        as_one = decide(need, Route(model="m", pools=(Pool("p", "m", [self.alone]),)), self.now)
        if self.exact:
            assert type(answer) is type(as_one)
        if isinstance(answer, Admit):
            # What is not listed lease by lease is taken for more than it is, never for less.
            assert isinstance(as_one, Admit)
            lease = books.reserve(need, answer.expected, answer.most, self.now)
            twin = self.alone.reserve(need, answer.expected, answer.most, self.now)
            meter.start(lease, int(self.now * SECOND), lease.held_bytes)
            self.meter.start(lease, int(self.now * SECOND), lease.held_bytes)
            self.leases[number].append((lease, twin))
        ledger.leave()

    @rule(number=st.integers(0, WORKERS - 1), prompt=st.integers(1, 8), expected=st.integers(20, 60))
    def come_small(self, number, prompt, expected):
        self.come(number, prompt, expected, sequences=1, streams=True)

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 20), tokens=st.integers(1, 30), more=st.booleans())
    def grow(self, number, which, tokens, more):
        if not self.leases[number]:
            return
        ledger, books, meter = self.workers[number]
        lease, twin = self.leases[number][which % len(self.leases[number])]
        produced = lease.produced + tokens
        expected = min(produced + 10, lease.most) if more and produced > lease.expected else None
        ledger.enter()
        assert books.grow(lease, produced, self.now, expected) == self.alone.grow(twin, produced, self.now, expected)
        assert lease.held_bytes == twin.held_bytes
        meter.resize(lease, int(self.now * SECOND), lease.held_bytes)
        self.meter.resize(lease, int(self.now * SECOND), lease.held_bytes)
        ledger.leave()

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 20))
    def end(self, number, which):
        if not self.leases[number]:
            return
        ledger, books, meter = self.workers[number]
        lease, twin = self.leases[number].pop(which % len(self.leases[number]))
        ledger.enter()
        assert books.release(lease, self.now)
        assert not books.release(lease, self.now)
        held = meter.end(lease, int(self.now * SECOND))
        ledger.leave()
        assert held == self.meter.end(lease, int(self.now * SECOND))
        self.paid += held.nanodollars
        self.alone.release(twin, self.now)

    @rule(number=st.integers(0, WORKERS - 1), in_the_ledger=st.booleans(), chance=st.integers(0, 5))
    def die(self, number, in_the_ledger, chance):
        if chance:
            return
        _, books, _ = self.workers[number]
        if in_the_ledger and self.leases[number]:
            # In the middle of a deed: its row half written, its lock taken away by the kernel.
            self.block.words[self.block.row(books.place, number)] += 12_345
        assert bury(self.block, number, 100 + number, self.generation[number] - 1, int(self.now * SECOND)) == 0
        assert bury(self.block, number, 100 + number, self.generation[number], int(self.now * SECOND)) == len(self.leases[number])
        for lease, twin in self.leases[number]:
            self.alone.release(twin, self.now)
            # What it used nobody pays: it is idle.
            self.dead_nanodollars += self.meter.end(lease, int(self.now * SECOND)).nanodollars
        self.leases[number] = []
        self._arrive(number)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds):
        self.now += seconds / 8

    @rule(number=st.integers(0, WORKERS - 1))
    def tell_idle(self, number):
        ledger, _, meter = self.workers[number]
        ledger.enter()
        rent, idle = meter.untold(int(self.now * SECOND))
        ledger.leave()
        self.told_rent += rent
        self.told_idle += idle

    @invariant()
    def all_see_the_same(self):
        if not hasattr(self, "workers"):
            return
        for ledger, books, _ in self.workers:
            ledger.look()
            assert books.held_bytes == self.alone.held_bytes <= CAPACITY
            assert books.promised_bytes == self.alone.promised_bytes
            assert books.sequences == self.alone.sequences

    def teardown(self):
        if not hasattr(self, "workers"):
            return
        for number in range(WORKERS):
            while self.leases[number]:
                self.end(number, 0)
        self.tell_idle(0)
        for ledger, books, meter in self.workers:
            ledger.look()
            assert books.held_bytes == books.promised_bytes == books.sequences == 0
            balance, one = meter.balance(int(self.now * SECOND)), self.meter.balance(int(self.now * SECOND))
            assert balance.rent_nanodollars == one.rent_nanodollars
            assert balance.kv_byte_ns == one.kv_byte_ns
            assert balance.shared_byte_ns == one.shared_byte_ns
            assert balance.billed_nanodollars == self.paid == one.billed_nanodollars - self.dead_nanodollars
        # To the billionth of a dollar: what was paid and what was told as idle are the rent.
        assert self.told_rent == self.meter.balance(int(self.now * SECOND)).rent_nanodollars
        assert self.paid + self.told_idle == self.told_rent
        self.block.close()


TestShared = Shared.TestCase
TestShared.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(["take", "settle", "renew"]), st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=60
    )
)
def test_a_keys_limits_hold_for_all_workers_together(deeds):
    """Whatever worker a key's requests come to: they are let in and turned away as by one process, and so is what they spend."""
    terms = KeyTerms(name="k", requests_per_minute=10, tokens_per_minute=1000, dollars_per_month=0.000_002, month=7)
    block = Block.make(workers=WORKERS, places=1, slots=1, keys=2)
    alone, shared, now = Key(terms), [SharedLedger(block, n).key(b"d" * 32, terms) for n in range(WORKERS)], 5_000.0
    for number, what, tokens, seconds in deeds:
        now += seconds / 10
        if what == "take":
            assert shared[number].take(now, tokens) == alone.take(now, tokens)
        elif what == "settle":
            shared[number].settle(tokens, seconds, tokens)
            alone.settle(tokens, seconds, tokens)
        else:
            shared[number], alone = shared[number].renewed(terms), alone.renewed(terms)
    block.close()


def test_limits_that_come_later_and_months_that_end():
    """A key that gets a limit while workers run has it for all of them; a new month begins at what the file says."""
    block = Block.make(workers=2, places=1, slots=1, keys=2)
    free = KeyTerms(name="k", month=7)
    limited = KeyTerms(name="k", requests_per_minute=2, month=7)
    budget = KeyTerms(name="k", dollars_per_month=1.0, month=7, nano_dollars_spent=400_000_000)
    keys = [SharedLedger(block, n).key(b"k" * 32, free) for n in range(2)]
    assert all(key.take(1000.0, 10**9) is None for key in keys for _ in range(50))
    keys = [key.renewed(limited) for key in keys]
    assert [keys[i % 2].take(1000.0, 0) is None for i in range(4)] == [True, True, False, False]
    keys = [key.renewed(budget) for key in keys]
    keys[0].settle(0, 0, 600_000_000)
    assert keys[1].take(2000.0, 0).what == "budget"
    keys[1] = keys[1].renewed(KeyTerms(name="k", dollars_per_month=1.0, month=8))
    assert keys[0].take(2000.0, 0) is None
    block.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(["ended", "cut", "left", "began", "prompt", "events"]), st.integers(1, 3000)),
        min_size=1,
        max_size=120,
    )
)
def test_workers_learn_together_what_one_process_learns(deeds):
    """Whatever worker sees a prompt or an answer: all go by the same lengths as one process that saw them all, a new worker too."""
    block = Block.make(workers=WORKERS, places=1, slots=1, keys=2, models=2)
    route, alone = Route(model="m", pools=()), Counter(Route(model="m", pools=()), Shares())
    ledgers = [SharedLedger(block, n) for n in range(WORKERS)]
    counters = [ledger.counter(route, ledger.shares()) for ledger in ledgers]
    for number, what, tokens in deeds:
        for counter in (counters[number], alone):
            if what == "ended":
                counter.outputs.saw(tokens)
            elif what == "cut":
                counter.outputs.saw(tokens, cut=True)
            elif what == "left":
                counter.outputs.broke_off(tokens)
            elif what == "began":
                counter.outputs.began()
                counter.outputs.went_on(0, tokens)
            elif what == "prompt":
                counter.prompts.saw(3000, tokens)
            else:
                counter.events.saw(tokens, 1000)
    alone.outputs.refresh()
    alone.prompts.refresh()
    for counter in counters:
        counter.refresh()
        assert counter.outputs.usual() == alone.outputs.usual()
        assert counter.outputs.beyond(100) == alone.outputs.beyond(100)
        assert counter.prompts.most(5000) == alone.prompts.most(5000)
        assert counter.prompts.least(5000) == alone.prompts.least(5000)
        assert counter.events.rate == alone.events.rate
        assert counter.outputs.survival() == alone.outputs.survival()
    # Answers that ran at a worker that is dead run no more; all else is known to the one that takes its place.
    settle_in(block, 0, 5, 1, 0)
    bury(block, 0, 5, 1, 1)
    without = Counter(route, Shares())
    for number, what, tokens in deeds:
        if what == "ended":
            without.outputs.saw(tokens)
        elif what == "cut":
            without.outputs.saw(tokens, cut=True)
        elif what == "left":
            without.outputs.broke_off(tokens)
        elif what == "began" and number:
            without.outputs.began()
            without.outputs.went_on(0, tokens)
    ledger = SharedLedger(block, 0)
    assert ledger.counter(route, ledger.shares()).outputs.survival() == without.outputs.survival()
    block.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from("abc"), st.integers(0, 10**12)), max_size=40))
def test_a_key_used_what_it_used_at_all_workers(charges):
    """Whichever worker a key's requests ran at, its use is one sum at all of them."""
    block = Block.make(workers=WORKERS, places=1, slots=1, keys=8)
    alone, shared = Shares(), [SharedLedger(block, n).shares() for n in range(WORKERS)]
    for number, key, amount in charges:
        shared[number].charge(key, float(amount))
        alone.charge(key, float(amount))
        assert all(shares.used(key) == alone.used(key) for shares in shared)
    block.close()


def test_absence_saves_nothing_up_and_waiting_elsewhere_is_no_absence():
    """The floor is the least that any key used of those that wait at any worker: one that waits at another worker keeps what it did not use."""
    block = Block.make(workers=2, places=1, slots=1, keys=8)
    one, two = [SharedLedger(block, n).shares() for n in range(2)]
    one.charge("much", 100.0)
    two.charge("little", 5.0)
    two.joins("little")
    one.raise_floor(100.0)
    assert (one.used("little"), one.used("new")) == (5.0, 5.0)
    two.waits(-1.0)
    one.raise_floor(100.0)
    assert (two.used("little"), two.used("new")) == (100.0, 100.0)
    block.close()


def test_more_keys_and_models_than_there_are_places_for():
    """Where the block is full each worker goes on by itself, and says so once."""
    block = Block.make(workers=2, places=1, slots=1, keys=1, models=1)
    ledgers = [SharedLedger(block, n) for n in range(2)]
    for ledger in ledgers:
        for name in ("first", "second"):
            counter = ledger.counter(Route(model=name, pools=()), ledger.shares())
            counter.outputs.saw(10)
            ledger.shares().charge(name, 7.0)
    assert [ledger.shares().used("first") for ledger in ledgers] == [14.0, 14.0]
    assert [ledger.shares().used("second") for ledger in ledgers] == [7.0, 7.0]
    block.close()


def test_nothing_is_logged_inside_the_ledger():
    """A log may be stuck, and all would wait for it: a key without a place and a replica that goes out are told when the visit is over."""
    house, said = Seats().house, []
    block = Block.make(workers=2, places=2, slots=4, keys=1)
    ledger = SharedLedger(block, 0)

    class Heard(logging.Handler):
        def emit(self, record):
            said.append((record.getMessage(), block.words[HOLDER]))

    log, heard = logging.getLogger("vram.gateway"), Heard()
    log.addHandler(heard)
    try:
        ledger.enter()
        for name in ("first", "second"):
            ledger.shares().charge(name, 1.0)
        assert not said
        ledger.leave()
        assert [("second" in text, inside) for text, inside in said] == [(True, 0)]
        said.clear()
        bench = Bench("p")
        for url, failed in (("http://bad", 40), ("http://good", 0)):
            replica = Replica(house, url=url, host="127.0.0.1", port=1)
            replica.outcomes.now.answered, replica.outcomes.now.failed = 40 - failed, failed
            books = ledger.books(url, "p/0", ROOM)
            books.owner = Seat(replica, books, None, Pool("p", "m", [books]), bench)
            bench.seats.append(books.owner)
        desk = SharedDesk(ledger, {}, ledger.shares())
        ledger.enter()
        assert desk._judge(bench, 100.0)
        assert not said
        ledger.leave()
        assert [(text.split()[:3], inside) for text, inside in said] == [(["http://bad", "is", "out"], 0)]
    finally:
        log.removeHandler(heard)
    block.close()


def test_leases_that_are_not_listed_count_whole():
    """A worker with more leases than slots: what is not listed is taken to hold all that it promises until everybody else has ended."""
    block = Block.make(workers=2, places=2, slots=1, keys=1)
    first, second = [SharedLedger(block, n).books("http://a", "p/0", ROOM) for n in range(2)]
    # Two of ten blocks each, the second soon over: listed, it would make room for what comes.
    for expected, produced in ((36, 0), (36, 35)):
        first.grow(first.reserve(Need(4, expected), expected, 100, 0.0), produced, 0.0)
    second.ledger.look()
    alone = Books("one", CURVE, CAPACITY, context_tokens=400, max_sequences=14)
    for expected, produced in ((36, 0), (36, 35)):
        alone.grow(alone.reserve(Need(4, expected), expected, 100, 0.0), produced, 0.0)
    fits = [n for n in range(100, 400) if alone.fits(Need(1, n), n, 0.0)]
    less = [n for n in range(100, 400) if second.fits(Need(1, n), n, 0.0)]
    # Beside ten blocks that stay, fifty of four tokens.
    assert max(less) == 4 * 50 - 1
    assert max(fits) > max(less)
    block.close()


def test_a_replica_kept_by_one_worker_is_kept_from_all():
    """Who waited too long at one worker comes next at its replica, before everybody at another, until it is in, gone, or its worker dead."""
    block = Block.make(workers=2, places=2, slots=4, keys=1)
    settle_in(block, 0, 1, 1, 0)
    ledgers = [SharedLedger(block, n) for n in range(2)]
    first, second = [ledger.books("http://a", "p/0", ROOM) for ledger in ledgers]
    for gives_up in ("itself", "by death"):
        need = Need(8, 8)
        ledgers[0].enter()
        first.reserved = need
        ledgers[0].leave()
        ledgers[1].look()
        assert first.fits(need, 8, 0.0)
        assert not second.fits(Need(1, 1), 1, 0.0)
        freed = ledgers[1].freed()
        if gives_up == "itself":
            ledgers[0].enter()
            first.reserved = None
            ledgers[0].leave()
        else:
            bury(block, 0, 1, 1, 1)
        assert ledgers[1].freed() > freed
        ledgers[1].look()
        assert second.fits(Need(1, 1), 1, 0.0)
    block.close()


@pytest.mark.parametrize("kind", ["as it is here", "record lock"])
def test_a_process_that_dies_in_the_ledger_holds_up_nobody(kind):
    """Killed with the lock in its hand: the kernel gives it to the next, and to nobody before."""
    block = Block.make(workers=1, places=1, slots=1, keys=1)
    made = "_record(b.descriptor)" if kind == "record lock" else "(b.lock, b.unlock)"
    code = (
        "import sys, time; from vram.gateway.block import FIRST_KEY, HOLDER, LEAST, Block; from vram.gateway.lock import _record; b = Block(int(sys.argv[1])); "
        f"take, give = {made}; take(); print('in', flush=True); time.sleep(600)"
    )
    lock, unlock = _record(block.descriptor) if kind == "record lock" else (block.lock, block.unlock)
    got = threading.Event()

    def take():
        lock()
        got.set()
        unlock()

    waits = threading.Thread(target=take)
    with subprocess.Popen([sys.executable, "-c", code, str(block.descriptor)], pass_fds=(block.descriptor,), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"in\n"
        waits.start()
        assert not got.wait(0.3)
        process.kill()
    assert got.wait(20)
    waits.join()
    block.close()


def test_a_replica_that_left_and_came_back_pays_no_rent_for_the_time_between():
    """Its place is given up by the last worker that has it, and begins anew."""
    block = Block.make(workers=2, places=2, slots=4, keys=1)
    ledgers = [SharedLedger(block, n) for n in range(2)]
    for ledger in ledgers:
        ledger.meter(ledger.books("http://a", "p/0", ROOM), **RENT, began_ns=10 * SECOND)
    ledgers[0].seated(set())
    again = ledgers[0].meter(ledgers[0].books("http://a", "p/0", ROOM), **RENT, began_ns=70 * SECOND)
    # The other still had it.
    assert again.balance(70 * SECOND).rent_nanodollars == 60_000_000_000
    for ledger in ledgers:
        ledger.seated(set())
    again = ledgers[1].meter(ledgers[1].books("http://a", "p/0", ROOM), **RENT, began_ns=90 * SECOND)
    assert again.balance(91 * SECOND).rent_nanodollars == 1_000_000_000
    block.close()


class Seats:
    """Two workers with a seat each at one replica."""

    def __init__(self):
        self.block = Block.make(workers=2, places=2, slots=4, keys=1)
        self.ledgers = [SharedLedger(self.block, n) for n in range(2)]
        loop = asyncio.new_event_loop()
        self.house = House(loop, KeyRing(required=False))
        loop.close()
        self.healths = [None, None]
        self.books = []
        for number in range(2):
            self.sit(number)

    def sit(self, number):
        replica = Replica(self.house, url="http://a", host="127.0.0.1", port=1)
        self.healths[number] = replica.health
        books = self.ledgers[number].books("http://a", "p/0", ROOM)
        books.owner = Seat(replica, books, None, Pool("p", "m", [books]), Bench("p"))
        self.books = [*self.books[:number], books, *self.books[number + 1 :]]

    def tick(self):
        # Twice: what the second tells the first hears at its next turn.
        for ledger in self.ledgers * 2:
            ledger.tick()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["good", "bad", "probe fails"])), min_size=1, max_size=40))
def test_workers_agree_on_a_replicas_health(events):
    """Whatever each sees in turn, all say the same once they have agreed: in service after an answer, out once one of them took it out."""
    both, now = Seats(), 1_000.0
    for number, what in events:
        now += 1.0
        health = both.healths[number]
        if what == "good":
            health.good(now)
            expected = False
        else:
            was = health.out
            expected = health.bad(now, "no", probe=what == "probe fails") or was
        both.tick()
        assert [h.out for h in both.healths] == [expected] * 2
    both.block.close()


def test_what_one_worker_ejects_is_out_at_all():
    """For as long, for the same reason, whatever good answers the others get meanwhile; each time in a row is counted on by whoever finds it."""
    both, now = Seats(), 1_000.0
    both.healths[0].eject(now, Cause.SLOW, 8.25, 0.5, 30.0)
    both.healths[1].good(now + 0.5)
    both.tick()
    assert [h.cause for h in both.healths] == [Cause.SLOW] * 2
    assert both.healths[1].why == both.healths[0].why != ""
    assert [h.state(now + 29).value for h in both.healths] == ["out"] * 2
    for number in range(2):
        both.healths[number].good(now + 20)
        both.tick()
        assert [h.out for h in both.healths] == [True] * 2
    both.healths[1].good(now + 31)
    both.tick()
    assert [h.out for h in both.healths] == [False] * 2
    both.healths[1].eject(now + 40, Cause.FAILING, 0.5, 0.01, 30.0)
    both.tick()
    assert [round(h.seconds_out(now + 40)) for h in both.healths] == [60, 60]
    assert "50%" in both.healths[0].why
    # Counted where it was found, so that the sum of all workers is how often it was.
    assert [sum(h.outs.values()) for h in both.healths] == [1, 1]
    both.block.close()


def test_what_one_worker_proves_is_proven_for_all():
    """A suspect of all, whose probe fails at one, is out for all; what requests tell afterwards takes the proof back at none."""
    both, now = Seats(), 1_000.0
    for health in both.healths:
        for _ in range(3):
            health.bad(now, "no")
        both.tick()
    assert [(h.out, h.proven) for h in both.healths] == [(True, False)] * 2
    both.healths[1].bad(now + 3, "no", probe=True)
    both.tick()
    assert [h.proven for h in both.healths] == [True] * 2
    assert both.healths[0].cause is Cause.PROBE
    both.block.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3), st.integers(1, 9), st.booleans()), max_size=8), min_size=2, max_size=2))
def test_what_one_source_fails_at_all_workers_is_one_sources(requests):
    """A client's requests at two workers are judged as by one process that served it; of a worker that is buried nothing stays."""
    both, told, alone = Seats(), [Sums(), Sums()], Sums()
    for number, lot in enumerate(requests):
        for often, client, group, failed in lot:
            for sums in (told[number], alone):
                for _ in range(often):
                    sums.fail(client, group) if failed else sums.answer(client)
    for number in range(2):
        tell_outcomes(both.block, both.books[number], told[number])
    for number in range(2):
        add_outcomes(both.block, both.books[number], told[number])
        of = told[number].sources
        assert {c: (a.requests, a.failed) for c, a in of.clients.items()} == {c: (a.requests, a.failed) for c, a in alone.sources.clients.items()}
        assert of.groups == alone.sources.groups
    settle_in(both.block, 1, 7, 1, 0)
    bury(both.block, 1, 7, 1, 0)
    rest = Sums()
    add_outcomes(both.block, both.books[0], rest)
    assert rest.sources.clients == rest.sources.groups == {}
    both.block.close()


@pytest.mark.parametrize("good_at", [999.0, 1010.0])
def test_failures_in_a_row_are_none_with_another_workers_answer_between(good_at):
    """A worker with few requests saw two failures, another an answer after them: a failure an hour later is the first. One before them breaks no row."""
    both = Seats()
    for at in (1000.0, 1001.0):
        both.healths[0].bad(at, "no", client=int(at), group=int(at))
    both.healths[1].good(good_at)
    both.tick()
    assert both.healths[0].bad(4600.0, "no", client=1, group=1) == (good_at < 1000.0)
    both.block.close()


def test_of_a_replica_that_is_given_up_no_outcome_stays():
    """A replica that no file names any more, and one does later: what its requests came to then says nothing of it now."""
    both = Seats()
    of = Sums()
    of.fail(1, 1)
    of.first(10, 3.0)
    tell_outcomes(both.block, both.books[1], of)
    both.ledgers[1].seated(set())
    both.sit(1)
    rest = Sums()
    add_outcomes(both.block, both.books[0], rest)
    assert (rest.requests, sum(rest.firsts), sum(rest.logs), rest.sources.clients, rest.sources.groups) == (0, 0, 0.0, {}, {})
    both.block.close()


@pytest.mark.parametrize("failing", [0, 12])
def test_whom_another_worker_answers_is_another_client_as_well(failing):
    """One client's connection is at one worker, all others' are at another: there they are answered, though more clients fail than are told of."""
    both = Seats()
    desks = [SharedDesk(ledger, {}, Shares()) for ledger in both.ledgers]
    seats = [books.owner for books in both.books]
    told = Sums()
    for client in range(100, 100 + failing):
        told.fail(client, client)
    told.answer(9)
    tell_outcomes(both.block, both.books[1], told)
    assert [desk.served_others(seat, 1) for desk, seat in zip(desks, seats, strict=True)] == [True, False]
    # Its own good answers at the other worker are no other's, unless that is not to be told from them.
    assert desks[0].served_others(seats[0], 9) == (failing > 0)
    seats[1].replica.outcomes.now.answer(1)
    assert [desks[1].served_others(seats[1], client) for client in (1, 2)] == [False, True]
    both.block.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 10**5), st.floats(1e-3, 600)), max_size=8), min_size=2, max_size=2), st.integers(0, 50), st.integers(0, 50))
def test_what_requests_came_to_adds_up_over_workers(firsts, answered, failed):
    """Each knows of all requests what one process would that served them all; of a worker that is buried nothing stays."""
    both, alone = Seats(), Sums()
    told = [Sums(), Sums()]
    for number in range(2):
        told[number].answered, told[number].failed = answered, failed
        for tokens, seconds in firsts[number]:
            told[number].first(tokens, seconds)
        tell_outcomes(both.block, both.books[number], told[number])
        alone.add(told[number])
    for number in range(2):
        add_outcomes(both.block, both.books[number], told[number])
        assert (told[number].answered, told[number].failed, told[number].firsts) == (alone.answered, alone.failed, alone.firsts)
        assert told[number].logs == pytest.approx(alone.logs)
    settle_in(both.block, 1, 7, 1, 0)
    bury(both.block, 1, 7, 1, 0)
    rest = Sums()
    add_outcomes(both.block, both.books[0], rest)
    assert rest.requests == sum(rest.firsts) == sum(rest.logs) == 0
    both.block.close()


def test_one_worker_probes_for_all():
    """Of workers that want to know whether a replica still generates one asks it, and the answer is known to all; a dead one's turn passes."""
    both, now = Seats(), 1_000.0
    assert [both.ledgers[n].may_probe(both.books[n], now) for n in (0, 1, 0)] == [True, False, False]
    both.healths[0].good(now + 1)
    both.ledgers[0].probed(both.books[0])
    assert not both.ledgers[1].may_probe(both.books[1], now + 2)
    # Silent again for long: the other's turn, and it dies at it.
    now += 60
    assert both.ledgers[1].may_probe(both.books[1], now)
    assert not both.ledgers[0].may_probe(both.books[0], now + 5)
    assert both.ledgers[0].may_probe(both.books[0], now + 30)
    both.block.close()


def test_a_new_worker_knows_what_the_others_know():
    """The cache's size by the engine's word, a replica that is out of service, one that is drained: a worker that starts begins with that."""
    both = Seats()
    both.books[0].resize(CAPACITY // 2)
    both.healths[0].bad(5.0, "no", probe=True)
    both.ledgers[0].drain(both.books[0], draining=True)
    both.tick()
    settle_in(both.block, 1, 7, 1, 0)
    bury(both.block, 1, 7, 1, 6 * SECOND)
    both.ledgers[1] = SharedLedger(both.block, 1)
    both.sit(1)
    assert both.books[1].capacity_bytes == CAPACITY // 2
    both.tick()
    assert both.healths[1].out
    assert both.healths[1].state(10.0) is State.DRAINING
    both.block.close()


def test_nobody_gives_way_to_a_worker_that_gave_a_replica_up():
    """It told how many wait there, and the replica left its file: whoever serves it later on gave way to nobody at all."""
    block = Block.make(workers=2, places=4, slots=4, keys=4)
    ledgers = [SharedLedger(block, number) for number in range(2)]
    gone, stays = (ledger.books("http://a", "a", ROOM) for ledger in ledgers)
    ledgers[0].enter()
    gone.tell_waiting(3)
    ledgers[0].leave()
    ledgers[1].look()
    assert stays.others_wait
    ledgers[0].seated(set())
    ledgers[1].look()
    assert not stays.others_wait


def test_a_desk_takes_back_what_the_one_before_it_told():
    """The pools file was read again while somebody waited, who went at once: nobody gives way to this worker any more, and no floor stays low."""
    both = Seats()
    ledger, books = both.ledgers[0], both.books[0]
    ledger.enter()
    ledger.shares().joins("key")
    books.tell_waiting(1)
    books.tell_first(0, ledger.fair.place("key"))
    ledger.leave()
    both.ledgers[1].look()
    assert both.books[1].others_wait
    counter = ledger.counter(Route(model="m", pools=(Pool("p", "m", [books]),)), ledger.shares())
    SharedDesk(ledger, {"m": counter}, ledger.shares()).tick(10.0)
    both.ledgers[1].look()
    assert not both.books[1].others_wait
    block = both.block
    assert block.words[block.row(books.place, 0) + FIRST_KEY] == 0
    assert block.reals[block.worker(0) + LEAST] == 0.0
    block.close()


def test_a_machine_that_was_just_booted_is_probed_on():
    """Its clock begins at nothing: that nobody ever probed is no probe that goes on."""
    both = Seats()
    assert both.ledgers[0].may_probe(both.books[0], 3.0)
    both.block.close()
