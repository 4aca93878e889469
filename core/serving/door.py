"""The door of the API: everything that happens to a request before and after its route.

A request id, who may, whether there is room, the body within its bounds; then the route; then one line in the log, the
metrics, and for whatever went wrong the one shape of an error.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from core.serving.access import Access
from core.serving.body import BodyLimits, DisconnectedError, Message, Receive, Send, linger, read_body, replayed
from core.serving.messages import ErrorAnswer, ErrorFacts, RequestError
from core.serving.metrics import Metrics
from core.serving.workers import Workers

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WORK = "/v1/"  # paths below it with a body take a place in the queue
CALLERS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GONE = 499  # as nginx counts callers that hung up


class Door:
    """Stands before ``app``; ASGI on both sides."""

    def __init__(
        self, app: Application, *, access: Access, body: BodyLimits, workers: Workers, metrics: Metrics
    ) -> None:
        self.app = app
        self._access, self._body, self._workers, self._metrics = access, body, workers, metrics
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        visit = _Visit(scope, headers.get("x-request-id", ""), send)
        size, unread = 0, True
        try:
            self._access.check(scope, headers)
            if scope["method"] == "POST":
                body = await self._read(scope, headers, receive)
                size, receive, unread = len(body), replayed(body, receive), False
                del body
            await self.app(scope, receive, visit.send)
        except RequestError as exc:
            await visit.refuse(exc, receive if unread else None)
        except DisconnectedError:
            visit.status, visit.code = GONE, "gone"
        except Exception:
            log.exception("request %s | an error of ours", visit.id)
            message = f"Something went wrong here. Tell whoever runs this server the request id {visit.id}."
            await visit.refuse(RequestError(500, "internal", message), None)
        finally:
            seconds = time.perf_counter() - visit.started
            self._metrics.count_request(scope["method"], scope["path"], visit.status, seconds)
            if visit.status >= 400:
                self._metrics.refused.labels(visit.code).inc()
            log.info(
                "request %s | %s %.80r | %d%s | %.1f ms | %d bytes in",
                visit.id,
                scope["method"],
                scope["path"],
                visit.status,
                f" {visit.code}" if visit.code else "",
                1000 * seconds,
                size,
            )

    async def _read(self, scope: Scope, headers: dict[str, str], receive: Receive) -> bytes:
        """The body, unless there is no place for the work it brings: then that is said before it is sent."""
        if scope["path"].startswith(WORK):
            self._workers.refuse_when_full()
        if self._arriving >= self._workers.capacity:
            raise self._workers.refusal()
        self._arriving += 1
        try:
            return await read_body(receive, headers, self._body)
        finally:
            self._arriving -= 1


class _Visit:
    """One request on its way through: its id, its status, and what was sent."""

    def __init__(self, scope: Scope, callers_id: str, send: Send) -> None:
        self.id = callers_id if CALLERS_ID.fullmatch(callers_id) else uuid.uuid4().hex
        self.started = time.perf_counter()
        self.status, self.code = 0, ""
        self._send, self._begun = send, False
        scope["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            code = [value for name, value in message.get("headers", []) if name == b"x-error-code"]
            self.code = code[0].decode("latin-1") if code else ""
            message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", self.id.encode())]}
        await self._send(message)

    async def refuse(self, refusal: RequestError, unread: Receive | None) -> None:
        """Answer with the error and close the connection; a caller that is still sending may first read why."""
        if self._begun:
            return
        body, headers = error_response(refusal)
        await self.send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": [
                    *((name.encode(), value.encode()) for name, value in headers.items()),
                    (b"connection", b"close"),
                ],
            }
        )
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        if unread is not None:
            await linger(unread)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def error_response(refusal: RequestError) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    answer = ErrorAnswer(error=ErrorFacts(code=refusal.code, message=str(refusal)))
    body = json.dumps(answer.model_dump(), ensure_ascii=False).encode("utf-8", "replace")
    return body, {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-error-code": refusal.code,
        **refusal.headers,
    }
