"""Reading a request's body: bounded in bytes and in time while it arrives, before anything parses it.

A body may take ``grace_s``, and a second more for every ``SLOWEST_BYTES_PER_S`` that arrived: a slow line gets through,
a caller that drips bytes to hold the connection does not (as Apache's mod_reqtimeout has it).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from core.config import Limits
from core.serving.messages import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SLOWEST_BYTES_PER_S = 16 * 1024
FRAME_BYTES = 64 * 1024  # what JSON or multipart put around a sound
LINGER_S = 2.0  # how long a refused caller may go on sending, so that it reads why before the connection closes


class DisconnectedError(Exception):
    """The caller hung up before its body was whole: nobody is there to answer."""


@dataclass(frozen=True)
class BodyLimits:
    """``max_bytes`` of the whole body and ``grace_s`` to begin with."""

    max_bytes: int
    grace_s: float

    @classmethod
    def of(cls, limits: Limits, *, grace_s: float) -> BodyLimits:
        """Room for the largest sound in base64, which takes four characters for three bytes."""
        return cls(max_bytes=-(-limits.max_bytes // 3) * 4 + FRAME_BYTES, grace_s=grace_s)


async def read_body(receive: Receive, headers: Mapping[str, str], limits: BodyLimits) -> bytes:
    """The whole body, of which no more than the limit is kept.

    Raises ``RequestError`` (413, 408, 415) or ``DisconnectedError``.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(
            415, "content_encoding", "Expected a body that is not compressed. Leave out Content-Encoding."
        )
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(limits, f"Content-Length says {int(declared):,}")
    chunks: list[bytes] = []
    size, started = 0, time.monotonic()
    while True:
        left_s = started + limits.grace_s + size / SLOWEST_BYTES_PER_S - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(left_s, 0.001))
        except TimeoutError as exc:
            raise RequestError(
                408,
                "slow_body",
                f"Expected the rest of the body, got {size:,} bytes in {time.monotonic() - started:.1f} s. "
                "Send it faster, or send a shorter or compressed sound (flac, ogg).",
            ) from exc
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.max_bytes:
            raise _too_large(limits, "more came")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` for an application that has yet to read ``body``."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def linger(receive: Receive) -> None:
    """Let a refused caller send on for a moment, and throw it away."""
    deadline = time.monotonic() + LINGER_S
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), left_s)
        except TimeoutError:
            return
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def _too_large(limits: BodyLimits, came: str) -> RequestError:
    return RequestError(
        413,
        "too_many_bytes",
        f"Expected a body of at most {limits.max_bytes:,} bytes, {came}. Cut the sound or compress it (flac, ogg).",
    )
