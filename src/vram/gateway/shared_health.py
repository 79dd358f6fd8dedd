"""What all workers know of a replica together: when it last answered any of them well, when one of them found it out, how much it holds.

The later of the two says whether it may be asked, as in one process that saw both; and of those who would probe it, one does.
"""

from typing import Final

from vram.gateway.block import CAPACITY, CAUSE, CONTEXT, GOOD, HELD_OUT, MOST_SEQUENCES, OUT, OUTCOMES, PROBE, SOURCES, TOLD_SOURCES, Block
from vram.gateway.health import PROOF, Cause, Health, told
from vram.gateway.outcomes import CLASSES, Sums
from vram.gateway.shared_books import SharedBooks
from vram.gateway.sources import Asked, Sources

PROBE_NS: Final = 25 * 10**9
"""A probe that began so long ago is over, also where nobody says so: its worker is dead."""
# Of the word of a cause, from its low end: which it is (from 1), how often in a row, and two figures in ten-thousandths (seconds in thousandths).
_CAUSES: Final = tuple(Cause)
_KIND, _TIMES, _OWN, _OTHERS = 4, 8, 24, 24
_PARTS: Final = {Cause.SLOW: 1e3}


def agree(block: Block, books: SharedBooks, health: Health) -> None:
    """Tell the others what this worker found out last, or take over what they did. To be called inside the ledger."""
    words, place = block.words, books.place
    good = int((health.last_good or 0.0) * 1e9)
    if health.cause is not books.was_out and health.cause is not None:
        known = _cause(words[place + CAUSE]) if words[place + OUT] > words[place + GOOD] else None
        if books.was_out is None:
            words[place + OUT] = max(int(health.changed * 1e9), good + 1)
        words[place + HELD_OUT] = max(words[place + HELD_OUT], int(health.held * 1e9))
        if known is None or known not in PROOF or health.proven:
            words[place + CAUSE] = _packed(health)
    words[place + GOOD] = max(words[place + GOOD], good)
    theirs, out = words[place + GOOD], max(words[place + OUT], words[place + HELD_OUT])
    if health.out and theirs > out:
        health.good(theirs / 1e9)
    elif out > theirs:
        word = words[place + CAUSE]
        cause = _cause(word)
        if not health.out:
            health.take_over(words[place + OUT] / 1e9, cause, _why(word), held=words[place + HELD_OUT] / 1e9, times=word >> _KIND & (1 << _TIMES) - 1)
        elif cause in PROOF and not health.proven:
            health.prove(cause, _why(word))
    elif theirs > good and not health.out:
        health.hear(theirs / 1e9)
    books.was_out = health.cause


def _packed(health: Health) -> int:
    """Why it is out, in one word."""
    if health.cause is None:
        return 0
    own, others = [min(int(figure * _PARTS.get(health.cause, 1e4)), (1 << _OWN) - 1) for figure in health.figures]
    times = min(health.times, (1 << _TIMES) - 1)
    return _CAUSES.index(health.cause) + 1 | times << _KIND | own << _KIND + _TIMES | others << _KIND + _TIMES + _OWN


def _cause(word: int) -> Cause:
    return _CAUSES[max((word & (1 << _KIND) - 1) - 1, 0)]


def _why(word: int) -> str:
    """What a worker tells people of what another found."""
    cause = _cause(word)
    if cause is Cause.PROBE:
        return "another worker's probe failed"
    if cause is Cause.REFUSED:
        return "another worker cannot reach it"
    if cause is Cause.FAILURES:
        return "another worker's answers broke off"
    word >>= _KIND + _TIMES
    parts = _PARTS.get(cause, 1e4)
    return told(cause, (word & (1 << _OWN) - 1) / parts, (word >> _OWN & (1 << _OTHERS) - 1) / parts)


def tell_outcomes(block: Block, books: SharedBooks, sums: Sums) -> None:
    """What this worker's requests came to at a replica. Inside the ledger."""
    at = block.row(books.place, books.ledger.number) + OUTCOMES
    block.words[at], block.words[at + 1] = sums.answered, sums.failed
    for i in range(CLASSES):
        block.words[at + 2 + i] = sums.firsts[i]
        block.reals[at + 2 + CLASSES + i] = sums.logs[i]
    _tell_sources(block, at - OUTCOMES + SOURCES, sums.sources)


