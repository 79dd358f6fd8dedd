"""Why a request is not let in, in words: one function for each reason of the desk's."""

from math import ceil
from typing import TYPE_CHECKING

from vram.gateway.refusal import Refusal, bad_request

if TYPE_CHECKING:
    from vram.admission.decide import Refuse
    from vram.gateway.keys import OverLimit


def no_model(model: str) -> Refusal:
    """Nobody serves it, or not for this key."""
    return Refusal(status=404, kind="invalid_request_error", code="model_not_found", message=f"no model {model!r} is served; see /v1/models")


def no_longer(model: str) -> Refusal:
    """It was served when the request came."""
    return Refusal(status=404, kind="invalid_request_error", code="model_not_found", message=f"{model!r} is no longer served")


def too_many_sequences(asked: int, most: int) -> Refusal:
    """`n`, or prompts of a batch."""
    return bad_request(f"{asked:,} sequences in one request; at most {most} are taken", "too_many_sequences")


def over_limit(over: "OverLimit") -> Refusal:
    """The key's rate or budget."""
    return Refusal(
        status=429,
        kind="insufficient_quota" if over.what == "budget" else "rate_limit_error",
        code=f"{over.what}_exceeded",
        message="this key's budget of the month is spent" if over.what == "budget" else f"this key's limit of {over.what} a minute is reached",
        retry_after_seconds=over.retry_after_seconds,
    )


def no_replica(model: str) -> Refusal:
    """Nothing of its route is usable now."""
    return Refusal(status=503, kind="service_unavailable", code="no_replica", message=f"no replica of {model!r} is up", retry_after_seconds=5)


def stopped(model: str) -> Refusal:
    """Whoever runs its engine ended it by hand."""
    return Refusal(
        status=503,
        kind="service_unavailable",
        code="model_stopped",
        message=f"{model!r} was stopped by who runs it; vram start {model} on that machine lets it come again",
    )


def failed_often(model: str) -> Refusal:
    """Its engine ended so often that it is not started any more."""
    return Refusal(
        status=503,
        kind="service_unavailable",
        code="model_failed",
        message=f"the engine of {model!r} failed too often and is not started again by itself; vram logs {model} on that machine says why",
    )


def not_loaded(model: str) -> Refusal:
    """Its engine did not start when it was asked for; it is tried again."""
    return Refusal(
        status=503,
        kind="service_unavailable",
        code="model_not_loaded",
        message=f"{model!r} could not be loaded: its engine did not start, and is tried again; vram logs {model} on that machine says why",
        retry_after_seconds=30,
    )


def never_fits(model: str, why: str) -> Refusal:
    """There is no way to load it beside what must stay."""
    return Refusal(
        status=503,
        kind="service_unavailable",
        code="model_does_not_fit",
        message=f"{model!r} cannot be loaded: it {why}. Who runs it can give a larger --budget or pin less (vram ps on that machine)",
        retry_after_seconds=60,
    )


def too_long(model: str, answer: "Refuse") -> Refusal:
    """It fits no empty replica."""
    asked = f" and asks for up to {answer.output_tokens:,} more" if answer.output_tokens else ""
    return bad_request(
        f"the request has about {answer.prompt_tokens:,} prompt tokens{asked}; the longest sequence that {model!r} takes here "
        f"is {answer.longest_tokens:,} tokens, prompt and answer together. Send a shorter prompt or a smaller max_tokens",
        "context_length_exceeded",
    )


def quarantined(seconds: float) -> Refusal:
    """It killed engines."""
    return Refusal(
        status=422,
        kind="invalid_request_error",
        code="quarantined",
        message="the engines that served this very request were lost, twice; it is kept from them for a time. Send another request, or ask who runs this gateway",
        # Of a sum of floats: ten minutes are not to be told as 601 seconds.
        retry_after_seconds=max(ceil(round(seconds, 3)), 1),
    )


def busy(message: str) -> Refusal:
    """There is no room, and no time to wait for it."""
    return Refusal(status=503, kind="overloaded_error", code="overloaded", message=message, retry_after_seconds=10)
