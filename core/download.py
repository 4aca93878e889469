"""Fetch a public dataset, check every byte of it, and put it in place in one rename.

    python -m core download --dataset esc10

A transfer that breaks off goes on where it stopped, if the server can; what arrived is checked against shipped
checksums (ESC-10) or by structure (ESC-50); only then does the destination come into being. Nothing unverified ever
lands, and members of the archive are written under names that we choose. requests rather than pooch, which cannot
resume.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from core.dataset import COLUMNS, TABLE, load_dataset
from core.errors import DatasetError

CHECKSUMS = Path(__file__).parent / "assets" / "esc10.sha256.csv"
ATTRIBUTION = CHECKSUMS.with_name("attribution.csv")
CHUNK = 1 << 16
ATTEMPTS = 6
BACKOFF_S = 1.0  # doubled after each failure
TIMEOUT_S = (10.0, 30.0)  # to connect, and without a byte arriving
ESC50_CLIP = re.compile(r"\d+-\d+-[A-Z]+-\d+\.wav")
LARGEST_CLIP_BYTES = 4 << 20

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Source:
    """Where a dataset is published, and how much of it there may be at most."""

    name: str
    url: str
    largest_bytes: int


SOURCES = {
    "esc10": Source(
        "ESC-10",
        "https://codeload.github.com/karolpiczak/ESC-10/zip/553c8f1743b9dba6b282e1323c3ca8fa76923448",
        200 << 20,
    ),
    "esc50": Source("ESC-50", "https://codeload.github.com/karolpiczak/ESC-50/zip/refs/heads/master", 2 << 30),
}


def download(
    dataset: str,
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
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(destination):
            if _is_there(destination, source):
                return destination
            archive = destination.with_name(f".{destination.name}.{dataset}.zip.part")
            fetch = _Fetch(url or source.url, archive, source, attempts, backoff_s, timeout_s)
            fetch.run(progress or _silent)
            _unpack(dataset, archive, destination)
            fetch.forget()
    except OSError as exc:
        raise DatasetError(
            f"{source.name} could not be written to {destination}: {exc.strerror or exc}. "
            "Free space or choose another folder, then repeat: what arrived is kept.",
            code="disk",
        ) from exc
    return destination


def _silent(done: int, total: int | None) -> None:
    """No one watches."""


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Wait until no other process downloads to the same place."""
    with destination.with_name(f".{destination.name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_there(destination: Path, source: Source) -> bool:
    if not destination.exists() or not any(destination.iterdir()):
        return False
    if (destination / TABLE).is_file() and load_dataset(destination).name == source.name:
        return True
    raise DatasetError(
        f"Expected {destination} to be empty or to hold {source.name}, but something else is there. "
        "Choose another folder with --to.",
        code="in_the_way",
    )


class _Fetch:
    """One file over HTTP, resumed where the server supports it."""

    def __init__(
        self, url: str, part: Path, source: Source, attempts: int, backoff_s: float, timeout_s: tuple[float, float]
    ) -> None:
        self.url, self.part, self.source = url, part, source
        self.attempts, self.backoff_s, self.timeout_s = attempts, backoff_s, timeout_s
        self._version = part.with_name(part.name + ".etag")  # which version of the file the part belongs to

    def run(self, progress: Progress) -> None:
        failure: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.backoff_s * 2 ** (attempt - 1))
            try:
                self._transfer(progress)
                return
            except _PermanentError as exc:
                failure = exc
                break
            except requests.RequestException as exc:
                failure = exc
        raise DatasetError(
            f"{self.source.name} could not be fetched from {self.url}: {_in_words(failure)}. Check the connection and "
            "repeat: what arrived is kept. Or fetch it by hand, unpack it in ESC-50's layout and set EARSHOT_DATA_DIR.",
            code="unreachable",
        ) from failure

    def forget(self) -> None:
        """Remove what was transferred."""
        self.part.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def _transfer(self, progress: Progress) -> None:
        done = self.part.stat().st_size if self.part.exists() and self._version.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": self._version.read_text(encoding="utf-8")}
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout_s) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.forget()
                raise requests.ConnectionError("the part kept from before no longer fits")
            if 400 <= response.status_code < 500 and response.status_code != requests.codes.too_many_requests:
                raise _PermanentError(f"the server answered {response.status_code} {response.reason}")
            response.raise_for_status()
            done = done if response.status_code == requests.codes.partial_content else 0
            self._remember(response)
            self._receive(response, done, progress)

    def _remember(self, response: requests.Response) -> None:
        version = response.headers.get("ETag", "")
        if version and not version.startswith("W/"):
            self._version.write_text(version, encoding="utf-8")
        else:
            self._version.unlink(missing_ok=True)  # without a strong ETag a part cannot be trusted to fit

    def _receive(self, response: requests.Response, done: int, progress: Progress) -> None:
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
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


