"""Where prices lie: the built-in catalogue, what `vram prices refresh` fetched, and the user's own file. Knows bytes, not prices."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vram.errors import PriceListError, SourceError, printable
from vram.settings import Settings, settings

if TYPE_CHECKING:
    from vram.sources.http import Client

_BUILT_IN: Final = Path(__file__).parent.parent / "catalog" / "prices.json"  # importlib.resources would cost 18 ms of start-up
MOST_FILE_BYTES: Final = 16 * 2**20
MOST_LIST_BYTES: Final = 32 * 2**20
_PROVIDER: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)


def built_in_prices() -> Any:
    """The catalogue's document."""
    return msgspec.json.decode(_BUILT_IN.read_bytes())


def has_own_prices() -> bool:
    """Whether there is a file of this user's, so that the built-in list is not all there is."""
    options = settings()
    return options.refreshed_prices.exists() or options.own_prices.exists()


def refreshed_prices() -> tuple[Any, Path] | None:
    """What was fetched last, and where it lies; None when nothing was.

    Raises:
        PriceListError: the file can't be read.
    """
    path = settings().refreshed_prices
    data = _bytes(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data), path
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise PriceListError(f"{path} is no JSON: {e}", hint="vram prices refresh writes it anew; or delete it") from None


def own_prices() -> tuple[Any, Path] | None:
    """The user's own file, and where it lies; None when there is none.

    Raises:
        PriceListError: the file can't be read, or is no TOML.
    """
    path = settings().own_prices
    data = _bytes(path)
    if data is None:
        return None
    from vram.readers.toml import parse_toml  # noqa: PLC0415  (most users have no such file)

    try:
        return parse_toml(data), path
    except ValueError as e:
        raise PriceListError(f"{path}: {e}", hint="it is TOML: docs/what-a-token-costs.md shows one") from None


def _bytes(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise PriceListError(f"{path}: {e.strerror or e}", hint="make it readable, or delete it") from None
    if len(data) > MOST_FILE_BYTES:
        raise PriceListError(f"{path} is longer than {MOST_FILE_BYTES:,} bytes", hint="delete it, then vram prices refresh")
    return data


def keep_prices(document: Any) -> Path:
    """Write what was fetched: under another name first, so that a reader sees the old file or the new one, never half of one.

    Raises:
        PriceListError: the folder or the file can't be written.
    """
    import secrets  # noqa: PLC0415  (only here is anything written)

    path = settings().refreshed_prices
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise PriceListError(f"{path}: {e.strerror or e}", hint="make the folder writable, or set XDG_DATA_HOME") from None
    return path


def fetch_lists(providers: Sequence[str], options: Settings) -> dict[str, tuple[str, bytes]]:
    """The lists of those providers, each with its address.

    Raises:
        PriceListError: offline, no answer in time, no list of that name, or too long a one.
    """
    if options.offline:
        raise PriceListError("HF_HUB_OFFLINE forbids the network", hint="unset it, or give --price")
    for provider in providers:
        if not _PROVIDER.fullmatch(provider):
            raise PriceListError(f"{printable(provider, 60)!r} is no name of a price list", hint="names are like lambda, runpod, nebius")
    from vram.sources.http import Client  # noqa: PLC0415  (sockets and TLS only when lists are fetched)

    client = Client(
        options.prices_url,
        token=None,
        seconds=options.hub_seconds,
        request_seconds=options.request_seconds,
        proxies=options.proxies,
        no_proxy=options.no_proxy_hosts,
    )
    try:
        return {provider: _fetch(client, f"{options.prices_url}/{provider}/vms.csv") for provider in dict.fromkeys(providers)}
    finally:
        client.close()


def _fetch(client: "Client", url: str) -> tuple[str, bytes]:
    try:
        reply = client.get(url, length=MOST_LIST_BYTES + 1)
    except SourceError as e:
        raise PriceListError(e.message, hint="check the network and VRAM_PRICES_URL; prices that are known stay as they are, and --price always goes") from None
    if reply.status == 404:
        raise PriceListError(f"there is no price list {url}", hint="name another provider, or check VRAM_PRICES_URL")
    if reply.status != 200:
        raise PriceListError(f"{url} answers {reply.status}", hint="try again later, or set VRAM_PRICES_URL to a mirror")
    if len(reply.body) > MOST_LIST_BYTES:
        raise PriceListError(f"{url} is longer than {MOST_LIST_BYTES:,} bytes", hint="check VRAM_PRICES_URL")
    return url, reply.body
