"""Which replicas of a pool are unlike the others, and when what requests tell says nothing. Pure.

As Envoy's outlier detection has it (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier and
…/api-v3/config/cluster/v3/outlier_detection.proto): a success rate that is far from the pool's, a share of failures past a bound, both
only from so many requests at so many replicas on; and never more than a share of the pool. Two things differ, because pools of
engines are small and their answers long:

- Envoy measures in standard deviations over its hosts, of which one among n can be at most √(n-1) away; at its 1.9 nobody stands out
  among fewer than five, and five is its least number of hosts. Here each replica is held against the requests of all others together
  (a test of two proportions), which tells from two replicas on.
- Engines turn slow before they fail: time to first token is compared as well, prompts of like length with each other, so that whoever
  gets the long ones is not taken for slow (indirect standardisation, on logarithms).
- Envoy counts failures whoever asked. Here no verdict on failures hangs on one source (`sources`): without it a replica still has to fail its
  share, three times at least, or a tenth more than the others do, by more than chance. What is left may be a request or two, of which
  standard deviations tell nothing: that chance is counted out (Fisher's exact test of a table of two by two).

Its panic threshold is kept, too (…/upstream/load_balancing/panic_threshold): where most of a pool is out, what requests tell is more
likely about the requests than about the replicas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, lgamma, sqrt
from typing import TYPE_CHECKING, Final

from vram.gateway.health import FAILURES, Cause
from vram.gateway.outcomes import CLASSES, Sums

if TYPE_CHECKING:
    from vram.readers.pools import Outliers

LEAST_GAP: Final = 0.1
"""How much larger a replica's share of failures has to be than that of the others: what is certain need not matter."""
LEAST_SLOW_SECONDS: Final = 1.0
"""How much longer its first tokens have to take: a cold cache takes ten times as long for short prompts, and nobody notices."""
FEW: Final = 5
"""First tokens of other replicas in a class of prompts, from which on it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A replica that is unlike the others.

    Attributes:
        number: its place in the pool.
        cause: in what.
        own: its share of failures, or seconds to its first tokens.
        others: the same of the others; of `FAILURE_SHARE` it decides nothing.
    """

    number: int
    cause: Cause
    own: float
    others: float


def most_out(replicas: int, share: float) -> int:
    """How many of a pool what requests tell may put out: its share, and at least one where there is another to go to."""
    if share <= 0:
        return 0
    return max(int(share * replicas), 1 if replicas > 1 else 0)


def panics(sound: int, replicas: int, share: float) -> bool:
    """Whether so many are out, for whatever reason, that what requests tell says nothing: with it none is kept out that is not out by proof."""
    return replicas - sound > most_out(replicas, share)


def outliers(sums: Sequence[Sums], sound: Sequence[bool], rules: "Outliers") -> list[Outlier]:
    """Replicas that are to go out, the worst first. With all of them out the pool does not panic.

    Args:
        sums: of each replica of a pool.
        sound: whether nothing speaks against it until now: only these are judged, and judged by.
        rules: the pools file's.
    """
    left = [i for i, one in enumerate(sums) if sound[i]]
    room = most_out(len(sums), rules.most_out_share) - (len(sums) - len(left))
    asked = _enough(sums, left, rules)
    over = [i for i in asked if 0 < rules.failure_share <= _share((sums[i],)) and _fails_without(sums[i], rules.failure_share)]
    found: list[Outlier] = []
    if len(asked) >= rules.least_replicas and len(over) <= room:
        # Of more than may go out it is not they who are unlike the others.
        found = [Outlier(number=i, cause=Cause.FAILURE_SHARE, own=_share((sums[i],)), others=_share(_but(sums, asked, i))) for i in over]
        left = [i for i in left if i not in over]
    while len(found) < room:
        worst = _worst_failing(sums, _enough(sums, left, rules), rules) or _slowest(sums, left, rules)
        if worst is None:
            break
        found.append(worst)
        # One that is far off hides the next: the others are judged without it.
        left.remove(worst.number)
    return found


def of_one_source(sums: Sequence[Sums], sound: Sequence[bool], rules: "Outliers") -> list[Outlier]:
    """Replicas that fail more of their requests than the others do, and without one source's no more: whoever looks at them wants to know why they stay."""
    asked = _enough(sums, [i for i in range(len(sums)) if sound[i]], rules)
    found: list[Outlier] = []
    if len(asked) < rules.least_replicas or rules.failure_deviations <= 0:
        return found
    for i in asked:
        others = _but(sums, asked, i)
        own, theirs = _share((sums[i],)), _share(others)
        if _stands_out(sums[i], others) >= rules.failure_deviations and not _stands_out_without(sums[i], others, rules.failure_deviations):
            found.append(Outlier(number=i, cause=Cause.FAILING, own=own, others=theirs))
    return found


