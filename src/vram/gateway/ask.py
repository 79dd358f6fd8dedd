"""What a request asks for: the model, how long its prompt is, how much it may generate, how many times.

Read from the body in one pass that keeps only these fields; a prompt is measured, never kept. It knows no tokenizer: bytes of text
and counts of pictures come out, and `tokens.py` makes tokens of them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vram.gateway.bodies import ChatBody, CompletionBody, EmbeddingsBody, ResponsesBody

MOST_TOKENS: Final = 2**31


class AskError(Exception):
    """The body cannot be served as it is: the message says what to send instead."""

    def __init__(self, message: str, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Ask:
    """What one request asks for.

    Attributes:
        model: the public name of the model.
        prompt_bytes: bytes of JSON text that become prompt tokens; what pictures hold is not among them.
        prompt_tokens: exact number of prompt tokens where the client sent token ids, else None.
        pictures: pictures (or other attachments) beside the text.
        max_output_tokens: the client's own limit, None where it set none.
        sequences: completions asked for; each holds a cache of its own.
        prompts: prompts of the request: an engine runs each as a sequence.
        cache_key: OpenAI's `prompt_cache_key`, as JSON: what the client knows requests with one prefix by; empty where it names none.
        text: JSON of the messages or the prompt (bytes or `Raw`), until it was looked at; empty where nothing is generated.
        stream: whether the answer is a stream of events.
        wants_usage: whether the client set `stream_options` itself.
    """

    __slots__ = (
        "cache_key",
        "max_output_tokens",
        "model",
        "pictures",
        "prompt_bytes",
        "prompt_tokens",
        "prompts",
        "sequences",
        "stream",
        "text",
        "wants_usage",
    )

    def __init__(
        self,
        model: str,
        prompt_bytes: int,
        *,
        max_output_tokens: int | None = None,
        sequences: int = 1,
        stream: bool = False,
        wants_usage: bool = False,
        pictures: int = 0,
        prompts: int = 1,
        prompt_tokens: int | None = None,
        text: Any = b"",
        cache_key: bytes = b"",
    ) -> None:
        self.model = model
        self.text: Any = text
        self.cache_key = cache_key
        self.prompt_bytes = prompt_bytes
        self.prompt_tokens = prompt_tokens
        self.pictures = pictures
        self.max_output_tokens = max_output_tokens
        self.sequences = sequences
        self.prompts = prompts
        self.stream = stream
        self.wants_usage = wants_usage


_CHAT: Final = msgspec.json.Decoder(ChatBody)
_COMPLETION: Final = msgspec.json.Decoder(CompletionBody)
_RESPONSES: Final = msgspec.json.Decoder(ResponsesBody)
_EMBEDDINGS: Final = msgspec.json.Decoder(EmbeddingsBody)
_ANY: Final = msgspec.json.Decoder()
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
# Attachments stand in messages as objects of these types; a body without the words has none.
_ATTACHMENTS: Final = (b"image", b"audio", b"video", b"file")
_ATTACHED: Final = re.compile(rb'"type"\s*:\s*"[^"]*(?:%b)' % b"|".join(_ATTACHMENTS))


def _decode(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        raise AskError(str(e)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise AskError(f"the body is no JSON object: {e}", "bad_json") from None
    except RecursionError:
        raise AskError("the body is nested too deeply", "bad_json") from None


def _limit(value: int | None, name: str) -> int | None:
    if value is not None and not 1 <= value <= MOST_TOKENS:
        raise AskError(f"{name} is {value}; a whole number from 1 on is possible", "bad_max_tokens")
    return value


def _count(value: int | None, name: str) -> int:
    if value is None:
        return 1
    if not 1 <= value <= 2**20:
        raise AskError(f"{name} is {value}; a whole number from 1 on is possible", "bad_n")
    return value


def _attachments(node: Any) -> tuple[int, int]:
    """Attachments in a decoded message tree, and the bytes of their data."""
    count = held = 0
    todo = [node]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, Mapping):
            kind = item.get("type")
            if isinstance(kind, str) and any(word.decode() in kind for word in _ATTACHMENTS):
                count += 1
                held += sum(len(v) for v in _strings(item))
            else:
                todo.extend(item.values())
    return count, held


def _strings(node: Any) -> list[str]:
    found, todo = [], [node]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, Mapping):
            todo.extend(item.values())
    return found


def _measured(raw: Any) -> tuple[int, int]:
    """Bytes of text and number of attachments of messages as they came (`Raw`, or bytes: of 128 KB no copy is made)."""
    size: int = len(raw)
    # One search by a literal beginning, a quotation mark first: of 128 KB of text 30 us, where four plain searches take 400.
    if _ATTACHED.search(raw) is None:
        return size, 0
    count, held = _attachments(_decode(_ANY, bytes(raw)))
    return max(size - held, 0), count


def read_chat(body: bytes) -> Ask:
    """`POST /v1/chat/completions`.

    Raises:
        AskError: the body is none.
    """
    # A ChatBody. Its Raw fields are no bytes, whatever a type checker is told: compiled code would take them for some.
    c: Any = _decode(_CHAT, body)
    messages = c.messages
    size, pictures = _measured(messages)
    tools: int = len(c.tools)
    limit = c.max_completion_tokens
    return Ask(
        c.model,
        size + tools,
        max_output_tokens=_limit(limit if limit is not None else c.max_tokens, "max_tokens"),
        sequences=_count(c.n, "n"),
        stream=bool(c.stream),
        wants_usage=bool(c.stream_options),
        pictures=pictures,
        text=messages,
        cache_key=bytes(c.prompt_cache_key) if c.prompt_cache_key else b"",
    )


def read_completion(body: bytes) -> Ask:
    """`POST /v1/completions`: a text, a list of texts, token ids, or a list of lists of them.

    Raises:
        AskError: the body is none.
    """
    c: CompletionBody = _decode(_COMPLETION, body)
    raw = bytes(c.prompt)
    size, prompts, tokens = len(raw), 1, None
    if raw[:1] == b"[":
        listed = _decode(_ANY, raw)
        if listed and all(isinstance(x, int) for x in listed):
            tokens = len(listed)
        elif listed and all(isinstance(x, list) for x in listed):
            prompts, tokens = len(listed), max(len(x) for x in listed)
        else:
            prompts, size = max(len(listed), 1), max((len(x) for x in listed if isinstance(x, str)), default=size)
    return Ask(
        c.model,
        size + len(bytes(c.suffix)),
        # OpenAI's completions stop at 16 tokens unless told otherwise, and so do the engines.
        max_output_tokens=_limit(c.max_tokens, "max_tokens") or 16,
        sequences=max(_count(c.n, "n"), _count(c.best_of, "best_of")) * prompts,
        stream=bool(c.stream),
        wants_usage=bool(bytes(c.stream_options)),
        prompts=prompts,
        prompt_tokens=tokens,
        text=raw,
    )


def read_responses(body: bytes) -> Ask:
    """`POST /v1/responses`.

    Raises:
        AskError: the body is none.
    """
    c: ResponsesBody = _decode(_RESPONSES, body)
    given = bytes(c.input)
    size, pictures = _measured(given)
    return Ask(
        c.model,
        size + len(bytes(c.instructions)) + len(bytes(c.tools)),
        max_output_tokens=_limit(c.max_output_tokens, "max_output_tokens"),
        stream=bool(c.stream),
        wants_usage=True,
        pictures=pictures,
        text=given,
        cache_key=bytes(c.prompt_cache_key),
    )


def read_embeddings(body: bytes) -> Ask:
    """`POST /v1/embeddings`: nothing is generated.

    Raises:
        AskError: the body is none.
    """
    c: EmbeddingsBody = _decode(_EMBEDDINGS, body)
    return Ask(c.model, len(bytes(c.input)), max_output_tokens=0)


def with_fields(body: bytes, changed: Mapping[str, bytes]) -> bytes:
    """The body with some of its fields set to other JSON; all else byte for byte as it came.

    Raises:
        AskError: the body is no JSON object.
    """
    fields: dict[str, Raw] = _decode(_FIELDS, body)
    fields.update((name, Raw(value)) for name, value in changed.items())
    return msgspec.json.encode(fields)


def asking_for_usage(body: bytes) -> bytes:
    """The body of a stream that does not say `stream_options`, asking the engine to end with its usage."""
    start = body.index(b"{") + 1
    return b'%b"stream_options":{"include_usage":true},%b' % (body[:start], body[start:])
