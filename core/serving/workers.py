"""A few threads that do the work and a short queue before them. What does not fit is refused, never piled up."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core.serving.messages import RequestError

T = TypeVar("T")
LONGEST_RETRY_S = 60


class LateError(Exception):
    """Whoever asked was told that it takes too long: the work must leave no trace."""


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def check(self) -> None:
        """Raise ``LateError`` when it has passed."""
        if time.monotonic() >= self.at_s:
            raise LateError


@dataclass(frozen=True)
class _Job:
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Workers:
    """``count`` threads, started with the first work, and room for ``capacity`` that wait."""

    def __init__(self, *, count: int, capacity: int, timeout_s: float) -> None:
        self.count, self.capacity, self.timeout_s = count, capacity, timeout_s
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=capacity)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._busy = 0
        self._mean_s = 0.1
        self._closed = False

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    @property
    def busy(self) -> int:
        return self._busy

    def refuse_when_full(self) -> None:
        """Raise ``RequestError`` (503) where work would be refused now."""
        if self._closed or self._queue.full():
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

    async def do(self, work: Callable[[Deadline], T]) -> T:
        """``work``'s result, from a thread. Raises what it raises, or ``RequestError`` (503 full, 504 too late).

        ``work`` gets the deadline and checks it before it leaves a trace.
        """
        deadline = Deadline.after(self.timeout_s)

        def in_time() -> T:
            deadline.check()
            return work(deadline)

        job = _Job(in_time)
        self._start()
        try:
            if self._closed:
                raise queue.Full
            self._queue.put_nowait(job)
        except queue.Full:
            raise self.refusal() from None
        answer = asyncio.wrap_future(job.future)
        done, _ = await asyncio.wait([answer], timeout=self.timeout_s)
        try:
            if not done:
                answer.cancel()  # work that has not begun never will
                raise LateError
            result: T = answer.result()
        except LateError:
            raise RequestError(
                504, "timed_out", f"Expected an answer within {self.timeout_s:g} s, got none. Try again, or send less."
            ) from None
        return result

    def close(self) -> None:
        """Finish what was accepted, then end the threads."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()

    def _start(self) -> None:
        with self._lock:
            while len(self._threads) < self.count and not self._closed:
                thread = threading.Thread(target=self._run, name=f"worker-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._busy += 1
            started = time.monotonic()
            try:
                job.future.set_result(job.work())
            except BaseException as exc:
                job.future.set_exception(exc)
            with self._lock:
                self._busy -= 1
                self._mean_s += 0.1 * (time.monotonic() - started - self._mean_s)
            del job  # or its sound stays in memory until the next comes
