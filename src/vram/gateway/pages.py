"""Answers that need no engine: what is served, whether the gateway lives, whether it can serve. Metrics have a file of their own."""

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vram.gateway.seats import UNKNOWN_TOKENS

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vram.gateway.assemble import Assembled
    from vram.gateway.crew import Crew
    from vram.gateway.house import Answer
    from vram.gateway.keys import Key
    from vram.gateway.request import Request

JSON = b"application/json"


class Pages:
    """Pages over what is assembled now."""

    def __init__(self, assembled: "Assembled", began: int, crew: "Crew | None" = None) -> None:
        self.assembled = assembled
        self.began = began
        self._crew = crew
        self._openapi = (files("vram") / "schemas" / "gateway.json").read_bytes()

    def health(self, _: "Request", __: "Key") -> tuple[int, bytes, bytes]:
        """The process lives: it never looks at engines, or a restart would take a busy gateway down with them."""
        return 200, JSON, b'{"status":"ok"}'

    def ready(self, _: "Request", __: "Key") -> tuple[int, bytes, bytes]:
        """Whether every public model has a replica that may be asked; names are for those who have a key."""
        down = [name for name, route in self.assembled.public.items() if not any(b.usable or b.coming for pool in route.pools for b in pool.books)]
        if down:
            return 503, JSON, json.dumps({"status": "not ready", "models_without_replica": len(down)}).encode()
        return 200, JSON, b'{"status":"ready"}'

    def openapi(self, _: "Request", __: "Key") -> tuple[int, bytes, bytes]:
        """What this API takes and gives, as OpenAPI 3.1."""
        return 200, JSON, self._openapi

    def models(self, _: "Request", key: "Key") -> "Answer | Coroutine[Any, Any, Answer]":
        """`/v1/models`: what can be asked for, how long it may be, what is free now and what its replicas cost."""
        if self._crew is not None:
            return self._all_models(self._crew, key)
        return self._models(key, {name: len(counter.line) for name, counter in self.assembled.desk.counters.items()})

    async def _all_models(self, crew: "Crew", key: "Key") -> "Answer":
        # Each worker that is asked sees what all of them hold, this one too.
        return self._models(key, await crew.ask("waiting"))

    def _models(self, key: "Key", waiting: dict[str, int]) -> "Answer":
        data = []
        for name, route in self.assembled.public.items():
            if key.terms.models is not None and name not in key.terms.models:
                continue
            books = [b for pool in route.pools for b in pool.books]
            up = [b for b in books if b.usable]
            known = all(b.capacity_bytes < UNKNOWN_TOKENS for b in up)
            longest = max((b.context_tokens for b in up or books), default=0)
            prices = [plan.pool.dollars_per_hour for pool in route.pools if (plan := self.assembled.plans.get(pool.name)) is not None]
            data.append(
                {
                    "id": name,
                    "object": "model",
                    "created": self.began,
                    "owned_by": "vram",
                    "max_model_len": longest if longest < UNKNOWN_TOKENS else None,
                    "vram": {
                        "pools": [pool.name for pool in route.pools],
                        "replicas": len(books),
                        "replicas_up": len(up),
                        "state": "ready" if up else "loaded_when_asked" if any(b.coming for b in books) else "down",
                        "kv_bytes_capacity": sum(b.capacity_bytes for b in up) if known else None,
                        "kv_bytes_free": sum(max(b.capacity_bytes - b.promised_bytes, 0) for b in up) if known else None,
                        "waiting": waiting.get(name, 0),
                        "dollars_per_hour": prices[0] if prices else None,
                    },
                }
            )
        return 200, JSON, json.dumps({"object": "list", "data": data}).encode()
