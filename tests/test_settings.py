"""The table of environment variables: every row fills a field, every bad value is refused aloud."""

from dataclasses import fields
from pathlib import Path

import pytest

from vram.errors import UsageError
from vram.settings import VARIABLES, Settings, settings

BAD = {
    "HF_ENDPOINT": "huggingface.co",
    "HF_TOKEN": "two words",
    "HF_TOKEN_PATH": "a\0b",
    "HF_HOME": "a\0b",
    "HF_HUB_CACHE": "a\0b",
    "HF_HUB_OFFLINE": "maybe",
    "XDG_CACHE_HOME": "a\0b",
    "XDG_DATA_HOME": "a\0b",
    "XDG_CONFIG_HOME": "a\0b",
    "VRAM_PRICES_URL": "ftp://prices.example",
    "VRAM_GATEWAY_DB": "a\0b",
    "VRAM_GATEWAY_LOOP": "fast",
    "VRAM_ADMIN_TOKEN": "two words",
    "VRAM_ADMIN_TOKEN_FILE": "a\0b",
    "XDG_STATE_HOME": "a\0b",
    "VRAM_LLAMA_SERVER": "a\0b",
    "VRAM_LLAMA_CPP_PYTHON": "a\0b",
    "VRAM_VLLM_PYTHON": "a\0b",
    "VRAM_SGLANG_PYTHON": "a\0b",
    "VRAM_OLLAMA": "a\0b",
    "OLLAMA_MODELS": "a\0b",
    "VRAM_CACHE_DIR": "a\0b",
    "VRAM_CACHE_BYTES": "-1",
    "VRAM_HUB_SECONDS": "nan",
    "VRAM_HUB_REQUEST_SECONDS": "0",
    "VRAM_HUB_CONNECTIONS": "1000",
    "HTTPS_PROXY": None,
    "HTTP_PROXY": None,
    "NO_PROXY": None,
}


def test_every_field_has_one_row_and_every_row_a_field():
    """The table is complete and names nothing twice."""
    assert sorted(v.field for v in VARIABLES) == sorted(f.name for f in fields(Settings))
    assert len({v.name for v in VARIABLES}) == len(VARIABLES)
    assert set(BAD) == {v.name for v in VARIABLES}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, v in BAD.items() if v is not None])
def test_a_bad_value_is_refused_and_named(name, value):
    """The error names the variable; a token's text is never shown."""
    with pytest.raises(UsageError, match=name) as caught:
        settings({name: value})
    if name in {"HF_TOKEN", "VRAM_ADMIN_TOKEN"}:
        assert value not in caught.value.message + caught.value.hint


def test_nothing_set_is_the_defaults():
    """Empty values count as not set."""
    assert settings({}) == settings({v.name: "" for v in VARIABLES}) == Settings()


def test_folders_follow_the_ecosystem():
    """HF_HUB_CACHE before HF_HOME before XDG_CACHE_HOME before ~/.cache, as huggingface_hub documents."""
    home = Path("~").expanduser()
    assert settings({}).downloads == home / ".cache/huggingface/hub"
    assert settings({"XDG_CACHE_HOME": "/x"}).downloads == Path("/x/huggingface/hub")
    assert settings({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}).downloads == Path("/h/hub")
    assert settings({"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}).downloads == Path("/c")
    assert settings({"HF_HOME": "/h"}).token_file == Path("/h/token")
    assert settings({"XDG_CACHE_HOME": "/x"}).headers == Path("/x/vram")


def test_endpoints_lose_their_last_slash():
    """So that addresses can be joined."""
    assert settings({"HF_ENDPOINT": "https://hub.example/path/"}).endpoint == "https://hub.example/path"