class _PermanentError(Exception):
    """Trying again would not help."""


def _in_words(failure: Exception | None) -> str:
    if isinstance(failure, requests.Timeout):
        return "the server stopped answering"
    return str(failure) or type(failure).__name__


def _unpack(dataset: str, archive: Path, destination: Path) -> None:
    """Check every member, write the layout beside ``destination``, load it as a dataset, rename it there."""
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
        root = Path(folder) / destination.name
        (root / "audio").mkdir(parents=True)
        (root / "meta").mkdir()
        try:
            with zipfile.ZipFile(archive) as members:
                (_unpack_esc10 if dataset == "esc10" else _unpack_esc50)(members, root)
            load_dataset(root)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as exc:
            archive.unlink(missing_ok=True)
            raise _mismatch(f"the archive is damaged ({exc})") from exc
        except DatasetError:
            archive.unlink(missing_ok=True)
            raise
        if destination.exists():
            destination.rmdir()  # empty, as checked before
        root.rename(destination)


def _unpack_esc10(members: zipfile.ZipFile, root: Path) -> None:
    """Exactly the clips of the shipped checksum table, under the names it gives them."""
    wanted = read_checksums()
    found = {info.filename.partition("/")[2]: info for info in members.infolist()}
    for row in wanted:
        info = found.get(row["upstream"])
        if info is None:
            raise _mismatch(f"{row['upstream']} is missing from the archive")
        if info.file_size != int(row["bytes"]):
            raise _mismatch(f"{row['upstream']} has {info.file_size:,} bytes instead of {int(row['bytes']):,}")
        data = members.read(info)
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise _mismatch(f"{row['upstream']} is not the published file")
        (root / "audio" / row["filename"]).write_bytes(data)
    (root / "meta" / ATTRIBUTION.name).write_bytes(ATTRIBUTION.read_bytes())
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS[:4], "esc10", *COLUMNS[4:]], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"esc10": "True"} for row in wanted)


def _unpack_esc50(members: zipfile.ZipFile, root: Path) -> None:
    """``audio/*.wav`` with plain clip names and the table; ``load_dataset`` then checks that they fit together."""
    clips = 0
    for info in members.infolist():
        folder, name = info.filename.split("/")[-2:] if "/" in info.filename else ("", info.filename)
        if folder == "audio" and ESC50_CLIP.fullmatch(name):
            if info.file_size > LARGEST_CLIP_BYTES:
                raise DatasetError(
                    f"{name} claims {info.file_size:,} bytes, more than any clip.", code="unsafe_archive"
                )
            (root / "audio" / name).write_bytes(members.read(info))
            clips += 1
        elif (folder, name) == ("meta", TABLE.name) and info.file_size <= LARGEST_CLIP_BYTES:
            (root / TABLE).write_bytes(members.read(info))
    if clips != 2_000:
        raise _mismatch(f"the archive holds {clips:,} clips instead of 2,000")


def read_checksums() -> list[dict[str, str]]:
    """Every clip of ESC-10: name here and upstream, size, sha256, fold, class and source recording."""
    return list(csv.DictReader(io.StringIO(CHECKSUMS.read_text(encoding="utf-8"))))


def _mismatch(what: str) -> DatasetError:
    return DatasetError(
        f"The download is not what was published: {what}. It was removed; repeat, and if it happens again, someone "
        "between here and the server changes files.",
        code="checksum_mismatch",
    )
