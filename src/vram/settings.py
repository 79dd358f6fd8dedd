"""Every environment variable that the program heeds, in one table: name, meaning, default, and how its text is read.

A value that makes no sense is refused aloud. Flags of the command line go before the environment.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vram.errors import UsageError
from vram.units import GIB, parse_bytes

PRICES_URL: Final = "https://raw.githubusercontent.com/skypilot-org/skypilot-catalog/master/catalogs/v8"
LOOPS: Final = ("sockets", "uvloop", "asyncio")
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"", "0", "false", "no", "off"})


def _flag(text: str) -> bool:
    if text.strip().lower() in _YES | _NO:
        return text.strip().lower() in _YES
    raise ValueError("1 or 0 is needed")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86400:
        raise ValueError("a number of seconds from 0 to 86400 is needed")
    return value


def _connections(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise ValueError("a whole number from 1 to 64 is needed")
    return value


def _endpoint(text: str) -> str:
    from urllib.parse import urlsplit  # noqa: PLC0415  (start-up: most runs leave the endpoint as it is)

    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("an address like https://huggingface.co is needed")
    _ = parts.port  # raises when it is none
    return text.rstrip("/")


def _folder(text: str) -> Path:
    if "\0" in text:
        raise ValueError("a folder is needed")
    return Path(text).expanduser()


def _loop(text: str) -> str:
    if text not in LOOPS:
        raise ValueError(f"one of {', '.join(LOOPS)} is needed")
    return text


def _token(text: str) -> str:
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,4096}", token):
        raise ValueError("a token has no spaces or control characters")
    return token


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        name: as it is set.
        field: the attribute of `Settings` that it fills.
        read: text to value; raises ValueError with what is needed instead.
        default: as documentation shows it.
        meaning: one line.
    """

    name: str
    field: str
    read: Callable[[str], Any]
    default: str
    meaning: str


