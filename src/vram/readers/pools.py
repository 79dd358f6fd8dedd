"""The pools file: which replicas serve which model, behind which public names, within which limits. Bytes in, types out.

It knows the file's form and that its names fit together; whether a model, a GPU or an engine of that name exists is asked by
whoever plans with it, and where the file lies is `vram.sources.pools`' to know.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from vram.errors import UsageError, printable
from vram.readers.toml import parse_toml

SCHEMA: Final = "vram.pools/1"
MAX_BYTES: Final = 1 << 20
MAX_POOLS: Final = 1000
HOST: Final = frozenset({"cpu", "host", "none"})
"""As a pool's GPU: main memory."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]
Dollars = Annotated[float, Meta(ge=0, le=1e9)]
Few = Annotated[int, Meta(ge=1, le=4096)]
Share = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Factor = Annotated[float, Meta(ge=0, le=1000)]


class Placement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one replica is spread over its GPUs."""

    tp: Annotated[int, Meta(description="tensor-parallel ranks", ge=1, le=4096)] = 1
    pp: Annotated[int, Meta(description="pipeline stages", ge=1, le=4096)] = 1
    ep: Annotated[bool, Meta(description="whole experts are dealt to the ranks instead of slices of each")] = False


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each replica was, or is to be, started with; what is absent is the engine's default."""

    context_tokens: Annotated[Count | None, Meta(description="tokens of the longest sequence, prompt and answer together")] = None
    quant: Annotated[str | None, Meta(description="how the weights are stored: fp8, awq, Q4_K_M …; absent: as the checkpoint has them")] = None
    kv_dtype: Annotated[str | None, Meta(description="type of the KV cache: bf16, fp8, q8_0 …")] = None
    gpu_memory_utilization: Annotated[Share | None, Meta(description="share of each GPU's memory that may be used")] = None
    max_num_seqs: Annotated[Count | None, Meta(description="most sequences in one batch")] = None
    max_batched_tokens: Annotated[Count | None, Meta(description="most tokens in one step")] = None
    block_size: Annotated[Count | None, Meta(description="tokens of one KV block")] = None
    kv_unified: Annotated[bool | None, Meta(description="llama.cpp: slots share one cache (-kvu), or have one each; absent: as its build does")] = None


class Capacity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the KV pool of one replica holds, as it was planned or printed. Where the engine itself says more at run time, that counts."""

    kv_bytes: Annotated[Count | None, Meta(description="bytes of the KV pool of each GPU")] = None
    kv_blocks: Annotated[Count | None, Meta(description="blocks that sequences can hold")] = None
    kv_tokens: Annotated[Count | None, Meta(description="tokens that they hold in sequences of context_tokens")] = None

    @property
    def stated(self) -> bool:
        """Whether the file says anything of it."""
        return self != Capacity()


class Speed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long one step of a replica takes, where it was measured: a fixed time and so much for each thing in the step."""

    step_seconds: Annotated[Seconds, Meta(description="of every step")]
    prefill_token_seconds: Annotated[Seconds, Meta(description="of each new prompt token")] = 0.0
    prefill_pair_seconds: Annotated[Seconds, Meta(description="of each pair of a new prompt token and a token that it attends to")] = 0.0
    decode_sequence_seconds: Annotated[Seconds, Meta(description="of each sequence that gets a token")] = 0.0
    kv_token_seconds: Annotated[Seconds, Meta(description="of each cached token that is read")] = 0.0


