"""Fetch a public dataset, check every byte of it, and put it in place in one rename.

    python -m core download --dataset esc10

A transfer that breaks off goes on where it stopped, if the server can; what arrived is checked against shipped
checksums, of every clip (ESC-10) or of the whole archive (ESC-50); only then does the destination come into being.
Nothing unverified ever lands, and members of the archive are written under names that we choose. requests rather than
pooch, which cannot resume.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import requests

from core.dataset import COLUMNS, TABLE, load_dataset
from core.errors import DatasetError

CHECKSUMS = Path(__file__).parent / "assets" / "esc10.sha256.csv"
ATTRIBUTION = CHECKSUMS.with_name("attribution.csv")
CHUNK = 1 << 16
ATTEMPTS = 6
BACKOFF_S = 1.0  # doubled after each failure
TIMEOUT_S = (10.0, 30.0)  # to connect, and without a byte arriving
PASSING = {408, 425, 429}  # refusals that time may lift
SHOWN = 3  # names listed in an error before "…"

Name = Literal["esc10", "esc50"]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Source:
    """Where a dataset is published, and how much of it there may be at most."""

    name: str
    url: str
    largest_bytes: int
    largest_unpacked_bytes: int
    largest_members: int
    sha256: str | None = None  # of the archive; without it, every clip is checked against ``CHECKSUMS``


SOURCES: dict[str, Source] = {
    "esc10": Source(
        "ESC-10",
        "https://codeload.github.com/karolpiczak/ESC-10/zip/553c8f1743b9dba6b282e1323c3ca8fa76923448",
        largest_bytes=64 << 20,  # about 40 MB
        largest_unpacked_bytes=128 << 20,
        largest_members=1_000,
    ),
    "esc50": Source(
        "ESC-50",
        "https://codeload.github.com/karolpiczak/ESC-50/zip/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6",
        largest_bytes=700_000_000,  # 645,832,161
        largest_unpacked_bytes=1 << 30,  # 2,000 clips of 441,044 bytes
        largest_members=3_000,
        sha256="661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
    ),
}


def download(
    dataset: Name,
    destination: Path,
    *,
    url: str | None = None,
    progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    backoff_s: float = BACKOFF_S,
    timeout_s: tuple[float, float] = TIMEOUT_S,
) -> Path:
    """Bring ``esc10`` or ``esc50`` to ``destination`` in ESC-50's layout and return it.

    ``progress(done_bytes, total_bytes)`` is called as bytes arrive; the total is ``None`` where the server is silent.
    A destination that holds the dataset already is left as it is. Raises ``DatasetError``: unknown_dataset, in_the_way,
    unreachable, checksum_mismatch, unsafe_archive, disk.
    """
    if dataset not in SOURCES:
        raise DatasetError(f"Expected one of {', '.join(SOURCES)}, got {dataset!r}.", code="unknown_dataset")
    source = SOURCES[dataset]
    try:
        place = destination.expanduser().resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            if not _is_there(place, source):
                work = place.with_name(f".{place.name}.{dataset}.download")
                work.mkdir(exist_ok=True)
                _Fetch(url or source.url, work, source, attempts, backoff_s, timeout_s).into(place, progress or _silent)
                shutil.rmtree(work)
    except OSError as exc:
        raise DatasetError(
            f"{source.name} could not be written to {destination}: {exc.strerror or exc}. "
            "Free space or choose another folder, then repeat: what arrived is kept.",
            code="disk",
        ) from exc
    return destination


def read_checksums() -> list[dict[str, str]]:
    """Every clip of ESC-10: name here and upstream, size, sha256, fold, class and source recording."""
    return list(csv.DictReader(io.StringIO(CHECKSUMS.read_text(encoding="utf-8"))))


def _silent(done: int, total: int | None) -> None:
    """No one watches."""


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process downloads to the same place."""
    if not place.name:
        raise _in_the_way(place, "a dataset needs a folder of its own")
    with place.with_name(f".{place.name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_there(place: Path, source: Source) -> bool:
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return False
    if not (place / TABLE).is_file():
        raise _in_the_way(place, "something else is there")
    try:
        found = load_dataset(place).name
    except DatasetError as exc:
        raise _in_the_way(place, f"what is there is damaged ({exc})") from exc
    if found != source.name:
        raise _in_the_way(place, f"{found} is there")
    return True


def _in_the_way(place: Path, why: str) -> DatasetError:
    return DatasetError(
        f"Expected {place} to be new, empty or complete, but {why}. Choose another folder with --to, or move it.",
        code="in_the_way",
    )


class _PermanentError(Exception):
    """Trying again would not help."""


class _Fetch:
    """One archive over HTTP, kept in ``work`` until it is unpacked; resumed where the server supports it.

    ``archive.part`` is what arrived so far, ``archive.json`` says of what, ``archive.zip`` is whole.
    """

    def __init__(
        self, url: str, work: Path, source: Source, attempts: int, backoff_s: float, timeout_s: tuple[float, float]
    ) -> None:
        self.url, self.work, self.source = url, work, source
        self.attempts, self.backoff_s, self.timeout_s = attempts, backoff_s, timeout_s
        self.archive, self.part, self.origin = (work / f"archive.{ending}" for ending in ("zip", "part", "json"))
        self.joined = False  # the archive was put together from several answers

    def into(self, place: Path, progress: Progress) -> None:
        """Have the dataset at ``place``. A bad archive that was joined from parts is fetched once more."""
        for last in (False, True):
            self._complete(progress)
            try:
                _unpack(self.archive, self.work / "unpacked", place, self.source)
                return
            except DatasetError:
                self.archive.unlink(missing_ok=True)
                if last or not self.joined:
                    raise

    def _complete(self, progress: Progress) -> None:
        self.joined = False
        failure: Exception | None = None
        for attempt in range(self.attempts):
            if self.archive.exists():  # an earlier run got this far, or someone fetched it by hand
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
            f"{self.source.name} could not be fetched from {self.url}: {_in_words(failure)}. Check the connection and "
            f"repeat: what arrived is kept. Or fetch that address by hand, save it as {self.archive} and repeat. "
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
        self.part.replace(self.archive)

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
                if done > self.source.largest_bytes:
                    raise _PermanentError(f"more than {self.source.largest_bytes:,} bytes arrived")
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


def _unpack(archive: Path, root: Path, place: Path, source: Source) -> None:
    """Check every member, write the layout to ``root``, load it as a dataset, rename it to ``place``."""
    shutil.rmtree(root, ignore_errors=True)  # of a run that was killed
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    try:
        if source.sha256 is not None:
            _check_archive(archive, source.sha256)
        with _opened(archive) as members:
            found = _checked(members, source)
            (_write_esc10 if source.sha256 is None else _write_esc50)(members, found, root)
        load_dataset(root)
        if place.exists():
            place.rmdir()  # empty, as checked before
        root.rename(place)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _check_archive(archive: Path, sha256: str) -> None:
    with archive.open("rb") as file:
        arrived = hashlib.file_digest(file, "sha256").hexdigest()
    if arrived != sha256:
        raise _mismatch(f"its sha256 is {arrived} instead of {sha256}")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; all that ``zipfile`` raises over damage becomes one error of ours."""
    try:
        with zipfile.ZipFile(archive) as members:
            yield members
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError) as exc:
        raise _mismatch(f"the archive is damaged ({exc})") from exc
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # a seek to where its directory points
            raise
        raise _mismatch("the archive is damaged (it points outside of itself)") from exc


def _checked(members: zipfile.ZipFile, source: Source) -> list[zipfile.ZipInfo]:
    """The files of the archive, none of which leads elsewhere, and which together keep within the bounds."""
    found = members.infolist()
    size = sum(info.file_size for info in found)
    if len(found) > source.largest_members:
        raise _unsafe(f"it has {len(found):,} members, {source.name} has fewer than {source.largest_members:,}")
    if size > source.largest_unpacked_bytes:
        raise _unsafe(f"unpacked it has {size:,} bytes, {source.name} has fewer than {source.largest_unpacked_bytes:,}")
    for info in found:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise _unsafe(f"the member {info.filename!r} leads out of its folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _unsafe(f"the member {info.filename!r} is a link")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _unsafe(f"the member {info.filename!r} is packed in an unusual way")
    return [info for info in found if not info.filename.endswith("/")]


def _write_esc10(members: zipfile.ZipFile, found: list[zipfile.ZipInfo], root: Path) -> None:
    """Exactly the clips of the shipped table, told by their content, under the names the table gives them."""
    rows = read_checksums()
    missing = {row["sha256"]: row for row in rows}
    sizes = {int(row["bytes"]) for row in rows}
    for info in found:
        if info.file_size in sizes:
            data = members.read(info)
            row = missing.pop(hashlib.sha256(data).hexdigest(), None)
            if row is not None:
                (root / "audio" / row["filename"]).write_bytes(data)
    if missing:
        names = ", ".join([row["upstream"] for row in missing.values()][:SHOWN]) + (
            " …" if len(missing) > SHOWN else ""
        )
        raise _mismatch(f"{len(missing):,} of {len(rows):,} clips are missing or altered: {names}")
    (root / "meta" / ATTRIBUTION.name).write_bytes(ATTRIBUTION.read_bytes())
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS[:4], "esc10", *COLUMNS[4:]], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"esc10": "True"} for row in rows)


def _write_esc50(members: zipfile.ZipFile, found: list[zipfile.ZipInfo], root: Path) -> None:
    """The clips, the table, and the licence, which names each clip's author; the archive's checksum vouches for all."""
    for info in found:
        path = PurePosixPath(*PurePosixPath(info.filename).parts[1:])  # without ESC-50-<commit>/
        clip = path.parent == PurePosixPath("audio") and path.suffix == ".wav"
        if clip or str(path) in (TABLE.as_posix(), "LICENSE"):
            (root / path).write_bytes(members.read(info))
    clips = sum(1 for _ in (root / "audio").iterdir())
    if clips != 2_000:
        raise _mismatch(f"the archive holds {clips:,} clips instead of 2,000")


def _mismatch(what: str) -> DatasetError:
    return DatasetError(
        f"The download is not what was published: {what}. It was removed; repeat, and if it happens again, someone "
        "between here and the server changes files.",
        code="checksum_mismatch",
    )


def _unsafe(what: str) -> DatasetError:
    return DatasetError(f"The archive is refused: {what}. It was removed and nothing unpacked.", code="unsafe_archive")
