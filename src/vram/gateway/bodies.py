"""Which fields of a request's body are looked at, and as what: everything else in it is passed over unread.

Apart from `ask.py`, which is compiled where the gateway is (see pyproject.toml): msgspec makes these classes at run time.
"""

import msgspec
from msgspec import Raw


class ChatBody(msgspec.Struct):
    """`/v1/chat/completions`."""

    model: str
    messages: Raw
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: Raw = Raw(b"")
    tools: Raw = Raw(b"")
    prompt_cache_key: Raw = Raw(b"")


class CompletionBody(msgspec.Struct):
    """`/v1/completions`."""

    model: str
    prompt: Raw
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    stream: bool | None = None
    stream_options: Raw = Raw(b"")
    suffix: Raw = Raw(b"")


class ResponsesBody(msgspec.Struct):
    """`/v1/responses`."""

    model: str
    input: Raw
    instructions: Raw = Raw(b"")
    max_output_tokens: int | None = None
    stream: bool | None = None
    tools: Raw = Raw(b"")
    prompt_cache_key: Raw = Raw(b"")


class EmbeddingsBody(msgspec.Struct):
    """`/v1/embeddings`."""

    model: str
    input: Raw


class Tokenized(msgspec.Struct):
    """An engine's answer to `/tokenize`."""

    count: int | None = None
    tokens: list[Raw] | None = None
