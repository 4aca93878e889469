"""From what a person asks for, by paths and times, to the parts of an export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.artifact import read_manifest
from core.config import SHIPPED_RUN, Settings
from core.errors import ExportError
from core.store import Store
from core.tableau.media import MediaFolder
from core.tableau.parts import Part, of_folder, of_log
from core.tableau.tables import Media, NoMedia

Window = tuple[datetime | None, datetime | None]  # from, to before; ``None``: without end
ALL = "all"
ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+", re.ASCII)


def moment(text: str | None) -> datetime | None:
    """``2026-11-01`` or ``2026-11-01T12:00``, UTC unless it says otherwise; ``all`` and nothing are no bound."""
    if text is None or text == ALL:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ExportError(
            f"Expected a time such as 2026-11-01 or 2026-11-01T12:00, or {ALL}; got {text!r}.", code="bad_time"
        ) from exc
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def runs(named: Sequence[Path], *, none: bool) -> list[Path]:
    """The runs at ``named``, else the shipped one; with ``none`` none at all. Raises ``ExportError``."""
    if none and named:
        raise ExportError(
            f"Expected --run or --no-run, got both ({', '.join(map(str, named))}). Leave one out.", code="bad_choice"
        )
    return [] if none else list(named) or [SHIPPED_RUN]


def parts(
    paths: Sequence[Path], window: Window | None, settings: Settings, *, store: Store | None = None
) -> list[Part]:
    """Runs and files at ``paths``, then the log of the serving model within ``window``. Raises ``EarshotError``."""
    found = [of_folder(path) for path in paths]
    if window is not None:
        since, until = window
        log = store or Store.open(settings.database)
        found.append(of_log(log, read_manifest(settings.artifact), since=since, until=until))
    return found


def media(
    out: Path, settings: Settings, *, base_url: str = "", wanted: bool = True, store: Store | None = None
) -> Media:
    """Thumbnails and sounds of the dataset's clips, and of logged ones that were kept."""
    if not wanted:
        return NoMedia()
    if base_url and not ADDRESS.fullmatch(base_url):
        raise ExportError(
            f"Expected an address such as https://example.org/earshot to serve files under, got {base_url!r}.",
            code="bad_url",
        )
    log = store or Store.open(settings.database)

    def read(clip_id: str) -> bytes | None:
        clip = settings.data_dir / "audio" / Path(clip_id).name
        return clip.read_bytes() if clip.is_file() else log.sound(clip_id)

    return MediaFolder(out, read, base_url=base_url, limits=settings.limits)
