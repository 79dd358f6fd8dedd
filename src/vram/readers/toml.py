"""TOML out of bytes that anybody may have written: a table, or one kind of error. It knows no key."""

import re
import tomllib
from typing import Any, Final

MOST_PARTS: Final = 100
"""Of one dotted key. Reading one costs the square of them: 100,000, which 200 kB hold, cost tens of gigabytes."""
_LONG_KEY: Final = re.compile(rf"""(?:\.[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*){{{MOST_PARTS}}}""", re.ASCII)


def parse_toml(data: bytes) -> dict[str, Any]:
    """The document's table.

    Raises:
        ValueError: no UTF-8, no TOML, nested too deeply, a number or a key without end; the words say which.
    """
    try:
        text = data.decode()
        if _LONG_KEY.search(text):
            raise ValueError(f"a key of more than {MOST_PARTS} parts")
        return tomllib.loads(text)
    except RecursionError as e:
        raise ValueError(str(e) or "nested too deeply") from None
