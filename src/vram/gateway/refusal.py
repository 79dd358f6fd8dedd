"""An answer that is not the engine's: an error in the form that OpenAI's clients expect, as a response or as an SSE event.

It knows no secrets: neither keys nor prompts nor addresses of engines go into what a client reads.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus

from vram.errors import printable

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered by an engine.

    Attributes:
        status: HTTP status, for an error before the first byte.
        kind: OpenAI's `error.type`, by which clients choose what to raise.
        code: a stable word for programs.
        message: what happened and what would help.
        retry_after_seconds: when it may be worth trying again; None: not by waiting.
    """

    status: int
    kind: str
    code: str
    message: str
    retry_after_seconds: int | None = None

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        error = {"message": printable(self.message, 1000), "type": self.kind, "param": None, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=True, separators=(",", ":")).encode()

    def response(self, headers: bytes = b"", *, keep_alive: bool = True) -> bytes:
        """A whole HTTP response. `headers` are lines of ours, each with its CRLF."""
        body = self.body
        retry = b"Retry-After: %d\r\n" % self.retry_after_seconds if self.retry_after_seconds is not None else b""
        return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b%b\r\n%b" % (
            self.status,
            _PHRASES.get(self.status, b"Error"),
            len(body),
            retry,
            headers,
            b"" if keep_alive else b"Connection: close\r\n",
            body,
        )

    def event(self) -> bytes:
        """The error as the last event of a chunked SSE stream, and the end of that stream."""
        data = b"data: %b\n\n" % self.body
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def bad_request(message: str, code: str = "invalid_request") -> Refusal:
    """400: the client has to send something else."""
    return Refusal(status=400, kind="invalid_request_error", code=code, message=message)


def too_large(what: str, limit: int) -> Refusal:
    """413: more bytes than the gateway reads."""
    return Refusal(status=413, kind="invalid_request_error", code="too_large", message=f"{what} is larger than the {limit:,} bytes that are read")


NO_KEY = Refusal(status=401, kind="authentication_error", code="invalid_api_key", message="no valid API key: send 'Authorization: Bearer <key>'")
NOT_FOUND = Refusal(status=404, kind="invalid_request_error", code="not_found", message="no such path; see /v1/models for what is served")
WRONG_METHOD = Refusal(status=405, kind="invalid_request_error", code="method_not_allowed", message="this path takes another method")
TOO_SLOW = Refusal(status=408, kind="invalid_request_error", code="request_timeout", message="the request did not arrive in time")
HEAD_TOO_LARGE = Refusal(status=431, kind="invalid_request_error", code="headers_too_large", message="the headers are more than the gateway reads")
STOPPING = Refusal(status=503, kind="service_unavailable", code="stopping", message="the gateway is stopping", retry_after_seconds=5)
ENGINE_UNREACHABLE = Refusal(
    status=502, kind="upstream_error", code="engine_unreachable", message="no engine of this model could be reached", retry_after_seconds=5
)
NO_SOCKET = Refusal(
    status=503,
    kind="overloaded_error",
    code="gateway_out_of_sockets",
    message="the gateway has no descriptor or port left for a connection to an engine",
    retry_after_seconds=5,
)
ENGINE_BROKEN = Refusal(status=502, kind="upstream_error", code="engine_broken", message="the engine's answer breaks HTTP", retry_after_seconds=5)
ENGINE_LOST = Refusal(status=502, kind="upstream_error", code="engine_lost", message="the engine was lost while it answered; what came so far is all there is")
ENGINE_STALLED = Refusal(status=504, kind="upstream_error", code="engine_stalled", message="the engine stopped answering; the request was ended")
