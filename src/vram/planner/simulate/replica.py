"""One replica that batches continuously, as vLLM's V1 scheduler does, with jumps over the steps in which nothing is decided.

Read in `vllm/v1/core/sched/scheduler.py`, `async_scheduler.py` and `v1/engine/core.py` of 0.32: running sequences first, then
waiting ones first come first served while blocks, slots and the step's token budget last; a sequence is admitted when all its
known tokens fit (`scheduler_reserve_full_isl`); when a running one finds no block, the last admitted is preempted, loses its
blocks and waits at the front for all its tokens to be computed again, and nobody is admitted in that step.

Steps in which everyone decodes and nobody comes, ends or runs out of blocks are taken together: their blocks follow from
counts (`beats.Beats`), their time from the clock at three points (`jump.jump`).
"""

from bisect import bisect_left
from collections import deque
from heapq import heappop, heappush
from math import inf

from vram.planner.simulate.beats import Beats
from vram.planner.simulate.jump import Jump, jump
from vram.planner.simulate.request import End
from vram.planner.simulate.sequence import Sequence, State
from vram.planner.simulate.series import Series
from vram.planner.simulate.spec import ReplicaSpec


class Replica:
    """The state of one replica. Times are seconds of the trace.

    `next_decision` is when it schedules its next step (infinite when idle); `version` changes whenever that does.
    """

    def __init__(self, spec: ReplicaSpec, series: Series, *, pool: int, index: int) -> None:
        """An idle replica."""
        self.spec, self.series, self.pool, self.index = spec, series, pool, index
        self.free = spec.blocks
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.step = self.preemptions = self.jumps = 0
        self.busy_seconds = 0.0
        self.peak_blocks = 0
        self.next_decision, self.version = inf, 0
        self.finished: list[Sequence] = []
        """Sequences that end, with `finish_seconds` set, for whoever drains it."""
        self.grown: list[tuple[float, Sequence]] = []
        """Sequences whose answer reached `grows_at`, and when."""
        self._block = spec.rule.simple_block_size
        self._prefill: Sequence | None = None
        self._young: list[Sequence] = []  # decode, but still hold what only their prompt's last chunk looked back to
        self._ending: list[Sequence] = []
        self._marks: list[tuple[int, int, int, Sequence]] = []  # (step, preemptions then, index, sequence)
        self._decoders = self._kv_tokens = 0
        self._last_end = self._before_last = 0.0
        self._jump: Jump | None = None
        self._blocked = False
        self._queued_blocks = 0
        self._lag = 1 if spec.asynchronous else 0
        self._beats = Beats(spec.rule, self._lag)
        self._decided = 0.0

    # What others ask and do.

    @property
    def load(self) -> int:
        """Requests that it works on or that wait in it."""
        return len(self.running) + len(self.waiting)

    @property
    def until_seconds(self) -> float:
        """When the last step that was scheduled is over."""
        return self._last_end

    def free_blocks(self, now: float) -> int:
        """Blocks that nobody holds or waits for at `now`."""
        free = self.free
        if self._jump is not None:
            free -= self._beats.net(self.step, self.step_at(now) - self.step)
        return free - self._queued_blocks

    def step_at(self, now: float) -> int:
        """Steps that are scheduled at `now`."""
        return self.step if self._jump is None else self.step + min(self._steps_by(self._jump, now), self._jump.steps)

    def submit(self, seq: Sequence, now: float) -> None:
        """Take a request in at `now`: it waits until the next decision."""
        seq.state = State.WAITING
        seq.pool, seq.replica = self.pool, self.index
        if seq.prompt + seq.target > self.spec.max_model_len:
            # The context ends the answer, and the engine can count to that.
            seq.target, seq.ends_unseen = self.spec.max_model_len - seq.prompt, False
        waited = bool(self.waiting)
        self.waiting.append(seq)
        self._queued_blocks += self.spec.rule.admits(seq.known)
        if self.next_decision is inf:
            self._decide_at(now)
        elif self._jump is not None and not waited:
            # Whoever waits already is blocked until someone ends: then one more behind changes nothing.
            k = self._steps_by(self._jump, now)
            if k < self._jump.steps:
                self._jump.steps = k
                self._decide_at(self._decision_after(self._jump, k))

    def _decide_at(self, when: float) -> None:
        self.next_decision = when
        self.version += 1

    def _decision_after(self, jump: Jump, k: int) -> float:
        """When the step after the first k of a jump is scheduled."""
        if not self._lag:
            return jump.end(k)
        return jump.end(k - 1) if k else max(self._decided, self._before_last)

    def _steps_by(self, jump: Jump, now: float) -> int:
        """Steps of a jump that are scheduled before a decision at or after `now`."""
        return bisect_left(range(jump.steps), now, key=lambda k: self._decision_after(jump, k))

    # One decision.

    def decide(self, now: float) -> None:
        """Schedule the next step, and jump over those after it in which nothing is decided."""
        self._decided = now
        if self._jump is not None:
            self._land(self._jump)
        if self._ending:
            self._retire(now)
        if not self.running and not self.waiting:
            # An engine waits for a step under way even when nobody is left in it (one that ended unseen).
            self._decide_at(self._last_end if self._last_end > now else inf)
            return
        if not self._schedule(now):
            # Only last tokens are under way: wait for them.
            self._decide_at(self._last_end)
            return
        self._decide_at(max(now, self._before_last) if self._lag else self._last_end)
        if (
            self._prefill is None
            and not self._ending
            and not self._young
            and self._decoders == len(self.running)
            and self._decoders
            and (not self.waiting or self._blocked)
        ):
            self._leap()

    def _retire(self, now: float) -> None:
        kept = []
        for seq in self._ending:
            if seq.finish_seconds > now:
                kept.append(seq)
            elif seq.state is State.ENDING:
                self.free += seq.held
                seq.state = State.DONE
                self.running.remove(seq)
        self._ending = kept

    def _schedule(self, now: float) -> bool:
        """One step; False when there is nothing to compute."""
        spec, step = self.spec, self.step + 1
        preempted = False
        if self._decoders:
            need = self._beats.takes(self.step)
            young = sum(self._due(s.prompt + step - s.zero - 2) for s in self._young)
            if need + young <= self.free:
                self.free += self._beats.gives(self.step) - need
                for one in self._young:
                    self.free += one.held
                    self._settle(one, step)
                    self.free -= one.held
            else:
                preempted = self._press(step)
        decoders, kv_tokens = self._decoders, self._kv_tokens
        budget = spec.max_batched_tokens - decoders
        tokens = pairs = 0
        complete: list[Sequence] = []
        seq = self._prefill
        if seq is not None:
            new = min(seq.known - seq.computed, budget)
            if new > 0:
                held = spec.rule.held(seq.computed, new, self._in_flight(seq))
                if held - seq.held > self.free:
                    self.running.pop()  # what is partly computed was admitted last
                    self._preempt(seq, seq.held)
                    preempted = True
                else:
                    self.free -= held - seq.held
                    seq.held = held
                    seq.flown, seq.flew_at = new, step
                    tokens += new
                    pairs += new * seq.computed + new * (new + 1) // 2
                    budget -= new
                    seq.computed += new
                    if seq.computed == seq.known:
                        complete.append(seq)
                        self._prefill = None
        self._blocked = False
        if not preempted:
            while budget > 0 and self.waiting:
                if len(self.running) >= spec.max_num_seqs:
                    self._blocked = True
                    break
                seq = self.waiting[0]
                new = seq.known
                if new > budget:
                    if not spec.chunked_prefill:
                        break
                    new = budget
                spared = spec.watermark_blocks if self.running else 0
                held = spec.rule.held(0, new)
                if max(spec.rule.admits(seq.known), held) + spared > self.free:
                    self._blocked = not self._beats.windows
                    break
                self.waiting.popleft()
                self._queued_blocks -= spec.rule.admits(seq.known)
                self.running.append(seq)
                if seq.admitted_seconds < 0:
                    seq.admitted_seconds = now
                self.free -= held
                seq.held, seq.computed = held, new
                seq.flown, seq.flew_at = new, step
                seq.state = State.PREFILL
                tokens += new
                pairs += new * (new + 1) // 2
                budget -= new
                if new == seq.known:
                    complete.append(seq)
                else:
                    self._prefill = seq
        if not decoders and not tokens:
            return False
        seconds = spec.clock.seconds(tokens, pairs, decoders, kv_tokens)
        start = max(self._last_end, now)
        self._before_last, self._last_end = self._last_end, start + seconds
        self.busy_seconds += seconds
        used = spec.blocks - self.free
        self.peak_blocks = max(self.peak_blocks, used)
        self.series.add(start, self._last_end, used, used, len(self.running), len(self.waiting))
        self.step = step
        self._kv_tokens += decoders
        self._ring(self._last_end)
        if self._young:
            self._age()
        for seq in complete:
            self._answer(seq, self._last_end)
        return True

    def _answer(self, seq: Sequence, when: float) -> None:
        """All known tokens are computed: one more is sampled, and from the next step on it decodes."""
        if seq.first_seconds < 0:
            seq.first_seconds = when
        seq.generated += 1
        seq.zero = self.step - seq.generated
        if seq.generated >= seq.target:
            self._finish(seq, when)
            if not (seq.ends_unseen and self._lag):
                seq.state = State.ENDING
                self._ending.append(seq)
                return
        seq.state = State.DECODE
        self._count(seq, 1)
        if self._beats.windows:
            self._young.append(seq)
        else:
            self._beats.join(seq)
        self._mark(seq)

    def _count(self, seq: Sequence, sign: int) -> None:
        """One more that decodes (1), or one less (-1)."""
        self._decoders += sign
        self._kv_tokens += sign * (seq.prompt + self.step - seq.zero)

    def _in_flight(self, seq: Sequence) -> int:
        """Tokens of the step before that are still under way when the next one is scheduled."""
        return seq.flown if self._lag and seq.flew_at == self.step else 0

    def _settle(self, seq: Sequence, step: int) -> None:
        """What a young sequence holds while its next token is computed."""
        seq.held = self.spec.rule.held(seq.prompt + step - seq.zero - 2, 1, self._in_flight(seq))
        seq.flown, seq.flew_at = 1, step

    def _age(self) -> None:
        """Whoever's prompt is settled follows the beats from now on."""
        for seq in [s for s in self._young if self.step - s.zero - s.generated > self._lag]:
            self._young.remove(seq)
            self._beats.join(seq)
            self._mark(seq)

    def _now_held(self, seq: Sequence, step: int) -> int:
        """Blocks of a sequence that decodes, once `step` was scheduled for it."""
        return seq.held if seq in self._young else self.spec.rule.held(seq.prompt + step - seq.zero - 2, 1, self._lag)

    def _mark(self, seq: Sequence) -> None:
        """Note the next step at which something happens to it: its end, its lease's, or a window that fills."""
        if seq.finish_seconds >= 0:
            at = self.step + 1
        else:
            at = seq.zero + (min(seq.target, seq.grows_at) if seq.grows_at else seq.target)
            if self._beats.windows and seq not in self._young and (opens := self._beats.open(seq, self.step)):
                at = min(at, opens)
        heappush(self._marks, (at, seq.preemptions, seq.index, seq))

    def watch(self, seq: Sequence, answered_tokens: int) -> None:
        """Tell (in `grown`) when the answer of `seq` has so many tokens."""
        seq.grows_at = answered_tokens
        if seq.state is not State.DECODE or seq.finish_seconds >= 0:
            return
        at = max(seq.zero + answered_tokens, self.step + 1)
        heappush(self._marks, (at, seq.preemptions, seq.index, seq))
        jump = self._jump
        if jump is not None and at - self.step < jump.steps:
            jump.steps = at - self.step
            self._decide_at(self._decision_after(jump, jump.steps))

    def _ring(self, when: float) -> None:
        """What is due at the step just counted, which ends at `when`."""
        marks = self._marks
        while marks and marks[0][0] <= self.step:
            _, preemptions, _, seq = heappop(marks)
            if seq.state is not State.DECODE or seq.preemptions != preemptions:
                continue
            generated = self.step - seq.zero
            if seq.finish_seconds >= 0 and generated <= seq.target:
                continue  # an end that was noted twice
            if seq.finish_seconds >= 0 or generated >= seq.target:
                unseen = seq.finish_seconds < 0 and seq.ends_unseen and self._lag
                if seq.finish_seconds < 0:
                    seq.generated = generated
                    self._finish(seq, when)
                if not unseen:
                    self._leave(seq)
                    seq.state = State.ENDING
                    self._ending.append(seq)
                    continue
            elif seq.grows_at and generated >= seq.grows_at:
                seq.grows_at = 0
                self.grown.append((when, seq))
            self._mark(seq)

    def _leave(self, seq: Sequence) -> None:
        """Take a sequence that was scheduled at the current step out of the beats; it keeps its blocks."""
        seq.held = self._now_held(seq, self.step)
        self._part(seq)

    def _part(self, seq: Sequence) -> None:
        """One less that decodes."""
        self._count(seq, -1)
        if seq in self._young:
            self._young.remove(seq)
        else:
            self._beats.leave(seq)

    def _finish(self, seq: Sequence, when: float) -> None:
        seq.finish_seconds = when
        seq.end = End.FINISHED if seq.target >= seq.request.answered_tokens else End.SHORTENED
        self.finished.append(seq)

    # When blocks run out.

    def _press(self, step: int) -> bool:
        """Give each running sequence its blocks in turn; whoever was admitted last loses his when there are none."""
        rule, preempted, i = self.spec.rule, False, 0
        while i < len(self.running):
            seq = self.running[i]
            i += 1
            if seq.state is not State.DECODE:
                continue
            computed = seq.prompt + step - seq.zero - 2
            due, before = self._due(computed), self._now_held(seq, step - 1)
            young = seq in self._young
            if young:
                self._settle(seq, step)
            after = seq.held if young else rule.held(computed, 1, self._lag)
            given = before + due - after
            self.free += given
            while due > self.free:
                victim = self.running.pop()
                preempted = True
                if victim is seq:
                    self._drop(victim, before - given)
                    return True
                if victim.state is State.DECODE:
                    self._drop(victim, self._now_held(victim, step - 1))
                else:
                    self._preempt(victim, victim.held)
            self.free -= due
        return preempted

    def _due(self, computed: int) -> int:
        """Blocks that a sequence takes for its next token."""
        return sum(g.tables for g in self.spec.rule.groups if g.block_size and computed % g.block_size == 0)

    def _drop(self, seq: Sequence, held: int) -> None:
        self._part(seq)
        seq.generated = self.step - seq.zero
        self._preempt(seq, held)

    def _preempt(self, seq: Sequence, held: int) -> None:
        """Take a sequence's blocks; it waits at the front, unless its last token is under way already."""
        self.free += held
        self.preemptions += 1
        seq.preemptions += 1
        seq.held = seq.computed = 0
        if seq is self._prefill:
            self._prefill = None
        if seq.finish_seconds >= 0:
            seq.state = State.DONE
            return
        seq.state = State.WAITING
        self.waiting.appendleft(seq)
        self._queued_blocks += self.spec.rule.admits(seq.known)

    # Jumps.

    def _leap(self) -> None:
        """Plan a jump to the step at which something happens, if that is not the next one."""
        marks = self._marks
        while marks and (marks[0][3].state is not State.DECODE or marks[0][3].preemptions != marks[0][1]):
            heappop(marks)
        if self._blocked and self._beats.windows:
            return
        # The first step at which blocks may be missing is decided by itself.
        steps = self._beats.within(self.step, marks[0][0] - self.step, self.free)
        self._jump = jump(self.spec.clock, self._last_end, steps, self._decoders, self._kv_tokens)
        if self._jump is not None:
            self._decide_at(self._decision_after(self._jump, self._jump.steps))

    def _land(self, jump: Jump) -> None:
        """Do what the jump planned."""
        self._jump, steps = None, jump.steps
        if not steps:
            return
        used = self.spec.blocks - self.free
        self.peak_blocks = max(self.peak_blocks, used + self._beats.most(self.step, steps))
        self.free -= self._beats.net(self.step, steps)
        now_used = self.spec.blocks - self.free
        self._before_last, self._last_end = jump.end(steps - 1), jump.end(steps)
        self.series.add(jump.base, self._last_end, used, now_used, len(self.running), len(self.waiting))
        self.busy_seconds += self._last_end - jump.base
        self.step += steps
        self.jumps += 1
        self._kv_tokens += steps * self._decoders
        self._ring(self._last_end)
