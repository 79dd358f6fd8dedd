"""Which replica gets a request: the one with the most free KV among those that could ever hold it."""

from collections.abc import Sequence
from typing import NamedTuple

from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import End
from vram.planner.simulate.sequence import Sequence as Running
from vram.planner.simulate.spec import PoolSpec


class Route(NamedTuple):
    """Pools that serve a model, as indexes, in the order in which they are tried."""

    pools: tuple[int, ...]
    longest: int


class Router:
    """Knows pools and their replicas; chooses, and sends nothing itself."""

    def __init__(self, pools: Sequence[PoolSpec], replicas: Sequence[Sequence[Replica]]) -> None:
        """Routes by model: a model that no pool names is served by those that name none."""
        self.pools, self.replicas = pools, replicas
        self._routes: dict[str, Route] = {}

    def route(self, model: str) -> Route:
        """The pools of a model."""
        if model not in self._routes:
            found = tuple(i for i, p in enumerate(self.pools) if not model or not p.model or p.model == model)
            self._routes[model] = Route(found, max((self.pools[i].replica.max_model_len for i in found), default=0))
        return self._routes[model]

    def fit(self, seq: Running) -> tuple[int, ...]:
        """Pools whose context holds the prompt and as much of an answer as the client allows (at least a token).

        A request that fits nowhere gets its `end` here. How long the answer will be is not looked at: nobody can know.
        """
        route = self.route(seq.request.model)
        if not route.pools:
            seq.end = End.NO_POOL
            return ()
        if seq.prompt >= route.longest:
            seq.end = End.TOO_LARGE
            return ()
        tokens = min(seq.prompt + (seq.request.max_tokens or 1), route.longest)
        return tuple(i for i in route.pools if self.pools[i].replica.max_model_len >= tokens)

    def freest(self, pools: Sequence[int], now: float) -> Replica:
        """The replica with the greatest share of free blocks; of equals the least loaded, then the first."""
        candidates = [r for p in pools for r in self.replicas[p]]
        for r in candidates:
            if not r.load:  # idle: all its blocks are free, and it is the first of these
                return r
        if len(candidates) == 1:
            return candidates[0]
        return min(candidates, key=lambda r: (-r.free_blocks(now) / r.spec.blocks, r.load, r.pool, r.index))