class Pool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replicas of one plan behind one name."""

    name: Annotated[Name, Meta(description="the pool's name, as routes call it")]
    model: Annotated[Name, Meta(description="the model as vram plan reads it: a hub id, a path, a name of the catalogue")]
    engine: Annotated[Name, Meta(description="NAME or NAME@VERSION: vllm, sglang, llama.cpp …")] = "vllm"
    gpu: Annotated[Name, Meta(description='the GPUs of one replica: "H100 SXM 80GB", "2x L40S"')]
    rpc: Annotated[
        tuple[Name, ...],
        Meta(
            description="for vram up: RPC servers of llama.cpp that show these GPUs, HOST:PORT, or HOST:PORT-PORT where several engines share them",
            max_length=16,
        ),
    ] = ()
    replicas: Annotated[tuple[Name, ...], Meta(description="base URL of each replica: http://10.0.0.1:8000", max_length=4096)] = ()
    count: Annotated[Few | None, Meta(description="how many replicas are planned, where their URLs are not known yet")] = None
    served_as: Annotated[str | None, Meta(description="the model's name in its engine; absent: as `model`")] = None
    dollars_per_hour: Annotated[Dollars | None, Meta(description="what an hour of one replica costs, all its GPUs together")] = None
    plan: Annotated[str | None, Meta(description="file with the plan of one replica (vram plan --json), relative to this one")] = None
    placement: Placement = Placement()
    settings: EngineSettings = EngineSettings()
    capacity: Capacity = Capacity()
    speed: Annotated[Speed | None, Meta(description="the time of a step, where it was measured; absent: as vram predicts it")] = None

    @property
    def size(self) -> int:
        """How many replicas it has or is planned with."""
        return len(self.replicas) or self.count or 1

    @property
    def on_host(self) -> bool:
        """Whether its replicas lie in main memory."""
        return self.gpu.strip().lower() in HOST


class Fallback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be done for a request that its route's pools cannot hold, in this order, before it is refused."""

    larger_pool: Annotated[bool, Meta(description="go to a later pool of the route that has more room for one request")] = True
    models: Annotated[tuple[Name, ...], Meta(description="public names of other models that may answer instead", max_length=100)] = ()
    least_output_tokens: Annotated[Count | None, Meta(description="an answer may be cut to as few tokens as this; absent: never cut")] = None


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public model name and the pools that serve it."""

    model: Annotated[Name, Meta(description="the name that clients ask for")]
    pools: Annotated[tuple[Name, ...], Meta(description="names of pools, the preferred first", min_length=1, max_length=MAX_POOLS)]
    fallback: Fallback = Fallback()


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what clients may ask and how long they may wait."""

    queue_seconds: Annotated[Seconds | None, Meta(description="a request that waited so long is refused")] = None
    queue_requests: Annotated[Count | None, Meta(description="most requests that wait for one pool")] = None
    output_tokens: Annotated[Count | None, Meta(description="most tokens of one answer")] = None
    body_bytes: Annotated[Count | None, Meta(description="most bytes of one request's body")] = None
    retry_share: Annotated[float, Meta(description="most retries of a pool for each of its requests, beside a few that are always made", ge=0, le=1)] = 0.2
    slow_start_seconds: Annotated[Seconds, Meta(description="how long a replica that comes back takes on more and more sequences; 0: all at once")] = 0.0
    quarantine_seconds: Annotated[Seconds, Meta(description="how long a request that killed engines twice is refused; 0: never")] = 600.0
    count_shared_once: Annotated[
        bool,
        Meta(description="what requests share in vLLM's cache is room for others, by its own word: for engines that nobody else uses"),
    ] = False
    affinity: Annotated[
        Literal["prefix", "session", "off"],
        Meta(
            description="what brings requests to one replica of a pool: prefix (a session, a prompt_cache_key, else the prompt's beginning), session (only the first two), off"
        ),
    ] = "prefix"


class Outliers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a replica is taken out for what its requests tell: for being unlike the others of its pool. Failed probes and refused connections are beside it."""

    most_out_share: Annotated[
        float, Meta(description="share of a pool that requests that fail or are slow may put out, at least one of two or more; 0: none", ge=0, le=1)
    ] = 0.5
    least_replicas: Annotated[int, Meta(description="replicas with least_requests each, from which on they are compared", ge=2, le=4096)] = 2
    least_requests: Annotated[Count, Meta(description="requests in window_seconds, from which on a replica is judged")] = 20
    window_seconds: Annotated[float, Meta(description="how far back requests are looked at", ge=1, le=86400)] = 60.0
    out_seconds: Annotated[Seconds, Meta(description="how long a replica that stands out is out, times how often in a row")] = 30.0
    failure_share: Annotated[float, Meta(description="share of its requests that it fails, from which on a replica is out; 0: none", ge=0, le=1)] = 0.85
    failure_deviations: Annotated[
        Factor, Meta(description="standard deviations above the other replicas' share of failures, from which on a replica is out; 0: none")
    ] = 3.0
    slow_factor: Annotated[
        Factor, Meta(description="times the other replicas' time to first token, for prompts of like length, from which on a replica is out; 0: none")
    ] = 4.0


class Keys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask. Reserved for the gateway; the keys themselves never stand in this file."""

    file: Annotated[str | None, Meta(description="file with hashed keys, relative to this one")] = None


class PoolsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    schema: Annotated[str, Meta(description="the form of this file", pattern=f"^{re.escape(SCHEMA)}$")] = SCHEMA
    pools: Annotated[tuple[Pool, ...], Meta(description="replicas of one plan behind one name", min_length=1, max_length=MAX_POOLS)]
    routes: Annotated[tuple[Route, ...], Meta(description="public model names; absent: each pool's model", max_length=MAX_POOLS)] = ()
    limits: Limits = Limits()
    outliers: Outliers = Outliers()
    keys: Keys = Keys()

    def pool(self, name: str) -> Pool:
        """The pool of that name.

        Raises:
            UsageError: there is none.
        """
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise UsageError(f"no pool {name!r}", hint=_nearest(name, [p.name for p in self.pools], "pools"))

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """The routes of the file or, where it states none, one for each model with its pools in the order of the file."""
        if self.routes:
            return self.routes
        models: dict[str, list[str]] = {}
        for pool in self.pools:
            models.setdefault(pool.served_as or pool.model, []).append(pool.name)
        return tuple(Route(model=model, pools=tuple(names)) for model, names in models.items())


def parse_pools(data: bytes, where: str = "pools.toml") -> PoolsFile:
    """The pools file out of its bytes.

    Args:
        data: UTF-8 TOML, at most 1 MiB.
        where: the file's name, for errors.

    Raises:
        UsageError: it is no TOML, a key is unknown, a value is out of range, or its names do not fit together; the message
            has the path of the key.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{where} has {len(data):,} bytes", hint=f"at most {MAX_BYTES:,} are read; is it a pools file?")
    try:
        document = parse_toml(data)
    except ValueError as e:
        raise UsageError(f"{where} is no TOML: {e}", hint="the form is described in docs/pools.md; vram schema pools prints its schema") from None
    for path, key, known in _unknown(document, PoolsFile, ""):
        raise UsageError(f"{where}: {path}{'.' if path else ''}{printable(key, 60)} is not known", hint=_nearest(key, known, "keys that can stand there"))
    try:
        found = msgspec.convert(document, PoolsFile)
    except (msgspec.ValidationError, RecursionError) as e:
        raise UsageError(f"{where}: {_told(str(e))}", hint="vram schema pools says what can stand there") from None
    for problem, hint in _contradictions(found):
        raise UsageError(f"{where}: {problem}", hint=hint)
    return found


def _nearest(word: str, known: list[str], what: str) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{what}: {', '.join(known[:30])}"


def _told(message: str) -> str:
    """Msgspec's words with the path in front: `pools[0].count: Expected `int` >= 1`."""
    words, _, path = message.rpartition(" - at `$")
    return f"{path.rstrip('`').lstrip('.')}: {words}" if words and path.strip("`") else message.replace(" - at `$`", "")


