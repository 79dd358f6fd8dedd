"""Every step of a real vLLM, recorded by truth/simulate/recorder.py, beside the replica's: what was scheduled, held, waiting and preempted.

The recording gives when requests came and how long steps took; which requests a step works on is the replica's own decision.
"""

import gzip
from pathlib import Path

import pytest

from vram.planner.simulate.blocks import BlockRule
from vram.planner.simulate.replica import Replica
from vram.planner.simulate.request import End, Request
from vram.planner.simulate.sequence import Sequence
from vram.planner.simulate.series import Series
from vram.planner.simulate.spec import ReplicaSpec

DATA = Path(__file__).parent / "data" / "vllm_steps"
FULL = {"blocks": 159, "rule": BlockRule.plain(32), "max_model_len": 4096, "max_num_seqs": 32, "max_batched_tokens": 512}
CASES = {"full": FULL, "pressed": {**FULL, "blocks": 127, "max_model_len": 2560}}


class Recorded:
    """Each step lasts until the next one that was recorded."""

    def __init__(self, starts: list[float]) -> None:
        self.starts, self.asked = starts, list[tuple[int, ...]]()

    def seconds(self, *asked: int) -> float:
        self.asked.append(asked)
        k = len(self.asked)
        return max(self.starts[k] - self.replica._decided, 1e-6) if k < len(self.starts) else 1.0

    replica: Replica


class Walking(Replica):
    def _leap(self) -> None:
        """Every step is compared."""


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_vllms(name: str) -> None:
    """Prompt tokens, attended pairs, decodes, cached tokens, blocks in use, running, waiting and preemptions, step by step."""
    lines = [line.split() for line in gzip.decompress((DATA / f"{name}.txt.gz").read_bytes()).decode().splitlines()]
    came = [(float(x[1]), int(x[2]), int(x[3])) for x in lines if x[0] == "+"]
    steps = [(float(x[1]), [int(v) for v in x[2:]]) for x in lines if x[0] == "=" and x[2] + x[4] != "00"]
    before = steps[0][1][-1]
    clock = Recorded([t for t, _ in steps])
    spec = ReplicaSpec(clock=clock, **CASES[name])  # type: ignore[arg-type]
    replica = clock.replica = Walking(spec, Series(width_seconds=1.0), pool=0, index=0)
    todo = [Sequence(i, Request(arrival_seconds=t, prompt_tokens=p, output_tokens=o, max_tokens=o)) for i, (t, p, o) in enumerate(came)][::-1]
    while todo or replica.next_decision < float("inf"):
        if todo and todo[-1].request.arrival_seconds <= replica.next_decision:
            seq = todo.pop()
            replica.submit(seq, seq.request.arrival_seconds)
            continue
        k = len(clock.asked)
        replica.decide(replica.next_decision)
        if len(clock.asked) > k:
            mine = [*clock.asked[-1], spec.blocks - replica.free, len(replica.running), len(replica.waiting), before + replica.preemptions]
            assert mine == steps[k][1], f"step {k}"
    assert len(clock.asked) == len(steps) > 1000
    assert replica.preemptions > 20
    assert len(replica.finished) == len(came)
    assert all(s.end is End.FINISHED for s in replica.finished)
