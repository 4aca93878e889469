"""Fetch a public dataset, check every byte of it, and put it in place in one rename.

    python -m core download --dataset esc10

A transfer that breaks off goes on where it stopped, if the server can; what arrived is checked against shipped
checksums, of every clip (ESC-10, and its eleven gold clips, which come one by one) or of the whole archive (ESC-50);
only then does the destination come into being. Nothing unverified ever lands, and members of the archive are written
under names that we choose.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from core.dataset import COLUMNS, GOLD, GOLD_NAME, TABLE, load_dataset
from core.errors import DatasetError
from core.transfer import Progress, Transfer

CHECKSUMS = Path(__file__).parent / "assets" / "esc10.sha256.csv"
ATTRIBUTION = CHECKSUMS.with_name("attribution.csv")
ATTEMPTS = 6
BACKOFF_S = 1.0  # doubled after each failure
TIMEOUT_S = (10.0, 30.0)  # to connect, and without a byte arriving
SHOWN = 3  # names listed in an error before "…"

Name = Literal["esc10", "esc50", "gold"]
_Start = Callable[[str, Path], Transfer]  # of one address, to one file


@dataclass(frozen=True)
class Source:
    """Where a dataset is published, and how much of it there may be at most."""

    name: str
    url: str  # of the archive; of the folder where ``clips`` come one by one
    largest_bytes: int  # of one transfer
    largest_unpacked_bytes: int
    largest_members: int
    sha256: str | None = None  # of the archive; without it, every clip is checked against ``CHECKSUMS``
    clips: tuple[str, ...] = ()
    clips_per_class: int = 2


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
    "gold": Source(
        GOLD_NAME,
        "https://raw.githubusercontent.com/karolpiczak/ESC-10/553c8f1743b9dba6b282e1323c3ca8fa76923448",
        largest_bytes=1 << 20,  # the largest clip has 145,257
        largest_unpacked_bytes=len(GOLD) << 20,
        largest_members=len(GOLD),
        clips=tuple(clip.filename for clip in GOLD),
        clips_per_class=1,
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
    """Bring ``esc10``, ``esc50`` or ``gold`` to ``destination`` in ESC-50's layout and return it.

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
                fetch = partial(
                    Transfer,
                    what=source.name,
                    largest_bytes=source.largest_bytes,
                    attempts=attempts,
                    backoff_s=backoff_s,
                    timeout_s=timeout_s,
                )
                bring = _fetch_clips if source.clips else _fetch_archive
                bring(fetch, source, url or source.url, work, place, progress or _silent)
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
        found = load_dataset(place, clips_per_class=source.clips_per_class).name
    except DatasetError as exc:
        raise _in_the_way(place, f"what is there is damaged ({exc})") from exc
    if found != source.name:
        raise _in_the_way(place, f"{found} is there")
    if source.sha256 is None and (changed := list(_changed(place))):
        raise _in_the_way(place, f"{len(changed)} of its clips are not as published ({changed[0]} …)")
    return True


def _changed(place: Path) -> Iterator[str]:
    """Clips of ESC-10 at ``place`` that are other bytes than those published."""
    for row in read_checksums():
        clip = place / "audio" / row["filename"]
        if clip.is_file() and _sha256(clip) != row["sha256"]:
            yield row["filename"]


def _in_the_way(place: Path, why: str) -> DatasetError:
    return DatasetError(
        f"Expected {place} to be new, empty or complete, but {why}. Choose another folder with --to, or move it.",
        code="in_the_way",
    )


def _fetch_archive(fetch: _Start, source: Source, url: str, work: Path, place: Path, progress: Progress) -> None:
    def unpack(archive: Path) -> None:
        _unpack(archive, work / "unpacked", place, source)

    fetch(url, work / "archive.zip").accepted_by(unpack, progress)


def _fetch_clips(fetch: _Start, source: Source, url: str, work: Path, place: Path, progress: Progress) -> None:
    """One after the other; those that passed their check are kept until the layout can be written whole."""
    rows = [row for row in read_checksums() if row["filename"] in source.clips]
    total, before = sum(int(row["bytes"]) for row in rows), 0
    for row in rows:
        one = fetch(f"{url}/{quote(row['upstream'])}", work / row["filename"])
        one.accepted_by(partial(_check_clip, row), partial(_within, progress, before, total))
        before += int(row["bytes"])
    progress(total, total)  # clips of an earlier run were not counted one by one
    with _staged(work / "unpacked", place, source) as root:
        for row in rows:
            shutil.copyfile(work / row["filename"], root / "audio" / row["filename"])
        _write_tables(root, rows)


def _within(progress: Progress, before: int, whole: int, done: int, total: int | None) -> None:
    """Progress of one clip as that of all of them; the server's own total is not needed."""
    progress(before + done, whole)


def _unpack(archive: Path, root: Path, place: Path, source: Source) -> None:
    """Check every member, and write the layout."""
    with _staged(root, place, source):
        if source.sha256 is not None:
            _check_archive(archive, source.sha256)
        with _opened(archive) as members:
            found = _checked(members, source)
            (_write_esc10 if source.sha256 is None else _write_esc50)(members, found, root)


@contextmanager
def _staged(root: Path, place: Path, source: Source) -> Iterator[Path]:
    """An empty layout at ``root`` to fill; then it is loaded as a dataset and renamed to ``place``."""
    shutil.rmtree(root, ignore_errors=True)  # of a run that was killed
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    try:
        yield root
        load_dataset(root, clips_per_class=source.clips_per_class)
        if place.exists():
            place.rmdir()  # empty, as checked before
        root.rename(place)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _check_archive(archive: Path, sha256: str) -> None:
    if (arrived := _sha256(archive)) != sha256:
        raise _mismatch(f"its sha256 is {arrived} instead of {sha256}")


def _check_clip(row: dict[str, str], clip: Path) -> None:
    if (arrived := _sha256(clip)) != row["sha256"]:
        raise _mismatch(f"the sha256 of {row['upstream']} is {arrived} instead of {row['sha256']}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    _write_tables(root, rows)


def _write_tables(root: Path, rows: list[dict[str, str]]) -> None:
    """ESC-50's table of these clips, and who made them."""
    names = {"filename", *(row["filename"] for row in rows)}
    credited = ATTRIBUTION.read_text(encoding="utf-8").splitlines(keepends=True)
    own = "".join(line for line in credited if line.partition(",")[0] in names)
    (root / "meta" / ATTRIBUTION.name).write_text(own, encoding="utf-8")
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
