"""How many tokens an engine says that it read and made: numbers out of the end of its answer, without parsing the rest."""

import re
from typing import Final

# Twelve digits at most: an engine that claims more than that lies.
_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens": ?(\d{1,12})[,}\s]')
_OUTPUT: Final = re.compile(rb'"(?:completion|output)_tokens": ?(\d{1,12})[,}\s]')


def prompt_tokens(text: bytes, at: int) -> int:
    """Tokens of the prompt, by the usage that begins at `at`; -1 where it does not say."""
    return _number(text, at, b'"prompt_tokens":', _PROMPT)


def output_tokens(text: bytes, at: int) -> int:
    """Tokens of the answer, by the usage that begins at `at`; -1 where it does not say."""
    return _number(text, at, b'"completion_tokens":', _OUTPUT)


def _number(text: bytes, at: int, name: bytes, pattern: "re.Pattern[bytes]") -> int:
    """The number of that name from `at` on, as `pattern` finds it; -1 where there is none.

    Written as most engines write it, it is read without the pattern, which takes ten times as long.
    """
    start = text.find(name, at)
    if start >= 0:
        end = start = start + len(name)
        most = min(len(text), start + 12)
        value = 0
        while end < most:
            digit = text[end] - 48
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            end += 1
        if end > start and end < len(text) and (text[end] == 44 or text[end] == 125):
            return value
    found = pattern.search(text, at)
    return int(found[1]) if found else -1
