"""A few threads that do the work and a short queue before them. What does not fit is refused, never piled up.

Whoever asked may stop waiting: it took too long, or they hung up. Work that still waits then leaves the queue, and work
that has begun may leave no trace: it asks ``Claim.take`` before it does. Once it has, whoever asked waits for it. So a
504 means that nothing was stored, always.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core.serving.body import DisconnectedError
from core.serving.messages import RequestError

T = TypeVar("T")
LONGEST_RETRY_S = 60


class LateError(Exception):
    """Whoever asked waits no longer: the work must leave no trace."""


class Claim:
    """What work takes before it leaves a trace, unless whoever asked has given up first. One of the two wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = ""

    def take(self) -> None:
        """Raise ``LateError`` where nobody waits any more; from here on they do."""
        if not self._won_by("work"):
            raise LateError

    def give_up(self) -> bool:
        """Whether nothing will be left behind; False: the work is about to be done and worth the wait."""
        return self._won_by("asker")

    def _won_by(self, name: str) -> bool:
        with self._lock:
            self._owner = self._owner or name
            return self._owner == name


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Workers:
    """``count`` threads, started with the first work, and room for ``capacity`` that wait."""

    def __init__(self, *, count: int, capacity: int, timeout_s: float) -> None:
        self.count, self.capacity, self.timeout_s = count, capacity, timeout_s
        self._queue: deque[_Job] = deque()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()  # guards all that follows and the two above
        self._busy = 0
        self._mean_s = 0.1
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> int:
        return self._busy

    @property
    def full(self) -> bool:
        return self._closed or self.waiting >= self.capacity

    def refuse_when_full(self) -> None:
        """Raise ``RequestError`` (503) where work would be refused now."""
        if self.full:
            raise self.refusal()

    def refusal(self) -> RequestError:
        """503, with the time after which a place is likely."""
        expected_s = self._mean_s * (self.waiting + 1) / self.count
        retry_s = min(LONGEST_RETRY_S, max(1, math.ceil(expected_s)))
        return RequestError(
            503,
            "busy",
            f"{self.waiting:,} requests are waiting, and no more may. Try again in {retry_s} s.",
            {"retry-after": str(retry_s)},
        )

    async def do(self, work: Callable[[Claim], T], *, gone: Awaitable[None] | None = None) -> T:
        """``work``'s result, from a thread. Raises what it raises, ``RequestError`` (503 full, 504 too late), or
        ``DisconnectedError`` where ``gone`` comes first: whoever asked hung up.
        """
        claim = Claim()
        job = _Job(lambda: work(claim))
        self._accept(job)
        answer = asyncio.wrap_future(job.future)
        hung_up = asyncio.ensure_future(gone) if gone is not None else None
        awaited: set[asyncio.Future[Any]] = {answer} if hung_up is None else {answer, hung_up}
        try:
            await asyncio.wait(awaited, timeout=self.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and claim.give_up():
                job.future.cancel()  # work that has not begun never will
                answer.cancel()
                self._drop(job)
                raise self._late() if hung_up is None or not hung_up.done() else DisconnectedError
            result: T = await answer
        finally:
            if hung_up is not None:
                hung_up.cancel()
        return result

    def close(self) -> None:
        """Finish what was accepted, then end the threads."""
        with self._changed:
            self._closed = True
            threads, self._threads = self._threads, []
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _accept(self, job: _Job) -> None:
        """Into the queue; threads are started when there is something to do."""
        with self._changed:
            if self.full:
                raise self.refusal()
            while len(self._threads) < self.count:
                thread = threading.Thread(target=self._run, name=f"worker-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._queue.append(job)
            self._changed.notify()

    def _drop(self, job: _Job) -> None:
        """Out of the queue, and its place is free, unless it has begun."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)

    def _late(self) -> RequestError:
        return RequestError(
            504,
            "timed_out",
            f"Expected an answer within {self.timeout_s:g} s, got none. Nothing was stored. Try again, or send less.",
        )

    def _run(self) -> None:
        while (job := self._next()) is not None:
            started = time.monotonic()
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(job.work())
                except BaseException as exc:
                    job.future.set_exception(exc)
            with self._changed:
                self._busy -= 1
                self._mean_s += 0.1 * (time.monotonic() - started - self._mean_s)
            del job  # or its sound stays in memory until the next comes

    def _next(self) -> _Job | None:
        """The job that waits longest, once there is one; None when there will be none."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait()
            self._busy += 1
            return self._queue.popleft()
