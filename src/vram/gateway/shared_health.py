"""What all workers know of a replica together: when it last answered any of them well, when one of them found it out, how much it holds.

The later of the two says whether it may be asked, as in one process that saw both; and of those who would probe it, one does.
"""

from typing import Final

from vram.gateway.block import CAPACITY, CONTEXT, GOOD, MOST_SEQUENCES, OUT, PROBE, Block
from vram.gateway.health import Health
from vram.gateway.shared_books import SharedBooks

PROBE_NS: Final = 25 * 10**9
"""A probe that began so long ago is over, also where nobody says so: its worker is dead."""


def agree(block: Block, books: SharedBooks, health: Health) -> None:
    """Tell the others what this worker found out last, or take over what they did. To be called inside the ledger."""
    words, place = block.words, books.place
    good = int((health.last_good or 0.0) * 1e9)
    if health.out != books.was_out:
        books.was_out = health.out
        if health.out:
            words[place + OUT] = max(int(health.changed * 1e9), good + 1)
    words[place + GOOD] = max(words[place + GOOD], good)
    theirs, out = words[place + GOOD], words[place + OUT]
    if health.out and theirs > out:
        health.good(theirs / 1e9)
    elif not health.out and out > theirs:
        health.bad(out / 1e9, "another worker found it out of service", probe=True)
    elif theirs > good and not health.out:
        health.last_good = theirs / 1e9
    books.was_out = health.out


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
