"""OpenTelemetry spans by the GenAI conventions: one for each request, begun as it comes, told at its end what it used. Needs the extra `otel`.

A request goes to its engine under its span's own id, so that an engine's spans hang beneath it; whether they are kept (the sampled flag)
is the client's word where it has one, else the sampler's.

Names are those of https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (in development there); what has no name there is
under `vram.`. Where spans go is the SDK's own matter: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on.
Prompts and answers are in none.
"""

from typing import TYPE_CHECKING, Any, Final

from vram.errors import UsageError
from vram.gateway.after import Begun, Ended, TurnedAway
from vram.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


def otlp_spans() -> "tuple[Spans, Callable[[], object]]":
    """Spans that are sent by OTLP over HTTP, and what ends that.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  (an extra)
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  (the same)
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  (the same)
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  (the same)
    except ImportError:
        raise UsageError("OpenTelemetry's packages are not installed", hint="pip install 'vram[otel]'") from None
    import os  # noqa: PLC0415  (for the one name)

    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or "vram-gateway", "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider), provider.shutdown


class Spans:
    """Makes spans with a tracer provider: begins them in the event loop, ends them as a listener."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415  (an extra)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  (the same)

        self._tracer = provider.get_tracer("vram.gateway", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.CLIENT
        self._error = Status(StatusCode.ERROR)

    def begin(self, path: bytes, model: str, trace: bytes) -> Begun:
        """The span of a request that just came, beneath the client's own where it has one (`trace`, a sound `traceparent`)."""
        operation = OPERATIONS.get(path.decode("ascii", "replace"), "chat")
        name, told = model[:200], trace.decode("ascii", "replace")
        context = self._propagator.extract({"traceparent": told}) if trace else None
        # What a sampler may go by; all else is known at the end.
        begun = {"gen_ai.operation.name": operation, "gen_ai.request.model": name}
        span = self._tracer.start_span(f"{operation} {name}", context=context, kind=self._kind, attributes=begun)
        own = span.get_span_context()
        if not own.is_valid:
            # OTEL_SDK_DISABLED: then the client's is all there is.
            return Begun(span, trace)
        return Begun(span, b"00-%032x-%016x-%02x" % (own.trace_id, own.span_id, own.trace_flags))

    def __call__(self, ended: list[Ended | TurnedAway]) -> None:
        """End the spans of these requests."""
        for e in ended:
            if isinstance(e, Ended) and e.span is not None:
                e.span.set_attributes(attributes(e))
                if e.used.outcome not in {"ok", "client_left"}:
                    e.span.set_status(self._error)
                e.span.end(end_time=int(e.used.at * 1e9))


def attributes(e: Ended) -> dict[str, str | int | float | bool]:
    """What a span says; what is not known is left out."""
    used = e.used
    found: dict[str, str | int | float | bool | None] = {
        "gen_ai.operation.name": OPERATIONS.get(e.path, "chat"),
        "gen_ai.provider.name": e.engine or None,
        "gen_ai.request.model": used.model[:200],
        "gen_ai.request.max_tokens": e.max_tokens,
        "gen_ai.request.choice.count": e.sequences if e.sequences > 1 else None,
        "gen_ai.request.stream": True if e.stream else None,
        "gen_ai.usage.input_tokens": used.prompt_tokens if used.counted else None,
        "gen_ai.usage.output_tokens": used.completion_tokens if used.counted else None,
        "gen_ai.response.time_to_first_chunk": used.ttft_seconds if e.stream else None,
        "http.response.status_code": used.status or None,
        "error.type": (e.code or used.outcome) if used.outcome not in {"ok", "client_left"} else None,
        "vram.request_id": used.request_id.decode("ascii", "replace"),
        "vram.key": used.key,
        "vram.pool": used.pool or None,
        "vram.replica": used.replica or None,
        "vram.outcome": used.outcome,
        "vram.fallback": used.fallback or None,
        "vram.tries": e.tries,
        "vram.queue_seconds": used.queue_seconds,
        "vram.kv_byte_seconds": used.kv_byte_seconds,
        "vram.saved_byte_seconds": used.saved_byte_seconds,
        "vram.gpu_seconds": used.gpu_microseconds / 1e6,
        "vram.dollars": used.nano_dollars / 1e9,
    }
    return {name: value for name, value in found.items() if value is not None}
