"""`vram top`: a running gateway's pools, leases and queue, live in the terminal."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vram.errors import VramError

ADDRESS = "http://127.0.0.1:8090"
_MOST_BYTES = 64 * 2**20


def watching(port: int, host: str = "127.0.0.1") -> str:
    """The command that watches a gateway whose administrators' API listens there, for whoever is on its machine."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}" if host not in {"0.0.0.0", "::", "localhost"} else f"http://127.0.0.1:{port}"  # noqa: S104  (compared)
    return "vram top" if url == ADDRESS else f"vram top --url {url}"


@click.command(name="top", short_help="A running gateway, live: pools, leases, queue.")
@click.option("--url", default=ADDRESS, show_default=True, metavar="URL", help="Where the gateway's administrators' API listens.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print one frame and end; so it is, too, where nobody watches.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, schema vram.top/1.")
def command(url: str, interval: float, *, once: bool, as_json: bool) -> None:
    """A running gateway's pools with what each KV cache holds and promises, its queue, and the leases that run longest.

    The token comes from VRAM_ADMIN_TOKEN, or from the file that the gateway made (VRAM_ADMIN_TOKEN_FILE). In the bars ▓ is held, ▒
    promised beyond that, ▚ held by others than the gateway, · free. Ctrl-C ends it.

    \b
    vram top
    vram top --once --url http://10.0.0.7:8090
    """  # noqa: D301  (click's own mark, a real backspace, keeps the lines below it as they are)
    import sys
    import time

    from vram.cli.output import print_json, troubled
    from vram.errors import VramError
    from vram.gateway.token import admin_token
    from vram.settings import settings

    found, url = settings(), _address(url)
    try:
        token = admin_token(found.admin_token, found.admin_token_file, make=False)
    except VramError:
        # Where nothing runs, nobody made a token: that nothing runs is what is to be told.
        _get(url, "/health", "")
        raise
    if as_json:
        print_json(_look(url, token))
        return
    if once or not sys.stdout.isatty():
        from vram.cli.output import print_styled, table_width

        print_styled(_frame(url, token, table_width(), 0))
        return
    from shutil import get_terminal_size

    seen = False
    try:
        while True:
            try:
                window = get_terminal_size()
                text = _frame(url, token, window.columns, window.lines - 1)
                seen = True
            except VramError as e:
                if not seen:
                    raise
                # It may be started anew.
                text = troubled(e.message, e.hint)
            # Home, each line cleared to its end, then all below: no flicker.
            click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in text.splitlines()) + "\x1b[J", nl=False)
            time.sleep(interval)
    except KeyboardInterrupt:
        click.echo()


def _frame(url: str, token: str, width: int, lines: int) -> str:
    import time

    from vram.cli.render.top import frame

    document = _look(url, token)
    try:
        return frame(document, url, time.strftime("%H:%M:%S"), width=width, lines=lines)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _no_gateway(url) from None


def _address(url: str) -> str:
    """The gateway's address, as people write it: with or without http://, with the /v1 that `vram serve` prints.

    Raises:
        UsageError: it is none.
    """
    from vram.errors import UsageError

    whole = url if "://" in url else f"http://{url}"
    if not whole.startswith(("http://", "https://")) or not whole.isprintable() or " " in whole or not whole.partition("://")[2]:
        raise UsageError(f"{url!r} is no address", hint=f"write it like {ADDRESS}")
    return whole.rstrip("/").removesuffix("/v1")


def _no_gateway(url: str) -> "VramError":
    from vram.errors import VramError

    hint = f"vram serve and vram up say that address when they start: {ADDRESS} unless --admin-port says otherwise"
    return VramError(f"{url} is no administrators' API of a gateway", hint=hint)


def _look(url: str, token: str) -> dict[str, Any]:
    return {
        "schema": "vram.top/1",
        "workers": _get(url, "/v1/workers", token),
        "pools": _get(url, "/v1/pools", token),
        "queue": _get(url, "/v1/queue?limit=20", token),
        "leases": _get(url, "/v1/leases?limit=1000", token),
    }


def _get(url: str, path: str, token: str) -> Any:
    import json
    from http.client import HTTPException, InvalidURL
    from ssl import SSLError
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    from vram.errors import UsageError, VramError

    request = Request(url + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310  (http and https only, see above)
    try:
        # The token goes to the gateway itself, through no proxy.
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            return json.loads(answer.read(_MOST_BYTES))
    except HTTPError as e:
        e.close()
        if e.code == 401:
            raise VramError(f"{url} does not take this token", hint="set VRAM_ADMIN_TOKEN, or name its file with VRAM_ADMIN_TOKEN_FILE") from None
        if e.code >= 500:
            raise VramError(f"{url}{path} answers {e.code}", hint="is the gateway being started or ended? Its log says more") from None
        raise _no_gateway(url) from None
    except InvalidURL:
        raise UsageError(f"{url!r} is no address", hint=f"write it like {ADDRESS}") from None
    except (URLError, HTTPException, OSError, ValueError) as e:
        why = getattr(e, "reason", None) or e
        starts = "to start a gateway: vram serve pools.toml, or vram up MODEL; of one that runs elsewhere: vram top --url http://HOST:PORT"
        if isinstance(why, ConnectionRefusedError):
            raise VramError(f"nothing listens at {url}", hint=starts) from None
        if isinstance(why, SSLError):
            raise VramError(
                f"{url} speaks no TLS that can be read", hint=f"a gateway's administrators' API speaks plain HTTP: --url http://{url[8:]}"
            ) from None
        if isinstance(why, OSError):
            raise VramError(f"{url} cannot be reached: {why.strerror or why}", hint=starts) from None
        raise _no_gateway(url) from None
