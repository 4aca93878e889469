"""uvicorn, held to what a public port needs: connections that say nothing, or read nothing, are closed.

uvicorn bounds neither the time a request's head may take nor how long a caller may leave an answer unread, and tells
malformed requests in plain text. ``Protocol`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.config import Settings
from core.serving.door import Application, error_response
from core.serving.messages import RequestError

MOST_CONNECTIONS = 1_000
UNREAD_S = 30.0  # how long an answer may wait for its reader
KEEP_ALIVE_S = 5
LOG_FORMAT = "%(asctime)s | %(levelname)s | %(message)s"


def serve(api: Application, *, host: str, port: int, settings: Settings) -> None:
    """Answer on ``host``:``port`` until SIGTERM or SIGINT; then finish what was accepted."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)
    logging.Formatter.converter = time.gmtime
    config = uvicorn.Config(
        api,
        host=host,
        port=port,
        http=protocol(head_s=settings.api_read_timeout_s),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        # the longest that a request which was accepted may still take
        timeout_graceful_shutdown=int(settings.api_read_timeout_s + settings.api_timeout_s) + 5,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


def protocol(*, head_s: float) -> type[H11Protocol]:
    """HTTP/1.1 whose request heads must arrive within ``head_s``."""

    class Protocol(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                self._refuse(
                    RequestError(503, "too_many_connections", "Too many connections are open. Try again later.")
                )
                return
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._head, self._unread):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

        def resume_writing(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
            super().resume_writing()

        def send_400_response(self, msg: str) -> None:
            self._refuse(RequestError(400, "bad_http", f"Expected an HTTP/1.1 request. {msg}"))

        def _watch_head(self) -> None:
            """Between requests the next head must come in time; within one, whoever reads the body watches."""
            within = self.cycle is not None and not self.cycle.response_complete
            if within and self._head is not None:
                self._head.cancel()
                self._head = None
            elif not within and self._head is None and not self.transport.is_closing():
                self._head = self.loop.call_later(head_s, self._late)

        def _late(self) -> None:
            self._refuse(RequestError(408, "slow_head", f"Expected a request within {head_s:g} s."))

        def _refuse(self, refusal: RequestError) -> None:
            """Answer outside of any request, and close."""
            if self.transport.is_closing():
                return
            body, headers = error_response(refusal)
            fields: list[tuple[Any, Any]] = [*headers.items(), ("connection", "close")]
            with contextlib.suppress(h11.LocalProtocolError):  # an answer had begun: there is nothing to say any more
                self.transport.write(self.conn.send(h11.Response(status_code=refusal.status, headers=fields)) or b"")
                self.transport.write(self.conn.send(h11.Data(data=body)) or b"")
                self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
            self.transport.close()

    return Protocol
