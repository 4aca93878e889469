"""Folders of recordings: which files in them are sounds, by content and not by name."""

from __future__ import annotations

import os
from pathlib import Path

from core.containers import sniff
from core.errors import AudioError

HEAD_BYTES = 1 << 16  # an ID3 tag with a cover picture may stand before the sound


def sound_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sound files under ``folder`` in order of their paths, and the other files there.

    Hidden files and folders are passed over; links to folders are not followed. Raises ``AudioError`` where there is no
    sound at all.
    """
    sounds: list[Path] = []
    others: list[Path] = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(base) / name
                (sounds if is_sound(path) else others).append(path)
    if not sounds:
        raise AudioError(
            f"Expected sound files in {folder}, found {len(others):,} other files and no sound. Give another folder.",
            code="no_sounds",
        )
    return sounds, others


def is_sound(path: Path) -> bool:
    """Whether the first bytes are those of a sound file; ``False`` for what cannot be read."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False