VARIABLES: Final = (
    Variable("HF_ENDPOINT", "endpoint", _endpoint, "https://huggingface.co", "the hub that model ids are looked up on"),
    Variable("HF_TOKEN", "token", _token, "the file that `hf auth login` wrote", "token for private and gated models; sent to the hub only"),
    Variable("HF_TOKEN_PATH", "token_path", _folder, "$HF_HOME/token", "file that holds the token"),
    Variable("HF_HOME", "hf_home", _folder, "$XDG_CACHE_HOME/huggingface", "where the hub's own tools keep their files"),
    Variable("HF_HUB_CACHE", "hub_cache", _folder, "$HF_HOME/hub", "models that were downloaded before"),
    Variable("HF_HUB_OFFLINE", "offline", _flag, "0", "1: touch no network"),
    Variable("XDG_CACHE_HOME", "xdg_cache", _folder, "~/.cache", "folder of all caches"),
    Variable("XDG_DATA_HOME", "xdg_data", _folder, "~/.local/share", "folder of the user's data: vram/calibration.jsonl holds measured starts"),
    Variable(
        "XDG_STATE_HOME", "xdg_state", _folder, "~/.local/state", "folder of what programs keep of their runs: vram/ holds logs of engines that vram up started"
    ),
    Variable("XDG_CONFIG_HOME", "xdg_config", _folder, "~/.config", "folder of the user's settings: vram/prices.toml holds one's own prices and cards"),
    Variable("VRAM_PRICES_URL", "prices_url", _endpoint, PRICES_URL, "where vram prices refresh reads PROVIDER/vms.csv (SkyPilot's catalogues or a mirror)"),
    Variable("VRAM_GATEWAY_DB", "gateway_file", _folder, "$XDG_DATA_HOME/vram/gateway.db", "file of the gateway's keys and usage"),
    Variable(
        "VRAM_GATEWAY_LOOP", "gateway_loop", _loop, "sockets on Linux, else uvloop", "what the gateway's connections run on: sockets (its own), uvloop, asyncio"
    ),
    Variable("VRAM_ADMIN_TOKEN", "admin_token", _token, "the file below", "token of the gateway's administrators"),
    Variable("VRAM_ADMIN_TOKEN_FILE", "admin_file", _folder, "$XDG_DATA_HOME/vram/admin.token", "file that holds that token; made when a gateway starts"),
    Variable("VRAM_LLAMA_SERVER", "llama_server", _folder, "llama-server on PATH", "llama.cpp's server, for vram up"),
    Variable("VRAM_LLAMA_CPP_PYTHON", "llama_cpp_python", _folder, "the Python that runs vram", "a Python that has llama-cpp-python[server], for vram up"),
    Variable("VRAM_VLLM_PYTHON", "vllm_python", _folder, "that of vllm on PATH", "a Python that has vLLM, for vram up"),
    Variable("VRAM_SGLANG_PYTHON", "sglang_python", _folder, "the Python that runs vram", "a Python that has SGLang, for vram up"),
    Variable("VRAM_OLLAMA", "ollama", _folder, "ollama on PATH", "Ollama, for vram up"),
    Variable("OLLAMA_MODELS", "ollama_models", _folder, "~/.ollama/models", "Ollama's store of models: ollama:NAME is read from there"),
    Variable("VRAM_CACHE_DIR", "cache_dir", _folder, "$XDG_CACHE_HOME/vram", "headers that were read before"),
    Variable("VRAM_CACHE_BYTES", "cache_bytes", parse_bytes, "1GiB", "most that this cache holds; 0 for no cache"),
    Variable("VRAM_HUB_SECONDS", "hub_seconds", _seconds, "120", "time limit for all that one model needs of a hub"),
    Variable("VRAM_HUB_REQUEST_SECONDS", "request_seconds", _seconds, "20", "time limit for one request"),
    Variable("HTTPS_PROXY", "https_proxy", str.strip, "none", "proxy for https addresses, as http://proxy:3128"),
    Variable("HTTP_PROXY", "http_proxy", str.strip, "none", "proxy for http addresses"),
    Variable("NO_PROXY", "no_proxy", str.strip, "none", "hosts and domains to reach without a proxy, with commas between; * for all"),
    Variable("VRAM_HUB_CONNECTIONS", "connections", _connections, "8", "requests under way at the same time"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says about where models lie and how they are fetched; one field per row of `VARIABLES`."""

    endpoint: str = "https://huggingface.co"
    token: str | None = None
    token_path: Path | None = None
    hf_home: Path | None = None
    hub_cache: Path | None = None
    offline: bool = False
    xdg_cache: Path | None = None
    xdg_data: Path | None = None
    xdg_state: Path | None = None
    xdg_config: Path | None = None
    prices_url: str = PRICES_URL
    gateway_file: Path | None = None
    gateway_loop: str = ""
    admin_token: str | None = None
    admin_file: Path | None = None
    llama_server: Path | None = None
    llama_cpp_python: Path | None = None
    vllm_python: Path | None = None
    sglang_python: Path | None = None
    ollama: Path | None = None
    ollama_models: Path | None = None
    cache_dir: Path | None = None
    cache_bytes: int = GIB
    hub_seconds: float = 120.0
    request_seconds: float = 20.0
    connections: int = 8
    https_proxy: str = ""
    http_proxy: str = ""
    no_proxy: str = ""

    @property
    def proxies(self) -> dict[str, str]:
        """Proxy by scheme of the address that is wanted."""
        return {"https": self.https_proxy, "http": self.http_proxy}

    @property
    def no_proxy_hosts(self) -> tuple[str, ...]:
        """Hosts and domains to reach without a proxy."""
        return tuple(host.strip().lower() for host in self.no_proxy.split(",") if host.strip())

    @property
    def caches(self) -> Path:
        """The folder of all caches."""
        return self.xdg_cache or Path("~/.cache").expanduser()

    @property
    def hub_home(self) -> Path:
        """Where the hub's own tools keep their files."""
        return self.hf_home or self.caches / "huggingface"

    @property
    def downloads(self) -> Path:
        """Models that the hub's own tools downloaded."""
        return self.hub_cache or self.hub_home / "hub"

    @property
    def ollama_store(self) -> Path:
        """Where Ollama keeps its models."""
        return self.ollama_models or Path("~/.ollama/models").expanduser()

    @property
    def headers(self) -> Path:
        """Headers that were read before."""
        return self.cache_dir or self.caches / "vram"

    @property
    def data(self) -> Path:
        """The folder of what the program keeps for the user."""
        return (self.xdg_data or Path("~/.local/share").expanduser()) / "vram"

    @property
    def state(self) -> Path:
        """The folder of what the program keeps of its runs."""
        return (self.xdg_state or Path("~/.local/state").expanduser()) / "vram"

    @property
    def calibration(self) -> Path:
        """Starts that were measured on this machine, one JSON object a line."""
        return self.data / "calibration.jsonl"

    @property
    def gateway_db(self) -> Path:
        """Keys and usage of the gateway."""
        return self.gateway_file or self.data / "gateway.db"

    @property
    def admin_token_file(self) -> Path:
        """The token of the gateway's administrators."""
        return self.admin_file or self.data / "admin.token"

    @property
    def refreshed_prices(self) -> Path:
        """Prices that `vram prices refresh` wrote."""
        return self.data / "prices.json"

    @property
    def own_prices(self) -> Path:
        """Prices and cards of the user's own."""
        return (self.xdg_config or Path("~/.config").expanduser()) / "vram" / "prices.toml"

    @property
    def token_file(self) -> Path:
        """The file that holds the token when no variable does."""
        return self.token_path or self.hub_home / "token"


def settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of an environment, this process's when None. An empty value counts as not set.

    Raises:
        UsageError: a value makes no sense; the variable is named.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    for variable in VARIABLES:
        text = environment.get(variable.name, "")
        if variable.name.endswith("_PROXY"):  # curl's own spelling goes first
            text = environment.get(variable.name.lower(), "") or text
        if not text.strip():
            continue
        try:
            found[variable.field] = variable.read(text)
        except (ValueError, RuntimeError) as e:
            shown = "is set to something that is no token" if variable.field.endswith("token") else f"is {text!r}"
            raise UsageError(f"the environment variable {variable.name} {shown}: {e}", hint=f"{variable.meaning}; default: {variable.default}") from None
    return Settings(**found)
