"""Usage that an engine was asked for and its client was not: taken out of a stream of events, of which nothing else changes."""

import re
from typing import Final

_NO_CHOICES: Final = re.compile(rb'"choices": ?\[\]')
USAGE: Final = re.compile(rb'"usage": ?\{')


def without_usage(data: bytes) -> bytes:
    """Whole chunks of a stream of events less the event that only tells usage, which this client did not ask for.

    Chunks that are cut, or an event in more than one of them, are left as they are: one event more breaks no client.
    """
    position, out = 0, []
    while position < len(data):
        end = data.find(b"\r\n", position)
        try:
            length = int(data[position:end], 16) if end > position else -1
        except ValueError:
            return data
        after = end + 2 + length + 2
        if length < 0 or after > len(data):
            return data
        content = data[end + 2 : end + 2 + length]
        if USAGE.search(content):
            kept = b"".join(event + b"\n\n" for event in content.split(b"\n\n") if event and not (USAGE.search(event) and _NO_CHOICES.search(event)))
            if kept:
                out.append(b"%x\r\n%b\r\n" % (len(kept), kept))
        else:
            out.append(data[position:after])
        position = after
    return b"".join(out)
