"""The body as an engine gets it, where that is not the client's own: another name of the model, a shorter answer, its usage asked for."""

from typing import TYPE_CHECKING, Final

from vram.gateway.ask import asking_for_usage, with_fields

if TYPE_CHECKING:
    from vram.admission.decide import Admit
    from vram.gateway.exchange import Exchange

_LIMIT_FIELD: Final = {b"/v1/chat/completions": "max_tokens", b"/v1/completions": "max_tokens", b"/v1/responses": "max_output_tokens"}


def rewritten(x: "Exchange", answer: "Admit", output_tokens: int | None) -> bytes | None:
    """The body for the engine; None where it is the client's own. `output_tokens`: most that any answer here may have.

    Raises:
        AskError: the body is no JSON object.
    """
    ask = x.ask
    changed: dict[str, bytes] = {}
    if answer.pool.model != ask.model:
        changed["model"] = _quoted(answer.pool.model)
    cut = answer.most if answer.fallback and "shorter_output" in answer.fallback else output_tokens
    if cut is not None and (ask.max_output_tokens is None or ask.max_output_tokens > cut) and (field := _LIMIT_FIELD.get(x.path)):
        field = "max_completion_tokens" if b'"max_completion_tokens"' in x.body else field
        changed[field] = b"%d" % min(cut, answer.most)
    if ask.stream and not ask.wants_usage and not x.hides_usage:
        x.hides_usage = True
        if not changed:
            return asking_for_usage(x.body)
        changed["stream_options"] = b'{"include_usage":true}'
    return with_fields(x.body, changed) if changed else None


def _quoted(text: str) -> bytes:
    import msgspec  # noqa: PLC0415  (rare: only where a pool's engine knows the model by another name)

    return msgspec.json.encode(text)
