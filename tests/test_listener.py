"""The tests' own engines leave no connection to the collector, however late a client came."""

import asyncio
import gc
import socket
import warnings

import pytest
from mock_engine import MockEngine
from scripted_engine import ScriptedEngine


async def _nothing(*_):
    return


@pytest.mark.parametrize("make", [MockEngine, lambda: ScriptedEngine(_nothing)], ids=["mock", "scripted"])
def test_who_comes_as_an_engine_ends_is_closed(make):
    """A client comes so many turns of the loop before the end: in one of them its connection is there and nobody serves it yet."""
    for turns in range(8):

        async def test(client, turns=turns):
            async with make() as engine:
                client.connect(("127.0.0.1", engine.port))
                for _ in range(turns):
                    await asyncio.sleep(0)

        gc.collect()
        with warnings.catch_warnings(record=True) as told, socket.socket() as client:
            warnings.simplefilter("always")
            asyncio.run(test(client))
            gc.collect()
        assert [str(one.message) for one in told if one.category is ResourceWarning] == []
