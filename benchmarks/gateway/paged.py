"""Engines whose KV cache is real in all but its bytes: each is a simulated replica (`vram.planner.simulate.replica`) behind HTTP.

The replica batches as vLLM's V1 scheduler does, to the block, and preempts as it does (tests/test_simulate_scheduler.py and truth/simulate/
hold it against vLLM). Its steps take as long as the planner predicts; the world's clock runs a stated number of times faster than ours,
and waits where this process could not keep up. How long an answer gets stands in `lengths`, by the request's `seed`: neither client nor
gateway is told. It speaks as much HTTP as a gateway and our own client need.
"""

import asyncio
import json
import time
from typing import TYPE_CHECKING

from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import Request
from vram.planner.simulate.sequence import Sequence, State
from vram.planner.simulate.series import Series
from vram.planner.simulate.spec import ReplicaSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TICK_SECONDS = 0.004
"""How often the world goes on, in our time."""
EVENT = (
    b'data: {"id":"c","object":"text_completion","created":1,"model":"replay","choices":[{"index":0,"text":"%b","logprobs":null,"finish_reason":null}]%b}\n\n'
)


class World:
    """A clock for engines and clients, and what engines did by it.

    Attributes:
        speed: seconds of the world in one of ours.
        now: seconds of the world.
        engines: all engines.
        waits: whether anybody waits for an engine, by the clients' word.
        each: called as time goes on.
        settle: awaited each time, until a gateway has done what it was told: the world does not run away from it.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.now = 0.0
        self.engines: list[Engine] = []
        self.waits: Callable[[], bool] = lambda: False
        self.each: Callable[[float], None] = lambda _: None
        self.settle: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> None:
        """Let time pass until cancelled."""
        before = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            # Where the machine is busy elsewhere the world waits, so that nobody's waiting looks longer than it is.
            self.now += min(time.perf_counter() - before, 2 * TICK_SECONDS) * self.speed
            queued = self.waits()
            for engine in self.engines:
                engine.go_on(self.now, queued=queued)
            self.each(self.now)
            if self.settle is not None:
                await self.settle()
            before = time.perf_counter()


class Engine:
    """One replica on a port of 127.0.0.1."""

    def __init__(self, world: World, spec: ReplicaSpec, lengths: list[Request], interval: int) -> None:
        self.world, self.spec, self.lengths, self.interval = world, spec, lengths, interval
        self.replica = Replica(spec, Series(width_seconds=10.0), pool=0, index=len(world.engines))
        self.streams: dict[Sequence, tuple[Connection, int]] = {}
        self.port = 0
        self.seen = 0.0
        self.used_seconds = self.queued_seconds = self.used_queued = 0.0
        self.preempted_at: list[float] = []
        self.levels: list[tuple[float, float]] = []
        world.engines.append(self)

    async def start(self) -> None:
        """Listen."""
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]

    def used(self) -> int:
        """Blocks in use now."""
        replica = self.replica
        return self.spec.blocks - replica.free_blocks(self.world.now) - replica._queued_blocks  # noqa: SLF001  (what waits holds nothing yet)

    def submit(self, index: int, to: "Connection") -> None:
        """A request is here."""
        seq = Sequence(index, self.lengths[index])
        self.streams[seq] = (to, 0)
        self.replica.submit(seq, max(self.world.now, self.replica._decided))  # noqa: SLF001  (time never runs back)

    def go_on(self, now: float, *, queued: bool) -> None:
        """Everything until `now`; tokens that came are sent."""
        replica = self.replica
        used, passed = self.used() / self.spec.blocks, now - self.seen
        self.seen = now
        self.used_seconds += used * passed
        if queued or replica.waiting:
            self.queued_seconds += passed
            self.used_queued += used * passed
        if not self.levels or now - self.levels[-1][0] >= 1.0:
            self.levels.append((now, used))
        while replica.next_decision <= now:
            before = replica.preemptions
            replica.decide(replica.next_decision)
            self.preempted_at += [round(now, 1)] * (replica.preemptions - before)
        done = {s for s in replica.finished if s.finish_seconds <= now}
        if done:
            replica.finished = [s for s in replica.finished if s not in done]
        step = replica.step_at(now)
        for seq, (to, sent) in list(self.streams.items()):
            if seq in done:
                made = seq.target
            elif not 0 <= seq.first_seconds <= now:
                continue
            else:
                # The token of the step that is under way is not there yet.
                made = min(max((step - seq.zero if seq.state is State.DECODE else seq.generated) - 1, 1), seq.target - 1)
            if seq in done:
                to.write_tokens(seq, sent, made, self.interval, last=True)
                del self.streams[seq]
            elif made > sent and (not sent or made - sent >= self.interval):
                self.streams[seq] = (to, to.write_tokens(seq, sent, made, self.interval, last=False))

    def metrics(self) -> bytes:
        """What vLLM says of itself, by its names. One of its blocks is the null block, which no sequence gets."""
        r, spec = self.replica, self.spec
        return (
            f'vllm:cache_config_info{{block_size="{spec.rule.simple_block_size}",num_gpu_blocks="{spec.blocks + 1}"}} 1\n'
            f"vllm:kv_cache_usage_perc {self.used() / spec.blocks:.6f}\nvllm:num_requests_running {len(r.running)}\n"
            f"vllm:num_requests_waiting {len(r.waiting)}\nvllm:num_preemptions_total {r.preemptions}\n"
        ).encode()


class Connection(asyncio.Protocol):
    """A connection to an engine: one request after the other."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.data = b""
        self.usage = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.data) < end + 4 + length:
            return
        body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
        path = head.split(b" ", 2)[1]
        if head.startswith(b"get "):
            told = {
                b"/metrics": self.engine.metrics(),
                b"/v1/models": json.dumps({"data": [{"id": "replay", "max_model_len": self.engine.spec.max_model_len}]}).encode(),
            }
            self.answer(told.get(path, b""), 200 if path in told else 404)
            return
        asked = json.loads(body)
        if "seed" not in asked:  # a probe
            self.answer(b'{"choices":[{"index":0,"text":"a","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}')
            return
        self.usage = bool(asked.get("stream_options", {}).get("include_usage"))
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.engine.submit(asked["seed"], self)

    def answer(self, body: bytes, status: int = 200) -> None:
        """A whole answer."""
        self.transport.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    def write_tokens(self, seq: Sequence, sent: int, made: int, interval: int, *, last: bool) -> int:
        """Events of the tokens from `sent` on: the first alone, then as many as vLLM's `--stream-interval` says. Returns how many are sent."""
        more = b',"usage":null' if self.usage else b""
        out = []
        while sent < made:
            take = 1 if not sent else interval
            if sent + take > made and not last:
                break
            take = min(take, made - sent)
            out.append(EVENT % (b"word " * take, more))
            sent += take
        if last:
            if self.usage:
                prompt = seq.request.prompt_tokens
                usage = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (prompt, made, prompt + made)
                out.append(b'data: {"id":"c","object":"text_completion","created":1,"model":"replay","choices":[],"usage":%b}\n\n' % usage)
            out.append(b"data: [DONE]\n\n")
        data = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in out)
        if data or last:
            self.transport.write(data + (b"0\r\n\r\n" if last else b""))
        return sent
