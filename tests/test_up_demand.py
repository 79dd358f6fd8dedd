"""Models on demand: more models than fit, whole processes, a scripted stand-in as the engine, real HTTP through the gateway."""

import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import jsonschema
import pytest
from test_up_control import state_of, until
from upping import HERE, environment, processes_with, stand_in, up, vram

from vram.errors import ExitCode
from vram.units import gib

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="engines are started on POSIX systems")


@pytest.fixture
def env(tmp_path):
    stand_in(tmp_path)
    return environment(tmp_path)


@pytest.fixture
def budget(env):
    """Bytes that hold two of three demo models, by their own plans."""
    done = vram("up", "a=demo", "--gpu", "cpu", "--context", "1k", "--dry-run", "--json", env=env)
    (gpu,) = json.loads(done.stdout)["models"][0]["plan"]["gpus"]
    high = sum(part["high"] for part in gpu["parts"].values())
    assert high > 2**20
    return high * 5 // 2


def test_an_error_about_a_budget_names_a_larger_one_and_no_card(env):
    """It is the budget of main memory that is short: no GPU to buy is named, by the error as little as by the board."""
    done = vram("up", "a=demo", "--gpu", "cpu", "--context", "1k", "--budget", "30MiB", "--port", "0", "--admin-port", "0", env=env)
    assert done.returncode == ExitCode.DOES_NOT_FIT, done.stderr
    (hint,) = (line for line in done.stderr.splitlines() if line.startswith("hint: "))
    assert "--budget " in hint
    assert "--gpu " not in hint


