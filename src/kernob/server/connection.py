"""One HTTP connection, as uvicorn has it, with the bounds that it lacks.

uvicorn 0.54 bounds neither the size of headers nor the time a client takes to send them, nor how
long a client may go on sending what nobody reads any more, nor how many are connected and silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import BaseTransport, TimerHandle

CONNECTIONS: Final = 1000
"""Further ones get 503 for their requests; twice as many are not accepted."""
HEADER_SIZE: Final = 64 << 10
"""Bytes of a request line and its headers."""
CLIENT_SECONDS: Final = 5.0
"""How long a client may take to send headers, or the rest of a body that is answered already, or to
read the end of the last answer."""


class Connection(HttpToolsProtocol):
    """Is closed when its client takes too long, or says too much, before anybody waits for it."""

    _in_header = True
    _header_size = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Starts the time for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > 2 * CONNECTIONS:
            self.transport.abort()
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time."""
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what belongs to headers: llhttp would keep any number of bytes."""
        super().data_received(data)
        if self._in_header:
            self._header_size += len(data)
            if self._header_size > HEADER_SIZE:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Starts the time for headers."""
        self._in_header, self._header_size = True, 0
        self._hurry()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on the application sees to the time."""
        self._in_header = False
        self._relax()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The client has sent all."""
        self._relax()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Starts the time for what is left: of a body that nobody waits for, or of the end."""
        if self.cycle.more_body or self.transport.is_closing():
            self._hurry()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Ends the connection once it is idle; TLS would wait for the client to agree."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().shutdown()

    def _hurry(self) -> None:
        self._relax()
        self._timer = self.loop.call_later(CLIENT_SECONDS, self.transport.abort)

    def _relax(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
