"""Requests that kill engines: which ones are suspected, which ones are kept from engines for a time. Pure: time is given.

An engine that dies takes everybody along whom it served, so all of them are suspected, and one that is suspected is tried again beside
few others that are (`beside`), so that the next death tells who it was. A shape whose engine died twice, the last time with no other
suspect there, is quarantined. An answer that ends well clears its shape; time clears the rest, and after a quarantine one more death
is enough for the next. The table is bounded: it cannot be filled without killing engines.
"""

from typing import Final

MOST_SHAPES: Final = 1024
ONE_DEATH_SECONDS: Final = 1.0
"""Losses of one replica within so long are one death."""
CROWD: Final = 8
"""Of so many victims, one at a time is tried again in a replica: alone when they were few, and never a crowd one by one."""


class Death:
    """One replica's death.

    Attributes:
        at: when.
        victims: requests that it served.
        suspects: shapes among them that were suspected before.
    """

    __slots__ = ("at", "suspects", "victims")

    def __init__(self, at: float, victims: int, suspects: int) -> None:
        self.at = at
        self.victims = victims
        self.suspects = suspects

    @property
    def beside(self) -> int:
        """How many of its victims may be together in a replica when they are tried again."""
        return max(self.victims // CROWD, 1)


class Suspect:
    """A shape of requests whose engine died.

    Attributes:
        deaths: how many engines died with it.
        last: when the last one did.
        until: the end of its quarantine; 0: in none.
        beside: how many suspects may be together with it in a replica.
        told: what it is, for people.
    """

    __slots__ = ("beside", "death", "deaths", "last", "told", "until")

    def __init__(self, told: str) -> None:
        self.deaths = 0
        self.last = self.until = 0.0
        self.beside = 1
        self.told = told
        self.death: Death | None = None


class Quarantine:
    """The shapes that are suspected or quarantined.

    Attributes:
        seconds: how long a quarantine lasts, and how long a suspicion; 0: nobody is ever suspected.
        shapes: by the number that stands for the shape.
        deaths: deaths that were seen.
        begun: quarantines that began.
    """

    __slots__ = ("begun", "deaths", "seconds", "shapes")

    def __init__(self, seconds: float = 600.0) -> None:
        self.seconds = seconds
        self.shapes: dict[int, Suspect] = {}
        self.deaths = self.begun = 0

    def left(self, shape: int, now: float) -> float:
        """Seconds of its quarantine that are left; 0 where it is in none."""
        found = self.shapes.get(shape)
        return max(found.until - now, 0.0) if found is not None else 0.0

    def beside(self, shape: int) -> int:
        """How many suspects may be in a replica when it is there; 0: it is none."""
        found = self.shapes.get(shape)
        return found.beside if found is not None else 0

    def died(self, shape: int, death: Death, now: float, told: str) -> bool:
        """An engine died with such a request. Returns whether that begins a quarantine."""
        if self.seconds <= 0:
            return False
        found = self.shapes.pop(shape, None) or Suspect(told)
        if not found.deaths and len(self.shapes) >= MOST_SHAPES:
            del self.shapes[next(iter(self.shapes))]
        # The last one that died stands last.
        self.shapes[shape] = found
        if found.death is death:
            return False
        found.death, found.last = death, now
        found.deaths += 1
        found.beside = death.beside
        if found.deaths < 2 or death.suspects > 1 or found.until > now:
            return False
        found.until = now + self.seconds
        self.begun += 1
        return True

    def clear(self, shape: int) -> None:
        """Such a request was answered well."""
        self.shapes.pop(shape, None)

    def told(self, shape: int) -> tuple[int, int, int, float, float, str]:
        """What others are told of a shape, for their `hear`; no deaths: it was cleared."""
        found = self.shapes.get(shape)
        return (shape, found.deaths, found.beside, found.last, found.until, found.told) if found is not None else (shape, 0, 0, 0.0, 0.0, "")

    def hear(self, shape: int, deaths: int, beside: int, last: float, until: float, told: str) -> None:
        """What others know of a shape, by a clock that both have."""
        if not deaths:
            self.shapes.pop(shape, None)
            return
        found = self.shapes.get(shape)
        if found is None:
            if len(self.shapes) >= MOST_SHAPES:
                del self.shapes[next(iter(self.shapes))]
            found = self.shapes[shape] = Suspect(told)
        if last >= found.last:
            found.deaths, found.beside, found.last, found.until = deaths, beside, last, until

    def tick(self, now: float) -> None:
        """Now and then: what was long ago is forgotten."""
        for shape, found in list(self.shapes.items()):
            if found.until and found.until <= now:
                # Not innocent, but let in again.
                found.until, found.deaths, found.last = 0.0, 1, now
            elif not found.until and now - found.last >= self.seconds:
                del self.shapes[shape]