def _enough(sums: Sequence[Sums], those: Sequence[int], rules: "Outliers") -> list[int]:
    """Those of them that were asked often enough to be judged."""
    return [i for i in those if sums[i].requests >= rules.least_requests]


def _but(sums: Sequence[Sums], those: Sequence[int], number: int) -> list[Sums]:
    return [sums[i] for i in those if i != number]


def _share(sums: Sequence[Sums]) -> float:
    requests = sum(one.requests for one in sums)
    return sum(one.failed for one in sums) / requests if requests else 0.0


def _fails_without(one: Sums, share: float) -> bool:
    """Whether it fails such a share whichever source is left out: no fewer requests of it than put out a replica when they fail in a row."""
    return all(rest.failed >= max(FAILURES, share * rest.requests) for rest in one.sources.rests(one.requests, one.failed))


def _stands_out(one: Sums, others: Sequence[Sums]) -> float:
    """By how many standard deviations its share of failures is above that of the others; 0 where it is less than a tenth."""
    own, theirs = _share((one,)), _share(others)
    if own - theirs < LEAST_GAP:
        return 0.0
    both, n, m = _share((one, *others)), one.requests, sum(other.requests for other in others)
    return (own - theirs) / sqrt(both * (1 - both) * (1 / n + 1 / m))


def _stands_out_without(one: Sums, others: Sequence[Sums], deviations: float) -> bool:
    """Whether it fails more than the others do, by more than chance, whichever source is left out."""
    theirs, asked = sum(other.failed for other in others), sum(other.requests for other in others)
    chance = erfc(deviations / sqrt(2)) / 2
    for rest in one.sources.rests(one.requests, one.failed):
        # What the same source breaks at the others says nothing of these: it would hide one that fails everybody.
        broken = sum(other.sources.failed_of(rest.client, rest.group) for other in others)
        bad, of = theirs - broken, asked - broken
        if rest.requests <= 0 or of <= 0 or rest.failed / rest.requests - bad / of < LEAST_GAP:
            return False
        if by_chance(rest.failed, rest.requests, bad, of) > chance:
            return False
    return True


def by_chance(failed: int, requests: int, others_failed: int, others: int) -> float:
    """How likely so many failures or more are among these requests, were all of them strewn over these and the others' by chance."""
    every, bad = requests + others, failed + others_failed
    log_term = _log_choose(bad, failed) + _log_choose(every - bad, requests - failed) - _log_choose(every, requests)
    term = found = exp(log_term)
    for k in range(failed, min(requests, bad)):
        term *= (bad - k) * (requests - k) / ((k + 1) * (every - bad - requests + k + 1))
        found += term
        if term <= 1e-9 * found:
            break
    return found


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _worst_failing(sums: Sequence[Sums], asked: Sequence[int], rules: "Outliers") -> Outlier | None:
    """The replica whose share of failures is the most standard deviations above the others', if that is enough of them."""
    found: Outlier | None = None
    most = rules.failure_deviations
    if most <= 0 or len(asked) < rules.least_replicas:
        return found
    for i in asked:
        others = _but(sums, asked, i)
        deviations = _stands_out(sums[i], others)
        if deviations >= most and _stands_out_without(sums[i], others, rules.failure_deviations):
            most = deviations
            found = Outlier(number=i, cause=Cause.FAILING, own=_share((sums[i],)), others=_share(others))
    return found


def _slowest(sums: Sequence[Sums], left: Sequence[int], rules: "Outliers") -> Outlier | None:
    """The replica whose first tokens take the most times as long as the others' for prompts of like length, if that is enough."""
    found: Outlier | None = None
    most = rules.slow_factor
    told = [i for i in left if sum(sums[i].firsts) >= rules.least_requests]
    if most <= 0 or len(told) < rules.least_replicas:
        return found
    for i in told:
        count, own, theirs = 0, 0.0, 0.0
        for kind in range(CLASSES):
            mine = sums[i].firsts[kind]
            firsts, logs = 0, 0.0
            for one in _but(sums, told, i):
                firsts += one.firsts[kind]
                logs += one.logs[kind]
            if mine and firsts >= FEW:
                count += mine
                own += sums[i].logs[kind]
                theirs += logs / firsts * mine
        if count < rules.least_requests:
            continue
        own_seconds, their_seconds = exp(own / count), exp(theirs / count)
        if own_seconds >= most * their_seconds and own_seconds - their_seconds >= LEAST_SLOW_SECONDS:
            most = own_seconds / their_seconds
            found = Outlier(number=i, cause=Cause.SLOW, own=own_seconds, others=their_seconds)
    return found