def add_outcomes(block: Block, books: SharedBooks, sums: Sums) -> None:
    """Add what the requests of all other workers came to. Inside the ledger."""
    for worker in range(block.workers):
        if worker != books.ledger.number:
            at = block.row(books.place, worker) + OUTCOMES
            sums.answered += block.words[at]
            sums.failed += block.words[at + 1]
            for i in range(CLASSES):
                sums.firsts[i] += block.words[at + 2 + i]
                sums.logs[i] += block.reals[at + 2 + CLASSES + i]
            _add_sources(block, at - OUTCOMES + SOURCES, sums.sources)


def others_answered(block: Block, books: SharedBooks, client: int) -> bool:
    """Whether some other worker told of good answers that were not this client's. Inside the ledger."""
    for worker in range(block.workers):
        if worker != books.ledger.number:
            row = block.row(books.place, worker)
            told = Sources()
            _add_sources(block, row + SOURCES, told)
            # Of more clients than are told of, those who are not told of were answered.
            if told.served_others(client) or (len(told.clients) >= TOLD_SOURCES and block.words[row + OUTCOMES] > told.good_answers()):
                return True
    return False


def _tell_sources(block: Block, at: int, sources: Sources) -> None:
    """Those who were failed most: verdicts hang on none but the worst. Of others, who asked is told, to whom good answers belong."""
    words = block.words
    clients = sorted(sources.clients.items(), key=_by_failures, reverse=True)[:TOLD_SOURCES]
    groups = sorted(sources.groups.items(), key=_second, reverse=True)[:TOLD_SOURCES]
    for i in range(5 * TOLD_SOURCES):
        words[at + i] = 0
    for i, (client, asked) in enumerate(clients):
        words[at + 3 * i], words[at + 3 * i + 1], words[at + 3 * i + 2] = client, asked.requests, asked.failed
    at += 3 * TOLD_SOURCES
    for i, (group, failed) in enumerate(groups):
        words[at + 2 * i], words[at + 2 * i + 1] = group, failed


def _add_sources(block: Block, at: int, sources: Sources) -> None:
    words = block.words[at : at + 5 * TOLD_SOURCES].tolist()
    for i in range(0, 3 * TOLD_SOURCES, 3):
        if words[i]:
            sources.count(words[i], words[i + 1], words[i + 2])
    for i in range(3 * TOLD_SOURCES, 5 * TOLD_SOURCES, 2):
        if words[i]:
            sources.count_group(words[i], words[i + 1])


def _by_failures(one: tuple[int, Asked]) -> tuple[int, int]:
    return one[1].failed, one[1].requests


def _second(one: tuple[int, int]) -> int:
    return one[1]


def may_probe(block: Block, books: SharedBooks, health: Health, now: float) -> bool:
    """Whether this worker is to probe: it wants to, knowing what the others know, and none of them does. Inside the ledger."""
    agree(block, books, health)
    now_ns, at = int(now * 1e9), books.place + PROBE
    if not health.wants_probe(now) or (block.words[at] and now_ns - block.words[at] < PROBE_NS):
        return False
    block.words[at] = now_ns
    return True


def probed(block: Block, books: SharedBooks, health: Health) -> None:
    """The probe is over. Inside the ledger."""
    block.words[books.place + PROBE] = 0
    agree(block, books, health)


def agree_on_sizes(block: Block, books: SharedBooks) -> None:
    """What an engine said of its cache to one worker holds for all: it may hold less than was planned. Inside the ledger."""
    words, place = block.words, books.place
    if books.sizes() != books.planned:
        words[place + CAPACITY], words[place + CONTEXT], words[place + MOST_SEQUENCES] = books.sizes()
    elif words[place + MOST_SEQUENCES]:
        books.capacity_bytes, books.context_tokens, books.max_sequences = words[place + CAPACITY], words[place + CONTEXT], words[place + MOST_SEQUENCES]
