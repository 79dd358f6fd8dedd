"""One group of rows' constants: where they start from, how far they may go, and their least squares. Needs numpy and scipy."""

from collections import defaultdict
from dataclasses import fields

import numpy as np
from formula import columns, predict
from scipy.optimize import least_squares

from vram.speed.rates import Rates

NAMES = tuple(f.name for f in fields(Rates))
BY_WEIGHTS = ("memory_share", "expert_share", "compute_share", "vector_share")
# Where a constant starts from and is weakly held to, and the ends of what it can be.
PRIOR = {
    "memory_share": (0.8, 0.1, 1.0),
    "expert_share": (0.7, 0.05, 1.0),
    "cache_share": (0.7, 0.1, 1.0),
    "compute_share": (0.4, 0.02, 1.0),
    "attention_share": (0.3, 0.02, 1.0),
    "vector_share": (0.1, 0.01, 1.0),
    "layer_seconds": (5e-5, 1e-6, 3e-3),
    "expert_layer_seconds": (2e-5, 1e-7, 1e-3),
    "step_seconds": (3e-4, 1e-6, 2e-2),
    "sequence_seconds": (1e-5, 1e-8, 1e-3),
    "message_seconds": (6e-6, 5e-7, 2e-4),
    "link_share": (0.4, 0.02, 1.0),
    "interleave": (0.8, 0.2, 1.2),
    "first_seconds": (2e-2, 1e-3, 0.3),
    "queue": (0.1, 1e-3, 2.0),
}
SCALE = 0.08  # residuals beyond this count less and less
STEP = 1e-6  # by which an unknown is moved to see what it does
YEARLY_SIGMA = 0.2
WEIGHT = {"ttft": 0.35, "prefill": 0.5}
# Layers and steps trade places where few depths were measured, and so do layers and what a card's arithmetic holds up.
NARROWER = {"step_seconds": 0.5, "vector_share": 0.5}
# How an engine orders its work is its own, however near its kernels are to others'.
LOAD = {"interleave", "first_seconds", "queue"}
SERVERS = ("vllm", "tensorrt-llm", "sglang")
POOLED = "servers"


class Fit:
    """One group's constants: the group's own, what its weights' classes change, and what a year's age adds to what is fixed."""

    def __init__(self, rows, prior, *, sigma, cited=(), warm=None, yearly=None, launches=1.0):
        """`launches`: how much wider than `sigma` what no byte explains of a layer is taken to lie. `yearly`: by how much (a logarithm) a year's age lengthens layers and steps; None: it is fitted too."""
        self.classes = sorted({r["weights"] for r in rows})
        self.prior, self.lows, self.highs = (np.log([prior[n] if k == 0 else PRIOR[n][k] for n in NAMES]) for k in range(3))
        a, own = columns(rows), len(NAMES)
        self.slots = [(n, w) for n in BY_WEIGHTS for w in self.classes if len(self.classes) > 1]
        pulls = [(NAMES.index(c["name"]), c) for c in cited if c["weights"] in {"", *self.classes}]
        which = {w: a["weights"] == w for w in self.classes}
        widths = np.array([max(sigma, 0.3) if n in LOAD else sigma * NARROWER.get(n, launches if n == "layer_seconds" else 1.0) for n in NAMES])
        ages = yearly is None and bool(a["years"].any())
        self.fixed_yearly = yearly or 0.0
        logs, weight = np.log(a["seconds"]), np.array([WEIGHT.get(k, 1.0) for k in a["kind"]]) * np.sqrt(a.get("mass", np.ones(len(rows))))

        def residuals(x):
            """Of one set of unknowns, or of many: shaped as `x` but for the last axis."""
            longer = x[..., -1:] if ages else self.fixed_yearly
            r = (np.log(predict(a, self.at(x, which, len(rows)), longer)) - logs) * weight
            robust = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + (r / SCALE) ** 2) - 1))
            changes = x[..., own:] / np.array([0.15] * len(self.slots) + [YEARLY_SIGMA] * ages)
            hard = [np.sqrt(min(c["rows"], 25)) * (x[..., i] + self.change(x, c["name"], c["weights"]) - np.log(c["value"])) / 0.3 for i, c in pulls]
            return np.concatenate([robust, (x[..., :own] - self.prior) / widths, changes, *([np.stack(hard, axis=-1)] if hard else [])], axis=-1)

        def slopes(x):
            """All columns of the Jacobian in one call: a call costs as much as its numbers are few."""
            each = residuals(np.concatenate([x[None], x[None] + STEP * np.eye(len(x))]))
            return ((each[1:] - each[0]) / STEP).T

        start = np.concatenate([self.prior, np.zeros(len(self.slots) + ages)])
        if warm is not None and warm.slots == self.slots and len(warm.x) == len(start):
            start = warm.x
        self.rows = len(rows)
        self.x = least_squares(residuals, start, jac=slopes, max_nfev=40 if warm is None else 12, ftol=1e-6, xtol=1e-6).x
        self.yearly = float(self.x[-1]) if ages else self.fixed_yearly

    def change(self, x, name, weights):
        return x[..., len(NAMES) + self.slots.index((name, weights))] if (name, weights) in self.slots else np.zeros(x.shape[:-1])

    def at(self, x, which, n):
        out = {}
        for i, name in enumerate(NAMES):
            value = np.repeat(x[..., i, None], n, axis=-1)
            for w, mask in which.items() if name in BY_WEIGHTS else ():
                value[..., mask] += self.change(x, name, w)[..., None]
            out[name] = np.exp(np.clip(value, self.lows[i], self.highs[i]))
        return out

    def rates(self, weights=""):
        return {n: float(np.exp(np.clip(self.x[i] + self.change(self.x, n, weights), self.lows[i], self.highs[i]))) for i, n in enumerate(NAMES)}

    def predicted(self, rows):
        a = columns(rows)
        return predict(a, self.at(self.x, {w: a["weights"] == w for w in self.classes}, len(rows)), self.yearly)


def groups_of(rows):
    """Rows by engine and, on servers, by whether the model has experts."""
    out = defaultdict(list)
    for r in rows:
        out[r["engine"], r["experts"] if r["engine"] in SERVERS else "any"].append(r)
    return out