def test_a_dry_run_says_who_is_loaded_first_and_who_would_go(env, budget):
    done = vram("up", "a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(budget), "--dry-run", "--json", env=env)
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((files("vram") / "schemas/up.json").read_text()))
    assert [m["loaded_first"] for m in document["models"]] == [True, True, False]
    assert [len(m["evicts"]) for m in document["models"]] == [0, 0, 1]
    shown = vram("up", "a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(budget), "--dry-run", env=env)
    assert "c: loaded when it is asked for, in place of" in shown.stdout
    # What others hold of main memory is no part of the budget.
    assert ", the budget" in shown.stdout
    assert f"of {gib(budget)}" in shown.stdout


def test_a_budget_that_is_too_small_says_which_is_not(env):
    """No card is to be bought where only the budget is short; and the one that it names does."""
    done = vram("up", "a=demo", "--gpu", "cpu", "--context", "1k", "--budget", "1MiB", "--dry-run", env=env)
    assert done.returncode == ExitCode.DOES_NOT_FIT
    assert "RTX" not in done.stdout
    named = re.search(r"--budget (\S+GiB)", done.stdout)[1]
    assert vram("up", "a=demo", "--gpu", "cpu", "--context", "1k", "--budget", named, "--dry-run", env=env).returncode == ExitCode.OK
    assert vram("up", "a=demo", "--gpu", "cpu", "--budget", "0", "--dry-run", env=env).returncode == ExitCode.USAGE


def test_what_is_pinned_must_be_asked_for(env):
    done = vram("up", "a=demo", "--pin", "b", "--dry-run", env=env)
    assert done.returncode == ExitCode.USAGE
    assert "--pin b" in done.stderr


def test_three_models_share_what_two_fill(env, tmp_path, budget):
    """120 interleaved requests: all are answered, never three engines at once, far fewer loads than requests."""
    asked = ["abc"[k % 3] for k in range(120)]
    most, over = 0, threading.Event()

    def watch():
        nonlocal most
        while not over.wait(0.05):
            most = max(most, len(processes_with(f"{HERE}/stand_in.py llama-server --model")))

    with up(tmp_path, "a=demo", "b=demo", "c=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(budget), "--no-probe", env=env) as running:
        running.until("serving a, b, c")
        states = {m["id"]: m["vram"]["state"] for m in running.get("/v1/models")["data"]}
        assert states == {"a": "ready", "b": "ready", "c": "loaded_when_asked"}
        watcher = threading.Thread(target=watch)
        watcher.start()

        def ask(name):
            return running.post("/v1/completions", {"model": name, "prompt": "hi", "max_tokens": 3})

        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(ask, asked))
        over.set()
        watcher.join()
        assert [status for status, _ in answers] == [200] * len(asked), [a for a in answers if a[0] != 200][:2]
        found = {name: state_of(env, name) for name in "abc"}
        loads = sum(m["loads"] for m in found.values())
        evictions = sum(m["evictions"] for m in found.values())
        assert loads == 2 + evictions
        assert 1 <= evictions <= len(asked) // 4
        assert sum(m["state"] == "ready" for m in found.values()) == 2
        assert found["c"]["loading_seconds"] > 0
    assert 0 < most <= 2


def test_a_stream_is_not_cut_off_for_another_model(env, tmp_path, budget):
    """The one who runs ends its answer; the other waits for that, then is loaded."""
    slow = {**env, "STAND_IN_CHUNKS": "20", "STAND_IN_DELAY": "0.1"}
    one = budget * 2 // 5 * 3 // 2
    with up(tmp_path, "a=demo", "b=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(one), "--no-probe", env=slow) as running:
        running.until("serving a, b")
        with ThreadPoolExecutor(2) as threads:
            stream = threads.submit(running.post, "/v1/completions", {"model": "a", "prompt": "hi", "max_tokens": 20, "stream": True})
            time.sleep(0.3)
            other = threads.submit(running.post, "/v1/completions", {"model": "b", "prompt": "hi", "max_tokens": 2})
            status, body = stream.result()
            assert status == 200
            assert body.count(b'"content": "w') == 20
            assert b"[DONE]" in body
            assert other.result()[0] == 200
        assert state_of(env, "a")["state"] == "asleep"


def test_pinned_stays_and_who_does_not_fit_beside_it_is_told(env, tmp_path, budget):
    one = budget * 2 // 5 * 3 // 2
    args = ("a=demo", "b=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(one), "--no-probe", "--pin", "a", "--queue-seconds", "1s")
    with up(tmp_path, *args, env=env) as running:
        said = running.until("serving a, b")
        assert "warning: b: never loaded" in said
        status, body = running.post("/v1/completions", {"model": "b", "prompt": "hi", "max_tokens": 2})
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (503, "model_does_not_fit"), body
        assert "are missing" in error["message"]
        assert state_of(env, "a")["state"] == "ready"


def test_who_is_pinned_is_loaded_first_and_where_it_never_is_that_is_a_warning(env, budget):
    """The second of two that fit one at a time, pinned, is there from the start; two that are pinned where one fits are told of before anything starts."""
    one = budget * 2 // 5 * 3 // 2
    words = ("up", "a=demo", "b=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(one), "--dry-run", "--pin", "b")
    models = json.loads(vram(*words, "--json", env=env).stdout)["models"]
    assert [m["loaded_first"] for m in models] == [False, True]
    assert "warning: a: never loaded" in vram(*words, env=env).stdout
    assert "warning: --pin b: never loaded" in vram(*words, "--pin", "a", env=env).stdout


def test_an_idle_model_is_unloaded_and_comes_back(env, tmp_path):
    with up(tmp_path, "a=demo", "--gpu", "cpu", "--context", "1k", "--no-probe", "--idle-seconds", "500ms", env=env) as running:
        running.until("serving a")
        until(lambda: state_of(env, "a")["state"] == "asleep")
        assert not processes_with(f"{HERE}/stand_in.py llama-server --model")
        status, _ = running.post("/v1/completions", {"model": "a", "prompt": "hi", "max_tokens": 2})
        assert status == 200


def test_a_model_that_cannot_be_loaded_any_more_is_refused_in_the_end(env, tmp_path, budget):
    """Its engine fails from its second start on: requests are told, the other model goes on."""
    one = budget * 2 // 5 * 3 // 2
    program = tmp_path / "llama-server"
    whole = program.read_text()
    with up(tmp_path, "a=demo", "b=demo", "--gpu", "cpu", "--context", "1k", "--budget", str(one), "--no-probe", "--queue-seconds", "2s", env=env) as running:
        running.until("serving a, b")
        program.write_text('#!/bin/sh\necho "no more" >&2\nexit 1\n')
        status, body = running.post("/v1/completions", {"model": "b", "prompt": "hi", "max_tokens": 2})
        assert (status, json.loads(body)["error"]["code"]) == (503, "model_not_loaded")
        running.until("is tried again in")
        program.write_text(whole)
        assert until(lambda: running.post("/v1/completions", {"model": "a", "prompt": "hi", "max_tokens": 2})[0] == 200)
