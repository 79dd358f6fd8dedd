"""What is foreseen of a replica's cache: the law of lengths, and who is let in by it."""

import math
import random

import pytest

from vram.admission.books import Books
from vram.admission.decide import Admit, Pool, Route, decide
from vram.admission.learn import OutputTokens
from vram.admission.life_table import cell
from vram.admission.need import Need
from vram.memory.curve import blocks


def books(capacity: int, tokens: int) -> Books:
    return Books("r", blocks(1000, tokens), capacity * 1000, context_tokens=1 << 20, max_sequences=1 << 20)


def route(replica: Books) -> Route:
    return Route(model="m", pools=(Pool("p", "m", [replica]),))


def survival_at(law: OutputTokens, tokens: int) -> float:
    return law.survival()[cell(tokens)]


def test_survival_is_the_published_one() -> None:
    """Kaplan and Meier's estimate, as textbooks print it, with some who were lost from sight.

    Weeks of remission of 21 patients: Freireich et al., Blood 21, 1963; Kleinbaum and Klein, Survival Analysis, table 2.1.
    """
    ended = (6, 6, 6, 7, 10, 13, 16, 22, 23)
    lost = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    law = OutputTokens()
    # A week is a cell of 16 tokens. Many times the same, so that what was believed before weighs little.
    for _ in range(90):
        for week in ended:
            law.saw(16 * week + 3)
        for week in lost:
            law.broke_off(16 * week + 3)
    for week, share in published.items():
        assert survival_at(law, 16 * (week + 1)) == pytest.approx(share, abs=0.004)


def test_those_that_end_first_do_not_make_all_look_short() -> None:
    """Half of the answers have 100 tokens, half 1,000, and the long ones still run: half are known to get beyond 100 all the same."""
    law = OutputTokens()
    for _ in range(400):
        law.began()
        law.began()
        law.saw(100)
        law.stopped(0)
        law.went_on(0, 500)
    assert survival_at(law, 480) == pytest.approx(0.5, abs=0.01)
    for _ in range(400):
        law.stopped(500)
        law.saw(1000)
    assert survival_at(law, 900) == pytest.approx(0.5, abs=0.01)
    assert survival_at(law, 1100) < 0.01


@pytest.mark.parametrize("typical", [20, 200, 1500])
def test_what_is_let_in_fits_as_often_as_is_said(typical: int) -> None:
    """Hardly any filling of a replica ever runs over, and far more are let in than would fit at their longest.

    Lengths are drawn at random, none of them known; all answers grow and end, again and again, and blocks are counted here.
    """
    draw = random.Random(typical)  # noqa: S311  (no secrets)
    law = OutputTokens()

    def length() -> int:
        return max(int(draw.lognormvariate(math.log(typical), 0.8)), 1)

    for _ in range(2000):
        law.saw(length())
    longest = max(length() for _ in range(2000))
    over = counts = 0
    for _ in range(150):
        replica = books(capacity=1500, tokens=16)
        running = []
        while isinstance(answer := decide(need := Need(draw.randint(100, 1500), law.usual(), law=law), route(replica), 0.0), Admit):
            running.append((need.prompt_tokens, length(), replica.reserve(need, answer.expected, answer.most, 0.0)))
        counts += len(running)
        worst = max(sum(-(-(prompt + step) // 16) for prompt, made, _ in running if made >= step) for step in {made for _, made, _ in running})
        over += worst > 1500
        for _, _, lease in running:
            replica.release(lease, 1.0)
    assert over <= 2
    at_their_longest = 1500 / ((800 + longest) / 16)
    assert counts / 150 > 1.05 * at_their_longest


@pytest.mark.parametrize("silent", [0.0, 0.3, 0.6])
def test_what_is_let_in_step_by_step_fits_though_some_do_not_stream(silent: float) -> None:
    """Most answers are short, some a hundred times longer. Of those that do not stream only the long ones are still there: tokens are counted here, at each step."""
    draw = random.Random(int(silent * 10))  # noqa: S311  (no secrets)
    law, capacity = OutputTokens(), 60_000

    def length() -> int:
        return draw.randint(1800, 2000) if draw.random() < 0.15 else draw.randint(4, 24)

    for _ in range(2000):
        law.saw(length())
    replica = Books("r", blocks(1, 1), capacity, context_tokens=100_000, max_sequences=10_000)
    running: list[list] = []
    over = 0
    for step in range(3200):
        now = float(step)
        while step % 8 == 0:
            need = Need(draw.randint(50, 400), law.usual(), 2000, streams=draw.random() >= silent, law=law)
            if not isinstance(answer := decide(need, route(replica), now), Admit):
                break
            running.append([replica.reserve(need, answer.expected, answer.most, now), 0, length()])
        for one in running:
            one[1] += 1
            if one[1] >= one[2]:
                replica.release(one[0], now)
                law.saw(one[2])
            elif one[0].need.streams and one[1] % 8 == 0:
                replica.grow(one[0], one[1], now)
        over += sum(lease.need.prompt_tokens + made for lease, made, _ in running) > capacity
        running = [one for one in running if one[1] < one[2]]
    assert over <= 3


def test_those_who_fit_at_their_longest_need_nobodys_end() -> None:
    """No chance is taken, and none is asked for, where all fit whatever happens."""
    replica, law = books(capacity=100, tokens=10), OutputTokens()
    for _ in range(5):
        need = Need(100, 1024, 84, law=law)
        answer = decide(need, route(replica), 0.0)
        assert isinstance(answer, Admit)
        replica.reserve(need, answer.expected, answer.most, 0.0)
    assert not isinstance(decide(Need(100, 1024, 84, law=law), route(replica), 0.0), Admit)


def test_an_old_forecast_is_not_held_against_anybody() -> None:
    """What was foreseen is foreseen anew when somebody ended since: who did not fit then fits now."""
    replica, law = books(capacity=100, tokens=10), OutputTokens()
    leases = []
    while isinstance(answer := decide(need := Need(150, 100, 50, law=law), route(replica), 0.0), Admit):
        leases.append(replica.reserve(need, answer.expected, answer.most, 0.0))
    assert len(leases) >= 4
    replica.release(leases[0], 1.0)
    assert isinstance(decide(Need(150, 100, 50, law=law), route(replica), 1.0), Admit)
