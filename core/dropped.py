"""Sounds out of files and zips that somebody dropped in: bounded before anything is parsed, counted, the rest told.

Nothing is written to disk and no name in an archive is ever used as a path. An archive may hold anything: what is not
offered as a sound is left out with a reason, and never stops the others. Whether a file *is* a sound is decided by its
content, when it is decoded.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from core.errors import LimitError, RecordsError

MOST_NAMES = 50_000  # in one archive: its list alone takes memory
MOST_SOUNDS = 1_000  # heard of what was dropped in; of more, that many spread evenly over the list
MOST_BYTES = 4 * 2**30  # unpacked, over all sounds that are heard
MOST_RATIO = 200  # unpacked over packed size: no sound packs like this, but silence does up to 1,000 for a few bytes
SMALL_BYTES = 2**20  # under which the ratio does not matter
ENCRYPTED = 0x1
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".jar")


@dataclass(frozen=True)
class SoundFile:
    """A file that may be a sound. ``read()`` gives its bytes, at most the limit it was found under."""

    name: str
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class Found:
    """``files`` to be heard, out of ``n_names``; ``left_out`` counts the others by reason."""

    files: tuple[SoundFile, ...]
    n_names: int
    left_out: tuple[tuple[str, int], ...]


def in_zip(data: bytes, *, max_bytes: int) -> Found:
    """Files of a zip. ``max_bytes`` bounds each of them. Raises ``RecordsError`` for what is no zip, ``LimitError``."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as exc:
        raise RecordsError(
            f"Expected a zip of sound files, it cannot be opened ({exc}). Pack it again.", code="bad_zip"
        ) from exc
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _bound(len(entries), "the zip")
    left_out: Counter[str] = Counter()
    kept = []
    for entry in entries:
        reason = _refused(entry, max_bytes)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(entry)
    chosen = _spread([_of_entry(archive, entry, max_bytes) for entry in kept], left_out)
    if sum(entry.file_size for entry in kept) > MOST_BYTES and len(kept) <= MOST_SOUNDS:
        raise LimitError(
            f"Expected at most {MOST_BYTES:,} bytes of sounds, the zip unpacks to more. Split it.",
            code="too_many_bytes",
        )
    return Found(tuple(chosen), len(entries), _ordered(left_out))


def of_upload(files: Sequence[tuple[str, bytes]], *, max_bytes: int) -> Found:
    """Files that a browser sent, zips among them opened. Raises as ``in_zip`` does where a zip alone was sent."""
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    plain = []
    for name, data in files:
        if data[:4] == b"PK\x03\x04" or data[:4] == b"PK\x05\x06" or name.lower().endswith(".zip"):
            try:
                found.append(in_zip(data, max_bytes=max_bytes))
            except RecordsError:
                if len(files) == 1:
                    raise
                left_out["zips that cannot be opened"] += 1
        elif reason := _by_name(name, len(data), max_bytes):
            left_out[reason] += 1
        else:
            plain.append(SoundFile(name, partial(bytes, data)))
    for one in found:
        left_out.update(dict(one.left_out))
    every = [*plain, *(file for one in found for file in one.files)]
    n_names = len(files) - len(found) + sum(one.n_names for one in found)
    return Found(tuple(_spread(every, left_out)), n_names, _ordered(left_out))


def _bound(names: int, what: str) -> None:
    if names > MOST_NAMES:
        raise LimitError(
            f"Expected at most {MOST_NAMES:,} files, {what} has more. Give a part of them.", code="too_many_files"
        )


def _refused(entry: zipfile.ZipInfo, max_bytes: int) -> str:
    """Why an entry is not read; empty where it is."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[:1] and path.parts[0].endswith(":")):
        return "names that lead out of the archive"
    if entry.flag_bits & ENCRYPTED:
        return "encrypted files"
    if entry.file_size > SMALL_BYTES and entry.file_size > MOST_RATIO * max(entry.compress_size, 1):
        return f"files packed over {MOST_RATIO} times smaller than they are"
    if "__MACOSX" in path.parts:
        return "hidden files"
    return _by_name(path.name, entry.file_size, max_bytes)


def _by_name(name: str, size: int, max_bytes: int) -> str:
    if PurePosixPath(name).name.startswith("."):
        return "hidden files"
    if name.lower().endswith(ARCHIVES):
        return "archives within"
    if size > max_bytes:
        return f"files over {max_bytes / 2**20:,.0f} MB"
    return "empty files" if size == 0 else ""


def _of_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int) -> SoundFile:
    def read() -> bytes:
        """No more than ``max_bytes``, whatever the archive says of the size; empty where it is damaged."""
        try:
            with archive.open(entry) as file:
                return file.read(max_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
            return b""

    return SoundFile(entry.filename, read)


def _spread(files: list[SoundFile], left_out: Counter[str]) -> list[SoundFile]:
    """All, or ``MOST_SOUNDS`` of them at even distances."""
    if len(files) <= MOST_SOUNDS:
        return files
    left_out[f"files beyond {MOST_SOUNDS:,}, which are spread evenly over all"] += len(files) - MOST_SOUNDS
    return [files[i] for i in np.linspace(0, len(files) - 1, MOST_SOUNDS).round().astype(int)]


def _ordered(left_out: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(left_out.most_common())
