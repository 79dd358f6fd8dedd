"""Whose requests a replica answered and failed of late: what speaks against it has to come from more than one source. Pure.

Envoy, HAProxy (`observe layer7`, `error-limit`) and nginx (`max_fails`) count a server's failures whoever asked, so one client whose requests
no engine survives takes out server after server, for all. Here two kinds of source are told apart, for either can be at fault alone:

- a client: a key, or an address where no keys are asked for;
- a group: its requests that go to one replica together (a conversation, a session), or are the same where nothing brings requests together.
"""

from typing import Final

MOST_SOURCES: Final = 256
"""Of each kind, in one part of a window. Failures of more groups than these count as those of many, which they are."""


class Asked:
    """Requests of one client at one replica.

    Attributes:
        requests: all that were answered or failed.
        failed: those that the replica failed.
    """

    __slots__ = ("failed", "requests")

    def __init__(self) -> None:
        self.requests = self.failed = 0


class Sources:
    """What requests came to by source. Sources are numbers; 0 is one that is not known, and never taken for the same as another.

    Attributes:
        clients: those who asked.
        groups: failures of each group of requests.
    """

    __slots__ = ("_faultless", "clients", "groups")

    def __init__(self) -> None:
        self.clients: dict[int, Asked] = {}
        self.groups: dict[int, int] = {}
        # How many of the clients were failed never: where none is, nobody makes way, and nobody is looked for.
        self._faultless = 0

    def answered(self, client: int) -> None:
        """A request was answered well enough. Once a request: one look into a dictionary."""
        asked = self.clients.get(client)
        if asked is not None:
            asked.requests += 1
        elif client and len(self.clients) < MOST_SOURCES:
            self.clients[client] = asked = Asked()
            asked.requests = 1
            self._faultless += 1

    def failed(self, client: int, group: int) -> None:
        """A request was failed."""
        if client:
            self.count(client, 1, 1)
        if group:
            self.count_group(group, 1)

    def count(self, client: int, requests: int, failed: int) -> None:
        """So many requests more of a client. Where there is no place left, one who only got good answers makes way to one who did not."""
        asked = self.clients.get(client)
        if asked is None:
            if len(self.clients) >= MOST_SOURCES and not (failed and self._makes_way()):
                return
            asked = self.clients[client] = Asked()
            self._faultless += 1
        if failed and not asked.failed:
            self._faultless -= 1
        asked.requests += requests
        asked.failed += failed

    def count_group(self, group: int, failed: int) -> None:
        """So many failures more of a group."""
        found = self.groups.get(group)
        if found is not None:
            self.groups[group] = found + failed
        elif len(self.groups) < MOST_SOURCES:
            self.groups[group] = failed

    def _makes_way(self) -> bool:
        if not self._faultless:
            return False
        for client, asked in self.clients.items():
            if not asked.failed:
                del self.clients[client]
                self._faultless -= 1
                return True
        return False

    def add(self, other: "Sources") -> None:
        """Add another part's."""
        for client, asked in other.clients.items():
            self.count(client, asked.requests, asked.failed)
        for group, failed in other.groups.items():
            self.count_group(group, failed)

    def served_others(self, client: int) -> bool:
        """Whether anybody but this client was answered well."""
        return any(other != client and asked.requests > asked.failed for other, asked in self.clients.items())

    def good_answers(self) -> int:
        """Requests of these clients that were answered."""
        return sum(asked.requests - asked.failed for asked in self.clients.values())

    def rests(self, requests: int, failed: int) -> list["Rest"]:
        """What is left of all these requests without one source, for each that a verdict may hang on.

        Without the group that was failed most (of one group alone nothing is left), without the client that was failed most, and without the
        one whose leaving lowers the share of failures most: whoever fails as many as all do hides one who fails everything. A client that
        alone asked hides nobody's good answers, so it may speak for itself.
        """
        most = worst_group = 0
        for group, of_group in self.groups.items():
            if of_group > most:
                most, worst_group = of_group, group
        found = [Rest(0, worst_group, requests - most, failed - most)] if most else []
        worst = heaviest = 0
        fails, least = 0, 2.0
        for client, asked in self.clients.items():
            rest = requests - asked.requests
            if not asked.failed or rest <= 0:
                continue
            if asked.failed > fails:
                fails, worst = asked.failed, client
            share = (failed - asked.failed) / rest
            if share < least:
                least, heaviest = share, client
        for client in (worst, heaviest):
            if client:
                asked = self.clients[client]
                found.append(Rest(client, 0, requests - asked.requests, failed - asked.failed))
        return found

    def failed_of(self, client: int, group: int) -> int:
        """Failures of a client, or of a group; the other is 0."""
        if client:
            asked = self.clients.get(client)
            return asked.failed if asked is not None else 0
        return self.groups.get(group, 0)


class Rest:
    """Requests without those of one source.

    Attributes:
        client: which one; 0: it is a group.
        group: which one; 0: it is a client.
        requests: what is left.
        failed: how many of that were failed.
    """

    __slots__ = ("client", "failed", "group", "requests")

    def __init__(self, client: int, group: int, requests: int, failed: int) -> None:
        self.client = client
        self.group = group
        self.requests = requests
        self.failed = failed
