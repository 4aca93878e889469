"""Everything at once: the tables, then each format asked for, into one folder.

    python -m core tableau --out DIR                      # the shipped run, all formats
    python -m core tableau --out DIR --log-since 2026-11-01   # and what was answered since, with its drift
    python -m core tableau --out DIR --no-run --log-since all   # the log alone

Files appear under their names only when they are complete.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa

from core.errors import ExportError
from core.tableau import demonstrations, files, hyper, schema, workbook
from core.tableau.dashboards import DASHBOARDS
from core.tableau.parts import LOG, Part
from core.tableau.tables import Media, NoMedia, Progress, StarSchema, build

Format = Literal["csv", "hyper", "twbx"]
FORMATS: tuple[Format, ...] = ("csv", "hyper", "twbx")
T = TypeVar("T")
CSV_FOLDER = "csv"  # of the tables, one file each
BUILT = 0.6  # share of the time until the tables stand


@dataclass(frozen=True)
class Exported:
    """The files written, under ``out``, their ``sizes`` in bytes by name, and how many rows each table has.

    ``said``: of each run or log in it, what it holds and what was left out; and dashboards that would have been empty.
    """

    out: Path
    files: tuple[Path, ...]
    rows: dict[str, int]
    sizes: dict[str, int]
    said: tuple[str, ...] = ()

    def file(self, name: str) -> Path:
        return next(path for path in self.files if path.name == name)

    @property
    def workbook(self) -> Path:
        """The ``.twbx``. Raises ``ExportError`` where none was asked for."""
        found = [path for path in self.files if path.suffix == ".twbx"]
        if not found:
            raise ExportError(
                "Expected a workbook to publish; none was exported. Add twbx to the formats.", code="no_twbx"
            )
        return found[0]


class KeptExports:
    """The last few exports, by what they are of, each in a temporary folder. Safe to use from several threads."""

    def __init__(self, most: int = 3) -> None:
        self._most, self._lock = most, threading.RLock()
        self._made: OrderedDict[Hashable, tuple[Exported, tempfile.TemporaryDirectory[str]]] = OrderedDict()

    def of(self, key: Hashable, make: Callable[[Path], Exported]) -> Exported:
        """The export under ``key``; made in a new folder if there is none, or if files of it are gone.

        One is made at a time. Its files may go as soon as another is asked for: read them by ``read``.
        """
        with self._lock:
            kept = self._made.get(key)
            if kept is not None and not all(path.exists() for path in kept[0].files):  # somebody tidied up
                self._made.pop(key)[1].cleanup()
            if key not in self._made:
                folder = tempfile.TemporaryDirectory(prefix="earshot-tableau-", ignore_cleanup_errors=True)
                try:
                    self._made[key] = make(Path(folder.name)), folder
                except BaseException:
                    folder.cleanup()
                    raise
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)[1][1].cleanup()
            return self._made[key][0]

    def read(self, key: Hashable, make: Callable[[Path], Exported], read: Callable[[Exported], T]) -> T:
        """What ``read`` finds in the export under ``key``, whose files stay until it returns."""
        with self._lock:
            return read(self.of(key, make))

    def close(self) -> None:
        """Remove every folder."""
        with self._lock:
            for _, folder in self._made.values():
                folder.cleanup()
            self._made.clear()


def formats_of(text: str) -> tuple[Format, ...]:
    """``csv,hyper`` → both. Raises ``ExportError`` for another name."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise ExportError(f"Expected some of the formats {', '.join(FORMATS)}, got {text!r}.", code="bad_format")
    return tuple(name for name in FORMATS if name in wanted)


def export(
    parts: Sequence[Part],
    out: Path,
    *,
    formats: Sequence[Format] = FORMATS,
    hyper_version: str = hyper.VERSION,
    gold: Mapping[str, pa.Table] | None = None,
    media: Media = NoMedia(),
    progress: Progress = lambda share, what: None,
) -> Exported:
    """Write ``parts`` to ``out``. Raises ``EarshotError``; files that were complete by then stay, and nothing else."""
    if "hyper" in formats or "twbx" in formats:
        hyper.check_version(hyper_version)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.folder(out))
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=".earshot-", dir=out))
        except OSError as exc:
            raise ExportError(
                f"Expected a folder that can be written, got {exc.strerror} for {out}. Name another.", code="unwritable"
            ) from exc
        facts = Path(name) / "predictions.parquet"
        try:
            star = build(parts, facts, gold=gold, media=media, progress=lambda s, what: progress(BUILT * s, what))
        except OSError as exc:
            raise files.unwritten(facts, exc) from exc
        written = _write(star, out, Path(name), formats, hyper_version, progress)
        rows = {table.name: star.rows(table.name) for table in schema.TABLES}
        said = (*_said(star), *(_left_out(star) if "twbx" in formats else ()))
    progress(1.0, "done")
    return Exported(out, tuple(written), rows, {path.name: path.stat().st_size for path in written}, said)


def _said(star: StarSchema) -> Iterator[str]:
    """A line of words for each row of ``about`` that answers stand behind."""
    for row in star.small["about"].to_pylist():
        if row["kind"] == demonstrations.KIND:
            continue
        held_out = "" if row["kind"] in (LOG, "file") else "held-out "
        by = "for" if row["kind"] == "cross-validation" else "by"  # there, networks of the other folds answered
        model = f" {by} the model {row['fingerprint'][:12]}" if row["fingerprint"] else ""
        notes = f"; {row['notes']}" if row["notes"] else ""
        yield f"{row['run_id']}: {row['n_answers']:,} {held_out}answers{model}, {row['n_labelled']:,} labelled{notes}"


def _left_out(star: StarSchema) -> Iterator[str]:
    """In words, which dashboards the workbook does without."""
    held = workbook.boards_in(star)
    missing = [dashboard.name for dashboard in DASHBOARDS if dashboard not in held]
    if missing:
        yield f"The workbook leaves out {', '.join(missing)}: nothing in this export is of them"


def _write(
    star: StarSchema, out: Path, workshop: Path, formats: Sequence[Format], version: str, progress: Progress
) -> list[Path]:
    written: list[Path] = []
    if "csv" in formats:
        progress(BUILT, "CSV")
        for table in schema.TABLES:
            written.append(out / CSV_FOLDER / f"{table.name}.csv")
            files.write_csv(star, table.name, written[-1])
        written += [out / files.ZIP, out / files.WIDE]
        files.write_zip(star, written[-2])
        files.write_wide(star, written[-1])
    if "hyper" in formats or "twbx" in formats:
        progress(0.85, ".hyper")
        extract = (out if "hyper" in formats else workshop) / hyper.NAME
        hyper.write_hyper(star, extract, version=version)
        written += [extract] if "hyper" in formats else []
    if "twbx" in formats:
        progress(0.95, ".twbx")
        written.append(out / workbook.NAME)
        workbook.write_twbx(star, extract, written[-1])
    return written
