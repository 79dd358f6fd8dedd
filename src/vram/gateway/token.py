"""The administrators' token: from the environment, or from a file that only its owner may read, made when it is first needed."""

import os
import secrets
from pathlib import Path

from vram.errors import UsageError, VramError


def admin_token(given: str | None, path: Path, *, make: bool) -> str:
    """The token: `given` if there is one, else what stands in the file at `path`; `make` writes one there if there is no file.

    Raises:
        UsageError: there is no file (and none is to be made), it is empty, or others may read it.
        VramError: it cannot be read or written.
    """
    if given:
        return given
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise UsageError(f"others may read {path}, which holds the administrators' token", hint=f"chmod 600 {path}")
        token = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        raise UsageError(f"there is no administrators' token in {path}", hint="a gateway makes it when it starts; or set VRAM_ADMIN_TOKEN") from None
    except OSError as e:
        raise VramError(f"{path}: {e.strerror or e}", hint="set VRAM_ADMIN_TOKEN, or name another file with VRAM_ADMIN_TOKEN_FILE") from None
    if not token:
        raise UsageError(f"{path} is empty", hint="remove it: a gateway makes a new token when it starts")
    return token


def _make(path: Path) -> None:
    """A new token, whole or not at all."""
    # Created closed to others: it is never readable for a moment in between.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except OSError:
        # A full disk: an empty file would be taken for a token that somebody broke.
        path.unlink(missing_ok=True)
        raise
