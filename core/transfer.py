"""One file over HTTP: resumed where it broke off, tried again where that may help, bounded.

requests rather than pooch, which cannot resume.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import requests

from core.errors import DatasetError

CHUNK = 1 << 16
PASSING = {408, 425, 429}  # refusals that time may lift

Progress = Callable[[int, int | None], None]  # bytes done, and of how many; None: the server does not say


class _PermanentError(Exception):
    """Trying again would not help."""


class Transfer:
    """One file over HTTP, kept beside ``target`` until it is whole; resumed where the server supports it.

    ``.part`` is what arrived so far, ``.json`` says of what, ``target`` is whole, though not checked.
    """

    def __init__(
        self,
        url: str,
        target: Path,
        *,
        what: str,
        largest_bytes: int,
        attempts: int,
        backoff_s: float,
        timeout_s: tuple[float, float],
    ) -> None:
        self.url, self.target, self.what, self.largest_bytes = url, target, what, largest_bytes
        self.attempts, self.backoff_s, self.timeout_s = attempts, backoff_s, timeout_s
        self.part, self.origin = target.with_suffix(".part"), target.with_suffix(".json")
        self.joined = False  # the file was put together from several answers

    def accepted_by(self, check: Callable[[Path], None], progress: Progress) -> None:
        """Have the file, whole and accepted. A refused one that was joined from parts is fetched once more."""
        for last in (False, True):
            self._complete(progress)
            try:
                check(self.target)
                return
            except DatasetError:
                self.target.unlink(missing_ok=True)
                if last or not self.joined:
                    raise

    def _complete(self, progress: Progress) -> None:
        self.joined = False
        failure: Exception | None = None
        for attempt in range(self.attempts):
            if self.target.exists():  # an earlier run got this far, or someone fetched it by hand
                return
            if attempt:
                time.sleep(self.backoff_s * 2 ** (attempt - 1))
            try:
                self._transfer(progress)
                return
            except (_PermanentError, requests.RequestException) as exc:
                failure = exc
                if isinstance(exc, _PermanentError | ValueError):  # requests' ValueErrors: the address itself is wrong
                    break
        raise DatasetError(
            f"{self.what} could not be fetched from {self.url}: {_in_words(failure)}. Check the connection and "
            f"repeat: what arrived is kept. Or fetch that address by hand, save it as {self.target} and repeat. "
            "Or set EARSHOT_DATA_DIR to a copy that you have.",
            code="unreachable",
        ) from failure

    def _transfer(self, progress: Progress) -> None:
        done, headers = self._wanted()
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout_s) as response:
            status = response.status_code
            if status == 416 or (status == 206 and not _continues(response, done)):
                self.part.unlink(missing_ok=True)
                raise requests.ConnectionError("the part kept from before no longer fits")
            if status >= 500 or status in PASSING:
                raise requests.ConnectionError(f"the server answered {status} {response.reason}")
            if status not in (200, 206):
                raise _PermanentError(f"the server answered {status} {response.reason}")
            self.joined |= status == 206
            self._remember(response)
            self._receive(response, done if status == 206 else 0, progress)
        self.part.replace(self.target)

    def _wanted(self) -> tuple[int, dict[str, str]]:
        """How much is there, and the headers that ask for the rest of the same file."""
        headers = {"Accept-Encoding": "identity"}
        try:
            origin = json.loads(self.origin.read_text(encoding="utf-8"))
            done = self.part.stat().st_size if origin["url"] == self.url else 0
            version = str(origin["version"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0, headers
        if done:
            headers["Range"] = f"bytes={done}-"
            if version:
                headers["If-Range"] = version
        return done, headers

    def _remember(self, response: requests.Response) -> None:
        version = response.headers.get("ETag", "")
        origin = {"url": self.url, "version": "" if version.startswith("W/") else version}  # If-Range takes strong ones
        self.origin.write_text(json.dumps(origin), encoding="utf-8")

    def _receive(self, response: requests.Response, done: int, progress: Progress) -> None:
        length = response.headers.get("Content-Length", "")
        coded = response.headers.get("Content-Encoding", "identity") != "identity"
        total = done + int(length) if length.isdecimal() and not coded else None
        with self.part.open("ab" if done else "wb") as file:
            progress(done, total)
            for chunk in response.iter_content(CHUNK):
                done += len(chunk)
                if done > self.largest_bytes:
                    raise _PermanentError(f"more than {self.largest_bytes:,} bytes arrived")
                file.write(chunk)
                progress(done, total)
        if total is not None and done != total:
            raise requests.ConnectionError(f"{done:,} of {total:,} bytes arrived")


def _continues(response: requests.Response, done: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {done}-")


def _in_words(failure: Exception | None) -> str:
    """The cause alone, without the layers that urllib3 and requests put around it."""
    if isinstance(failure, requests.Timeout) or "timed out" in str(failure).lower():
        return "the server stopped answering"
    inner = failure.args[0] if failure is not None and failure.args else failure
    text = str(getattr(inner, "reason", None) or inner)
    return text.partition("): ")[2] or text or type(failure).__name__
