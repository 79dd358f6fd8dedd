"""What several workers say, as one: pages of administrators and metrics, each worker's own put together. Pure.

Where workers keep something together (held and promised bytes, rent, idle money) any of them says it for all; what each counts for
itself is summed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

_STATES: Final = ("up", "suspect", "trial", "out", "draining", "loading", "asleep", "stopped")
"""A replica's states, the one to be told last: what one worker found out about it matters more than that others did not yet."""

_SUMMED: Final = frozenset(
    {
        *("vram_queue_requests", "vram_requests_open", "vram_client_connections", "vram_leases", "vllm:num_requests_running"),
        *("vram_retry_budget", "vram_usage_waiting_records", "process_resident_memory_bytes"),
    }
)
_LARGEST: Final = frozenset({"vram_queue_oldest_seconds", "vram_kv_saved_bytes", "vram_kv_saved_tokens"})
# Counters of books that all workers keep together.
_COMMON: Final = frozenset({"vram_rent_dollars_total", "vram_idle_dollars_total"})


def waiting(said: Iterable[dict[str, int]]) -> dict[str, int]:
    """Requests that wait, by model."""
    found: dict[str, int] = {}
    for page in said:
        for model, number in page.items():
            found[model] = found.get(model, 0) + number
    return found


def pools(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/v1/pools`."""
    first = said[0]
    for number, pool in enumerate(first["pools"]):
        theirs = [page["pools"][number]["replicas"] for page in said if number < len(page["pools"]) and page["pools"][number]["name"] == pool["name"]]
        pool["replicas"] = [_replica([replicas[i] for replicas in theirs if i < len(replicas)]) for i in range(len(pool["replicas"]))]
    for model in first["models"]:
        model["waiting"] = sum(m["waiting"] for page in said for m in page["models"] if m["model"] == model["model"])
    return first


def replicas(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/v1/replicas`."""
    by_url: dict[str, list[dict[str, Any]]] = {}
    for page in said:
        for replica in page["replicas"]:
            by_url.setdefault(replica["url"], []).append(replica)
    return {"replicas": [_replica(by_url[replica["url"]]) for replica in said[0]["replicas"]]}


def _replica(said: list[dict[str, Any]]) -> dict[str, Any]:
    worst = max(said, key=lambda r: _STATES.index(r["state"]))
    good = [r["good_seconds_ago"] for r in said if r["good_seconds_ago"] is not None]
    fresh = min((r for r in said if r["engine"] is not None), key=lambda r: r["engine"]["said_seconds_ago"], default=worst)
    return {
        **worst,
        "failures_in_a_row": max(r["failures_in_a_row"] for r in said),
        "failed_requests": sum(r["failed_requests"] for r in said),
        "good_seconds_ago": min(good, default=None),
        "connections": sum(r["connections"] for r in said),
        "leases": sum(r["leases"] for r in said),
        # Each counts what its own requests save: together they save no less than the one that saves most.
        "kv": max((r["kv"] for r in said), key=_saved),
        "engine": fresh["engine"],
    }


def _saved(kv: dict[str, Any]) -> tuple[int, bool]:
    return kv["saved"], kv["shared_once"]


def leases(said: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`/v1/leases`: by replica, the oldest of each first."""
    places: dict[tuple[str, int], int] = {}
    for page in said:
        for lease in page["leases"]:
            places.setdefault((lease["pool"], lease["number"]), len(places))
    found = sorted((x for page in said for x in page["leases"]), key=lambda x: (places[x["pool"], x["number"]], -x["age_seconds"]))
    return {"total": sum(page["total"] for page in said), "leases": found[:limit]}


def queue(said: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`/v1/queue`: each worker has lines of its own; here they are shown by priority, within it by how long they wait."""
    lines = []
    for line in said[0]["lines"]:
        theirs = [x for page in said for x in page["lines"] if x["model"] == line["model"]]
        requests = sorted((r for x in theirs for r in x["requests"]), key=lambda r: (-r["priority"], -r["waited_seconds"]))
        lines.append(
            {
                **line,
                "waiting": sum(x["waiting"] for x in theirs),
                "oldest_seconds": max(x["oldest_seconds"] for x in theirs),
                "requests": requests[:limit],
            }
        )
    return {"waiting": sum(line["waiting"] for line in lines), "lines": lines}


def quarantine(said: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`/v1/quarantine`: workers tell each other; of one that has not heard yet, what the others know counts."""
    by: dict[str, dict[str, Any]] = {}
    for page in said:
        for shape in page["shapes"]:
            known = by.setdefault(shape["shape"], shape)
            if shape["deaths"] > known["deaths"] or shape["state"] == "quarantined":
                by[shape["shape"]] = shape
    return {**said[0], "shapes": sorted(by.values(), key=lambda s: s["last_seconds_ago"])[:limit]}


class Series:
    """A page of metrics taken apart: what stands about each name, and every line's value."""

    def __init__(self, text: str) -> None:
        self.heads: dict[str, tuple[str, str]] = {}
        self.values: dict[str, dict[str, float | int]] = {}
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                self.heads[family] = (line, "")
                self.values[family] = {}
            elif line.startswith("# TYPE "):
                self.heads[family] = (self.heads[family][0], line)
            else:
                name, _, value = line.rpartition(" ")
                self.values[family][name] = float(value) if "." in value or "e" in value or "n" in value else int(value)

    def counts(self, family: str) -> bool:
        """Whether a family's values only grow, and are each worker's own."""
        return self.heads[family][1].endswith((" counter", " histogram")) and family not in _COMMON


def metrics(said: Iterable[Series], gone: Iterable[Series] = ()) -> str:
    """`/metrics` of all: of workers that are no more (`gone`) what they counted stays, so that no counter ever falls."""
    heads: dict[str, tuple[str, str]] = {}
    values: dict[str, dict[str, float | int]] = {}
    for alive, page in [*((True, page) for page in said), *((False, page) for page in gone)]:
        for family, series in page.values.items():
            counts = page.counts(family)
            if not alive and not counts:
                continue
            heads.setdefault(family, page.heads[family])
            sums = values.setdefault(family, {})
            for name, value in series.items():
                if name not in sums:
                    sums[name] = value
                elif counts or family in _SUMMED or (family == "vllm:num_requests_waiting" and 'engine=""' in name):
                    sums[name] += value
                elif family in _LARGEST:
                    sums[name] = max(sums[name], value)
    lines: list[str] = []
    for family, series in values.items():
        lines += heads[family]
        lines += [f"{name} {value!r}" for name, value in series.items()]
    return "\n".join(lines) + "\n"
