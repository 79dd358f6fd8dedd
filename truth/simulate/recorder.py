"""A scheduler for vLLM that schedules as vLLM's own does and writes down what each step was and when (`--scheduler-cls recorder.Recorder`).

One line a request that is added (`+`: seconds, prompt tokens, most output tokens) and one a step (`=`) in the file that VRAM_STEPS names: seconds of the system's monotonic clock, prompt tokens, pairs of a prompt token and a token
that it attends to, sequences that decode, their cached tokens, blocks in use, sequences running, requests waiting, preemptions so far.
VRAM_PACE gives the least seconds of a step: fixed, per prompt token, per sequence that decodes.
"""

import os
import time
from pathlib import Path

from vllm.v1.core.sched.scheduler import Scheduler


class Recorder(Scheduler):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._steps = Path(os.environ["VRAM_STEPS"]).open("w", buffering=1)  # noqa: SIM115  (closed when the engine ends)
        self._preempted = 0
        self._prefilled = {}
        self._paces = [float(x) for x in os.environ.get("VRAM_PACE", "0,0,0").split(",")]
        self._until = 0.0

    def add_request(self, request):
        self._steps.write(f"+ {time.monotonic():.6f} {request.num_prompt_tokens} {request.max_tokens}\n")
        super().add_request(request)

    def _preempt_request(self, request, *args, **kwargs):
        self._preempted += 1
        self._prefilled.pop(request.request_id, None)
        return super()._preempt_request(request, *args, **kwargs)

    def schedule(self, *args, **kwargs):
        now = time.monotonic()
        before = {r.request_id: r.num_computed_tokens for r in self.running}
        output = super().schedule(*args, **kwargs)
        tokens = pairs = decodes = kv = 0
        for name, new in output.num_scheduled_tokens.items():
            request = self.requests[name]
            done = request.num_computed_tokens - new  # counted by now
            if name in before and self._prefilled.get(name):
                decodes += 1
                kv += done + 1
            else:
                tokens += new
                pairs += new * done + new * (new + 1) // 2
                self._prefilled[name] = done + new >= request.num_tokens
        pool = self.kv_cache_manager.block_pool
        used = pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()
        self._steps.write(f"= {now:.6f} {tokens} {pairs} {decodes} {kv} {used} {len(self.running)} {len(self.waiting)} {self._preempted}\n")
        fixed, each, decode = self._paces
        self._until = now + fixed + each * tokens + decode * decodes
        return output

    def update_from_output(self, *args, **kwargs):
        # As long as a step takes at least: what a graphics card would, whatever else this machine does meanwhile.
        time.sleep(max(self._until - time.monotonic(), 0))
        return super().update_from_output(*args, **kwargs)
