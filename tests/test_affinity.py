"""Affinity: requests that begin alike meet, a lost replica moves only its own, and no replica is loaded far above the others for it."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram.admission.affinity import CALM_SEQUENCES
from vram.admission.books import Books
from vram.admission.decide import WAIT, Admit, Pool, Route, decide
from vram.admission.need import Need
from vram.gateway.prefix import OFF, SESSION, affinity_of
from vram.memory.curve import blocks

BLOCK = 1000


def pool(urls, capacity=10_000):
    return [Books(f"p/{i}", blocks(BLOCK, 10), capacity * BLOCK, context_tokens=1 << 20, max_sequences=1 << 20, home=url) for i, url in enumerate(urls)]


def route(replicas):
    return Route(model="m", pools=(Pool("p", "m", replicas),))


def home(replicas, key):
    answer = decide(Need(10, 10, 10, affinity=key), route(replicas), 0.0)
    assert isinstance(answer, Admit)
    assert answer.by_key == (len(replicas) > 1)
    return answer.books


KEYS = st.lists(st.integers(1, 2**33), min_size=1, max_size=60, unique=True)


@settings(max_examples=60, deadline=None)
@given(keys=KEYS, count=st.integers(2, 9), lost=st.integers(0, 8), turn=st.integers(0, 8))
def test_only_the_share_of_a_lost_replica_moves(keys, count, lost, turn):
    """Whoever was elsewhere stays; at its return all is as before; the order of the file means nothing."""
    urls = [f"http://10.0.0.{i}:8000" for i in range(count)]
    replicas = pool(urls)
    gone = replicas[lost % count]
    before = {key: home(replicas, key) for key in keys}
    gone.usable = False
    for key in keys:
        now = home(replicas, key)
        assert now is not gone
        assert before[key] in {now, gone}
    gone.usable = True
    assert {key: home(replicas, key) for key in keys} == before
    turned = pool(urls[turn % count :] + urls[: turn % count])
    homes = {b.seed: url for b, url in zip(replicas, urls, strict=True)}
    assert [homes[home(turned, key).seed] for key in keys] == [homes[before[key].seed] for key in keys]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_keys_spread_evenly(count):
    """Ten thousand keys: each replica's share is its part, to what chance allows (five standard deviations)."""
    replicas = pool([f"http://engine-{i}" for i in range(count)])
    shares = Counter(home(replicas, key).name for key in range(1, 10_001))
    deviation = (10_000 / count * (1 - 1 / count)) ** 0.5
    assert len(shares) == count
    assert all(abs(n - 10_000 / count) < 5 * deviation for n in shares.values())


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 6), asks=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400), st.booleans()), min_size=1, max_size=120))
def test_load_is_bounded_however_hot_a_prefix_is(count, asks):
    """By key nobody comes to a replica that holds more than 5/4 of its fair share, the new one in the sum, unless next to nothing runs there."""
    replicas = pool([f"http://engine-{i}" for i in range(count)])
    live = []
    for key, tokens, ends in asks:
        if ends and live:
            lease = live.pop(0)
            lease.books.release(lease, 0.0)
        need = Need(tokens, 10, 10, affinity=key)
        held = {b: b.promised_bytes for b in replicas}
        answer = decide(need, route(replicas), 0.0)
        assert answer.by_key
        live.append(answer.books.reserve(need, answer.expected, answer.most, 0.0))
        fair = sum(b.promised_bytes for b in replicas) / count
        assert held[answer.books] <= 1.25 * fair or answer.books.sequences <= CALM_SEQUENCES
    if len({key for key, _, _ in asks}) == 1 and len(live) <= CALM_SEQUENCES:
        assert len({lease.books for lease in live}) == 1


def test_one_prefix_takes_as_many_replicas_as_it_needs():
    """Forty equal requests of one key on four replicas: none holds more than 1.25 x 10 and the one that came; three others hold the rest."""
    replicas = pool([f"http://engine-{i}" for i in range(4)])
    for _ in range(40):
        need = Need(100, 50, 50, affinity=7)
        answer = decide(need, route(replicas), 0.0)
        answer.books.reserve(need, answer.expected, answer.most, 0.0)
    held = sorted(b.sequences for b in replicas)
    assert sum(held) == 40
    assert held[-1] <= 13.5
    assert held[0] >= 1


def test_a_full_home_is_no_reason_to_wait():
    """Where the home has no room another has it; where none has, it waits as anybody does."""
    replicas = pool(["http://a", "http://b"], capacity=20)
    first = home(replicas, 5)
    other = next(b for b in replicas if b is not first)
    first.reserve(Need(150, 40, 40), 40, 40, 0.0)
    need = Need(100, 50, 50, affinity=5)
    answer = decide(need, route(replicas), 0.0)
    assert answer.books is other
    other.reserve(need, 50, 50, 0.0)
    assert decide(Need(100, 50, 50, affinity=5), route(replicas), 0.0) is WAIT


# --- keys

SYSTEM = {"role": "system", "content": "You are terse. {braces} \"quoted\" 'assistant' " + "rule " * 300}


def turns(*texts, system=SYSTEM):
    return [system, *({"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts))]


def key(messages, *, session=b"", by="prefix", **fields):
    pytest.importorskip("msgspec")
    from vram.gateway.ask import read_chat

    return affinity_of(read_chat(json.dumps({"model": "m", "messages": messages, **fields}).encode()), session, by)


def test_a_conversation_keeps_its_key_and_others_have_others():
    """All turns of one conversation, of any length; not the one that begins otherwise, by user or by system prompt."""
    first = key(turns("What is a } brace?"))
    assert first > 0
    assert key(turns("What is a } brace?", 'A "}" it is.', "And a { one?")) == first
    assert key(turns("What is a } brace?", "A {nested: {answer}}.", "Why?", "Because.", "x" * 200_000)) == first
    assert key(turns("What is a ] bracket?")) != first
    assert key(turns("What is a } brace?", system={"role": "system", "content": "Be long."})) != first
    big = "document " * 20_000
    assert key(turns(big)) == key(turns(big, "Read.", "Sum it up."))
    short = {"role": "system", "content": "Hi"}
    assert key(turns("a", system=short)) == key(turns("a", "b", "c", system=short)) != key(turns("b", system=short))


def test_what_clients_say_goes_first():
    """A session before OpenAI's prompt_cache_key, that before the text; each can be all that counts, or nothing does."""
    one, two = turns("a"), turns("b")
    assert key(one, session=b"s") == key(two, session=b"s", prompt_cache_key="k") != key(one, session=b"t")
    assert key(one, prompt_cache_key="k") == key(two, prompt_cache_key="k") != key(one, prompt_cache_key="l")
    assert key(one, by=SESSION) == 0 != key(one, by=SESSION, prompt_cache_key="k")
    assert key(one, session=b"s", by=OFF) == 0


def test_plain_prompts_and_inputs():
    """A prompt is known by its beginning; embeddings, which cache nothing, by nothing."""
    pytest.importorskip("msgspec")
    from vram.gateway.ask import read_completion, read_embeddings, read_responses

    def of(read, **fields):
        return affinity_of(read(json.dumps({"model": "m", **fields}).encode()), b"")

    long = "once upon a time " * 100
    assert of(read_completion, prompt=long + "a") == of(read_completion, prompt=long + "b") != of(read_completion, prompt="twice" + long)
    assert of(read_completion, prompt=[1, 2, 3]) > 0
    assert of(read_responses, input=turns("a")) == of(read_responses, input=turns("a", "b", "c"))
    assert of(read_responses, input="a") != of(read_responses, input="b")
    assert of(read_embeddings, input="a") == 0
