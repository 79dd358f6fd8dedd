"""What requests share counts once: never more than their engine really saves, by a pool of blocks counted one by one.

The pool is written after vLLM's (vllm/v1/core/block_pool.py of 0.32): blocks with reference counts, full ones findable by what stands in them
and before them, those of nobody the first to be taken. It knows no bytes, no leases and no rule of ours.
"""

import random
from collections import OrderedDict

import pytest

from vram.admission.books import FRESH_SECONDS, Books
from vram.admission.decide import Admit, Pool, Route, decide
from vram.admission.learn import OutputTokens
from vram.admission.line import Line, Shares
from vram.admission.need import Need
from vram.costs.vram_time import Meter
from vram.memory.curve import KvCurve, Term, blocks

BLOCK = 1000
"""Bytes of a block."""


class Sequence:
    """One request in the engine."""

    def __init__(self, name, prompt, output):
        self.name, self.tokens, self.prompt, self.output = name, list(prompt), len(prompt), output
        self.computed = 0
        self.blocks = []
        self.names = []
        self.over = False

    @property
    def made(self):
        """Output tokens so far."""
        return len(self.tokens) - self.prompt


class Engine:
    """A scheduler over a pool of blocks: a step at a time, prompts in chunks."""

    def __init__(self, count, tokens, budget):
        self.tokens, self.budget = tokens, budget
        self.references = [0] * count
        self.free = OrderedDict((i, None) for i in range(count))
        self.found, self.names, self.known = {}, {}, {}
        self.running, self.waiting = [], []
        self.preempted = 0

    def used(self, names=None):
        """Blocks that somebody holds, or one of these."""
        return len({b for s in self.running if names is None or s.name in names for b in s.blocks})

    def take(self):
        """A block of nobody, the one that was given back first; what stands in it is forgotten."""
        block, _ = self.free.popitem(last=False)
        name = self.names.pop(block, None)
        if name is not None:
            self.found[name].remove(block)
        self.references[block] = 1
        return block

    def give_back(self, seq):
        """It holds nothing any more; its last blocks are forgotten first."""
        for block in reversed(seq.blocks):
            self.references[block] -= 1
            if not self.references[block]:
                self.free[block] = None
        seq.blocks, seq.computed = [], 0

    def _name(self, seq, number):
        """What stands in a full block and before it, as a number."""
        while len(seq.names) <= number:
            i = len(seq.names)
            content = (seq.names[-1] if i else 0, *seq.tokens[i * self.tokens : (i + 1) * self.tokens])
            seq.names.append(self.known.setdefault(content, len(self.known) + 1))
        return seq.names[number]

    def _hit(self, seq):
        for end in range(self.tokens, len(seq.tokens), self.tokens):
            at = self.found.get(self._name(seq, end // self.tokens - 1))
            if not at:
                return
            block = at[0]
            if not self.references[block]:
                del self.free[block]
            self.references[block] += 1
            seq.blocks.append(block)
            seq.computed = end

    def _compute(self, seq, number):
        seq.computed += number
        while len(seq.blocks) * self.tokens < seq.computed:
            if not self.free:
                return False
            seq.blocks.append(self.take())
        for i in range((seq.computed - number) // self.tokens, seq.computed // self.tokens):
            name = self._name(seq, i)
            if seq.blocks[i] not in self.names:
                self.names[seq.blocks[i]] = name
                self.found.setdefault(name, []).append(seq.blocks[i])
        return True

    def step(self):
        """One step: who runs goes on, who waits comes as far as the budget goes."""
        left = self.budget
        for seq in list(self.running):
            if seq not in self.running:
                continue
            number = min(len(seq.tokens) - seq.computed, left)
            left -= number
            while not self._compute(seq, number):
                seq.computed -= number
                victim = self.running.pop()
                self.give_back(victim)
                self.waiting.insert(0, victim)
                self.preempted += 1
                if victim is seq:
                    break
        while self.waiting and left and self.free:
            seq = self.waiting[0]
            self._hit(seq)
            number = min(len(seq.tokens) - seq.computed, left)
            if len(self.free) < -(-(seq.computed + number) // self.tokens) - len(seq.blocks):
                self.give_back(seq)
                break
            self.waiting.pop(0)
            left -= number
            self._compute(seq, number)
            self.running.append(seq)
        for seq in list(self.running):
            if seq.computed == len(seq.tokens):
                seq.tokens.append(("own", seq.name, len(seq.tokens)))
                if seq.made >= seq.output:
                    self.end(seq)

    def end(self, seq):
        """It is over, or nobody wants it any more."""
        seq.over = True
        if seq in self.running:
            self.running.remove(seq)
            self.give_back(seq)
        elif seq in self.waiting:
            self.waiting.remove(seq)


class Client:
    """A lease and its sequence: tokens are seen late, the end may be seen very late."""

    def __init__(self, lease, seq, late):
        self.lease, self.seq, self.late = lease, seq, late
        self.seen = [0] * (late + 1)

    def look(self):
        """What of it is known now; whether its end is."""
        self.seen.append(self.seq.made)
        return self.seen[-1 - self.late]


def prompt_of(draw, which, prefixes):
    """A prompt: one of the prefixes, of part of it, and words of its own."""
    prefix = draw.choice(prefixes)
    return [*prefix[: draw.choice([len(prefix), len(prefix), draw.randrange(len(prefix) + 1)])], *(("mine", which, i) for i in range(draw.randrange(1, 30)))]


@pytest.mark.parametrize("seed", range(24))
def test_no_more_is_saved_than_the_engine_saves(seed):
    """Whoever comes and goes, and however late that is seen: what is charged is never less than the blocks that these requests hold."""
    draw = random.Random(seed)  # noqa: S311  (lengths, no secrets)
    tokens, budget, strangers, lag = draw.choice([1, 4, 16]), draw.choice([24, 64, 512]), draw.random() < 0.5, draw.randrange(11)
    engine = Engine(20_000, tokens, budget)
    books = Books("r", blocks(BLOCK, tokens), 20_000 * BLOCK, context_tokens=10_000, max_sequences=10_000)
    prefixes = [[("all", p, i) for i in range(draw.choice([0, 40, 150, 300]))] for p in range(3)]
    clients, others, asked, saved, truth = [], [], None, 0, 0
    words = []
    for now in range(400):
        if now < 300 and draw.random() < 0.3:
            for _ in range(draw.choice([1, 1, 4])):
                prompt = prompt_of(draw, len(clients) + len(others) + now * 100, prefixes)
                seq = Sequence(("s", now, len(clients), len(others), draw.random()), prompt, draw.randrange(1, 120))
                engine.waiting.append(seq)
                if strangers and draw.random() < 0.3:
                    others.append(seq)
                    continue
                # Prompts are estimated from above.
                need = Need(len(prompt) + draw.choice([0, 0, 3, 40]), 60, seq.output, kin=draw.choice([0, 1, 2]))
                clients.append(Client(books.reserve(need, 60, seq.output, float(now)), seq, draw.choice([0, 1, 3])))
        engine.step()
        words.append((engine.used(), len(engine.running)))
        for client in list(clients):
            seen = client.look()
            books.grow(client.lease, seen, float(now), max(seen * 2, 60))
            # An end is seen with the last token or, by a client that reads slowly, much later; some leave in the middle.
            leaves = draw.random() < 0.005
            if leaves and not client.seq.over:
                engine.end(client.seq)
            if (client.seq.over and seen >= client.seq.made and draw.random() < 0.2) or leaves:
                books.release(client.lease, float(now))
                clients.remove(client)
        if asked is None and draw.random() < 0.1:
            books.asked()
            asked = now
        elif asked is not None and now - asked >= 2:
            # Its word is of a moment shortly before it was asked, or after.
            used, running = words[draw.randrange(max(asked - lag, 0), now + 1)]
            books.save(used * BLOCK, running, float(now))
            asked = None
        names = {client.seq.name for client in clients}
        charged = books.held_bytes - books.saved_bytes(float(now))
        unseen = sum(-(-(client.seq.made - client.seen[-1 - client.late]) // tokens) for client in clients)
        assert charged + unseen * BLOCK >= engine.used(names) * BLOCK
        assert books.saving.nbytes >= 0
        saved, truth = saved + books.saved_bytes(float(now)), truth + sum(len(c.seq.blocks) for c in clients) * BLOCK - engine.used(names) * BLOCK
        for lease in books.leases:
            assert 0 <= lease.saved_bytes <= lease.shared_bytes <= lease.held_bytes or lease.saved_bytes == lease.shared_bytes == 0
        if asked is None and now and books.saving.shared:
            assert sum(lease.saved_bytes for lease in books.leases) <= sum(books.saving.then(lease) for lease in books.leases)
    assert engine.preempted == 0
    print(f"{saved / max(truth, 1):.0%} of what is shared counts")
    for client in clients:
        books.release(client.lease, 400.0)
    assert books.held_bytes == books.promised_bytes == books.saving.nbytes == 0


class Replay:
    """Requests behind admission, all there from the start; the engine says every so many steps how much is used, as of the step before."""

    def __init__(self, asks, *, learns):
        self.asks, self.learns = asks, learns
        self.engine = Engine(240, 8, 256)
        self.books = Books("r", blocks(BLOCK, 8), 240 * BLOCK, context_tokens=900, max_sequences=100)
        self.line, self.law = Line(Route(model="m", pools=(Pool("p", "m", [self.books]),)), Shares()), OutputTokens()
        self.meter = Meter(nanodollars_per_hour=3_600_000_000, usable_bytes=240 * BLOCK, shared_bytes=0, began_ns=0)
        self.clients, self.now = [], 0

    def admit(self, need, answer):
        lease = answer.books.reserve(need, answer.expected, answer.most, self.now / 10)
        which, prompt, output = self.asks[need.owner]
        words = [*(("all", which, i) for i in range(150)), *(("mine", need.owner, i) for i in range(prompt - 150))]
        seq = Sequence(need.owner, words, output)
        self.engine.waiting.append(seq)
        self.clients.append((lease, seq))
        self.meter.start(need.owner, self.now * 10**8, lease.paid_bytes)

    def refuse(self, need, _):
        raise AssertionError(need.owner)

    def see(self):
        """What clients see of this step."""
        for lease, seq in list(self.clients):
            expected = min(self.law.beyond(seq.made), lease.most) if self.learns and seq.made > lease.expected else None
            self.books.grow(lease, seq.made, self.now / 10, expected)
            if seq.over:
                assert self.books.release(lease, self.now / 10)
                self.clients.remove((lease, seq))
                self.law.saw(seq.made)
                self.meter.end(seq.name, self.now * 10**8)
            else:
                self.meter.resize(seq.name, self.now * 10**8, lease.paid_bytes)

    def run(self, every):
        """Steps until all have ended."""
        books, engine, word = self.books, self.engine, (0, 0)
        for i, (which, prompt, output) in enumerate(self.asks):
            expected, most = (self.law.usual(), 200) if self.learns else (output, output)
            self.line.join(Need(prompt, expected, most, owner=i, kin=which + 1, law=self.law if self.learns else None))
        while len(self.line) or self.clients:
            self.line.pump(self.now / 10, self.admit, self.refuse)
            engine.step()
            self.see()
            if every and not self.now % every:
                books.asked()
                books.save(word[0] * BLOCK, word[1], self.now / 10)
                paid = sum(lease.paid_bytes for lease in books.leases)
                assert engine.used() * BLOCK <= books.held_bytes - books.saved_bytes(self.now / 10) <= paid <= books.held_bytes
            word = engine.used(), len(engine.running)
            assert engine.used() * BLOCK <= books.held_bytes - books.saved_bytes(self.now / 10) <= books.capacity_bytes
            assert not engine.preempted
            self.now += 1
            assert self.now < 20_000
        assert books.held_bytes == books.promised_bytes == books.saving.nbytes == engine.used() == 0
        balance = self.meter.balance(self.now * 10**8)
        assert balance.billed_nanodollars + balance.idle_nanodollars == balance.rent_nanodollars
        assert balance.idle_nanodollars >= 0
        return self.now


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("learns", [False, True])
def test_more_come_and_none_is_preempted(seed, learns):
    """Behind admission, with two beginnings for all: nobody is thrown out, nobody starves, nothing is above capacity, and all is done sooner."""
    draw = random.Random(seed)  # noqa: S311  (lengths, no secrets)
    # Which beginning, tokens of the prompt, of the answer.
    asks = [(draw.randrange(2), 160 + draw.randrange(40), draw.randrange(60, 120)) for _ in range(60)]
    apart, once = Replay(asks, learns=learns).run(0), Replay(asks, learns=learns).run(5)
    print(f"{apart} steps, {once} where what they share counts once")
    assert once < 0.95 * apart


def word_of(*, answers=(100, 100), kin=(1, 1), used=20, running=2, capacity=40, curve=None):
    """Books of two leases of twelve blocks each, whose engine says that it holds so many blocks for so many."""
    books = Books("r", curve or blocks(BLOCK, 10), capacity * BLOCK, context_tokens=1000)
    leases = [books.reserve(Need(100, 20, 300, kin=k), 20, 300, 0.0) for k in kin]
    for lease, made in zip(leases, answers, strict=True):
        books.grow(lease, made, 1.0, max(made, 20))
    books.asked()
    books.save(used * BLOCK, running, 1.0)
    return books, leases


def test_who_leaves_takes_his_share_of_what_is_sure():
    """Blocks that two share are held by the other when one leaves; until the engine says more, his going frees nothing."""
    books, (first, second) = word_of(used=30)
    before = books.held_bytes - books.saved_bytes(1.0)
    assert books.saved_bytes(1.0) > 0
    books.release(first, 1.5)
    assert books.held_bytes - books.saved_bytes(1.5) == min(before, second.held_bytes)
    books.release(second, 2.0)
    assert books.held_bytes == books.saved_bytes(2.0) == 0


@pytest.mark.parametrize(
    "said",
    [
        {"used": 40},  # more than is charged: others are there
        {"running": 0},  # they are thrown out, or it is another engine's word
        {"answers": (3, 3)},  # nothing came of them for long: their prompts may not be read yet
    ],
)
def test_what_is_not_sure_saves_nothing(said):
    """Words that fit no saving are none."""
    assert word_of(**said)[0].saved_bytes(1.0) == 0


@pytest.mark.parametrize(("state", "saves"), [(0, True), (2, False)])
def test_beside_states_nothing_is_saved(state, saves):
    """vLLM has more of them for a step than it keeps: room that was saved would not hold that."""
    curve = KvCurve(terms=(*blocks(BLOCK, 10).terms, Term(BLOCK, 1, 0, state)))
    books, leases = word_of(used=22, curve=curve)
    assert (books.saved_bytes(1.0) > 0) is saves
    assert all((lease.paid_bytes < lease.held_bytes) is saves for lease in leases)


def test_a_word_that_is_old_saves_nothing():
    """Where the engine says no more, what is shared is charged to each again; nobody new comes meanwhile."""
    books, _ = word_of(used=22)
    room = Route(model="m", pools=(Pool("p", "m", [books]),))
    assert isinstance(decide(Need(60, 20, 20), room, 1.0), Admit)
    assert books.saved_bytes(1.0 + FRESH_SECONDS) > 0
    assert books.saved_bytes(1.1 + FRESH_SECONDS) == 0
    assert not isinstance(decide(Need(60, 20, 20), room, 1.1 + FRESH_SECONDS), Admit)


def test_those_who_begin_alike_save():
    """What is saved is theirs, and a stranger's only where theirs cannot be all of it."""
    books, leases = word_of(answers=(100, 100, 100), kin=(1, 1, 2), used=46, running=3, capacity=80)
    assert [lease.saved_bytes > 0 for lease in leases] == [True, True, False]
    assert sum(lease.paid_bytes for lease in leases) == pytest.approx(books.held_bytes - books.saved_bytes(1.0), abs=3)
    assert sum(lease.saved_byte_seconds(3.0) for lease in leases) == pytest.approx(2 * books.saved_bytes(1.0), abs=6)
    _, leases = word_of(answers=(100, 100, 100), kin=(1, 2, 3), used=46, running=3, capacity=80)
    assert all(lease.saved_bytes > 0 for lease in leases)
