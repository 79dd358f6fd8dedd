"""OpenTelemetry spans by the GenAI conventions: one for each request, made at its end from what it used. Needs the extra `otel`.

Names are those of https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (in development there); what has no name there is
under `vram.`. Where spans go is the SDK's own matter: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on.
Prompts and answers are in none.
"""

from typing import TYPE_CHECKING, Any, Final

from vram.errors import UsageError
from vram.gateway.after import Ended, Listener, TurnedAway
from vram.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


def otlp_spans() -> "tuple[Listener, Callable[[], object]]":
    """A listener that sends spans by OTLP over HTTP, and what ends it.

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
    return spans(provider), provider.shutdown


def spans(provider: Any) -> Listener:
    """A listener that makes spans with a tracer provider."""
    from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415  (an extra)
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  (the same)

    tracer = provider.get_tracer("vram.gateway", __version__)
    propagator = TraceContextTextMapPropagator()

    def make(ended: list[Ended | TurnedAway]) -> None:
        for e in ended:
            if not isinstance(e, Ended):
                continue
            used = e.used
            end = int(used.at * 1e9)
            name = f"{OPERATIONS.get(e.path, 'chat')} {used.model[:200]}"
            context = propagator.extract({"traceparent": e.trace.decode("ascii", "replace")}) if e.trace else None
            begin = end - int(used.total_seconds * 1e9)
            span = tracer.start_span(name, context=context, kind=SpanKind.CLIENT, attributes=attributes(e), start_time=begin)
            if used.outcome not in {"ok", "client_left"}:
                span.set_status(Status(StatusCode.ERROR))
            span.end(end_time=end)

    return make


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
        "vram.gpu_seconds": used.gpu_microseconds / 1e6,
        "vram.dollars": used.nano_dollars / 1e9,
    }
    return {name: value for name, value in found.items() if value is not None}
