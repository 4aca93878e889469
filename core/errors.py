"""The one root error and its few children. Messages say what was expected, what came, what to do."""

from __future__ import annotations

__all__ = [
    "AdminError",
    "ArtifactError",
    "AudioError",
    "BackendError",
    "DatasetError",
    "EarshotError",
    "ExportError",
    "LimitError",
    "RecordsError",
    "RunError",
    "SettingsError",
    "StoreError",
]


class EarshotError(Exception):
    """Root of every error Earshot raises on purpose.

    ``code`` is a stable snake_case identifier for machines; ``str(error)`` is the sentence for people.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class AudioError(EarshotError):
    """The bytes are not audio that Earshot can answer for."""

    code = "invalid_audio"


class LimitError(AudioError):
    """The audio is over a configured bound on bytes, seconds or channels."""

    code = "over_limit"


class ArtifactError(EarshotError):
    """The model folder is missing, incomplete, altered, or answers differently from when it was saved."""

    code = "invalid_artifact"


class DatasetError(EarshotError):
    """The dataset folder does not have ESC-50's layout, or its clips cannot be read."""

    code = "invalid_dataset"


class RecordsError(EarshotError):
    """A table of answers lacks what diagnostics need."""

    code = "invalid_records"


class ExportError(EarshotError):
    """An export cannot be written, packed or published."""

    code = "export"


class RunError(EarshotError):
    """A training run folder cannot be used as asked."""

    code = "invalid_run"


class SettingsError(EarshotError):
    """A setting has a value outside its range."""

    code = "invalid_settings"


class BackendError(EarshotError):
    """The place where inference or training runs did not answer."""

    code = "backend_unavailable"


class StoreError(EarshotError):
    """The database of predictions cannot be opened, read or written."""

    code = "store"


class AdminError(EarshotError):
    """Somebody who is not the admin asked for what only the admin may."""

    code = "not_admin"
