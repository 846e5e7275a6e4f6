"""Spans as OpenTelemetry's own `ReadableSpan`s, for a sender.

Apart from `otlp` since this needs OpenTelemetry's SDK in memory, which only a sender wants.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from kernob import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.telemetry.model import Attributes
    from kernob.telemetry.spans import Span

_SCOPE: Final = InstrumentationScope("kernob", __version__)
_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_IDS: Final = RandomIdGenerator()
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)


class Spans:
    """What a sender must know of spans (`otlp.Cargo`): they are sent as they are."""

    batch: Final = 512
    """OTEL_BSP_MAX_EXPORT_BATCH_SIZE's default."""
    pause: Final = 5.0
    """OTEL_BSP_SCHEDULE_DELAY's default."""

    def parts(self, items: Sequence[Span]) -> list[list[ReadableSpan]]:
        """Returns the one request that a batch is; its ids stay if it must be sent again."""
        return [[_readable(span) for span in items]]

    def data(self, part: list[ReadableSpan]) -> list[ReadableSpan]:
        """Returns what the exporter takes."""
        return part

    def arrived(self, part: list[ReadableSpan]) -> None:
        """Nothing has to be remembered."""

    def done(self, items: Sequence[Span]) -> None:
        """Nothing has to be forgotten."""

    def time(self, items: Sequence[Span]) -> int:
        """Returns when the oldest ended."""
        return items[0].end


def _readable(span: Span) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=_context(),
        resource=_resource(span.resource),
        attributes=dict((*span.series, *span.own)),
        kind=_KINDS[span.kind],
        status=_ERROR if span.failed else _OK,
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_SCOPE,
    )


def _context() -> SpanContext:
    """Returns a trace of its own: here a request joins the one that its bytes name, once known."""
    return SpanContext(
        _IDS.generate_trace_id(), _IDS.generate_span_id(), is_remote=False, trace_flags=_SAMPLED
    )


@lru_cache(maxsize=1024)
def _resource(attributes: Attributes) -> Resource:
    return Resource(dict(attributes))