def _unknown(value: Any, kind: Any, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """Keys that the form does not know: where, which, and which could stand there."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    for option in get_args(kind) if get_origin(kind) is not tuple else ():
        yield from _unknown(value, option, path)
    if get_origin(kind) is tuple and isinstance(value, list):
        for i, item in enumerate(value[: MAX_POOLS + 1]):
            yield from _unknown(item, get_args(kind)[0], f"{path}[{i}]")
    elif isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, Mapping):
        hints = get_type_hints(kind, include_extras=True)
        known = [f.name for f in msgspec.structs.fields(kind)]
        for key, item in value.items():
            if key not in known:
                yield path, key, known
            else:
                yield from _unknown(item, hints[key], f"{path}.{key}" if path else key)


_URL = re.compile(r"https?://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(/[!-~]*)?")


def _contradictions(file: PoolsFile) -> Iterator[tuple[str, str]]:
    """What is of the right form and yet cannot be meant."""
    names: dict[str, int] = {}
    urls: dict[str, str] = {}
    for i, pool in enumerate(file.pools):
        at = f"pools[{i}]"
        if pool.name in names:
            yield f"{at}.name: {pool.name!r} is also the name of pools[{names[pool.name]}]", "give each pool a name of its own"
        names[pool.name] = i
        for k, url in enumerate(pool.replicas):
            match = _URL.fullmatch(url)
            if match is None or "?" in url or "#" in url or not 0 < int(match["port"] or 80) < 65536:
                yield f"{at}.replicas[{k}]: {printable(url, 100)!r} is no base URL", "write http://HOST:PORT, without user, query or fragment"
            if url in urls:
                yield f"{at}.replicas[{k}]: {url} also stands in {urls[url]}", "one replica belongs to one pool: its memory is counted once"
            urls[url] = f"{at}.replicas[{k}]"
        if pool.rpc and (pool.replicas or pool.on_host):
            what = "its replicas have URLs" if pool.replicas else "its replicas lie in main memory"
            yield f"{at}.rpc: {what}", "rpc says where the GPUs of replicas are that vram up starts: leave it out, or them"
        if pool.count is not None and pool.replicas and pool.count != len(pool.replicas):
            yield f"{at}.count: {pool.count}, but {len(pool.replicas)} replicas have a URL", "leave count out, or name as many URLs"
    public: dict[str, int] = {}
    for i, route in enumerate(file.routes):
        at = f"routes[{i}]"
        if route.model in public:
            yield f"{at}.model: {route.model!r} is also the name of routes[{public[route.model]}]", "put all its pools into one route"
        public[route.model] = i
        for k, name in enumerate(route.pools):
            if name not in names:
                yield f"{at}.pools[{k}]: no pool {name!r}", _nearest(name, list(names), "pools")
            if name in route.pools[:k]:
                yield f"{at}.pools[{k}]: {name!r} stands there twice", "name each pool once, the preferred first"
    for i, route in enumerate(file.all_routes):
        for k, name in enumerate(route.fallback.models):
            if name == route.model:
                yield f"routes[{i}].fallback.models[{k}]: {name!r} falls back to itself", "name another route's model"
            if name not in public:
                yield f"routes[{i}].fallback.models[{k}]: no route of model {name!r}", _nearest(name, list(public), "models with a route")


def pools_schema() -> dict[str, Any]:
    """The JSON Schema of the file (2020-12)."""
    made = msgspec.json.schema(PoolsFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, "title": "pools.toml", **made}


def _literal(value: Any) -> str:
    """A TOML value. Strings are escaped by TOML's own rules, which differ from JSON's beyond the basic plane."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        return '"' + "".join(escapes.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in value) + '"'
    if isinstance(value, (tuple, list)):
        one = "[" + ", ".join(_literal(v) for v in value) + "]"
        return one if len(one) <= 100 else "[\n" + "".join(f"  {_literal(v)},\n" for v in value) + "]"
    return repr(value)


def _table(table: Struct, head: str, notes: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    plain: list[tuple[str, Any]] = []
    nested: list[tuple[str, Any]] = []
    for f in msgspec.structs.fields(type(table)):
        value = getattr(table, f.name)
        if value is None or (value == f.default and f.name not in {"schema", "engine"}):
            continue
        (nested if isinstance(value, Struct) or (isinstance(value, tuple) and value and isinstance(value[0], Struct)) else plain).append((f.name, value))
    yield from (f"{name} = {_literal(value)}" for name, value in plain)
    for name, value in nested:
        path = f"{head}.{name}" if head else name
        for item in value if isinstance(value, tuple) else (value,):
            yield ""
            # What is said of a pool stands above it, as comments: a line each, whatever is in them.
            yield from (f"# {printable(note, 400)}" for note in notes.get(getattr(item, "name", ""), ()))
            yield f"[[{path}]]" if isinstance(value, tuple) else f"[{path}]"
            yield from _table(item, path, notes)


def pools_text(file: PoolsFile, *, head: tuple[str, ...] = (), notes: Mapping[str, tuple[str, ...]] | None = None, schema: str = "") -> str:
    """The file as TOML: what `parse_pools` reads back equal.

    Args:
        file: the pools.
        head: lines at its top, as comments.
        notes: by a pool's name, lines above it.
        schema: where an editor finds the schema: named in the first line.
    """
    first = [f"#:schema {printable(schema, 400)}"] if schema else []
    return "\n".join([*first, *(f"# {printable(line, 400)}" for line in head), *_table(file, "", notes or {})]) + "\n"
