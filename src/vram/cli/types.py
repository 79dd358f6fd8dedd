"""Option types: tokens and bytes as people write them."""

from typing import Any

import click

from vram.errors import UsageError
from vram.units import parse_bytes, parse_seconds, parse_tokens


class BadValue(click.BadParameter):
    """A value that cannot be read, with its hint."""

    def __init__(self, error: UsageError, param: click.Parameter | None, ctx: click.Context | None) -> None:
        """Keep the hint: the command line prints it on a line of its own."""
        super().__init__(error.message, ctx=ctx, param=param)
        self.hint = error.hint


def last_fleet(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    """The last value of an option that names GPUs, so that a mend can be typed behind a command; that it alone counts is said."""
    if len(values) > 1:
        # vram up counts this machine's GPUs off, the others name what is meant.
        whole = (",", " + ")[ctx.info_name != "up"].join(values)
        click.echo(f'note: {param.opts[0]} is given {len(values)} times and the last counts; all of them together are {param.opts[0]} "{whole}"', err=True)
    return values[-1] if values else None


class Tokens(click.ParamType[int]):
    """`32768`, `32k`."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of tokens."""
        if isinstance(value, int):
            return value
        try:
            return parse_tokens(value)
        except UsageError as e:
            raise BadValue(e, param, ctx) from e


class Bytes(click.ParamType[int]):
    """`16GiB`, `16GB`, `17179869184`."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        try:
            return parse_bytes(value)
        except UsageError as e:
            raise BadValue(e, param, ctx) from e


class Seconds(click.ParamType[float]):
    """`2s`, `200ms`, `10min`."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return parse_seconds(value)
        except UsageError as e:
            raise BadValue(e, param, ctx) from e


def shares(text: str | None) -> tuple[float, ...]:
    """`3,1` as shares; nothing for nothing.

    Raises:
        UsageError: no numbers with commas between, or none above 0.
    """
    if not text:
        return ()
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= share < 1e15 for share in found) or not any(found):
        raise UsageError(f"{text!r} are no shares", hint="one number for each GPU, with commas between: --tensor-split 3,1")
    return found


TOKENS, BYTES, SECONDS = Tokens(), Bytes(), Seconds()
